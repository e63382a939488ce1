"""Alerts to Apache Kafka: drains the journal, keyed by room so that order holds, and never gives up.

The journal owns durability; the client library only carries. What the broker has acknowledged is noted beside the
journal, so a process that was killed goes on behind it: everything is delivered at least once, in order, and
``(alert_id, revision)``, which is the CloudEvents id, tells repetitions apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pydantic
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError
from aiokafka.helpers import create_ssl_context

from pipeline.errors import VigilError
from pipeline.journal import Entry, Journal, JournalReader
from pipeline.message import Alert

log = logging.getLogger("vigil.kafka")

ALERTS = "vigil.alerts.v1"
BATCH = 500
"""Entries that are under way at most."""
ACKNOWLEDGE_SECONDS = 20.0
"""A batch that takes longer is sent again over a new connection."""
RETRY_SECONDS = 0.5
REMEMBERED = 100_000
"""Newest ids by which a subscriber tells repetitions."""


class KafkaSettings(pydantic.BaseModel):
    """How the broker is reached. ``bootstrap`` empty means no broker."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    bootstrap: str = ""
    """``host:port,host:port``."""
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str = ""
    password: pydantic.SecretStr = pydantic.SecretStr("")
    ca_file: Path | None = None
    """Certificates that are trusted; the system's own where not given."""
    certificate_file: Path | None = None
    """Our own certificate, where the broker wants one."""
    key_file: Path | None = None
    topic: str = ALERTS
    partitions: int = pydantic.Field(default=6, ge=1, le=1000)
    """Of the topic, where it has to be made."""

    def client(self) -> dict[str, Any]:
        """What every client of aiokafka takes. Raises ``VigilError`` for certificates that cannot be read."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap, "security_protocol": self.security, "client_id": "vigil",
        }  # fmt: skip
        if self.security.endswith("SSL"):
            try:
                options["ssl_context"] = create_ssl_context(
                    cafile=self.ca_file, certfile=self.certificate_file, keyfile=self.key_file
                )
            except OSError as error:
                raise VigilError(f"certificates cannot be read: {error}", where="kafka") from None
        if self.security.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.mechanism, "sasl_plain_username": self.username,
                "sasl_plain_password": self.password.get_secret_value(),
            }  # fmt: skip
        return options


def headers(alert: Alert, journaled: int) -> list[tuple[str, bytes]]:
    """CloudEvents 1.0 in Kafka's binary mode: attributes as headers, the alert's JSON as the value."""
    moment = datetime.datetime.fromtimestamp(alert.time // 10**9, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    attributes = {
        "ce_specversion": "1.0", "ce_id": f"{alert.alert_id}:{alert.revision}",
        "ce_source": f"/or/{alert.room}/{alert.condition.source}", "ce_type": f"org.vigil.alert.v1.{alert.phase}",
        "ce_subject": alert.alert_id, "ce_time": f"{moment}.{alert.time % 10**9:09d}Z",
        "ce_priority": alert.condition.priority, "ce_kind": alert.condition.kind, "ce_origin": alert.origin,
        "ce_journaled": str(journaled), "content-type": "application/json",
    }  # fmt: skip
    return [(name, value.encode()) for name, value in attributes.items()]


async def ensure_topic(settings: KafkaSettings) -> None:
    """Make the alert topic where it is missing: kept for a year, acknowledged by all in-sync copies."""
    admin = AIOKafkaAdminClient(**settings.client())
    try:
        await admin.start()
        if settings.topic in await admin.list_topics():
            return
        configuration = {"retention.ms": str(365 * 86_400_000), "cleanup.policy": "delete"}
        copies = min(3, len((await admin.describe_cluster())["brokers"]))
        topic = NewTopic(settings.topic, settings.partitions, copies, topic_configs=configuration)
        with contextlib.suppress(TopicAlreadyExistsError):
            await admin.create_topics([topic])
    finally:
        await admin.close()


class Publisher:
    """Carries a journal to Kafka from a thread with an event loop of its own: the alarm path never waits for it.

    Args:
        journal: the writing end, of this process.
    """

    def __init__(self, journal: Journal, settings: KafkaSettings) -> None:
        self.path, self.settings = journal.path, settings
        self.mark = journal.path.with_name(journal.path.name + ".published")
        self.position = self._noted()
        self.published = 0
        self.error = ""
        """Why nothing goes out now; empty while it does."""
        self._loop = asyncio.new_event_loop()
        self._news = asyncio.Event()
        self._stopping = asyncio.Event()
        settings.client()  # certificates that cannot be read are told at the start
        journal.on_commit(lambda _: self._wake(self._news))
        self._thread = threading.Thread(target=self._serve, name="vigil-kafka", daemon=True)
        self._thread.start()

    def close(self, seconds: float = 3.0) -> None:
        """Send what is there for at most ``seconds``; what is left goes with the next start."""
        self._wake(self._stopping)
        self._wake(self._news)
        self._thread.join(seconds)
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(5.0)
            log.warning("closed with alerts unpublished; they are in the journal and go out with the next start")

    def _wake(self, event: asyncio.Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(event.set)

    def _noted(self) -> int:
        try:
            return int(self.mark.read_text())
        except (OSError, ValueError):
            return 0  # everything is sent again; its ids tell

    def _note(self, position: int) -> None:
        self.position = position
        partial = self.mark.with_suffix(".partial")
        partial.write_text(str(position))
        partial.replace(self.mark)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self._run())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    async def _run(self) -> None:
        reader = JournalReader(self.path)
        try:
            while not await self._connection(reader):  # noqa: ASYNC110
                await asyncio.sleep(RETRY_SECONDS)
        finally:
            reader.close()

    async def _connection(self, reader: JournalReader) -> bool:
        """Publish over one connection until it fails (False) or the end is there and all is out (True)."""
        producer = AIOKafkaProducer(
            **self.settings.client(), enable_idempotence=True, acks="all", linger_ms=1, request_timeout_ms=5000
        )
        try:
            await ensure_topic(self.settings)
            await producer.start()
            while True:
                self._news.clear()
                batch = list(reader.entries(self.position, BATCH))
                if batch:
                    await asyncio.wait_for(self._send(producer, batch), ACKNOWLEDGE_SECONDS)
                    self._note(batch[-1].sequence)
                    self.error = ""
                elif self._stopping.is_set():
                    return True
                else:
                    await self._news.wait()
        except (KafkaError, OSError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            if not self.error:
                log.warning("Kafka takes nothing, alerts wait in the journal: %s", reason)
            self.error = reason
            return False
        finally:
            await _release(producer)

    async def _send(self, producer: AIOKafkaProducer, batch: list[Entry]) -> None:
        acknowledgements = []
        for entry in batch:
            if entry.kind == "alert":
                alert = entry.alert
                acknowledgements.append(
                    await producer.send(
                        self.settings.topic, entry.body, key=alert.room.encode(),
                        headers=headers(alert, entry.journaled),
                    )
                )  # fmt: skip
        await asyncio.gather(*acknowledgements)
        self.published += len(acknowledgements)


async def _release(producer: AIOKafkaProducer) -> None:
    """Close a producer even where the broker is gone: ``stop`` alone waits for what cannot be delivered."""
    try:
        await asyncio.wait_for(producer.stop(), 2.0)
    except (KafkaError, OSError, TimeoutError):
        await producer.client.close()
    # The publisher's loop is its own: whatever else runs in it was left by the producer.
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


async def subscribe(settings: KafkaSettings, *, beginning: bool = False, room: str = "") -> AsyncIterator[Alert]:
    """Every alert revision of the topic once, in order per room; what is no alert is logged and left out.

    Raises:
        VigilError: where the broker cannot be reached at the start.
    """
    consumer = AIOKafkaConsumer(
        **settings.client(), enable_auto_commit=False, auto_offset_reset="earliest" if beginning else "latest"
    )
    seen: OrderedDict[str, None] = OrderedDict()
    try:
        await ensure_topic(settings)
        await consumer.start()
        numbers = await consumer._client.fetch_all_metadata()
        consumer.assign([TopicPartition(settings.topic, n) for n in numbers.partitions_for_topic(settings.topic)])
    except (KafkaError, OSError) as error:
        with contextlib.suppress(KafkaError, OSError):
            await consumer.stop()
        mend = "is the broker up? `vigil broker start` runs one"
        raise VigilError(f"cannot be reached: {error}", where=settings.bootstrap, mend=mend) from None
    try:
        async for record in consumer:
            try:
                alert = msgspec.json.decode(record.value or b"", type=Alert)
            except msgspec.MsgspecError as error:
                log.warning("%s:%d:%d is no alert: %s", record.topic, record.partition, record.offset, error)
                continue
            name = f"{alert.alert_id}:{alert.revision}"
            if name in seen or (room and alert.room != room):
                continue
            seen[name] = None
            if len(seen) > REMEMBERED:
                seen.popitem(last=False)
            yield alert
    finally:
        await consumer.stop()
