"""The alert state machine: conditions and commands in, revisions of alerts out. It knows only event time.

After IEC 60601-1-8's vocabulary (latching, acknowledged, audio and alarm paused) and IEEE 11073-10207's split of
condition and signal. It informs; it claims no conformance to either.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec
import pydantic

from pipeline.alerts.burden import Burden, RateLimit
from pipeline.errors import MessageError
from pipeline.message import NANOSECONDS, Alert, AlertCondition, Command, Inactivation, Origin, Phase, Priority, Signal

ESCALATIONS = 3
"""How often at most an unanswered alert is signalled anew."""
REPEATS = 4096
"""Newest episodes whose number of repeats is remembered, so that ids stay unique in bounded memory."""


class Policy(pydantic.BaseModel):
    """How alerts are signalled."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    latching: tuple[Priority, ...] = ("high",)
    """Priorities whose physiological alerts stay signalled after their condition ended, until acknowledged."""
    escalate_after_seconds: dict[Priority, float] = {"high": 60.0, "medium": 300.0}
    """An alert that nobody acknowledged is signalled anew after this long, at most three times."""
    most_per_hour: dict[Literal["low", "info"], Annotated[int, pydantic.Field(ge=0, le=10_000)]] = {
        "low": 12, "info": 12,
    }  # fmt: skip
    """New alerts of a priority that are signalled in an hour at most. Further ones are recorded with the reason and not
    signalled. Medium and high are never limited; nor is a priority that is not named."""
    longest_pause_seconds: float = pydantic.Field(default=120.0, gt=0)
    """A pause that asks for more, or for no time at all, gets this."""
    allow_off: bool = False
    """Whether alarms may be switched off without a time limit."""


class Active(msgspec.Struct):
    """One alert in its life."""

    alert: Alert
    escalate_at: int | None = None


class Pause(msgspec.Struct, frozen=True):
    """A pause of the whole room."""

    inactivation: Inactivation
    until: int | None
    by: str


class Origins(msgspec.Struct, frozen=True):
    """What every alert of a run has in common."""

    room: str
    case: str
    topology: str
    run: str = ""
    """Tells the runs of one room apart; empty in replays, so that they are equal."""
    replay: str = ""


