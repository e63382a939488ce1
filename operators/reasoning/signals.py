"""What the signals of a preset are at run time: how messages become values and states in event time."""

from __future__ import annotations

import fnmatch
from typing import Any, ClassVar

from operators.monitor.limits import CONVERSIONS
from operators.reasoning.preset import Signal
from operators.rules import rank
from pipeline.message import AlertCondition, Detection, Event, Message, Numeric

TRUE, UNKNOWN, FALSE = 1, 0, -1
"""Kleene's three values: `and` is the least, `or` the greatest, `not` the negative."""
MICRO = 1_000_000
"""Values are kept as whole millionths of their unit, so that sums over windows are exact, whatever was in them."""
LARGEST = 1e15


class Kept:
    """Base of what has a state: ``kept`` names its attributes, all plain values."""

    kept: ClassVar[tuple[str, ...]] = ()

    def state(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: getattr(self, name) for name in self.kept}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        for name in self.kept:
            setattr(self, name, state[name])


class Track(Kept):
    """A numeric signal: the values of its best channel that speaks.

    A value stands for ``hold``; NaN says nothing. Where a better channel has spoken no longer ago than ``hold``,
    others are left out; where the channel changes, windows begin anew: two devices are never compared.
    """

    kept = ("time", "micro", "channel", "stream", "run", "spoken")

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self.windows: list[Any] = []
        """Whatever wants each value: has ``add(time, micro)`` and ``clear()``."""
        self.time: int | None = None
        """Event time of the latest value."""
        self.micro = 0
        self.channel = self.stream = ""
        self.run = 0
        """Since when values have come from this channel without a gap longer than ``hold``."""
        self.spoken: dict[str, int] = {}
        """Channel to the time of its latest value."""

    @property
    def value(self) -> float:
        return self.micro / MICRO

    def fresh(self, time: int) -> bool:
        """Whether the latest value still stands."""
        return self.time is not None and time < self.time + self.signal.hold

    def end(self, time: int) -> int | None:
        """When the latest value stops standing, if that is still to come."""
        return self.time + self.signal.hold if self.time is not None and self.fresh(time) else None

    def factor(self, message: Message[Numeric]) -> float | None:
        """What the message's values are multiplied by; 0 where the unit does not convert, None if it is not ours."""
        if rank(message.payload.channel, self.signal.patterns) < 0:
            return None
        unit = message.payload.unit
        if not self.signal.unit or unit == self.signal.unit:
            return 1.0
        return CONVERSIONS.get((unit, self.signal.unit), 0.0)

    def take(self, time: int, message: Message[Numeric], factor: float) -> bool:
        """Note a value at ``time``; True where it is the signal's own now."""
        value, channel = message.payload.value * factor, message.payload.channel
        if not -LARGEST < value < LARGEST:  # NaN as well
            return False
        spoken = self.spoken
        spoken[channel] = time
        if len(spoken) > 1:
            mine = (rank(channel, self.signal.patterns), channel)
            for other, seen in spoken.items():
                better = (rank(other, self.signal.patterns), other) < mine
                if better and time < seen + self.signal.hold:
                    return False
        if channel != self.channel:
            self.channel, self.stream, self.run = channel, message.stream, time
            for window in self.windows:
                window.clear()
        elif not self.fresh(time):
            self.run = time
        self.time, self.micro = time, round(value * MICRO)
        for window in self.windows:
            window.add(time, self.micro)
        return True


class Watch(Kept):
    """A signal that is true or false: conditions of other operators, events, detections.

    False is only said where somebody is known to listen; otherwise it is unknown.
    """

    kept = ("alive", "present", "until", "heard", "stream", "since", "said")

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self.alive: int | None = None
        """Time of the latest sign of life."""
        self.present: list[list[str]] = []
        """Conditions that are present: source, code, subject."""
        self.until = 0
        """Until when the latest event or detection counts."""
        self.heard = False
        """Whether a condition was ever spoken of."""
        self.stream, self.since, self.said = "", 0, ""
        """The latest message that mattered: its stream, its time, what it was."""

    def vouches(self, message: Message[Any], port: str) -> bool:
        """Whether messages of this stream are signs of life."""
        if not self.signal.alive:
            return port == self.signal.kind != "conditions"
        channel = str(getattr(message.payload, "channel", "") or message.stream)
        return any(fnmatch.fnmatchcase(name, p) for p in self.signal.alive for name in (message.stream, channel))

    def live(self, time: int) -> bool:
        """Note a sign of life; True where it changes what is known."""
        was = self.alive is not None and time < self.alive + self.signal.alive_for
        self.alive = time
        return not was

    def truth(self, time: int) -> int:
        signal = self.signal
        if self.present if signal.kind == "conditions" else time < self.until:
            return TRUE
        if self.alive is not None and time < self.alive + signal.alive_for:
            return FALSE
        return FALSE if signal.kind == "conditions" and not signal.alive and self.heard else UNKNOWN

    def due(self, time: int) -> int | None:
        """When it changes by itself, if it does."""
        times = [] if self.signal.kind == "conditions" else [self.until]
        if self.alive is not None:
            times.append(self.alive + self.signal.alive_for)
        return min((moment for moment in times if moment > time), default=None)

    def take(self, time: int, message: Message[Any]) -> bool:
        """Note a message; True where it is one of ours."""
        payload, signal = message.payload, self.signal
        if isinstance(payload, AlertCondition):
            return self._condition(time, message)
        if isinstance(payload, Event):
            name, fits = payload.kind, fnmatch.fnmatchcase(payload.text, signal.subject)
        else:
            assert isinstance(payload, Detection)
            name, fits = payload.label, payload.score >= signal.score
        if not fits or not any(fnmatch.fnmatchcase(name, pattern) for pattern in signal.patterns):
            return False
        if time >= self.until:
            self.since = time
        self.until = time + signal.hold
        self.stream, self.said = message.stream, name
        return True

    def _condition(self, time: int, message: Message[AlertCondition]) -> bool:
        condition, signal = message.payload, self.signal
        if not any(fnmatch.fnmatchcase(condition.code, pattern) for pattern in signal.patterns):
            return False
        if not fnmatch.fnmatchcase(condition.subject, signal.subject):
            return False
        key, was = [condition.source, condition.code, condition.subject], bool(self.present)
        self.present = [one for one in self.present if one != key]
        if condition.present and not condition.suppressed_by:
            self.present = [*self.present, key][-64:]
        if bool(self.present) != was:
            self.since = time
        self.heard, self.stream, self.said = True, message.stream, condition.code
        return True
