"""Runs a graph: compiles it to steps and links, starts sources and drivers, supervises, and ends cleanly.

engine = Engine(graph)
engine.listen("alerts", "alerts", print)
await engine.run()
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import importlib.metadata
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.drivers import LiveSource, OfflineFeed, SourceStep, drive
from pipeline.edge import Edge, Policy, Wakeup
from pipeline.errors import VigilError
from pipeline.graph import ENGINE, Connection, Graph, Node, engine_inputs, takes_conditions
from pipeline.message import Abstain, AlertCondition, Message, Origin, Rule, Status, StreamStatus, VideoFrame
from pipeline.metrics import EdgeMetrics, NodeMetrics
from pipeline.operator import Context, Operator, is_async
from pipeline.placement import LoopWorker, ProcessWorker, ThreadWorker, Worker, cuda_stream, no_context
from pipeline.step import InlineStep, Link, Step, WorkerStep
from pipeline.time import Clock, ReplayClock, WallClock, stamp
from pipeline.watch import Watch

log = logging.getLogger("vigil.engine")

FRAME_CAPACITY, CAPACITY = 8, 256
"""Messages that an edge holds where the topology does not say: frames are large, everything else is small."""
STOP_SECONDS = 4.0
"""How long a stopped run may take to hand on what it has."""

Listener = Callable[[Sequence[Message[Any]]], None]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How a graph is run."""

    speed: float = 1.0
    """Event seconds per real second for sources that are not live; ``inf`` for as fast as it goes."""
    deterministic: bool = False
    """Replay: nothing is dropped, no deadline applies, nodes with several inputs see them in the total order."""
    room: str = ""
    """The Kafka key; the topology's own where empty."""
    case: str = "case"
    data: Path = Path("data")
    """Where journals and recordings are written."""
    replay: str = ""
    """The command that replays this run, for the alerts' evidence."""
    stall_seconds: float = 10.0
    """An edge that blocks for longer, or a run that comes to a standstill, is reported."""


