"""`vigil bench engine`: the engine beside what one would write by hand in asyncio, in the same run.

The chain is a source, four operators that hand on, and a sink. The baselines do the same without counting, timing,
types, restarts or back-pressure towards a source: they are what the engine's comforts are paid against.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from pipeline.bench import BenchOptions, Row, compare, limit
from pipeline.engine import Engine, RunOptions
from pipeline.graph import Graph
from pipeline.message import Array, Message, Numeric, VideoFrame
from pipeline.operator import Config as Options
from pipeline.operator import Input, Operator, Output, Outputs, Source
from pipeline.time import stamp

STAGES = 4
CAPACITY = 256
"""Of every queue, ours and the baseline's."""
NUMBER = Numeric("n", "", "1", 1.0)


class _Numbers(Source):
    """As many messages as asked, as fast as they are taken."""

    class Config(Options):
        count: int = 1_000_000

    live: ClassVar[bool] = False
    output: Output[Numeric]

    def run(self) -> Iterator[Message[Any]]:
        first = self.output.first
        for i in range(self.config.count):
            yield first(NUMBER, i)


class _Paced(Source):
    """A device: one message every ``period_seconds``, a frame of 1080p or a number."""

    class Config(Options):
        count: int = 1000
        period_seconds: float = 0.001
        frames: bool = False

    output: Output[Any]

    async def run(self) -> AsyncIterator[Message[Any]]:
        payload = _frame() if self.config.frames else NUMBER
        async for i in _ticks(self.config.count, self.config.period_seconds):
            yield self.output.first(payload, i)


class _Pass(Operator):
    input: Input[Any]
    output: Output[Any]

    def process(self, message: Message[Any]) -> Outputs:
        return message


class _Sink(Operator):
    """Counts, and remembers what ``_Paced`` needs: when each message came, and where its pixels lie."""

    input: Input[Any]

    def setup(self) -> None:
        self.arrivals: list[tuple[int, int, int]] = []

    def process(self, message: Message[Any]) -> Outputs:
        now, payload = stamp(), message.payload
        address = payload.planes[0].ctypes.data if type(payload) is VideoFrame else 0
        self.arrivals.append((now, message.trace[0].entered, address))
        return None


class _Count(Operator):
    input: Input[Any]

    def process(self, message: Message[Any]) -> Outputs:
        return None


def _frame() -> VideoFrame:
    plane: Array = np.zeros((1080, 1920), np.uint8)
    half: Array = np.zeros((540, 960), np.uint8)
    return VideoFrame(1920, 1080, "yuv420p", (plane, half, half))


async def _ticks(count: int, period: float) -> AsyncIterator[int]:
    start = time.monotonic()
    for i in range(count):
        await asyncio.sleep(max(0.0, start + i * period - time.monotonic()))
        yield i


def _graph(source: type[Source], sink: type[Operator], capacity: int | None, **options: Any) -> Graph:
    graph = Graph("bench")
    graph.add("source", source, **options)
    previous = "source"
    for i in range(STAGES):
        graph.add(f"pass_{i}", _Pass)
        graph.connect(previous, f"pass_{i}", capacity=capacity)
        previous = f"pass_{i}"
    graph.add("sink", sink)
    graph.connect(previous, "sink", capacity=capacity)
    return graph


async def _ours(count: int, capacity: int | None) -> float:
    """Messages per second through our chain."""
    engine = Engine(_graph(_Numbers, _Count, capacity, count=count), RunOptions(speed=float("inf")))
    began = time.perf_counter()
    await engine.run()
    assert engine.steps["sink"].metrics.processed == count
    return count / (time.perf_counter() - began)


async def _queue_chain(messages: AsyncIterator[Message[Any]], arrive: Callable[[Message[Any]], None]) -> None:
    """The hand-written chain: a task and an ``asyncio.Queue`` per stage."""
    queues: list[asyncio.Queue[Message[Any] | None]] = [asyncio.Queue(CAPACITY) for _ in range(STAGES + 1)]

    async def stage(source: asyncio.Queue[Any], target: asyncio.Queue[Any]) -> None:
        while True:
            message = await source.get()
            await target.put(message)
            if message is None:
                return

    async def sink(source: asyncio.Queue[Message[Any] | None]) -> None:
        while (message := await source.get()) is not None:
            arrive(message)

    tasks = [asyncio.create_task(stage(queues[i], queues[i + 1])) for i in range(STAGES)]
    tasks.append(asyncio.create_task(sink(queues[STAGES])))
    async for message in messages:
        await queues[0].put(message)
    await queues[0].put(None)
    await asyncio.gather(*tasks)


async def _all_at_once(count: int) -> AsyncIterator[Message[Any]]:
    for i in range(count):
        yield Message("source.output", i, i, NUMBER)


async def _queue_rate(count: int) -> float:
    seen = 0

    def arrive(message: Message[Any]) -> None:
        nonlocal seen
        seen += 1

    began = time.perf_counter()
    await _queue_chain(_all_at_once(count), arrive)
    assert seen == count
    return count / (time.perf_counter() - began)


