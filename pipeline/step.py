"""A graph's operator at run time: takes batches, times them, guards against exceptions, hands results on.

Two kinds. An ``InlineStep`` has plain handlers: it is called directly by whatever feeds it (a *fused* edge), and a
whole chain of them handles a batch stage by stage without a queue or a task switch. A ``WorkerStep`` may wait
(async handlers, threads, processes): it always stands behind a queue and has a task of its own.

Stamps are taken once a batch, and batches are kept under ``QUANTUM`` of work, so under load a stamp is right to
20 microseconds; a message that comes alone is stamped exactly.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.align import Gate, Joiner
from pipeline.edge import Edge, Wakeup
from pipeline.message import Abstain, Hop, Message
from pipeline.metrics import NodeMetrics
from pipeline.operator import Operator, each
from pipeline.placement import Answer, LoopWorker, Worker
from pipeline.time import ALWAYS, NEVER, ReplayClock, stamp

if TYPE_CHECKING:
    from pipeline.engine import Engine
    from pipeline.graph import Node

log = logging.getLogger("vigil.engine")

QUANTUM = 20_000
"""Nanoseconds of work that may share one pair of stamps."""
BATCH = 256
"""The most messages handled between two looks at the rest of the graph."""
FIRST_BACKOFF = 100_000_000
LAST_BACKOFF = 30_000_000_000
PATIENCE = 500_000_000
"""Event time (ns) by which, among live devices, one input may hold up the timers of the others: an alarm's clock does
not wait for a model that hangs. What then comes late is handled when it comes."""
"""Event time (ns) that an operator stays isolated after its first and after many exceptions in a row."""


class Link:
    """One way out of a step: into an edge, or straight into another step."""

    __slots__ = ("abstains", "bound", "close", "edge", "push", "step", "timed")

    def __init__(
        self, push: Callable[[Any], None], bound: Callable[[int], None], close: Callable[[], None],
        *, edge: Edge | None, step: Step | None, timed: bool, abstains: bool,
    ) -> None:  # fmt: skip
        self.push, self.bound, self.close = push, bound, close
        self.edge, self.step, self.timed, self.abstains = edge, step, timed, abstains


class Step:
    """What both kinds share: ports, links, bounds, metrics, and what happens after an exception."""

    def __init__(self, engine: Engine, node: Node, ports: list[str]) -> None:
        self.engine, self.node, self.name = engine, node, node.name
        self.ports = ports
        self.metrics = NodeMetrics(node.name)
        self.links: dict[str, list[Link]] = {port: [] for port in node.operator.outputs}
        self.pushes: list[Callable[[Any], None]] = []
        self.routes: dict[str, str] = {}
        self.edges: dict[int, Edge] = {}
        """The queues into this step, by input index; fused inputs have none."""
        self.wakeup: Wakeup | None = None
        self.bounds = [ALWAYS] * len(ports)
        self.open = len(ports)
        self.feedback: set[int] = set()
        """Input edges that close a cycle: their end is not waited for, their bound not counted."""
        hurried = isinstance(engine.clock, ReplayClock) and engine.clock.speed == float("inf")
        self.patient = engine.deterministic or hurried
        self.last_time = ALWAYS
        self.batch = 1
        self.failures = 0
        self.retry_at: int | None = None
        self.gate: Gate | Joiner | None = None
        align = node.operator.align
        if align is not None:
            self.gate = Joiner(align, ports, node.name)
        elif engine.deterministic and len(ports) > 1:
            self.gate = Gate(len(ports))
        handlers = node.operator.handlers()
        self.methods = ["process"] if isinstance(self.gate, Joiner) else [handlers[port] for port in ports]
        self.timed = node.operator.on_time is not Operator.on_time
        deadline = node.deadline_seconds
        self.deadline = None if deadline is None or engine.deterministic else round(deadline * 1e9)

    def connect(self) -> None:
        """Called once all links are there."""
        everyone = list(itertools.chain.from_iterable(self.links.values()))
        self.linked = bool(everyone)
        # A path ends here where no other operator follows; listeners are not part of it.
        self.terminal = all(link.edge is None and link.step is None for link in everyone)
        self.single = len(self.links) == 1
        self.pushes = [link.push for link in next(iter(self.links.values()), [])] if self.single else []

    def tails(self) -> list[Edge]:
        """The queues that a call of this step may fill, directly or through fused steps."""
        found: dict[int, Edge] = {}
        for link in itertools.chain.from_iterable(self.links.values()):
            if link.edge is not None:
                found[id(link.edge)] = link.edge
            elif link.step is not None:
                found.update((id(edge), edge) for edge in link.step.tails())
        return list(found.values())

    # -- giving on

    def emit(self, messages: list[Message[Any]]) -> None:
        """Hand messages on to whatever is connected to the port their stream names."""
        self.metrics.emitted += len(messages)
        if self.single:
            for push in self.pushes:
                push(messages)
            return
        routes = self.routes
        if not self.engine.deterministic and len(messages) > 1:
            # Where outputs meet again nothing puts them in order but the order in which they are handed on.
            for output, together in itertools.groupby(messages, lambda m: routes.get(m.stream) or self.route(m.stream)):
                run = list(together)
                for link in self.links[output]:
                    link.push(run)
            return
        routed: dict[str, list[Message[Any]]] = {}
        for message in messages:
            port = routes.get(message.stream)
            if port is None:
                port = self.route(message.stream)
            if port in routed:
                routed[port].append(message)
            else:
                routed[port] = [message]
        for port, group in routed.items():
            for link in self.links[port]:
                link.push(group)

    def route(self, stream: str) -> str:
        """The output port that a stream belongs to, remembered."""
        port = stream.partition("/")[0].rpartition(".")[2]
        if port not in self.links:
            outputs = ", ".join(self.links) or "none"
            raise ValueError(f"{self.name} answered on {port!r}, but its outputs are: {outputs}")
        self.routes[stream] = port
        return port

    def forward(self, time: int) -> None:
        """Promise everything downstream that nothing before ``time`` follows from here."""
        for links in self.links.values():
            for link in links:
                if link.timed:
                    link.bound(time)

    async def stop(self) -> None:
        """Tear the operator down."""

    def close_links(self) -> None:
        for links in self.links.values():
            for link in links:
                link.close()

    def abstain(self, cause: Message[Any], reason: str, detail: str = "") -> None:
        """Answer ``cause`` with an ``Abstain`` on every output that somebody reads who knows what it means."""
        self.metrics.abstained += 1
        payload = Abstain(self.name, reason, detail)
        for port, links in self.links.items():
            stream = f"{self.name}.{port}"
            for link in links:
                if link.abstains:
                    link.push([cause.derive(payload, stream, self.metrics.abstained)])

    # -- event time

    def lowest(self, index: int, time: int) -> int:
        """Note one input's bound; the lowest over all of them."""
        if time > self.bounds[index]:
            self.bounds[index] = time
        if len(self.bounds) == 1:
            return self.bounds[0]
        waited = [bound for i, bound in enumerate(self.bounds) if i not in self.feedback]
        lowest = min(waited, default=time)
        if self.patient:
            return lowest
        return max(lowest, max((bound for bound in waited if bound != NEVER), default=lowest) - PATIENCE)

    # -- faults

    def failed(self, message: Message[Any] | None, time: int, error: BaseException) -> None:
        """An exception: the message is lost, the operator isolated for a while of event time, people are told."""
        self.metrics.errors += 1
        self.metrics.lost += 1 if message is not None else 0
        backoff = 0 if self.failures == 0 else min(FIRST_BACKOFF << min(self.failures, 12), LAST_BACKOFF)
        self.failures += 1
        self.retry_at = time + backoff
        log.warning("operator %s failed: %r", self.name, error, exc_info=error)
        self.engine.report_failure(self, time, error)

    def isolated(self, message: Message[Any]) -> bool:
        """True where ``message`` comes while the operator is kept out after an exception; it is lost and counted."""
        assert self.retry_at is not None
        if message.time < self.retry_at:
            self.metrics.lost += 1
            return True
        return False

    def recovered(self, time: int) -> None:
        self.failures = 0
        self.engine.report_recovery(self, time)


