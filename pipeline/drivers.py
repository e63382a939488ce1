"""What moves messages through a graph: one task for every step behind a queue, and one for every kind of source.

Three kinds of source. *Live* ones run in a thread (or as an async generator) and are never made to wait: what the
graph cannot take is dropped at the door and counted. *Offline* ones (files, simulations, a replay) are merged in the
total order and either pulled as fast as the graph takes them or paced by the run's clock.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import threading
from collections import Counter, deque
from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from pipeline.edge import Edge, Wakeup
from pipeline.message import Bound, Hop, Message, Origin, VideoFrame
from pipeline.metrics import EdgeMetrics, StreamMetrics
from pipeline.operator import Source
from pipeline.step import BATCH, InlineStep, Step, WorkerStep
from pipeline.time import ReplayClock, stamp

if TYPE_CHECKING:
    from pipeline.engine import Engine
    from pipeline.graph import Node

log = logging.getLogger("vigil.engine")

BREATH = 5_000_000
"""Nanoseconds after which a task lets others run."""
BOUND_EVERY = 0.1
"""Seconds between the bounds that a silent source promises."""
LATENESS = 500_000_000
"""Nanoseconds by which a live source's messages may trail the clock before a bound passes them."""
FRAME_BUFFER, BUFFER = 8, 256
"""Messages kept at the door for a live source that gives frames only, and for any other."""

Fed = tuple["SourceStep", Message[Any]]


class SourceStep(Step):
    """The way into the graph: stamps messages, notes the freshness of their streams, hands them on."""

    def __init__(self, engine: Engine, node: Node) -> None:
        super().__init__(engine, node, [])
        self.operator: Source = engine.make(node)  # type: ignore[assignment]
        self.streams: dict[str, StreamMetrics] = {}
        self.shift = 0
        """Added to event times where a recording is played among live devices."""

    def deliver(self, batch: list[Message[Any]], entered: int) -> None:
        """Hand on messages that were read between ``entered`` and now."""
        if self.shift:
            batch = [msgspec.structs.replace(message, time=message.time + self.shift) for message in batch]
        left = stamp()
        hop = Hop(self.name, entered, left)
        for message in batch:
            message.trace.append(hop)
        self.emit(batch)
        self.metrics.processed += len(batch)
        self.note(batch, left)

    def note(self, batch: list[Message[Any]], now: int) -> None:
        """Freshness: which streams came, how many, and up to when."""
        last = batch[-1]
        if last.time > self.last_time:
            self.last_time = last.time
        if len(batch) == 1:  # as live devices give them: spared the counting, which costs as much as a hop
            self.arrived(last, 1, now)
            return
        newest = {message.stream: message for message in batch}
        if len(newest) == 1:
            self.arrived(last, len(batch), now)
            return
        counts = Counter([message.stream for message in batch])
        for message in newest.values():
            self.arrived(message, counts[message.stream], now)

    def arrived(self, newest: Message[Any], count: int, now: int) -> None:
        """``count`` messages of one stream came."""
        stream = self.streams.get(newest.stream)
        if stream is None:
            stream = self.streams[newest.stream] = StreamMetrics(newest.stream)
        stream.count += count
        stream.event_time = newest.time
        stream.arrived = now


# ------------------------------------------------------------------------------------ behind a queue


async def drive(step: InlineStep | WorkerStep) -> None:
    """Take from the queues of ``step`` until all its inputs have ended."""
    wakeup = step.wakeup
    assert wakeup is not None
    tails = [edge for edge in step.tails() if edge not in step.engine.feedback_edges]
    ended: set[int] = set()
    began = stamp()
    while step.open != -1:
        idle = True
        for index, edge in step.edges.items():
            items = edge.take(step.batch)
            if items:
                idle = False
                await consume(step, index, edge, items)
            elif edge.closed and index not in ended:
                idle = False
                ended.add(index)
                await _either(step.shut(index))
            for tail in tails:
                if tail.full:
                    await tail.room(wakeup)
        if idle:
            await wakeup.wait()
            began = stamp()
        elif stamp() - began > BREATH:
            await asyncio.sleep(0)
            began = stamp()


async def consume(step: InlineStep | WorkerStep, index: int, edge: Edge, items: Sequence[Any]) -> None:
    """Hand one batch from a queue to its step: bounds to ``advance``, messages to ``receive``."""
    now = stamp()
    groups = itertools.groupby(items, key=_is_bound) if edge.bounds else ((False, items),)
    for is_bound, group in groups:
        batch = group if group is items else list(group)
        if is_bound:
            edge.bounds -= len(batch)
            await _either(step.advance(index, batch[-1].time))
            continue
        trace = batch[0].trace
        if trace:
            edge.metrics.wait.observe(now - trace[-1].left, len(batch))
        await _either(step.receive(index, batch))


