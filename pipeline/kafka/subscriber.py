"""What is read from Kafka: alerts and statuses by subscribers, commands by the box itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline import commands
from pipeline.errors import MessageError, VigilError
from pipeline.kafka.publisher import JSON, RETRY_SECONDS
from pipeline.kafka.settings import KafkaSettings, ensure_topics, farewell
from pipeline.message import Alert, Command, Outcome, Status

log = logging.getLogger("vigil.kafka")

REMEMBERED = 100_000
"""Newest ids by which a subscriber tells repetitions."""


@contextlib.asynccontextmanager
async def _consumer(settings: KafkaSettings, topic: str, *, beginning: bool) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of a whole topic, from now on or from the beginning. Raises ``VigilError`` where none is reached."""
    consumer = AIOKafkaConsumer(
        **settings.client(), enable_auto_commit=False, auto_offset_reset="earliest" if beginning else "latest"
    )
    try:
        try:
            await ensure_topics(settings)
            await consumer.start()
            partitions = await _partitions(consumer, topic)
            consumer.assign(partitions)
            if not beginning:  # "now" is when this returns, not when the first fetch happens to be answered
                for partition, offset in (await consumer.end_offsets(partitions)).items():
                    consumer.seek(partition, offset)
        except (KafkaError, OSError) as error:
            mend = "is the broker up? `vigil broker start` runs one"
            raise VigilError(f"cannot be reached: {error}", where=settings.bootstrap, mend=mend) from None
        yield consumer
    finally:  # also where it was cancelled while it connected
        with contextlib.suppress(KafkaError, OSError):
            await consumer.stop()
        await farewell(settings)


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """All partitions of a topic, which a broker may not know of in the first moments after it was made."""
    for _ in range(50):
        metadata = await consumer._client.fetch_all_metadata()
        if numbers := metadata.partitions_for_topic(topic):
            return [TopicPartition(topic, number) for number in sorted(numbers)]
        await asyncio.sleep(0.1)
    raise VigilError("there is no such topic, and it could not be made", where=topic)


async def _decoded(consumer: AIOKafkaConsumer, kind: Any) -> AsyncIterator[Any]:
    async for record in consumer:
        try:
            yield msgspec.json.decode(record.value or b"", type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("%s:%d:%d is no %s: %s", record.topic, record.partition, record.offset, kind.__name__, error)


async def subscribe(settings: KafkaSettings, *, beginning: bool = False, room: str = "") -> AsyncIterator[Alert]:
    """Every alert revision of the topic once, in order per room; what is no alert is logged and left out.

    Raises:
        VigilError: where the broker cannot be reached at the start.
    """
    seen: OrderedDict[str, None] = OrderedDict()
    async with _consumer(settings, settings.topic, beginning=beginning) as consumer:
        async for alert in _decoded(consumer, Alert):
            name = f"{alert.alert_id}:{alert.revision}"
            if name in seen or (room and alert.room != room):
                continue
            seen[name] = None
            if len(seen) > REMEMBERED:
                seen.popitem(last=False)
            yield alert


async def statuses(settings: KafkaSettings, *, room: str = "") -> AsyncIterator[Status]:
    """Heartbeats, of all rooms or of one, beginning with those that are there. Raises as ``subscribe``."""
    async with _consumer(settings, settings.status_topic, beginning=True) as consumer:
        async for status in _decoded(consumer, Status):
            if not room or status.room == room:
                yield status


async def send_command(settings: KafkaSettings, command: Command, seconds: float = 10.0) -> Outcome:
    """Give a command over the broker; what became of it.

    Raises:
        VigilError: where the broker is not reached, or no room answers in time.
    """
    async with _consumer(settings, settings.outcomes_topic, beginning=False) as consumer:
        producer = AIOKafkaProducer(**settings.client(), enable_idempotence=True, acks="all")
        try:
            await producer.start()
            body = msgspec.json.encode(command)
            await producer.send_and_wait(settings.commands_topic, body, key=command.room.encode(), headers=JSON)
        except (KafkaError, OSError) as error:
            raise VigilError(f"takes no command: {error}", where=settings.bootstrap) from None
        finally:
            await producer.stop()
        try:
            async with asyncio.timeout(seconds):
                async for outcome in _decoded(consumer, Outcome):
                    if outcome.command.command_id == command.command_id:
                        return outcome  # type: ignore[no-any-return]
        except TimeoutError:
            pass
        mend = "does it run, under that name, on this broker? `vigil subscribe --status` shows the rooms"
        raise VigilError(f"has not answered for {seconds:g} s", where=f"room {command.room}", mend=mend)


class CommandReader:
    """Takes the commands for one room from the broker, from the start of the run on, in a thread of its own.

    What is no command, or is for another room, is left out (and logged: a room's name is no secret).
    """

    def __init__(self, settings: KafkaSettings, room: str, take: Callable[[Command], None]) -> None:
        self.settings, self.room, self.take = settings, room, take
        self.refused = 0
        self.reading = threading.Event()
        """Set while commands are heard."""
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._run())
        self._thread = threading.Thread(target=self._serve, name="vigil-kafka-commands", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._task)
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    async def _run(self) -> None:
        told = ""
        while True:
            try:
                async with _consumer(self.settings, self.settings.commands_topic, beginning=False) as consumer:
                    self.reading.set()
                    async for record in consumer:
                        self._hear(record)
            except (VigilError, KafkaError, OSError) as error:
                if told != str(error):
                    log.warning("no commands are heard from Kafka: %s", error)
                told = str(error)
            self.reading.clear()
            await asyncio.sleep(RETRY_SECONDS)

    def _hear(self, record: Any) -> None:
        try:
            command = commands.decode(record.value or b"")
            if not command.command_id:
                raise MessageError("has none, so its outcome could not be told", where="command_id")
        except MessageError as error:
            self.refused += 1
            log.warning("%s:%d:%d: %s", record.topic, record.partition, record.offset, error)
            return
        if command.room == self.room:
            self.take(command)

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(5.0)
