"""Event-time joins. Inputs of different rates and delays are put side by side by when things happened.

All of them stand on *timestamp bounds*: an input's bound is the event time before which nothing more will come on
it, advanced by its messages and, where it is silent, by its source. A join answers for time ``t`` once every input's
bound has passed what it needs, so the answer does not depend on arrival (the synchronisation of MediaPipe's graphs).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from pipeline.message import NANOSECONDS, Message, Origin
from pipeline.time import ALWAYS, NEVER

Ready = tuple[int, Message[Any]]
"""Index of the input edge, message."""


class Join(msgspec.Struct, frozen=True):
    """Base of the declarations an operator puts in ``align``."""


class AsOf(Join, frozen=True):
    """For every message of ``primary``: the newest of each other input that is not after it."""

    primary: str
    tolerance_seconds: float = float("inf")
    """Older than this before the primary counts as absent."""


class Nearest(Join, frozen=True):
    """For every message of ``primary``: the closest in time of each other input, before or after (ties: before)."""

    primary: str
    tolerance_seconds: float


class Window(Join, frozen=True):
    """Every ``step_seconds`` of event time: all messages of each input in the ``length_seconds`` before."""

    length_seconds: float
    step_seconds: float


class Aligned(msgspec.Struct, frozen=True):
    """The payload that ``process`` gets from a join: ``port -> message`` (None where absent) or ``port -> list``."""

    ports: dict[str, Any]

    def __getitem__(self, port: str) -> Any:
        return self.ports[port]


class Gate:
    """Collects the inputs of one node and lets them out in the total order, up to the lowest bound.

    Used as it is for nodes with several inputs in a deterministic run, and by the joins below.
    """

    def __init__(self, edges: int) -> None:
        self.bounds = [ALWAYS] * edges
        self.held: list[Ready] = []
        self.late = [0] * edges
        self.frontier = ALWAYS

    def add(self, edge: int, message: Message[Any]) -> None:
        """Take in one message. One behind the frontier is late: counted, and let out with the next ones."""
        if message.time < self.frontier:
            self.late[edge] += 1
        self.held.append((edge, message))
        if message.time > self.bounds[edge]:
            self.bounds[edge] = message.time

    def bound(self, edge: int, time: int) -> None:
        if time > self.bounds[edge]:
            self.bounds[edge] = time

    def close(self, edge: int) -> None:
        self.bounds[edge] = NEVER

    def release(self) -> list[Ready]:
        """Everything strictly before the lowest bound, in the total order."""
        frontier = min(self.bounds)
        if frontier <= self.frontier and frontier != NEVER:
            return []
        self.frontier = frontier
        ready = [item for item in self.held if item[1].time < frontier]
        if ready:
            self.held = [item for item in self.held if item[1].time >= frontier]
            ready.sort(key=lambda item: item[1].order)
        return ready


class Joiner:
    """Runs one ``Join``: messages in, aligned messages out. ``ports[i]`` is the port of input edge ``i``."""

    def __init__(self, join: Join, ports: list[str], name: str) -> None:
        self.join, self.ports, self.stream = join, ports, f"{name}.aligned"
        self.gate = Gate(len(ports))
        self.sequence = 0
        self.history: dict[str, list[Message[Any]]] = {port: [] for port in ports}
        self.pending: list[Message[Any]] = []
        self.next_window: int | None = None
        self.late = self.gate.late

    def add(self, edge: int, message: Message[Any]) -> None:
        if message.time < self.gate.frontier:
            self.late[edge] += 1  # it missed its answer: counted and left out
            return
        self.gate.add(edge, message)

    def bound(self, edge: int, time: int) -> None:
        self.gate.bound(edge, time)

    def close(self, edge: int) -> None:
        self.gate.close(edge)

    @property
    def frontier(self) -> int:
        """Nothing before this will come out any more."""
        if isinstance(self.join, Window):
            return self.gate.frontier if self.next_window is None else min(self.gate.frontier, self.next_window)
        return min(self.gate.frontier, *(message.time for message in self.pending), NEVER)

    def release(self) -> list[Ready]:
        """Aligned messages that are complete."""
        join = self.join
        released = self.gate.release()
        if isinstance(join, Window):
            return [(0, message) for message in self._windows(join, released)]
        assert isinstance(join, AsOf | Nearest)
        for edge, message in released:
            if self.ports[edge] == join.primary:
                self.pending.append(message)
            else:
                self.history[self.ports[edge]].append(message)
        return [(0, message) for message in self._complete(join)]

    def _complete(self, join: AsOf | Nearest) -> Iterator[Message[Any]]:
        tolerance = _nanoseconds(join.tolerance_seconds)
        ahead = tolerance if isinstance(join, Nearest) else 0
        while self.pending and (self.gate.frontier == NEVER or self.pending[0].time + ahead < self.gate.frontier):
            primary = self.pending.pop(0)
            chosen: dict[str, Message[Any] | None] = {join.primary: primary}
            for port, history in self.history.items():
                if port != join.primary:
                    chosen[port] = _choose(history, primary.time, tolerance, ahead > 0)
                    _forget(history, primary.time - tolerance)
            yield self._aligned(chosen, primary, primary.time)

    def _windows(self, join: Window, released: list[Ready]) -> Iterator[Message[Any]]:
        step, length = _nanoseconds(join.step_seconds), _nanoseconds(join.length_seconds)
        for edge, message in released:
            if self.next_window is None:
                self.next_window = (message.time // step + 1) * step
            yield from self._due(step, length, message.time + 1)
            self.history[self.ports[edge]].append(message)
        if self.next_window is not None and self.gate.frontier != NEVER:
            yield from self._due(step, length, self.gate.frontier + 1)
        elif self.next_window is not None and any(self.history.values()):
            yield from self._due(step, length, self.next_window + 1)

    def _due(self, step: int, length: int, until: int) -> Iterator[Message[Any]]:
        while self.next_window is not None and self.next_window < until:
            end, self.next_window = self.next_window, self.next_window + step
            window: dict[str, list[Message[Any]]] = {}
            for port, history in self.history.items():
                del history[: bisect.bisect_left(history, end - length, key=_time)]
                window[port] = history[: bisect.bisect_left(history, end, key=_time)]
            newest = max((items[-1] for items in window.values() if items), key=_time, default=None)
            if newest is not None:
                yield self._aligned(window, newest, end)

    def _aligned(self, ports: Mapping[str, Any], cause: Message[Any], time: int) -> Message[Aligned]:
        self.sequence += 1
        message = cause.derive(Aligned(dict(ports)), self.stream, self.sequence - 1, time)
        origins = {
            item.origin
            for part in ports.values()
            for item in (part if isinstance(part, list) else [part])
            if item is not None
        }
        return message if len(origins) <= 1 else msgspec.structs.replace(message, origin=combined(origins))


def combined(origins: set[Origin]) -> Origin:
    """The origin of what several messages made together: ``simulated`` taints all, different ones are ``composed``."""
    if len(origins) == 1:
        return next(iter(origins))
    return "simulated" if "simulated" in origins else "composed"


def _time(message: Message[Any]) -> int:
    return message.time


def _nanoseconds(seconds: float) -> int:
    return NEVER // 4 if seconds == float("inf") else round(seconds * NANOSECONDS)


def _choose(history: list[Message[Any]], time: int, tolerance: int, after: bool) -> Message[Any] | None:
    index = bisect.bisect_right(history, time, key=_time)
    candidates = history[max(0, index - 1) : index + (1 if after else 0)]
    near = [message for message in candidates if abs(message.time - time) <= tolerance]
    return min(near, key=lambda message: (abs(message.time - time), message.time)) if near else None


def _forget(history: list[Message[Any]], before: int) -> None:
    # The newest one before the limit stays: it may still be the as-of answer of the next primary.
    index = bisect.bisect_left(history, before, key=_time)
    del history[: max(0, index - 1)]
