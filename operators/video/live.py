"""Live video: one thread reads the device and comes back to it when it is lost; nothing downstream can slow it.

Sources of live video differ only in how they connect. ``LiveVideo`` is what they share: the thread, the bounded
buffer that drops the oldest picture when the graph is slow, the backoff between attempts, and the event times.
A lost stream makes no message: it is silent, and a freshness rule says so. The log says why.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator

import pydantic

from operators.video.decode import Hardware
from pipeline.errors import VigilError
from pipeline.message import Message, VideoFrame
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Output, Source

log = logging.getLogger("vigil.video")

Pictures = Generator[tuple[int | None, VideoFrame], None, None]
"""Pictures with the device's own times, ns, None where it gives none."""
POLL = 0.1
"""Seconds between looks at whether the run has ended."""


class LiveClock:
    """Event time of a live stream's pictures: the device's spacing, placed on the machine's clock.

    The offset between the two clocks is the smallest that was seen, because a picture can arrive late but not early;
    it creeps up by ``CREEP`` so that a slow device clock is followed. A device clock that jumps (restart, wrap) moves
    the offset. Times strictly increase, and are never in the future of the machine's clock by more than the pictures
    that came at the same instant.
    """

    TOLERANCE = 300_000_000
    """Nanoseconds of jitter; more is a jump. Below the lateness that the engine allows a live source (0.5 s)."""
    CREEP = 500
    """Parts per million by which the offset rises; quartz is within 100."""

    def __init__(self) -> None:
        self.offset: int | None = None
        self.given = 0
        self.last = -1

    def time(self, given: int | None, now: int) -> int:
        """The event time of a picture stamped ``given`` by the device that arrived at ``now``, all ns."""
        event = now
        if given is not None:
            offset = now - given
            if self.offset is None or abs(offset - self.offset) > self.TOLERANCE:
                self.offset = offset
            else:
                crept = self.offset + max(0, given - self.given) * self.CREEP // 1_000_000
                self.offset = min(offset, crept)
            self.given = given
            event = given + self.offset
        self.last = max(event, self.last + 1)
        return self.last


@dataclasses.dataclass
class Statistics:
    """What a live stream has been through."""

    pictures: int = 0
    """Pictures received."""
    dropped: int = 0
    """Pictures given up because nobody took them in time."""
    connections: int = 0
    """Times that a first picture came."""
    failures: int = 0
    """Connections that failed or were lost."""
    decoder: str = ""
    """Where it is decoded: ``hardware`` or ``software``."""


