"""Limit alarms on numerics: high and low, with delay and hysteresis. Also the trivial baseline of other rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import pydantic

from operators.rules import NOT_WATCHED, RuleOperator, figure, rank, seconds
from pipeline.message import NANOSECONDS, AlertCondition, Evidence, Message, Numeric, Priority
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Outputs, to_plain

CONVERSIONS = {("kPa", "mm[Hg]"): 7.50062, ("mm[Hg]", "kPa"): 0.133322, ("mbar", "cm[H2O]"): 1.01972,
               ("hPa", "cm[H2O]"): 1.01972, ("cm[H2O]", "mbar"): 0.980665}  # fmt: skip
"""(from, to) in UCUM to the factor."""


class Limit(BaseConfig):
    """One watched quantity. Give ``low``, ``high`` or both."""

    name: str
    """Machine name; the alert's code is this with `_low` or `_high`, e.g. `heart_rate_low`."""
    channels: tuple[str, ...]
    """Shell patterns over channel names, best first, e.g. `*/HR`. Where several channels match different patterns,
    the alert comes from the best one that has a value no older than `hold_seconds`."""
    unless: tuple[str, ...] = ()
    """Shell patterns over channels that make this limit unnecessary: the alert does not begin while one of them has a
    value no older than `hold_seconds`, e.g. cuff pressure where there is an arterial line."""
    label: str = ""
    """What people call it, e.g. `Heart rate`; the name if empty."""
    unit: str = ""
    """UCUM unit of the limits. Values in a unit that converts are converted; others raise a technical alert."""
    low: float | None = None
    """The alert begins below this value, in `unit`."""
    high: float | None = None
    """The alert begins above this value, in `unit`."""
    delay_seconds: float = pydantic.Field(default=10.0, ge=0)
    """Seconds that every value must be outside the limit before the alert begins."""
    hysteresis: float = pydantic.Field(default=0.0, ge=0)
    """How far inside the limit the value must come for the alert to end, in `unit`."""
    clear_seconds: float = pydantic.Field(default=5.0, ge=0)
    """Seconds that it must stay there."""
    hold_seconds: float = pydantic.Field(default=10.0, gt=0)
    """Seconds that a value stands for. A longer silence restarts a delay that is running; it never ends an alert."""
    priority: Priority = "medium"
    """Priority of the alert."""

    @pydantic.model_validator(mode="after")
    def _sane(self) -> Limit:
        if self.low is None and self.high is None:
            raise ValueError(f"limit {self.name!r} needs low, high or both")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"limit {self.name!r}: low must be below high")
        if not self.channels:
            raise ValueError(f"limit {self.name!r} names no channels")
        return self


@dataclasses.dataclass(slots=True)
class _Watch:
    """One side of one limit on one channel. Times are event time, ns; 0 is never."""

    limit: Limit
    side: Literal["low", "high"]
    channel: str
    stream: str
    rank: int
    factor: float = 1.0
    outside: int = 0
    inside: int = 0
    onset: int = 0
    last: int = 0
    value: float = 0.0
    worst: float = 0.0

    @property
    def threshold(self) -> float:
        bound = self.limit.low if self.side == "low" else self.limit.high
        assert bound is not None
        return bound

    def is_out(self, value: float) -> bool:
        return value < self.threshold if self.side == "low" else value > self.threshold

    def is_in(self, value: float) -> bool:
        margin = self.limit.hysteresis
        return value >= self.threshold + margin if self.side == "low" else value <= self.threshold - margin

    def deadline(self) -> int | None:
        """When something falls due if no further value comes."""
        if self.onset:
            return self.inside + ns(self.limit.clear_seconds) if self.inside else None
        return self.outside + ns(self.limit.delay_seconds) if self.outside else None

    def take(self, time: int, value: float) -> None:
        """Note a value; NaN says nothing."""
        if self.outside and not self.onset and time - self.last > ns(self.limit.hold_seconds):
            self.outside = 0
        self.last, self.value = time, value
        if self.is_out(value):
            worse = min if self.side == "low" else max
            self.worst = worse(self.worst, value) if self.outside else value
            self.outside = self.outside or time
            self.inside = 0
        elif self.onset:
            self.inside = (self.inside or time) if self.is_in(value) else 0
        else:
            self.outside = 0

    def key(self) -> str:
        return f"{self.limit.name}|{self.side}|{self.channel}"


