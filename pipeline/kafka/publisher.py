"""Carries the journal to Kafka, keyed by room so that order holds, and never gives up.

What the broker has acknowledged is noted beside the journal, so a process that was killed goes on behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import threading
from collections.abc import Callable

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline.journal import Entry, Journal, JournalReader
from pipeline.kafka.settings import KafkaSettings, ensure_topics, farewell
from pipeline.message import Alert, Status

log = logging.getLogger("vigil.kafka")

BATCH = 500
"""Entries that are under way at most."""
ACKNOWLEDGE_SECONDS = 20.0
"""A batch that takes longer is sent again over a new connection."""
RETRY_SECONDS = 0.5
JSON = [("content-type", b"application/json")]


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
        self.connected = threading.Event()
        """Set while the broker is reached."""
        self._listeners: list[Callable[[int], None]] = []
        self._status: tuple[str, bytes] | None = None
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

    def heartbeat(self, status: Status) -> None:
        """Let the broker have the room's newest status; an older one that is still waiting is left out."""
        self._status = (status.room, msgspec.json.encode(status))
        self._wake(self._news)

    def on_acknowledged(self, listener: Callable[[int], None]) -> None:
        """Call ``listener`` with the last sequence that the broker has acknowledged, from the publisher's thread."""
        self._listeners.append(listener)

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
            **self.settings.client(), enable_idempotence=True, acks="all", request_timeout_ms=5000
        )
        try:
            await ensure_topics(self.settings)
            await producer.start()
            self.connected.set()
            while True:
                self._news.clear()
                if (status := self._status) is not None:
                    await asyncio.wait_for(self._send_status(producer, *status), ACKNOWLEDGE_SECONDS)
                    self._status = None if self._status is status else self._status
                batch = list(reader.entries(self.position, BATCH))
                if batch:
                    await asyncio.wait_for(self._send(producer, batch), ACKNOWLEDGE_SECONDS)
                    for listener in self._listeners:
                        listener(batch[-1].sequence)
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
            self.connected.clear()
            await _release(producer)
            await farewell(self.settings)

    async def _send(self, producer: AIOKafkaProducer, batch: list[Entry]) -> None:
        acknowledgements = []
        for entry in batch:
            if entry.kind == "alert":
                topic, room, attributes = self.settings.topic, entry.alert.room, headers(entry.alert, entry.journaled)
            elif entry.kind == "command":
                topic, room, attributes = self.settings.outcomes_topic, entry.outcome.command.room, JSON
            else:
                continue
            acknowledgements.append(await producer.send(topic, entry.body, key=room.encode(), headers=attributes))
        await asyncio.gather(*acknowledgements)
        self.published += len(acknowledgements)

    async def _send_status(self, producer: AIOKafkaProducer, room: str, body: bytes) -> None:
        await producer.send_and_wait(self.settings.status_topic, body, key=room.encode(), headers=JSON)


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