class Intake:
    """Iterates over ``(event time, picture)``, read by a thread of its own.

    Args:
        where: the device's name for the log, without credentials.
        connect: called with ``halted`` (true once the run has ended); gives the pictures of one connection, ends
            where the stream ends, raises ``VigilError`` where it breaks.
        stopping: set when the run ends.
        capacity: pictures kept while nobody takes them; the oldest is dropped for a new one.
        retry_seconds: pause before the first new attempt; it doubles with each that fails.
        longest_retry_seconds: longest pause.
        reconnect: False ends with the first connection, and raises what broke it.
    """

    def __init__(
        self,
        where: str,
        connect: Callable[[Callable[[], bool]], Pictures],
        stopping: threading.Event,
        *,
        capacity: int = 8,
        retry_seconds: float = 0.2,
        longest_retry_seconds: float = 5.0,
        reconnect: bool = True,
    ) -> None:
        self.where, self.connect, self.stopping = where, connect, stopping
        self.retry, self.longest, self.reconnect = retry_seconds, longest_retry_seconds, reconnect
        self.statistics = Statistics()
        self.clock = LiveClock()
        self._capacity = capacity
        self._waiting: deque[tuple[int, VideoFrame]] = deque()
        self._ready = threading.Condition()
        self._over = threading.Event()
        self._ended = False
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[tuple[int, VideoFrame]]:
        reader = threading.Thread(target=self._read, name=f"video {self.where}", daemon=True)
        reader.start()
        try:
            while not self.stopping.is_set():
                with self._ready:
                    if not self._waiting and not self._ended:
                        self._ready.wait(POLL)
                    item = self._waiting.popleft() if self._waiting else None
                if item is not None:
                    yield item
                elif self._ended:
                    break
        finally:
            self._over.set()
        if self._error is not None:
            raise self._error

    def halted(self) -> bool:
        """True once nobody wants pictures any more."""
        return self._over.is_set() or self.stopping.is_set()

    # ------------------------------------------------------------------------- in the reader's thread

    def _read(self) -> None:
        attempts = 0
        try:
            while not self.halted():
                before = self.statistics.connections
                reason = self._one_connection()
                if self.halted() or not self.reconnect:
                    return
                self.statistics.failures += 1
                attempts = attempts + 1 if self.statistics.connections == before else 1
                pause = min(self.retry * 2 ** min(attempts - 1, 20), self.longest)
                log.warning("%s: %s; next attempt in %.1f s", self.where, reason, pause)
                self._over.wait(pause)
        except Exception as error:
            self._error = error
        finally:
            with self._ready:
                self._ended = True
                self._ready.notify()

    def _one_connection(self) -> str:
        first = True
        try:
            with contextlib.closing(self.connect(self.halted)) as found:
                for given, frame in found:
                    if first:
                        first = False
                        self.statistics.connections += 1
                        decoder = self.statistics.decoder or "software"
                        log.info("%s: connected, %dx%d, %s decode", self.where, frame.width, frame.height, decoder)
                    self._put(self.clock.time(given, time.time_ns()), frame)
                    if self.halted():
                        break
        except VigilError as error:
            if not self.reconnect:
                raise
            return error.message
        return "the stream ended"

    def _put(self, event_time: int, frame: VideoFrame) -> None:
        with self._ready:
            self.statistics.pictures += 1
            self._waiting.append((event_time, frame))
            if len(self._waiting) > self._capacity:
                self._waiting.popleft()
                self.statistics.dropped += 1
            self._ready.notify()


class LiveConfig(BaseConfig):
    """Options that every live video source has."""

    channel: str = pydantic.Field(default="video", min_length=1, pattern=r"^[^/\s]+$")
    """Name of the camera in the stream's name."""
    hardware: Hardware = "auto"
    """Where to decode: `auto` takes the first device that works, else the processor; `none` is the processor."""
    open_seconds: float = pydantic.Field(default=10.0, gt=0)
    """Seconds until an attempt to connect is given up."""
    silent_after_seconds: float = pydantic.Field(default=5.0, gt=0)
    """Seconds without data after which the connection counts as lost."""
    reconnect: bool = True
    """False: end with the first connection instead of coming back."""
    retry_seconds: float = pydantic.Field(default=0.2, gt=0)
    """Seconds before the first new attempt; doubled with each that fails."""
    longest_retry_seconds: float = pydantic.Field(default=5.0, gt=0)
    """Longest pause between attempts, seconds."""
    buffer: int = pydantic.Field(default=8, ge=1, le=256)
    """Pictures kept while the graph is busy; then the oldest is dropped and counted."""


class LiveVideo(Source):
    """Base of live video sources: a subclass says how to connect."""

    Config = LiveConfig
    video: Output[VideoFrame]

    @property
    def where(self) -> str:
        """What the device is called in logs. Carries no credentials."""
        raise NotImplementedError

    def connect(self, halted: Callable[[], bool]) -> Pictures:
        """The pictures of one connection, see ``Intake``."""
        raise NotImplementedError

    def run(self) -> Iterator[Message[VideoFrame]]:
        """Pictures until the run ends; ``statistics`` counts along. Ends by itself only without ``reconnect``."""
        config = self.config
        self.intake = Intake(
            self.where, self.connect, self.stopping, capacity=config.buffer, retry_seconds=config.retry_seconds,
            longest_retry_seconds=config.longest_retry_seconds, reconnect=config.reconnect,
        )  # fmt: skip
        for event_time, frame in self.intake:
            yield self.video.first(frame, event_time, channel=config.channel)

    @property
    def statistics(self) -> Statistics:
        """Counts of the present run; zeros before it."""
        intake = getattr(self, "intake", None)
        return intake.statistics if intake is not None else Statistics()