class InlineStep(Step):
    """A step whose handlers never wait."""

    def __init__(self, engine: Engine, node: Node, ports: list[str]) -> None:
        super().__init__(engine, node, ports)
        self.start_instance(self.engine.make(node))

    def start_instance(self, operator: Operator, state: dict[str, Any] | None = None) -> None:
        operator.setup()
        if state:
            operator.load_state(state)
        self.operator = operator
        self.handlers = [getattr(operator, method) for method in self.methods]

    # -- input side: what fused links and the driver call

    def receive(self, index: int, batch: Sequence[Message[Any]]) -> None:
        """Handle a batch that came on input edge ``index``."""
        gate = self.gate
        if gate is None:
            self.run(index, batch)
        else:
            for message in batch:
                gate.add(index, message)
            self.release()

    def advance(self, index: int, time: int) -> None:
        """Input edge ``index`` promises that nothing before ``time`` follows."""
        gate = self.gate
        if gate is None:
            lowest = self.lowest(index, time)
            self.fire(lowest)
            self.forward(lowest)
        else:
            gate.bound(index, time)
            self.release()

    def shut(self, index: int) -> None:
        """Input edge ``index`` has ended; after the last one the operator gives its last words."""
        if index not in self.feedback:
            self.open -= 1
        if self.gate is not None:
            self.gate.close(index)
            self.release()
        else:
            self.bounds[index] = NEVER
        if self.open == len(self.feedback):
            self.open = -1
            self.fire(self.last_time + 1)
            self.guarded(self.operator.finish, self.last_time)
            self.close_links()

    def release(self) -> None:
        gate = self.gate
        assert gate is not None
        for index, group in itertools.groupby(gate.release(), key=lambda item: item[0]):
            self.run(index, [message for _, message in group])
        frontier = gate.frontier
        self.fire(min(frontier, self.last_time + 1) if frontier == NEVER else frontier)
        if frontier != NEVER:
            self.forward(frontier)

    # -- handling

    def run(self, index: int, batch: Sequence[Message[Any]]) -> None:
        """Call the handler of input edge ``index`` for each message and hand on what it gives. The hot path."""
        while batch:
            if self.retry_at is not None:
                batch = [message for message in batch if not self.isolated(message)]
                if not batch or not self.restart(batch[0].time):
                    return
            batch = self.attempt(self.handlers[index], batch)

    def attempt(self, handler: Callable[[Any], Any], batch: Sequence[Message[Any]]) -> Sequence[Message[Any]]:
        """Handle messages up to one that raises; what comes after that one is given back."""
        answers: list[Message[Any]] = []
        append = answers.append
        entered = stamp()
        messages = iter(batch)
        timed, operator = self.timed, self.operator
        try:
            for message in messages:
                if timed and operator.wake_at is not None and operator.wake_at < message.time:
                    answers = self.flush(answers, entered)
                    append = answers.append
                    self.fire(message.time)
                answer = handler(message)
                if answer.__class__ is Message:
                    append(answer)
                elif answer is not None:
                    answers.extend(each(answer))
        except Exception as error:
            rest = list(messages)
            handled = batch[: len(batch) - len(rest) - 1]
            if handled:
                self.finish_batch(handled, answers, entered)
            self.metrics.processed += 1
            self.failed(message, message.time, error)
            return rest
        self.finish_batch(batch, answers, entered)
        return ()

    def finish_batch(self, batch: Sequence[Message[Any]], answers: list[Message[Any]], entered: int) -> None:
        left = stamp()
        count, last = len(batch), batch[-1]
        each_one = (left - entered) // count
        if last.time > self.last_time:
            self.last_time = last.time
        if self.failures and self.retry_at is None:
            self.recovered(last.time)
        late = self.deadline is not None and each_one > self.deadline
        if late:
            for message in batch:
                self.abstain(message, "deadline", f"took {each_one / 1e6:.1f} ms")
        elif answers and self.linked:
            hop = Hop(self.name, entered, left)
            for answer in answers:
                answer.trace.append(hop)
            self.emit(answers)
        # Counted last: whoever waits for the answers does not wait for this.
        metrics = self.metrics
        metrics.processed += count
        metrics.process.observe(each_one, count)
        self.batch = max(1, min(BATCH, QUANTUM // (each_one or 1)))
        if self.terminal and not late and last.trace:
            metrics.end_to_end.observe(left - last.trace[0].entered, count)

    def flush(self, answers: list[Message[Any]], entered: int) -> list[Message[Any]]:
        """Hand on what there is, so that what a timer gives comes after it. Returns a new, empty list."""
        if answers:
            hop = Hop(self.name, entered, stamp())
            for answer in answers:
                answer.trace.append(hop)
            self.emit(answers)
        return []

    def fire(self, before: int) -> None:
        """Call ``on_time`` for every wish that lies before event time ``before``."""
        while self.timed and self.retry_at is None:
            due = self.operator.wake_at
            if due is None or due >= before:
                return
            self.operator.wake_at = None
            self.last_time = max(self.last_time, due)
            self.guarded(lambda due=due: self.operator.on_time(due), due)  # type: ignore[misc]

    def guarded(self, call: Callable[[], Any], time: int) -> None:
        """A call outside ``process`` whose answers are handed on like any others."""
        entered = stamp()
        try:
            answers = list(each(call()))
        except Exception as error:
            self.failed(None, time, error)
            return
        self.flush(answers, entered)

    def restart(self, time: int) -> bool:
        """A new instance in place of one that raised. False (and a longer wait) where even that fails."""
        old = self.operator
        try:
            state = self.salvage(old)
            operator = self.engine.make(self.node)
            for port in self.links:
                getattr(operator, port).sequences = getattr(old, port).sequences
            self.start_instance(operator, state)
        except Exception as error:
            self.failed(None, time, error)
            return False
        self.metrics.restarts += 1
        self.retry_at = None
        return True

    def salvage(self, old: Operator) -> dict[str, Any]:
        """The state of an instance that raised; nothing after three failures in a row: the state may be the fault."""
        try:
            state = old.state() if self.failures < 3 else {}
        except Exception as error:
            log.warning("operator %s gave no state: %r", self.name, error)
            state = {}
        try:
            old.teardown()
        except Exception as error:
            log.warning("operator %s failed in teardown: %r", self.name, error)
        return state

    async def stop(self) -> None:
        try:
            result = self.operator.teardown()
            if inspect.isawaitable(result):
                await result
        except Exception as error:
            log.warning("operator %s failed in teardown: %r", self.name, error)


class WorkerStep(Step):
    """A step that may wait. Its driver (``pipeline.drivers``) calls the coroutines below one after the other."""

    def __init__(self, engine: Engine, node: Node, ports: list[str], worker: Worker) -> None:
        super().__init__(engine, node, ports)
        self.worker = worker
        self.wake_at: int | None = None
        self.overdue: asyncio.Task[Any] | None = None
        """A call that missed its deadline and has not ended yet."""
        self.busy_since: int | None = None

    async def start(self, state: dict[str, Any] | None = None) -> None:
        self.wake_at = await self.worker.start(state)

    async def receive(self, index: int, batch: Sequence[Message[Any]]) -> None:
        if self.gate is None:
            for message in batch:
                await self.run(self.methods[index], message)
            return
        for message in batch:
            self.gate.add(index, message)
        await self.release()

    async def advance(self, index: int, time: int) -> None:
        if self.gate is None:
            lowest = self.lowest(index, time)
            await self.fire(lowest)
            self.forward(lowest)
        else:
            self.gate.bound(index, time)
            await self.release()

    async def shut(self, index: int) -> None:
        if index not in self.feedback:
            self.open -= 1
        if self.gate is not None:
            self.gate.close(index)
            await self.release()
        else:
            self.bounds[index] = NEVER
        if self.open == len(self.feedback):
            self.open = -1
            await self.fire(self.last_time + 1)
            await self.call(None, self.last_time, "finish")
            self.close_links()

    async def release(self) -> None:
        assert self.gate is not None
        for index, message in self.gate.release():
            await self.run(self.methods[index], message)
        frontier = self.gate.frontier
        await self.fire(min(frontier, self.last_time + 1) if frontier == NEVER else frontier)
        if frontier != NEVER:
            self.forward(frontier)

    async def run(self, method: str, message: Message[Any]) -> None:
        if self.retry_at is not None and (self.isolated(message) or not await self.restart(message.time)):
            return
        if self.timed:
            await self.fire(message.time)
        self.metrics.processed += 1
        self.last_time = max(self.last_time, message.time)
        await self.call(message, message.time, method, message)

    async def fire(self, before: int) -> None:
        while self.timed and self.retry_at is None and self.wake_at is not None and self.wake_at < before:
            due, self.wake_at = self.wake_at, None
            self.last_time = max(self.last_time, due)
            await self.call(None, due, "on_time", due)

    async def call(self, message: Message[Any] | None, time: int, method: str, *arguments: Any) -> None:
        """One call of the worker; its answers are handed on. One that comes after the deadline is not."""
        entered = self.busy_since = stamp()
        try:
            answer = await self.within_deadline(self.worker.call(method, *arguments))
        except Exception as error:
            self.failed(message, time, error)
            return
        finally:
            self.busy_since = None
        left = stamp()
        self.metrics.process.observe(left - entered)
        if answer is None:
            if message is not None:
                self.abstain(message, "deadline", f"over {(self.deadline or 0) / 1e6:.0f} ms")
            return
        self.settle(answer, message, Hop(self.name, entered, left))
        if self.failures:
            self.recovered(time)

    async def within_deadline(self, call: Coroutine[Any, Any, Answer]) -> Answer | None:
        """The answer of ``call``, or None where it comes too late. A late call is left to end by itself: a thread
        cannot be stopped. Until it has, nothing new is begun."""
        if self.deadline is None:
            return await call
        seconds = self.deadline / 1e9
        if self.overdue is not None:
            await asyncio.wait({self.overdue}, timeout=seconds)
            if not self.overdue.done():
                call.close()
                return None
            self.overdue.cancelled() or self.overdue.exception()  # looked at, so that asyncio does not complain
            self.overdue = None
        task = asyncio.ensure_future(call)
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if done:
            return task.result()
        if isinstance(self.worker, LoopWorker):
            task.cancel()
        self.overdue = task
        return None

    def settle(self, answer: Answer, message: Message[Any] | None, hop: Hop) -> None:
        answers, self.wake_at = answer
        if self.terminal and message is not None and message.trace:
            self.metrics.end_to_end.observe(hop.left - message.trace[0].entered)
        if answers:
            for item in answers:
                item.trace.append(hop)
            self.emit(answers)

    async def restart(self, time: int) -> bool:
        state: dict[str, Any] = {}
        try:
            if self.failures < 3:
                state = await self.worker.state()
        except Exception as error:
            log.warning("operator %s gave no state: %r", self.name, error)
        try:
            await self.worker.stop()
        except Exception as error:
            log.warning("operator %s failed in teardown: %r", self.name, error)
        try:
            await self.start(state)
        except Exception as error:
            self.failed(None, time, error)
            return False
        self.metrics.restarts += 1
        self.retry_at = None
        return True

    async def stop(self) -> None:
        try:
            await self.worker.stop()
        except Exception as error:
            log.warning("operator %s failed in teardown: %r", self.name, error)
