"""What `Rules` and `Verify` share: inputs that feed the signals of a preset, formulas, and timers in event time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pydantic

from operators.reasoning import syntax
from operators.reasoning.cells import Cell, Formula
from operators.reasoning.preset import PLACE_HOLDER, Preset, load
from operators.reasoning.signals import FALSE, TRUE, Track, Watch
from operators.reasoning.syntax import Node, print_expression
from operators.rules import RuleOperator, figure, seconds
from pipeline.message import AlertCondition, Detection, Event, Evidence, Message, Numeric, Rule
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Outputs

MOST_EVIDENCE = 12
"""Parts of an expression whose values go into one proof."""


class PresetConfig(BaseConfig):
    """Options of everything that takes a preset."""

    preset: str
    """Name of a shipped preset, or the path of a preset file."""

    @pydantic.model_validator(mode="after")
    def _readable(self) -> PresetConfig:
        load(self.preset)  # raises PresetError, which names file, line and column
        return self

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def digest(self) -> str:
        """Digest of the preset's content, so that whatever hashes these options hashes the rules too."""
        return load(self.preset).digest


class Watcher(RuleOperator):
    """Base. A message that comes late (behind the latest event time seen here) counts as if it came now."""

    numerics: Input[Numeric] | None
    observed: Input[AlertCondition] | None
    """Conditions of other operators, for signals of the kind `conditions`."""
    events: Input[Event] | None
    detections: Input[Detection] | None

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self.preset: Preset = load(self.config.preset)
        self.signals: dict[str, Track | Watch] = {
            signal.name: Track(signal) if signal.kind == "numerics" else Watch(signal)
            for signal in self.preset.signals.values()
        }
        self.formulas: list[Formula] = []
        """In the order of the preset; ``judge`` is told the index of one."""
        self.late = 0
        """Messages that came behind the latest event time."""
        self.next: int | None = None
        """When something may change by itself."""
        self._readers: dict[str, tuple[Formula, ...]] = {}
        self._routes: dict[str, tuple[list[tuple[Track, float]], list[Watch]]] = {}
        """Stream to the tracks it may feed, with factors, and to what it is a sign of life for."""

    def formula(self, nodes: Iterable[Node | None]) -> Formula:
        """A new formula over the preset's signals."""
        nodes = list(nodes)
        made = Formula(nodes, self.signals, len(self.formulas))
        self.formulas.append(made)
        for name in {name for node in nodes if node is not None for name in syntax.signals(node)}:
            self._readers[name] = (*self._readers.get(name, ()), made)
        return made

    def judge(self, index: int, time: int, cause: Message[Any] | None) -> Iterable[Message[Any]]:
        """What follows from the formula ``index``, which was just brought up to date."""
        raise NotImplementedError

    def rule(self) -> Rule:
        """The preset in every alert: name, version, digest."""
        return Rule(f"reasoning.{self.preset.name}", str(self.preset.version), self.preset.digest)

    # -- what comes in

    def on_numerics(self, message: Message[Numeric]) -> Outputs:
        """Take a value in. A stream that no signal names costs a dictionary look-up."""
        route = self._routes.get(message.stream)
        said: list[Message[Any]] = []
        if route is None:
            route = self._routes[message.stream] = self._meet(message, said)
        tracks, vouched = route
        if not tracks and not vouched:
            return said
        time = self.reach(message, said)
        changed = [t.signal.name for t, factor in tracks if t.take(time, message, factor) or self._is_due(t, time)]
        changed += [watch.signal.name for watch in vouched if watch.live(time) or self._is_due(watch, time)]
        self.follow(changed, time, message, said)
        return said

    def on_observed(self, message: Message[AlertCondition]) -> Outputs:
        return self._state(message, "conditions")

    def on_events(self, message: Message[Event]) -> Outputs:
        return self._state(message, "events")

    def on_detections(self, message: Message[Detection]) -> Outputs:
        return self._state(message, "detections")

    def on_time(self, time: int) -> Outputs:
        said: list[Message[Any]] = []
        self._due(time + 1, said)
        self.now = max(self.now, time)
        self.wake(self.next)
        return said

    # -- time

    def reach(self, message: Message[Any], said: list[Message[Any]]) -> int:
        """The event time at which a message counts; everything due before it is done first."""
        self.origin = message.origin
        if message.time < self.now:
            self.late += 1
            return self.now
        self._due(message.time, said)
        self.now = message.time
        return message.time

    def follow(
        self, changed: Iterable[str], time: int, cause: Message[Any] | None, said: list[Message[Any]]
    ) -> None:  # fmt: skip
        """Bring everything up to date that reads one of these signals."""
        names = list(changed)
        if len(names) == 1:
            touched: Iterable[Formula] = self._readers.get(names[0], ())
        else:
            readers = {id(formula) for name in names for formula in self._readers.get(name, ())}
            touched = [formula for formula in self.formulas if id(formula) in readers]
        for formula in touched:
            formula.update(time)
            said += self.judge(formula.index, time, cause)
        if names:
            self.rearm()

    def rearm(self) -> None:
        self.next = min((due for due in self.dues() if due is not None), default=None)
        self.wake(self.next)

    def dues(self) -> Iterator[int | None]:
        """All moments at which something may change by itself."""
        for formula in self.formulas:
            yield formula.due

    def _due(self, before: int, said: list[Message[Any]]) -> None:
        while self.next is not None and self.next < before:
            time = self.now = max(self.now, self.next)
            for formula in self.formulas:
                if formula.due is not None and formula.due <= time:
                    formula.update(time)
                    said += self.judge(formula.index, time, None)
            said += self.overdue(time)
            self.next = min((due for due in self.dues() if due is not None), default=None)
            self.wake(self.next)

    def overdue(self, time: int) -> Iterable[Message[Any]]:
        """What else was due by ``time``."""
        return ()

    # ------------------------------------------------------------------------------------ private

    def _meet(self, message: Message[Any], said: list[Message[Any]]) -> tuple[list[tuple[Track, float]], list[Watch]]:
        self.origin = message.origin
        tracks = []
        for track in self.signals.values():
            factor = track.factor(message) if isinstance(track, Track) else None
            if factor is not None and isinstance(track, Track):
                if factor:
                    tracks.append((track, factor))
                else:
                    said.append(self._strange(track, message))
        return tracks, self._vouched(message, "numerics")

    def _is_due(self, signal: Track | Watch, time: int) -> bool:
        """Whether something that reads the signal changes by itself at this very time: it is done with the message."""
        readers = self._readers.get(signal.signal.name, ())
        return any(formula.due is not None and formula.due <= time for formula in readers)

    def _vouched(self, message: Message[Any], port: str) -> list[Watch]:
        return [watch for watch in self.signals.values() if isinstance(watch, Watch) and watch.vouches(message, port)]

    def _strange(self, track: Track, message: Message[Numeric]) -> Message[AlertCondition]:
        unit, wanted = message.payload.unit or "no unit", track.signal.unit
        channel, time = message.payload.channel, max(message.time, self.now)
        return self.say(
            time, message, code="rule_input_not_watched", present=True, priority="low", kind="technical",
            subject=f"{track.signal.name} {channel}", onset=time,
            text=f"{channel} comes in {unit}, the rules have {track.signal.name} in {wanted}: it is left out.",
        )  # fmt: skip

    def _state(self, message: Message[Any], port: str) -> Outputs:
        said: list[Message[Any]] = []
        route = self._routes.get(message.stream)
        if route is None:
            route = self._routes[message.stream] = ([], self._vouched(message, port))
        time = self.reach(message, said)
        changed = [watch.signal.name for watch in route[1] if watch.live(time) or self._is_due(watch, time)]
        for watch in self.signals.values():
            if isinstance(watch, Watch) and watch.signal.kind == port and watch.take(time, message):
                changed.append(watch.signal.name)
        self.follow(changed, time, message, said)
        return said

    # -- proof

    def proof(self, root: Cell, formula: Formula, time: int) -> tuple[Evidence, ...]:
        """What an expression stands on: for each elementary part the stream, the interval, the values, the verdict.

        What is true comes first, then what was not observed, then what is false.
        """
        found: list[tuple[int, Evidence]] = []
        seen: set[Node] = set()
        for node in elementary(root.node):
            if node not in seen:
                seen.add(node)
                found += self._prove(node, formula, time)
        found.sort(key=lambda item: {TRUE: 0, FALSE: 2}.get(item[0], 1))
        return tuple(evidence for _, evidence in found[:MOST_EVIDENCE])

    def _prove(self, node: Node, formula: Formula, time: int) -> Iterator[tuple[int, Evidence]]:
        cell = formula.cells[node]
        words = print_expression(node)
        note = {TRUE: words, FALSE: f"false: {words}"}.get(cell.truth, f"not observed: {words}")
        start = min(cell.since, time) if cell.truth == TRUE else time
        for name in syntax.signals(node):
            signal = self.signals[name]
            if isinstance(signal, Watch):
                yield cell.truth, Evidence(signal.stream, start, time, note=note)
                continue
            if signal.time is None:
                yield cell.truth, Evidence("", time, time, unit=signal.signal.unit, note=f"{note}; {name} never heard")
                continue
            aged = "" if signal.fresh(time) else f"; last value {seconds(time - signal.time)} ago"
            window = max((getattr(part, "window", 0) for part in syntax.walk(node)), default=0)
            begin = max(min(start, time - window), min(signal.run, start))
            yield cell.truth, Evidence(signal.stream, begin, time, signal.channel, self._values(node, name, formula),
                                       signal.signal.unit, note=note + aged)  # fmt: skip

    def _values(self, node: Node, name: str, formula: Formula) -> tuple[float, ...]:
        """The latest value, and before it what windows over this signal give."""
        found = []
        for part in syntax.walk(node):
            cell = formula.cells[part]
            if isinstance(part, syntax.Aggregate) and part.signal == name and cell.value is not None:
                found.append(round(cell.value, 6))
            elif isinstance(part, syntax.Change) and part.signal == name:
                extreme = cell.window.extreme()  # type: ignore[attr-defined]
                found += [] if extreme is None else [extreme / 1e6]
        track = self.signals[name]
        assert isinstance(track, Track)
        return (*found, track.value)

    def worded(self, text: str, time: int) -> str:
        """A rule's text with the values filled in."""

        def fill(match: Any) -> str:
            track = self.signals[match[1]]
            if not isinstance(track, Track) or not track.fresh(time):
                return "unknown"
            return figure(track.value) if match[2] is None else f"{track.value:.{match[2]}f}"

        return PLACE_HOLDER.sub(fill, text)

    def state(self) -> dict[str, Any]:
        return {
            "digest": self.preset.digest, "now": self.now, "origin": self.origin, "next": self.next,
            "signals": {name: signal.state() for name, signal in self.signals.items()},
            "formulas": [formula.state() for formula in self.formulas],
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back a state; one of another preset is left alone: its parts mean something else."""
        if state.get("digest") != self.preset.digest:
            return
        self.now, self.origin, self.next = state["now"], state["origin"], state["next"]
        for name, signal in self.signals.items():
            signal.load_state(state["signals"][name])
        for formula, kept in zip(self.formulas, state["formulas"], strict=True):
            formula.load_state(kept)
        self.wake(self.next)


def elementary(node: Node) -> Iterator[Node]:
    """The parts of an expression that are true or false by themselves, from left to right."""
    if isinstance(node, syntax.Compare | syntax.Change | syntax.Silent | syntax.State):
        yield node
        return
    for part in syntax.children(node):
        yield from elementary(part)