def _is_bound(item: Any) -> bool:
    return type(item) is Bound


async def _either(result: Any) -> None:
    if result is not None:
        await result


# ------------------------------------------------------------------------------------- live sources


class LiveSource:
    """One live source: its generator, its little buffer, and the task that empties it."""

    def __init__(self, engine: Engine, step: SourceStep) -> None:
        self.engine, self.step = engine, step
        outputs = step.node.operator.outputs.values()
        frames_only = bool(outputs) and all(port.types == (VideoFrame,) for port in outputs)
        self.capacity = FRAME_BUFFER if frames_only else BUFFER
        self.buffer: deque[tuple[int, Message[Any]]] = deque()
        self.metrics = EdgeMetrics(f"{step.name}->graph")
        self.wakeup = Wakeup()
        self.tails = step.tails()
        self.loop = asyncio.get_running_loop()
        self.ended = False
        self.thread: threading.Thread | None = None
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read. A sync generator gets a thread, an async one a task."""
        outcome = self.step.operator.run()
        if isinstance(outcome, AsyncIterable):
            self.task = self.loop.create_task(self._read_async(outcome), name=f"source {self.step.name}")
        else:
            name = f"vigil-{self.step.name}"
            self.thread = threading.Thread(target=self._read, args=(outcome,), name=name, daemon=True)
            self.thread.start()

    async def pump(self) -> None:
        """Move what was read into the graph until the source ends. Waiting for the graph happens here, not there."""
        while True:
            while self.buffer:
                taken = [self.buffer.popleft() for _ in range(min(len(self.buffer), BATCH))]
                self.step.deliver([message for _, message in taken], taken[0][0])
                for tail in self.tails:
                    await tail.room(self.wakeup)
                await asyncio.sleep(0)
            if self.ended:
                return
            await self.wakeup.wait()

    async def stop(self) -> None:
        """Ask the source to end and wait for it, one second at most: a blocked read dies with the process."""
        self.step.operator.stopping.set()
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task}, timeout=1.0)
        if self.thread is not None:
            await asyncio.to_thread(self.thread.join, 1.0)
        self._end()

    def silent(self, now: int) -> None:
        """Promise downstream that nothing older than the allowed lateness follows, though nothing came."""
        if not self.buffer:
            self.step.forward(max(now - LATENESS, self.step.last_time))

    def _take(self, message: Message[Any]) -> None:
        self.buffer.append((stamp(), message))
        self.metrics.pushed += 1
        while len(self.buffer) > self.capacity:
            self.buffer.popleft()
            self.metrics.dropped += 1

    def _end(self) -> None:
        self.ended = True
        self.wakeup.set()

    def _read(self, outcome: Iterable[Message[Any]]) -> None:
        failures = 0
        stopping = self.step.operator.stopping
        while not stopping.is_set():
            try:
                for message in outcome:
                    idle = not self.buffer
                    self._take(message)
                    if idle:
                        self.loop.call_soon_threadsafe(self.wakeup.set)
                    failures = 0 if failures and self._recovered() else failures
                    if stopping.is_set():
                        break
                break
            except Exception as error:
                if self.loop.is_closed():
                    return
                failures += 1
                self.loop.call_soon_threadsafe(self._failed, error)
                stopping.wait(min(0.1 * 2**failures, 30.0))
                outcome = self.step.operator.run()  # type: ignore[assignment]
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._end)

    async def _read_async(self, outcome: AsyncIterable[Message[Any]]) -> None:
        failures = 0
        while not self.step.operator.stopping.is_set():
            try:
                async for message in outcome:
                    if self.buffer or any(tail.full for tail in self.tails):
                        self._take(message)
                        self.wakeup.set()
                    else:  # nothing waits: straight through, without a turn of the loop
                        self.metrics.pushed += 1
                        self.step.deliver([message], stamp())
                    failures = 0 if failures and self._recovered() else failures
                break
            except Exception as error:
                failures += 1
                self._failed(error)
                await asyncio.sleep(min(0.1 * 2**failures, 30.0))
                outcome = self.step.operator.run()  # type: ignore[assignment]
        self._end()

    def _failed(self, error: Exception) -> None:
        log.warning("source %s failed: %r", self.step.name, error)
        self.step.metrics.errors += 1
        self.step.metrics.restarts += 1
        self.step.failures += 1
        self.engine.report_failure(self.step, self.engine.clock.now(), error)

    def _recovered(self) -> bool:
        self.loop.call_soon_threadsafe(self.step.recovered, self.engine.clock.now())
        return True


# ---------------------------------------------------------------------------------- offline sources


def merged(steps: list[SourceStep]) -> Iterator[Fed]:
    """The messages of all offline sources in the total order, each with the step it enters by."""
    if len(steps) == 1:
        return zip(itertools.repeat(steps[0]), steps[0].operator.run())  # type: ignore[arg-type]
    streams = [zip(itertools.repeat(step), step.operator.run()) for step in steps]  # type: ignore[arg-type]
    return heapq.merge(*streams, key=lambda fed: fed[1].order)


class OfflineFeed:
    """Plays offline sources into the graph, in the total order, as fast as it goes or at the clock's speed."""

    def __init__(self, engine: Engine, steps: list[SourceStep], messages: Iterator[Fed] | None = None) -> None:
        self.engine, self.steps = engine, steps
        self.messages = merged(steps) if messages is None else messages
        self.wakeup = Wakeup()
        self.tails: list[Edge] = list({id(edge): edge for step in steps for edge in step.tails()}.values())
        self.position = 0
        """Event time reached."""
        self.origin: Origin = "recorded"
        self.error: Exception | None = None
        self.stopping = threading.Event()

    async def run(self) -> None:
        """Play to the end or until ``stop``. What a source raises is kept in ``error``; what came before is played."""
        clock = self.engine.clock
        first = self._pull(1)
        if first:
            self.origin = first[0][1].origin
            if isinstance(clock, ReplayClock):
                clock.begin(first[0][1].time)
            else:
                for step in self.steps:
                    step.shift = clock.now() - first[0][1].time
            self.messages = itertools.chain(first, self.messages)
        if isinstance(clock, ReplayClock) and clock.speed == float("inf"):
            await self._unlimited(clock)
        else:
            await self._paced()

    def stop(self) -> None:
        self.stopping.set()
        for step in self.steps:
            step.operator.stopping.set()

    async def _unlimited(self, clock: ReplayClock) -> None:
        began = stamp()
        size = BATCH
        while not self.stopping.is_set():
            entered = stamp()
            batch = self._pull(size)
            if not batch:
                return
            # Reading that is slow (a rendered frame) is handed on one by one: others wait for what comes of it.
            size = BATCH if stamp() - entered < 1_000_000 else 1
            self._deliver(batch, entered)
            clock.reach(self.position)
            for tail in self.tails:
                if tail.full:
                    await tail.room(self.wakeup)
            if stamp() - began > BREATH:
                await asyncio.sleep(0)
                began = stamp()

    async def _paced(self) -> None:
        """A thread reads ahead and waits for each message's moment; the loop plays what is due."""
        loop = asyncio.get_running_loop()
        due: asyncio.Queue[tuple[list[Fed], int] | int | None] = asyncio.Queue()
        slots = threading.Semaphore(4)

        def hand_over(item: tuple[list[Fed], int] | int | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(due.put_nowait, item)

        thread = threading.Thread(target=self._wait_for_each, args=(hand_over, slots), name="vigil-feed", daemon=True)
        thread.start()
        while (item := await due.get()) is not None:
            if isinstance(item, int):
                self._promise(item)
                continue
            self._deliver(*item)
            for tail in self.tails:
                if tail.full:
                    await tail.room(self.wakeup)
            slots.release()

    def _wait_for_each(self, hand_over: Any, slots: threading.Semaphore) -> None:
        clock = self.engine.clock
        while not self.stopping.is_set():
            batch = self._pull(1)
            if not batch:
                break
            step, message = batch[0]
            moment = message.time + step.shift
            while (delay := clock.delay(moment)) > 0 and not self.stopping.wait(min(delay, BOUND_EVERY)):
                if delay > BOUND_EVERY:
                    hand_over(min(clock.now(), moment))
            while not slots.acquire(timeout=0.2) and not self.stopping.is_set():
                pass
            hand_over((batch, stamp()))
        hand_over(None)

    def _pull(self, size: int) -> list[Fed]:
        if self.error is not None:
            return []
        batch: list[Fed] = []
        try:
            batch.extend(itertools.islice(self.messages, size))  # what came before an exception is in it
        except Exception as error:
            self.error = error
        return batch

    def _deliver(self, batch: list[Fed], entered: int) -> None:
        if len(self.steps) == 1:
            self.steps[0].deliver([message for _step, message in batch], entered)
        else:
            groups: dict[SourceStep, list[Message[Any]]] = {}
            for step, message in batch:
                if step in groups:
                    groups[step].append(message)
                else:
                    groups[step] = [message]
            for step, messages in groups.items():
                step.deliver(messages, entered)
        last_step, last = batch[-1]
        self._promise(last.time + last_step.shift)

    def _promise(self, time: int) -> None:
        """Every offline source has come to ``time``: the merge is in order."""
        if time > self.position:
            self.position = time
            for step in self.steps:
                step.forward(time)
