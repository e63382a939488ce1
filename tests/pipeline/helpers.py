"""Small operators that the engine's tests are made of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import numpy as np

from pipeline.engine import Engine, RunOptions
from pipeline.graph import Graph
from pipeline.message import Abstain, AlertCondition, Array, Message, Numeric, VideoFrame
from pipeline.operator import Config, Input, Operator, Output, Outputs, Source

MS = 1_000_000
SECOND = 1_000_000_000


class Count(Source):
    """Numerics 0, 1, 2, ... every ``step_ms`` of event time from ``start_ms``."""

    class Config(Config):
        count: int = 10
        step_ms: int = 10
        start_ms: int = 0
        fail_at: int = -1

    live: ClassVar[bool] = False
    output: Output[Numeric]

    def run(self) -> Iterator[Message[Any]]:
        for i in range(self.config.count):
            if i == self.config.fail_at:
                raise OSError("the disk is gone")
            time = (self.config.start_ms + i * self.config.step_ms) * MS
            yield self.output.first(Numeric("n", "", "1", float(i)), time, origin="recorded")


class LiveCount(Source):
    """A device: numerics as fast as asked, in its own thread, stamped with the wall clock."""

    class Config(Config):
        count: int = 10
        pause_seconds: float = 0.0

    output: Output[Numeric]

    def run(self) -> Iterator[Message[Any]]:
        for i in range(self.config.count):
            yield self.output.first(Numeric("n", "", "1", float(i)), time.time_ns())
            if self.config.pause_seconds:
                time.sleep(self.config.pause_seconds)


class AsyncCount(Source):
    class Config(Config):
        count: int = 10

    output: Output[Numeric]

    async def run(self) -> AsyncIterator[Message[Any]]:  # type: ignore[override]
        for i in range(self.config.count):
            yield self.output.first(Numeric("n", "", "1", float(i)), time.time_ns())
            await asyncio.sleep(0)


class Frames(Source):
    class Config(Config):
        count: int = 10
        width: int = 640
        height: int = 480

    live: ClassVar[bool] = False
    video: Output[VideoFrame]

    def run(self) -> Iterator[Message[Any]]:
        for i in range(self.config.count):
            picture: Array = np.full((self.config.height, self.config.width), i % 256, np.uint8)
            frame = VideoFrame(self.config.width, self.config.height, "gray", (picture,))
            yield self.video.first(frame, i * 40 * MS, origin="recorded")


class Add(Operator):
    """Adds ``amount``; ``fail_on`` values raise; keeps a count as its state."""

    class Config(Config):
        amount: float = 1.0
        fail_on: tuple[float, ...] = ()
        sleep_seconds: float = 0.0

    input: Input[Numeric]
    output: Output[Numeric]

    def setup(self) -> None:
        self.seen = 0

    def process(self, message: Message[Numeric]) -> Outputs:
        self.seen += 1
        value = message.payload.value
        if value in self.config.fail_on:
            raise ValueError("patient Smith, John: cannot add")
        if self.config.sleep_seconds:
            time.sleep(self.config.sleep_seconds)
        return self.output.emit(Numeric("n", "", "1", value + self.config.amount), message)

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


class AsyncAdd(Add):
    async def process(self, message: Message[Numeric]) -> Outputs:  # type: ignore[override]
        await asyncio.sleep(self.config.sleep_seconds)
        return self.output.emit(Numeric("n", "", "1", message.payload.value + self.config.amount), message)


class Mean(Operator):
    """The brightness of a frame, and the address of its pixels: shows whether they were copied."""

    video: Input[VideoFrame]
    output: Output[Numeric]

    def process(self, message: Message[VideoFrame]) -> Outputs:
        plane = message.payload.planes[0]
        return self.output.emit(Numeric(str(plane.ctypes.data), "", "1", float(plane.mean())), message)


class Silence(Operator):
    """A condition when nothing came for ``seconds`` of event time."""

    class Config(Config):
        seconds: float = 0.1

    input: Input[Numeric]
    output: Output[Numeric]

    def process(self, message: Message[Numeric]) -> Outputs:
        self.wake(message.time + round(self.config.seconds * SECOND))
        self.cause = message
        return None

    def on_time(self, time: int) -> Outputs:
        return self.output.emit(Numeric("silent", "", "1", 0.0), self.cause, time=time)


class Hang(Operator):
    """Hands the first value on and then thinks for most of the run."""

    input: Input[Numeric]
    output: Output[Numeric]

    def process(self, message: Message[Numeric]) -> Outputs:
        if message.sequence == 1:
            time.sleep(1.8)
        return self.output.emit(message.payload, message)


class Collect(Operator):
    """Ends a graph; the test reads ``messages`` through ``engine.listen`` instead where it can."""

    input: Input[Any]

    def process(self, message: Message[Any]) -> Outputs:
        return None


class CollectAnswers(Operator):
    """Takes numbers or abstentions, and hands on their kind."""

    input: Input[Numeric | Abstain]
    output: Output[Numeric]

    def process(self, message: Message[Any]) -> Outputs:
        kind = type(message.payload).__name__
        return self.output.emit(Numeric(kind, "", "1", 0.0), message)


class ConditionLog(Operator):
    """Takes conditions, as the alert sink does."""

    conditions: Input[AlertCondition] | None
    log: Output[AlertCondition]

    def process(self, message: Message[AlertCondition]) -> Outputs:
        return self.log.emit(message.payload, message)


async def play(graph: Graph, listen: str, **options: Any) -> list[Message[Any]]:
    """Run to the end; everything that came out of ``listen``."""
    options.setdefault("speed", float("inf"))
    engine = Engine(graph, RunOptions(**options))
    heard: list[Message[Any]] = []
    engine.listen(*listen.split("."), heard.extend)  # type: ignore[arg-type]
    await engine.run()
    return heard


def values(messages: list[Message[Any]]) -> list[float]:
    return [message.payload.value for message in messages]