class Limits(RuleOperator):
    """High and low limits on numerics, each with delay and hysteresis. The latest value stands until the next one."""

    class Config(BaseConfig):
        limits: tuple[Limit, ...]
        """The limits, each with a name of its own."""

        @pydantic.model_validator(mode="after")
        def _names(self) -> Limits.Config:
            names = [limit.name for limit in self.limits]
            if len(set(names)) != len(names):
                raise ValueError("two limits have the same name")
            return self

    numerics: Input[Numeric]

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self._streams: dict[str, list[_Watch]] = {}
        self._watches: list[_Watch] = []
        self._loaded: dict[str, dict[str, Any]] = {}
        self._guards: dict[str, list[Limit]] = {}
        """Stream to the limits that it makes unnecessary."""
        self._guarded: dict[str, int] = {}
        """Limit to the time until which it is unnecessary."""

    def process(self, message: Message[Numeric]) -> Outputs:
        """Judge one value. A stream that no limit names costs one dictionary look-up."""
        self.now = message.time
        watches = self._streams.get(message.stream)
        if watches is None:
            return self._meet(message)
        if message.payload.value != message.payload.value:
            return None
        for limit in self._guards.get(message.stream, ()):
            self._guarded[limit.name] = message.time + ns(limit.hold_seconds)
        if not watches:
            return None
        out: list[Message[AlertCondition]] = []
        before = False
        for watch in watches:
            before = before or watch.deadline() is not None
            watch.take(message.time, message.payload.value * watch.factor)
            out += self._judge(watch, message.time, message)
            before = before or watch.deadline() is not None
        if before:
            self._rearm(after=message.time)
        return out

    def on_time(self, time: int) -> Outputs:
        """A delay ran out: what the last value says still stands, if it is not too old."""
        out = [said for watch in self._watches for said in self._judge(watch, time, None)]
        self._rearm(after=time)
        return out

    def finish(self) -> Outputs:
        return [self._end(watch, self.now, self.now, None, NOT_WATCHED) for watch in self._watches if watch.onset]

    # ------------------------------------------------------------------------------------ private

    def _meet(self, message: Message[Numeric]) -> Outputs:
        self.origin = message.origin
        self._streams[message.stream] = watches = []
        channel, strange = message.payload.channel, []
        for limit in self.config.limits:
            if rank(channel, limit.unless) >= 0:
                self._guards.setdefault(message.stream, []).append(limit)
            place = rank(channel, limit.channels)
            if place < 0:
                continue
            factor = 1.0
            if limit.unit and message.payload.unit != limit.unit:
                factor = CONVERSIONS.get((message.payload.unit, limit.unit), 0.0)
            if not factor:
                strange.append(limit)
                continue
            for side in ("low", "high"):
                if getattr(limit, side) is not None:
                    watch = _Watch(limit, side, channel, message.stream, place, factor)
                    for field, value in self._loaded.pop(watch.key(), {}).items():
                        setattr(watch, field, value)
                    watches.append(watch)
        self._watches += watches
        said = [self._strange(limit, message) for limit in strange]
        return [*said, *(self.process(message) or ())]

    def _strange(self, limit: Limit, message: Message[Numeric]) -> Message[AlertCondition]:
        unit = message.payload.unit or "no unit"
        return self.say(
            message.time, message, code="limit_not_watched", present=True, priority="low", kind="technical",
            subject=f"{limit.name} {message.payload.channel}", onset=message.time,
            text=f"{message.payload.channel} comes in {unit}, the limit {limit.name} is in {limit.unit}: not watched.",
        )  # fmt: skip

    def _judge(self, watch: _Watch, time: int, cause: Message[Any] | None) -> Iterator[Message[AlertCondition]]:
        deadline = watch.deadline()
        if deadline is None or time < deadline or time - watch.last > ns(watch.limit.hold_seconds):
            return
        if watch.onset:
            yield self._end(watch, watch.inside, time, cause)
        elif not self._better(watch, time):
            watch.onset = watch.outside
            yield self._condition(watch, time, cause, present=True)

    def _better(self, watch: _Watch, time: int) -> bool:
        """True where a better channel of the same limit, or one that makes it unnecessary, has a fresh value."""
        if self._guarded.get(watch.limit.name, -1) >= time:
            return True
        oldest = time - ns(watch.limit.hold_seconds)
        return any(
            other.limit is watch.limit and other.rank < watch.rank and other.last >= oldest for other in self._watches
        )

    def _end(
        self, watch: _Watch, ended: int, time: int, cause: Message[Any] | None, note: str = ""
    ) -> Message[AlertCondition]:
        said = self._condition(watch, time, cause, present=False, ended=ended, note=note)
        watch.onset = watch.outside = watch.inside = 0
        return said

    def _condition(
        self, watch: _Watch, time: int, cause: Message[Any] | None, *, present: bool, ended: int | None = None,
        note: str = "",
    ) -> Message[AlertCondition]:  # fmt: skip
        limit, unit = watch.limit, watch.limit.unit
        label, side = limit.label or limit.name, "below" if watch.side == "low" else "above"
        if present:
            text = f"{label} {watch.side}: {figure(watch.value)} {unit}".rstrip()
            text += f", {side} {figure(watch.threshold)} for {seconds(time - watch.onset)}."
        else:
            until = ended if ended is not None else time
            text = f"{label} was {side} {figure(watch.threshold)} {unit}".rstrip()
            text += f" for {seconds(until - watch.onset)}, worst {figure(watch.worst)}."
        seen = Evidence(watch.stream, watch.onset, ended or time, watch.channel, (watch.worst, watch.value), unit,
                        note="worst and latest value")  # fmt: skip
        return self.say(
            time, cause, code=f"{limit.name}_{watch.side}", subject=watch.channel, present=present,
            priority=limit.priority, kind="physiological", text=f"{text} {note}".rstrip(), onset=watch.onset,
            ended=ended, value=watch.value, limit=watch.threshold, unit=unit, evidence=(seen,),
        )  # fmt: skip

    def _rearm(self, after: int) -> None:
        deadlines = [due for watch in self._watches if (due := watch.deadline()) is not None and due > after]
        self.wake(min(deadlines, default=None))

    def state(self) -> dict[str, Any]:
        kept = ("outside", "inside", "onset", "last", "value", "worst")
        found = {watch.key(): {field: getattr(watch, field) for field in kept} for watch in self._watches}
        return {"now": self.now, "guarded": dict(self._guarded), "watches": to_plain({**self._loaded, **found})}

    def load_state(self, state: dict[str, Any]) -> None:
        self.now, self._loaded = state.get("now", 0), dict(state.get("watches", {}))
        self._guarded = dict(state.get("guarded", {}))


def ns(duration: float) -> int:
    """Seconds as nanoseconds."""
    return round(duration * NANOSECONDS)
