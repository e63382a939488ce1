"""Writes what happens in a room to a file."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import logging
from pathlib import Path
from typing import Any

from pipeline.errors import MessageError, VigilError
from pipeline.message import Message, SyntheticFrame, VideoFrame
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Operator
from pipeline.recording import McapWriter

log = logging.getLogger("vigil.recorder")


class Recorder(Operator):
    """Records every message it gets to an MCAP file, encoding in a thread of its own.

    At most ``capacity`` messages and ``capacity_megabytes`` of pictures wait for the thread; then the operator waits,
    and the policy of the edge before it decides what is lost. A file that exists is never written over: the recording
    takes the next free name (``case-2.mcap``), as it does after a restart. A message that cannot be recorded is left
    out, counted in ``refused``, and logged; a disk that is full ends the recording with a ``RecordingError``, and what
    was written stays readable.
    """

    accepts_synthetic = True
    keeps_pictures = True

    class Config(BaseConfig):
        unguarded: bool = False
        """Keep pictures that no privacy guard has seen."""
        path: Path = Path("recording.mcap")
        """The file, relative to the folder that the run may write to. In a replay nothing is written elsewhere: of
        other paths the name is taken."""
        lossless: bool = False
        """Keep every pixel, at some ten times the size, in a profile that few other players decode."""
        quality: float = 18.0
        """x264's constant rate factor where not lossless: 0 (best) to 51."""
        preset: str = "superfast"
        """x264's preset, speed against size."""
        flush_seconds: float = 1.0
        """Wall-clock seconds after which a message is with the operating system even if none follows it."""
        capacity: int = 512
        """Messages that may wait to be written."""
        capacity_megabytes: float = 256.0
        """Pictures that may wait to be encoded, megabytes."""

    messages: Input[Any]

    def setup(self) -> None:
        config = self.config
        self.refused = 0
        """Messages that could not be recorded."""
        self.failure: VigilError | None = None
        self._waiting: collections.deque[Message[Any]] = collections.deque()
        self._bytes = 0
        self._drain: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writer: McapWriter | None = None
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=f"{self.name}-recorder")
        path = config.path
        if self.context.replaying and (path.is_absolute() or ".." in path.parts):
            path = Path(path.name)
        path = self.context.data / path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = free_name(path)
        self._writer = McapWriter(
            self.path, case=self.context.case, room=self.context.room, lossless=config.lossless,
            quality=config.quality, preset=config.preset, metadata={"topology": self.context.topology},
        )  # fmt: skip

    async def process(self, message: Message[Any]) -> None:
        """Hand ``message`` to the writing thread; waits while too much is waiting. Raises what the thread met."""
        while self.failure is None and self._full():
            await asyncio.shield(self._start())
        if self.failure is not None:
            raise self.failure
        self._waiting.append(message)
        self._bytes += size(message)
        self._start()

    async def finish(self) -> None:
        """Everything that came is in the file when this returns."""
        while self.failure is None and self._waiting:
            await asyncio.shield(self._start())
        if self._drain is not None:
            await asyncio.shield(self._drain)
        if self.failure is not None:
            raise self.failure

    async def teardown(self) -> None:
        """Write what is waiting, the closing index, and close."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(VigilError):  # told by process or in the log already
                await self.finish()
            if self._writer is not None:
                await loop.run_in_executor(self._pool, self._writer.close)
        finally:
            self._pool.shutdown(wait=False)

    # ------------------------------------------------------------------------------------ private

    def _full(self) -> bool:
        most = self.config.capacity_megabytes * 1e6
        return len(self._waiting) >= self.config.capacity or (self._bytes > most and bool(self._waiting))

    def _start(self) -> asyncio.Future[None]:
        """The thread's present work, begun where it has none."""
        if self._drain is None or self._drain.done():
            loop = asyncio.get_running_loop()
            self._drain = loop.run_in_executor(self._pool, self._write)
            self._drain.add_done_callback(self._written)
        return self._drain

    def _written(self, done: asyncio.Future[None]) -> None:
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            self.failure = error if isinstance(error, VigilError) else VigilError(str(error), where=str(self.path))
            log.error("the recording has ended: %s", self.failure)
        elif self._writer is not None and self._writer.waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.config.flush_seconds, self._flush)
        if self.failure is None and self._waiting:
            self._start()

    def _flush(self) -> None:
        self._timer = None
        if self._writer is not None and self.failure is None:
            self._flushing = asyncio.get_running_loop().run_in_executor(self._pool, self._flush_now)

    def _flush_now(self) -> None:
        try:
            if self._writer is not None:
                self._writer.flush(sync=True)
        except VigilError as error:
            self.failure = error
            log.error("the recording has ended: %s", error)

    def _write(self) -> None:
        """In the thread: write some of what is waiting, so that those who wait for room soon hear of it."""
        assert self._writer is not None
        for _ in range(64):
            try:
                message = self._waiting.popleft()
            except IndexError:
                return
            self._bytes -= size(message)
            try:
                self._writer.write(message)
            except MessageError as error:
                self.refused += 1
                if self.refused & (self.refused - 1) == 0:  # the 1st, 2nd, 4th, 8th ...
                    log.warning("not recorded (%d so far): %s", self.refused, error)


def size(message: Message[Any]) -> int:
    """Bytes of a message's pixels; 0 for other payloads."""
    if isinstance(message.payload, (VideoFrame, SyntheticFrame)):
        return sum(int(plane.nbytes) for plane in message.payload.planes)
    return 0


def free_name(path: Path) -> Path:
    """``path``, or where it exists the first of ``name-2``, ``name-3`` ... that does not."""
    number = 2
    free = path
    while free.exists():
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return free