class AlertMachine:
    """All alerts of one room.

    Every call returns the new revisions in the order in which they came to be. Results depend on the calls alone.
    """

    def __init__(self, origins: Origins, policy: Policy | None = None) -> None:
        self.origins, self.policy = origins, policy or Policy()
        self.active: dict[tuple[str, str, str], Active] = {}
        """By (source, code, subject); also those whose condition has ended but which are latched."""
        self.pause: Pause | None = None
        self.repeats: dict[str, int] = {}
        self.burden = Burden()
        self.limits: dict[str, RateLimit] = {name: RateLimit(most) for name, most in self.policy.most_per_hour.items()}

    # -- conditions

    def condition(self, condition: AlertCondition, time: int, origin: Origin, processing_ns: int = 0) -> list[Alert]:
        """What a rule says about a condition at event time ``time``."""
        self.burden.reach(time)
        key = (condition.source, condition.code, condition.subject)
        active = self.active.get(key)
        if condition.suppressed_by and (active is None or active.alert.condition.ended is not None):
            return [self._suppressed(condition, time, origin, processing_ns)] if condition.present else []
        if active is None or active.alert.condition.ended is not None:
            if not condition.present or condition.verified:  # a verdict begins nothing; its alert is over
                return []
            superseded = [] if active is None else [self._silence(active, time, "superseded")]
            return [*superseded, self._start(key, condition, time, origin, processing_ns)]
        if not condition.present:
            return [self._end(key, active, condition, time, processing_ns)]
        if condition.onset != active.alert.condition.onset and not condition.verified:
            last = msgspec.structs.replace(active.alert.condition, present=False, ended=time)
            ended = [self._end(key, active, last, time, processing_ns)]
            again = self.active.get(key)
            if again is not None:
                ended.append(self._silence(again, time, "superseded"))
            return [*ended, self._start(key, condition, time, origin, processing_ns)]
        return self._update(active, condition, time, processing_ns)

    def _start(
        self, key: tuple[str, str, str], condition: AlertCondition, time: int, origin: Origin, processing_ns: int
    ) -> Alert:
        alert = self._first(condition, time, origin, self._opening(condition, time), processing_ns)
        self.active[key] = Active(alert, self._escalation(alert))
        self._count(alert)
        return alert

    def _first(self, condition: AlertCondition, time: int, origin: Origin, signal: Signal, processing_ns: int) -> Alert:
        common = self.origins
        return Alert(
            alert_id=self._identify(condition), revision=1, phase="start", time=time, detected=time,
            condition=condition, signal=signal, room=common.room, case=common.case, topology=common.topology,
            origin=origin, replay=common.replay, processing_ns=processing_ns,
        )  # fmt: skip

    def _opening(self, condition: AlertCondition, time: int) -> Signal:
        # A pause of sound never hides what is new (60601-1-8); a pause of alarms does, visibly.
        pause = self.pause
        if pause is not None and pause.inactivation in ("alarm_paused", "alarm_off"):
            return Signal("off", time, pause.inactivation, pause.until, pause.by)
        limit = self.limits.get(condition.priority)
        if limit is not None and not limit.passes(time):
            reason = f"more than {limit.most} alerts of {condition.priority} priority in an hour"
            return Signal("off", time, withheld=reason)
        return Signal("on", time)

    def _count(self, alert: Alert) -> None:
        """Book a revision that calls people."""
        if alert.signal.presence == "on":
            self.burden.add(alert.time)

    def _suppressed(self, condition: AlertCondition, time: int, origin: Origin, processing_ns: int) -> Alert:
        return self._first(condition, time, origin, Signal("off", time), processing_ns)

    def _update(self, active: Active, condition: AlertCondition, time: int, processing_ns: int) -> list[Alert]:
        alert = active.alert
        if condition == alert.condition or condition.onset != alert.condition.onset:
            return []  # nothing new, or a verdict on an episode that is over
        worse = RANK[condition.priority] > RANK[alert.condition.priority]
        signal = alert.signal
        if worse and signal.presence != "on":
            signal = self._opening(condition, time)  # what was acknowledged was less than this
        updated = self._revise(
            active, "escalate" if worse else "update", time, condition=condition, signal=signal,
            processing_ns=processing_ns,
        )  # fmt: skip
        if condition.priority != alert.condition.priority:
            active.escalate_at = self._escalation(updated)
        if worse:
            self._count(updated)
        return [updated]

    def _end(
        self, key: tuple[str, str, str], active: Active, condition: AlertCondition, time: int, processing_ns: int
    ) -> Alert:
        signal = active.alert.signal
        latches = (
            signal.presence == "on"
            and condition.kind == "physiological"
            and active.alert.condition.priority in self.policy.latching
        )
        presence: Any = "latched" if latches else "off"
        signal = Signal(presence, time, by=signal.by, escalation=signal.escalation, withheld=signal.withheld)
        if condition.ended is None:
            condition = msgspec.structs.replace(condition, ended=time)
        ended = self._revise(
            active, "end", time, condition=condition, signal=signal, processing_ns=processing_ns
        )  # fmt: skip
        active.escalate_at = None
        if not latches:
            del self.active[key]
        return ended

    def _silence(self, active: Active, time: int, by: str) -> Alert:
        """A latched alert goes out."""
        alert = self._revise(active, "signal", time, signal=Signal("off", time, by=by))
        condition = alert.condition
        self.active.pop((condition.source, condition.code, condition.subject), None)
        return alert

    # -- people

    def command(self, command: Command, time: int) -> list[Alert]:
        """What a person wants. Raises ``MessageError`` for what cannot be done; nothing has changed then."""
        if command.room != self.origins.room:
            raise MessageError(f"is for room {command.room!r}, this is {self.origins.room!r}", where="room")
        if not command.by.strip():
            raise MessageError("does not say who gives it", where="by")
        chosen = [active for active in self.active.values() if command.alert_id in ("", active.alert.alert_id)]
        if command.alert_id and not chosen:
            raise MessageError("names an alert that is not active", where="alert_id")
        if command.command == "acknowledge":
            return [alert for active in chosen for alert in self._acknowledge(active, time, command.by)]
        if command.command == "resume":
            if not command.alert_id:
                self.pause = None
            return [alert for active in chosen for alert in self._resume(active, time, command.by)]
        pause = self._pausing(command, time)
        if not command.alert_id:
            self.pause = pause
        return [self._paused(active, pause, time) for active in chosen if active.alert.condition.ended is None]

    def _pausing(self, command: Command, time: int) -> Pause:
        if command.command in ("audio_off", "alarm_off"):
            if not self.policy.allow_off:
                raise MessageError("is not allowed here, a pause is", where=command.command)
            return Pause("audio_off" if command.command == "audio_off" else "alarm_off", None, command.by)
        longest = self.policy.longest_pause_seconds
        seconds = longest if command.seconds is None else command.seconds
        if not 0 < seconds < float("inf"):
            raise MessageError("must be a positive number", where="seconds")
        until = time + round(min(seconds, longest) * NANOSECONDS)
        return Pause("audio_paused" if command.command == "pause_audio" else "alarm_paused", until, command.by)

    def _paused(self, active: Active, pause: Pause, time: int) -> Alert:
        signal = active.alert.signal
        mutes = pause.inactivation in ("alarm_paused", "alarm_off")
        presence = "off" if mutes and signal.presence == "on" else signal.presence
        signal = Signal(
            presence, time, pause.inactivation, pause.until, pause.by, signal.escalation, signal.withheld
        )  # fmt: skip
        return self._revise(active, "signal", time, signal=signal)

    def _acknowledge(self, active: Active, time: int, by: str) -> list[Alert]:
        signal = active.alert.signal
        active.escalate_at = None
        if signal.presence == "latched":
            return [self._silence(active, time, by)]
        if signal.presence == "acknowledged":
            return []
        return [self._revise(active, "signal", time, signal=Signal("acknowledged", time, by=by))]

    def _resume(self, active: Active, time: int, by: str) -> list[Alert]:
        signal = active.alert.signal
        if signal.inactivation == "none":
            return []
        presence: Any = "on" if signal.presence == "off" and not signal.withheld else signal.presence
        signal = Signal(presence, time, by=by, escalation=signal.escalation, withheld=signal.withheld)
        resumed = self._revise(active, "signal", time, signal=signal)
        if presence == "on" and active.escalate_at is None:
            active.escalate_at = self._escalation(resumed)
        return [resumed]

    # -- time

    def due(self) -> int | None:
        """Event time at which ``advance`` has something to do next."""
        times = [self.pause.until] if self.pause is not None else []
        for active in self.active.values():
            times.append(active.alert.signal.until)
            times.append(active.escalate_at)
        return min((time for time in times if time is not None), default=None)

    def advance(self, time: int) -> list[Alert]:
        """Pauses that end and alerts that nobody answered, up to event time ``time``."""
        said: list[Alert] = []
        while (due := self.due()) is not None and due <= time:
            if self.pause is not None and self.pause.until == due:
                self.pause = None
            for active in list(self.active.values()):
                if active.alert.signal.until == due:
                    said.extend(self._resume(active, due, "time"))
                if active.escalate_at == due:
                    said.extend(self._escalate(active, due))
        return said

    def _escalation(self, alert: Alert) -> int | None:
        seconds = self.policy.escalate_after_seconds.get(alert.condition.priority)
        answered = alert.signal.presence != "on" or alert.signal.escalation >= ESCALATIONS
        return None if seconds is None or answered else alert.time + round(seconds * NANOSECONDS)

    def _escalate(self, active: Active, time: int) -> list[Alert]:
        signal = active.alert.signal
        if signal.presence != "on":
            active.escalate_at = None
            return []
        # Being signalled anew breaks a pause of sound, which is not an answer.
        signal = Signal("on", time, escalation=signal.escalation + 1)
        alert = self._revise(active, "escalate", time, signal=signal)
        active.escalate_at = self._escalation(alert)
        self._count(alert)
        return [alert]

    # -- small things

    def _revise(self, active: Active, phase: Phase, time: int, *, processing_ns: int = 0, **changes: Any) -> Alert:
        alert = active.alert
        active.alert = msgspec.structs.replace(
            alert, revision=alert.revision + 1, phase=phase, time=time, processing_ns=processing_ns, **changes
        )
        return active.alert

    def _identify(self, condition: AlertCondition) -> str:
        """The same for the same episode of the same run; different for everything else."""
        common = self.origins
        parts = [common.run, common.room, common.case, condition.source, condition.code, condition.subject]
        episode = "\0".join([*parts, str(condition.onset), condition.suppressed_by and "suppressed"])
        name = hashlib.blake2s(episode.encode(), digest_size=10).hexdigest()
        again = self.repeats.pop(name, -1) + 1
        self.repeats[name] = again  # newest last
        if len(self.repeats) > REPEATS:
            del self.repeats[next(iter(self.repeats))]
        return name if again == 0 else f"{name}-{again + 1}"

    def state(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        plain: dict[str, Any] = msgspec.to_builtins(
            {"active": list(self.active.values()), "pause": self.pause, "repeats": self.repeats,
             "burden": self.burden.state(), "limits": {name: limit.state() for name, limit in self.limits.items()}}
        )  # fmt: skip
        return plain

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        active = msgspec.convert(state["active"], list[Active])
        self.active = {(a.alert.condition.source, a.alert.condition.code, a.alert.condition.subject): a for a in active}
        self.pause = msgspec.convert(state["pause"], Pause | None)
        self.repeats = dict(state["repeats"])
        if "burden" in state:  # a state that an older version left has none
            self.burden.load_state(state["burden"])
        for name, passed in state.get("limits", {}).items():
            if name in self.limits:
                self.limits[name].load_state(passed)


RANK: dict[Priority, int] = {"info": 0, "low": 1, "medium": 2, "high": 3}
"""Priorities in order."""