async def _await_rate(count: int) -> float:
    """Each stage awaits the next: no queue, no task, nothing counted."""
    seen = 0

    async def sink(message: Message[Any]) -> None:
        nonlocal seen
        seen += 1

    def stage(onward: Callable[[Message[Any]], Awaitable[None]]) -> Callable[[Message[Any]], Awaitable[None]]:
        async def hand_on(message: Message[Any]) -> None:
            await onward(message)

        return hand_on

    first: Callable[[Message[Any]], Awaitable[None]] = sink
    for _ in range(STAGES):
        first = stage(first)
    began = time.perf_counter()
    for i in range(count):
        await first(Message("source.output", i, i, NUMBER))
    assert seen == count
    return count / (time.perf_counter() - began)


async def _our_latency(count: int, period: float, frames: bool, queued: bool) -> tuple[list[int], list[int]]:
    """Nanoseconds from source to sink, and the addresses of the pixels that arrived."""
    options: dict[str, Any] = {"count": count, "period_seconds": period, "frames": frames}
    engine = Engine(_graph(_Paced, _Sink, CAPACITY if queued else None, **options))
    await engine.run()
    arrivals = engine.steps["sink"].operator.arrivals  # type: ignore[attr-defined]
    assert len(arrivals) == count
    return [arrived - left for arrived, left, _ in arrivals], [address for _, _, address in arrivals]


async def _queue_latency(count: int, period: float, frames: bool) -> list[int]:
    latencies: list[int] = []
    payload = _frame() if frames else NUMBER

    async def paced() -> AsyncIterator[Message[Any]]:
        async for i in _ticks(count, period):
            yield Message("source.output", stamp(), i, payload)

    await _queue_chain(paced(), lambda message: latencies.append(stamp() - message.time))
    return latencies


def _p99(nanoseconds: list[int]) -> float:
    return float(np.percentile(nanoseconds, 99)) / 1000


def run(options: BenchOptions) -> list[Row]:
    """Throughput and latency rows; medians over rounds in which ours and the baseline take turns."""
    count, rounds = (20_000, 1) if options.quick else (1_000_000, 3)
    rates: dict[str, list[float]] = {"queued": [], "queue": [], "fused": [], "await": []}
    for number in range(rounds):
        options.progress(f"throughput, round {number + 1} of {rounds}: {count:,} messages through {STAGES} operators")
        rates["queue"].append(asyncio.run(_queue_rate(count)))
        rates["queued"].append(asyncio.run(_ours(count, CAPACITY)))
        rates["await"].append(asyncio.run(_await_rate(count)))
        rates["fused"].append(asyncio.run(_ours(count, None)))
    median = {name: statistics.median(values) for name, values in rates.items()}
    rows = [
        compare("throughput, queued edges", median["queued"], "messages/s", "asyncio.Queue chain", median["queue"],
                at_least=4),
        compare("throughput, fused edges", median["fused"], "messages/s", "bare await chain", median["await"],
                at_least=0.5),
    ]  # fmt: skip
    for name, rate, frames in (("1 kHz numbers", 1000, False), ("60 Hz 1080p frames", 60, True)):
        rows += _latency(name, rate, frames, options)
    return rows


def _latency(name: str, rate: int, frames: bool, options: BenchOptions) -> list[Row]:
    """Ours beside the baseline, in turns: what disturbs the machine for seconds disturbs each of them."""
    seconds, rounds = (0.3, 1) if options.quick else (6.0, 5)
    amount, period = int(rate * seconds), 1 / rate
    p99: dict[str, list[float]] = {"queue": [], "queued": [], "fused": []}
    medians, addresses = [], set()
    for number in range(rounds):
        options.progress(f"latency at {name}, round {number + 1} of {rounds}: {seconds} s each")
        p99["queue"].append(_p99(asyncio.run(_queue_latency(amount, period, frames))))
        fused, seen = asyncio.run(_our_latency(amount, period, frames, False))
        queued, _ = asyncio.run(_our_latency(amount, period, frames, True))
        p99["fused"].append(_p99(fused))
        p99["queued"].append(_p99(queued))
        medians.append(float(np.median(fused)) / 1000 / (STAGES + 1))
        addresses.add(len(set(seen)))
    found = {kind: statistics.median(values) for kind, values in p99.items()}
    rows = [
        compare(f"latency p99, {name}", found["fused"], "us", "asyncio.Queue chain", found["queue"], at_most=0.5),
        compare(f"latency p99, {name}, queued edges", found["queued"], "us", "asyncio.Queue chain", found["queue"]),
    ]
    if frames:
        hop = statistics.median(medians)
        rows.append(limit("time per hop of a 1080p frame (median)", hop, "us", at_most=5))
        rows.append(limit("copies of a 1080p frame", float(max(addresses) - 1), "copies", at_most=0))
    return rows