class Engine:
    """One run of one graph.

    Args:
        graph: checked here again; raises ``TopologyError``.
        options: speed, room, folders.
        feed: makes the messages of the run in the total order in place of the graph's own sources (replay).
    """

    def __init__(self, graph: Graph, options: RunOptions | None = None, *, feed: Any = None) -> None:
        graph.check()
        self.graph, self.options, self.feed = graph, options or RunOptions(), feed
        self.deterministic = self.options.deterministic
        self.room = self.options.room or graph.room
        self.steps: dict[str, Step] = {}
        self.edges: list[Edge] = []
        self.feedback_edges: list[Edge] = []
        self.notes: list[str] = []
        """What people should know about how this graph runs here, e.g. a CUDA placement without a device."""
        self.ready = False
        self.stopped = False
        self.listeners: dict[tuple[str, str], list[Listener]] = {}
        self.condition_inputs: list[tuple[Step, int]] = []
        self.told_inputs: dict[tuple[str, str], tuple[Step, int]] = {}
        self.condition_listeners: list[Listener] = []
        self.active: dict[tuple[str, str], Message[AlertCondition]] = {}
        """Technical conditions that are true now, by code and subject."""
        self.started = stamp()
        self.digest = graph.digest()
        live = feed is None and any(node.operator.live for node in graph.sources())  # type: ignore[attr-defined]
        self.clock: Clock = WallClock() if live else ReplayClock(0, self.options.speed)
        self._sequences: dict[str, int] = {}
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sources: list[LiveSource] = []
        self.offline: OfflineFeed | None = None
        self.watch: Watch | None = None

    # -- what people call

    def listen(self, node: str, port: str, listener: Listener) -> None:
        """Call ``listener`` with every batch of messages on ``node.port``. Before ``run``; it must not wait.

        ``engine.conditions`` carries the engine's own technical conditions.
        """
        if (node, port) == (ENGINE, "conditions"):
            self.condition_listeners.append(listener)
        else:
            self.listeners.setdefault((node, port), []).append(listener)

    def stop(self) -> None:
        """End the run cleanly: sources stop, what is under way is finished, everything is flushed. Thread-safe
        only through ``loop.call_soon_threadsafe``."""
        self.stopped = True
        if self._stop is not None:
            self._stop.set()

    async def run(self) -> None:
        """Run until every source has ended or ``stop`` is called.

        Raises:
            VigilError: where an operator cannot start, a recording breaks off with an error, or the run comes to a
                standstill; the message names the operator or edge.
        """
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        if self.stopped:
            self._stop.set()
        try:
            await self._start()
            await self._play()
        finally:
            self.ready = False
            for step in reversed(self.steps.values()):
                await step.stop()
        if self.offline is not None and self.offline.error is not None:
            error = self.offline.error
            raise error if isinstance(error, VigilError) else VigilError(f"a source failed: {error!r}") from error

    # -- compile

    async def _start(self) -> None:
        feedback = {connection.name for connection in self.graph.feedback()}
        for node in self.graph.order():
            try:
                step = self._step(node)
                self.steps[node.name] = step
                if isinstance(step, WorkerStep):
                    await step.start()
            except VigilError:
                raise
            except Exception as error:
                log.debug("start of %s", node.name, exc_info=error)
                raise VigilError(f"operator {node.name!r} cannot start: {error}", where=node.where) from error
        needs = self._needs_bounds(feedback)
        for connection in self.graph.connections:
            self._connect(connection, connection.name in feedback, needs)
        for node in self.graph.nodes.values():
            self._connect_engine(self.steps[node.name], node.operator)
        for (name, port), listeners in self.listeners.items():
            for listener in listeners:
                nothing: Callable[[Any], None] = lambda _: None  # noqa: E731
                link = Link(listener, nothing, lambda: None, edge=None, step=None, timed=False, abstains=True)
                self.steps[name].links[port].append(link)
        for step in self.steps.values():
            step.connect()

    def make(self, node: Node) -> Operator:
        """A new instance of the node's operator, with its context."""
        operator = node.operator(node.config, name=node.name)
        operator.context = self.context()
        if node.operator.told and not self.deterministic:
            operator.context.tell = functools.partial(self.tell, node.name)
        return operator

    def context(self) -> Context:
        options = self.options
        return Context(
            clock=self.clock, room=self.room, case=options.case, topology=self.graph.name, data=options.data,
            replaying=options.deterministic, replay=options.replay,
        )  # fmt: skip

    def _step(self, node: Node) -> Step:
        if node.is_source:
            step = SourceStep(self, node)
            if self.feed is None:
                step.operator.setup()
            return step
        ports = [connection.input for connection in self.graph.into(node.name)]
        ports.extend(engine_inputs(node.operator))
        worker = self._worker(node)
        return InlineStep(self, node, ports) if worker is None else WorkerStep(self, node, ports, worker)

    def _worker(self, node: Node) -> Worker | None:
        """Where the node runs; None for a direct call."""
        placement, wrap = node.placement, no_context
        factory = functools.partial(self.make, node)
        if placement == "cuda":
            stream, reason = cuda_stream()
            if stream is None:
                placement = "inline"
                self.notes.append(f"{node.name}: placed on CUDA, runs inline here: {reason}")
            else:
                placement, wrap = "thread", stream
        if placement == "thread":
            return ThreadWorker(factory, node.name, wrap)
        if placement == "process":
            return ProcessWorker(node.operator, node.config, node.name, self.context())
        cls = node.operator
        methods = [*cls.handlers().values(), "on_time", "finish", "setup", "teardown"]
        return LoopWorker(factory) if any(is_async(getattr(cls, method)) for method in methods) else None

    def _needs_bounds(self, feedback: set[str]) -> dict[str, bool]:
        """Which nodes have to hear of event time: those with timers or joins, and all that feed one."""
        needs: dict[str, bool] = {}
        for node in reversed(self.graph.order()):
            step = self.steps[node.name]
            onward = [c for c in self.graph.out_of(node.name) if c.name not in feedback]
            needs[node.name] = step.timed or step.gate is not None or any(needs[c.target] for c in onward)
        return needs

    def _connect(self, connection: Connection, feedback: bool, needs: dict[str, bool]) -> None:
        source, target = self.steps[connection.source], self.steps[connection.target]
        index = self.graph.into(connection.target).index(connection)
        policy, capacity = self._policy(connection)
        kinds = target.node.operator.inputs[connection.input].types
        abstains = Abstain in kinds or (Any in kinds and not target.links)
        if feedback:
            target.feedback.add(index)
            if target.gate is not None:
                target.gate.close(index)
        timed = needs[connection.target] and not feedback
        if capacity is None and isinstance(target, InlineStep):
            # Where nothing has to be put in order first, a batch goes straight to the handler.
            receive = target.run if target.gate is None else target.receive
            link = Link(
                functools.partial(receive, index), functools.partial(target.advance, index),
                functools.partial(target.shut, index), edge=None, step=target, timed=timed, abstains=abstains,
            )  # fmt: skip
        else:
            edge = self._edge(connection.name, target, index, capacity or CAPACITY, policy)
            if feedback:
                self.feedback_edges.append(edge)
            link = Link(edge.push, edge.bound, edge.close, edge=edge, step=None, timed=timed, abstains=abstains)
        source.links[connection.output].append(link)

    def _policy(self, connection: Connection) -> tuple[Policy, int | None]:
        """Policy and capacity of an edge; capacity None asks for a direct call where the target never waits."""
        port = self.graph.nodes[connection.source].operator.outputs[connection.output]
        frames = VideoFrame in port.types
        target = self.steps[connection.target]
        if self.deterministic:
            queued = connection.capacity or connection.policy or not isinstance(target, InlineStep)
            return "block", (connection.capacity or (FRAME_CAPACITY if frames else CAPACITY)) if queued else None
        siblings = [c for c in self.graph.out_of(connection.source) if c.output == connection.output]
        policy, capacity = connection.policy, connection.capacity
        if policy is None and frames and len(siblings) > 1:
            # A slow branch must not slow its siblings, and what is old is no use: the newest frame is kept.
            policy = "latest"
        if policy is not None or not isinstance(target, InlineStep):
            capacity = capacity or (FRAME_CAPACITY if frames else CAPACITY)
        return policy or "block", capacity

    def _edge(self, name: str, target: Step, index: int, capacity: int, policy: Policy) -> Edge:
        if target.wakeup is None:
            target.wakeup = Wakeup()
        edge = Edge(name, target.wakeup, capacity=capacity, policy=policy)
        target.edges[index] = edge
        self.edges.append(edge)
        return edge

    def _connect_engine(self, target: Step, operator: type[Operator]) -> None:
        """What the engine feeds are further inputs, whose end nobody waits for."""
        ports = engine_inputs(operator)
        for index, port in enumerate(ports, start=len(target.ports) - len(ports)):
            target.feedback.add(index)
            if target.gate is not None:
                target.gate.close(index)
            if isinstance(target, WorkerStep):
                edge = self._edge(f"{ENGINE}.{port}->{target.name}.{port}", target, index, CAPACITY, "block")
                self.feedback_edges.append(edge)
            if port == takes_conditions(operator):
                self.condition_inputs.append((target, index))
            else:
                self.told_inputs[target.name, port] = (target, index)

    # -- play

    async def _play(self) -> None:
        assert self._stop is not None
        sources = [step for step in self.steps.values() if isinstance(step, SourceStep)]
        offline = [step for step in sources if self.feed is not None or not step.operator.live]
        players: list[asyncio.Task[None]] = []
        if offline:
            messages = None if self.feed is None else self.feed({step.name: step for step in offline})
            self.offline = OfflineFeed(self, offline, messages)
            players.append(asyncio.create_task(self.offline.run(), name="feed"))
        for step in sources:
            if step not in offline:
                live = LiveSource(self, step)
                self._sources.append(live)
                players.append(asyncio.create_task(live.pump(), name=f"source {step.name}"))
        drivers = [
            asyncio.create_task(drive(step), name=f"operator {step.name}")
            for step in self.steps.values()
            if isinstance(step, InlineStep | WorkerStep) and step.edges
        ]
        self.watch = watch = Watch(self)
        watching = asyncio.create_task(watch.run(self._sources), name="watch")
        for live in self._sources:
            live.start()
        self.ready = True
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await self._until_ended(players, drivers, stopping, watching)
            watch.draining = True
            for step in sources:
                step.close_links()
            await self._drain(drivers, watching)
        finally:
            tasks = [*players, *drivers, watching, stopping]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for step in sources:
                if self.feed is None:
                    step.operator.stopping.set()

    async def _until_ended(
        self, players: list[asyncio.Task[None]], drivers: list[asyncio.Task[None]],
        stopping: asyncio.Task[Any], watching: asyncio.Task[None],
    ) -> None:  # fmt: skip
        """Wait until all players have ended or a stop is asked for; a driver that dies ends the run with its error."""
        waiting: set[asyncio.Task[Any]] = {*players, *drivers, stopping, watching}
        while any(not player.done() for player in players) and not stopping.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        if stopping.done():
            if self.offline is not None:
                self.offline.stop()
            await asyncio.gather(*(live.stop() for live in self._sources))
            await asyncio.wait(players, timeout=1.0)
        for player in players:
            if player.done():
                player.result()

    async def _drain(self, drivers: list[asyncio.Task[None]], watching: asyncio.Task[None]) -> None:
        """Let what is in the queues through. A stopped run has ``STOP_SECONDS`` for it."""
        limit = None if self._stop is None or not self._stop.is_set() else STOP_SECONDS
        waiting: set[asyncio.Task[Any]] = set(drivers)
        began = stamp()
        while waiting:
            left = None if limit is None else max(0.0, limit - (stamp() - began) / 1e9)
            done, _ = await asyncio.wait({*waiting, watching}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if not done:
                names = ", ".join(sorted(task.get_name() for task in waiting))
                log.error("stopped before everything was through: %s", names)
                return
            waiting -= done

    # -- technical conditions

    def report_failure(self, step: Step, time: int, error: BaseException) -> None:
        """An operator raised: say so once, until it has recovered. The exception's text stays in the log."""
        text = f"{step.name} failed ({type(error).__name__}) and is being restarted; its results are missing"
        self.raise_condition("operator_failed", step.name, time, text)

    def report_recovery(self, step: Step, time: int) -> None:
        self.end_condition("operator_failed", step.name, time)

    def raise_condition(self, code: str, subject: str, time: int, text: str) -> None:
        """A technical condition of the engine's own becomes true; nothing happens where it is already."""
        if (code, subject) in self.active:
            return
        condition = AlertCondition(
            code=code, present=True, priority="medium", kind="technical", text=text, onset=time, source=ENGINE,
            rule=Rule(ENGINE, "1", self.digest), subject=subject,
        )  # fmt: skip
        self.active[code, subject] = self._tell(condition, time, subject)

    def end_condition(self, code: str, subject: str, time: int) -> None:
        """It is true no longer."""
        message = self.active.pop((code, subject), None)
        if message is None:
            return
        began = message.payload
        condition = AlertCondition(
            code=code, present=False, priority=began.priority, kind="technical", text=began.text, onset=began.onset,
            source=ENGINE, rule=began.rule, subject=subject, ended=max(time, began.onset),
        )  # fmt: skip
        self._tell(condition, max(time, began.onset), subject)

    def _tell(self, condition: AlertCondition, time: int, subject: str) -> Message[AlertCondition]:
        stream = f"{ENGINE}.conditions/{subject}"
        sequence = self._sequences[stream] = self._sequences.get(stream, -1) + 1
        message = Message(stream, time, sequence, condition, self.origin())
        for listener in self.condition_listeners:
            listener([message])
        for target, index in self.condition_inputs:
            if target.name != subject or not condition.present:  # the one that failed cannot be told of it
                _give(target, index, message)
        return message

    # -- what comes from outside

    def tell(self, node: str, port: str, payload: Any) -> None:
        """Put a payload on an input that ``node`` lets itself be told by. From any thread; not after the end."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._told, node, port, payload, self.clock.now())

    def _told(self, node: str, port: str, payload: Any, time: int) -> None:
        if not self.ready:
            log.warning("%s: came outside the run and is left out: %s", node, type(payload).__name__)
            return
        target, index = self.told_inputs[node, port]
        stream = f"{ENGINE}.{port}"
        sequence = self._sequences[stream] = self._sequences.get(stream, -1) + 1
        _give(target, index, Message(stream, max(time, target.last_time), sequence, payload, self.origin()))

    def heartbeat(self, seconds: float) -> None:
        """Tell the run's status to whoever carries it; the next one follows after ``seconds``."""
        listeners = [node for node, port in self.told_inputs if port == "status"]
        if listeners and not self.deterministic:
            status = self.status(seconds)
            for node in listeners:
                # At the event time that its input has reached: a heartbeat makes no timer fire.
                self._told(node, "status", status, 0)

    def status(self, seconds: float) -> Status:
        """What subscribers are told about this run."""
        return Status(
            room=self.room, case=self.options.case, topology=self.graph.name, origin=self.origin(), state="running",
            run="", at=time.time_ns(), next_seconds=seconds, event_time=self.clock.now(),
            uptime_seconds=round((stamp() - self.started) / 1e9, 3),
            streams=tuple(StreamStatus(name, count, round(age, 3)) for name, age, count in self.stream_ages()),
            conditions=tuple(message.payload.text for message in self.active.values()),
            version=importlib.metadata.version("vigil"),
        )  # fmt: skip

    def origin(self) -> Origin:
        """What this run's data is: ``live`` among devices, else what the recording or simulation says of itself."""
        return "live" if self._sources or self.offline is None else self.offline.origin

    # -- what is counted

    @property
    def beat(self) -> int:
        """Stamp of the event loop's last sign of life."""
        return self.started if self.watch is None else self.watch.beat

    def node_metrics(self) -> list[NodeMetrics]:
        return [step.metrics for step in self.steps.values()]

    def edge_metrics(self) -> list[EdgeMetrics]:
        return [edge.metrics for edge in self.edges] + [source.metrics for source in self._sources]

    def stream_ages(self) -> Iterator[tuple[str, float, int]]:
        """Every source stream: name, seconds since its last message, messages so far."""
        now = stamp()
        for step in self.steps.values():
            if isinstance(step, SourceStep):
                for stream in step.streams.values():
                    yield stream.name, (now - stream.arrived) / 1e9, stream.count


def _give(target: Step, index: int, message: Message[Any]) -> None:
    """Hand one message of the engine's own to a step."""
    if isinstance(target, InlineStep):
        target.receive(index, [message])
    else:
        target.edges[index].push([message])
