"""Hypotension episodes: mean arterial pressure below 65 mmHg for a minute, told apart from arterial-line artefacts.

The definition (MAP < 65 mmHg for at least 60 s) is the one that hypotension studies and the Hypotension Prediction
Index use. The trivial rule beside it is ``monitor.limits`` on the same channel with a delay of 60 s; both run in
``topologies/monitor_baseline.yaml`` and the tests compare them. What this rule adds:

* values taken while the line lies (``operators.monitor.arterial``) neither count towards an episode nor end one;
* a candidate that the trivial rule would raise and that rests mostly on such values is said with ``suppressed_by``
  set, so that it is logged and nobody is told - beside a technical condition that the line cannot be believed;
* silence never ends an episode; only believable values at or above the limit do.
"""

from __future__ import annotations

import math
from typing import Any

import pydantic

from operators.monitor.arterial import ArterialLine
from operators.monitor.limits import CONVERSIONS, ns
from operators.rules import NOT_WATCHED, RuleOperator, figure, rank, seconds
from pipeline.message import AlertCondition, Evidence, Message, Numeric, Priority, Waveform
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Outputs

REASONS = {
    "spike": "the catheter was knocked or flushed",
    "flush": "the line is flushed or closed under pressure",
    "open_to_air": "the transducer is open to air (zeroing)",
    "no_pulse": "the line shows no pulse while the oximeter does",
    "damped": "the line is damped while the oximeter's pulse is not",
    "inconsistent": "systolic, mean and diastolic pressure contradict each other",
}

NUMERICS = ("mean", "systolic", "diastolic")
WAVEFORMS = ("pressure", "pleth")


class Hypotension(RuleOperator):
    """Raises ``hypotension`` for each episode, and ``arterial_line_unreliable`` while the line cannot be believed."""

    class Config(BaseConfig):
        limit_mmhg: float = pydantic.Field(default=65.0, gt=0)
        """An episode is mean arterial pressure below this, mmHg."""
        delay_seconds: float = pydantic.Field(default=60.0, ge=0)
        """Seconds of believable low pressure until the alert."""
        severe_mmhg: float = pydantic.Field(default=50.0, ge=0)
        """Below this, mmHg, the alert has priority high and comes after `severe_seconds`. 0 switches this off."""
        severe_seconds: float = pydantic.Field(default=30.0, ge=0)
        """Seconds of believable severe hypotension until the alert, or until its priority rises to high."""
        gap_seconds: float = pydantic.Field(default=5.0, ge=0)
        """Before the alert: seconds at or above the limit that make the count start again."""
        clear_seconds: float = pydantic.Field(default=15.0, ge=0)
        """After the alert: seconds at or above the limit that end the episode. It ends when they began."""
        hold_seconds: float = pydantic.Field(default=10.0, gt=0)
        """Seconds that one value stands for, at most."""
        unreliable_seconds: float = pydantic.Field(default=20.0, ge=0)
        """Seconds of artefact in the waveform until the technical alert about the line."""
        priority: Priority = "medium"
        """Priority of an episode that is not severe."""
        mean: tuple[str, ...] = ("*/ABP_MEAN", "*/ART_MEAN", "*/ART_MBP")
        """Shell patterns over channels of invasive mean pressure, best first; one that is silent longer than
        `hold_seconds` is replaced by the next."""
        systolic: tuple[str, ...] = ("*/ABP_SYS", "*/ART_SYS", "*/ART_SBP")
        """Channels of invasive systolic pressure, of the same device as the mean."""
        diastolic: tuple[str, ...] = ("*/ABP_DIA", "*/ART_DIA", "*/ART_DBP")
        """Channels of invasive diastolic pressure, of the same device as the mean."""
        pressure: tuple[str, ...] = ("*/ABP", "*/ART")
        """Channels of the arterial waveform."""
        pleth: tuple[str, ...] = ("*/PLETH",)
        """Channels of the oximeter's waveform, the witness."""

    numerics: Input[Numeric]
    waveforms: Input[Waveform] | None

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self.line = ArterialLine()
        self._roles: dict[str, tuple[str, int, float] | None] = {}
        """Stream to (role, rank of its pattern, factor to mmHg); None for streams that are of no interest."""
        self._latest: dict[str, tuple[int, float]] = {}
        """Channel of systolic and diastolic pressure to time and value."""
        self._mean_seen: dict[int, int] = {}
        """Rank of a mean pressure channel to the time of its last value."""
        self._wave_channel = ""
        self._reset()
        self._line_onset = 0
        self._line_good = 0

    def _reset(self) -> None:
        self._since = 0
        """First low value of the candidate that the trivial rule would see; 0 for none."""
        self._onset = 0
        """First believable low value."""
        self._low = self._severe = self._tainted = 0
        """Nanoseconds of believable low, believable severe, and unbelievable pressure in the candidate."""
        self._above = 0
        """Since when believable values are at or above the limit; 0 if the last was not."""
        self._last, self._was = 0, ""
        """Time of the last mean pressure and what it was: low, severe, above, or tainted."""
        self._worst = math.inf
        self._raised: Priority | None = None
        self._suppressed: str = ""
        self._blame: dict[str, int] = {}

    # ---------------------------------------------------------------------------------- handlers

    def on_waveforms(self, message: Message[Waveform]) -> Outputs:
        """Feed the judge of the line; says when the line becomes unreliable and when it is good again."""
        self.now = message.time
        stream = message.stream
        role = self._roles[stream] if stream in self._roles else self._meet(message)
        if role is None:
            return None
        if role[0] == "pleth":
            self.line.add_pleth(message.time, message.payload)
            return None
        if not self.line.add_pressure(message.time, message.payload):
            return None
        self._wave_channel = message.payload.channel
        return self._judge_line(message)

    def on_numerics(self, message: Message[Numeric]) -> Outputs:
        """Count believable low pressure; says when an episode begins, grows severe, ends, or is suppressed."""
        self.now = message.time
        stream = message.stream
        role = self._roles[stream] if stream in self._roles else self._meet(message)
        value = message.payload.value
        if role is None or math.isnan(value):
            return None
        kind, place, factor = role
        if kind != "mean":
            self._latest[f"{kind} {_device(message.payload.channel)}"] = (message.time, value * factor)
            return None
        self._mean_seen[place] = message.time
        oldest = message.time - ns(self.config.hold_seconds)
        if any(other < place and seen >= oldest for other, seen in self._mean_seen.items()):
            return None  # a better channel speaks
        return self._mean(message, value * factor)

    def finish(self) -> Outputs:
        said = []
        if self._raised or self._suppressed:
            said.append(self._episode(self.now, None, ended=self.now, note=NOT_WATCHED))
            self._reset()
        if self._line_onset:
            said.append(self._line(self.now, None, ended=self.now, note=NOT_WATCHED))
            self._line_onset = 0
        return said

    # ------------------------------------------------------------------------------------ episode

    def _mean(self, message: Message[Numeric], value: float) -> Outputs:
        time, config = message.time, self.config
        stood = min(time - self._last, ns(config.hold_seconds)) if self._last else 0
        reason = self.line.verdict(
            time, systolic=self._other("systolic", message), mean=value, diastolic=self._other("diastolic", message)
        )
        low = value < config.limit_mmhg
        if self._since:
            self._count(stood)
        self._last = time
        if low and not self._since:
            self._since = time
        if reason:
            self._was = "tainted"
            if low:
                self._blame[reason] = self._blame.get(reason, 0) + 1
        elif low:
            self._was = "severe" if value < config.severe_mmhg else "low"
            self._above, self._onset, self._worst = 0, self._onset or time, min(self._worst, value)
        else:
            self._was = "above"
            self._above = self._above or time
        return self._decide(message, value)

    def _count(self, stood: int) -> None:
        """Book the time since the last value on what that value was."""
        if self._was in ("low", "severe"):
            self._low += stood
        self._severe = self._severe + stood if self._was == "severe" else 0 if self._was == "low" else self._severe
        if self._was == "tainted":
            self._tainted += stood

    def _decide(self, message: Message[Numeric], value: float) -> Outputs:
        time, config = message.time, self.config
        if self._above:
            patience = config.clear_seconds if self._raised or self._suppressed else config.gap_seconds
            if time - self._above >= ns(patience):
                ended = self._above
                said = self._episode(time, message, ended=ended) if self._raised or self._suppressed else None
                self._reset()
                self._last, self._was, self._above = time, "above", ended
                return said
        if not self._since:
            return None
        severe = bool(config.severe_mmhg) and self._severe >= ns(config.severe_seconds) and self._severe > 0
        if self._onset and (severe or self._low >= ns(config.delay_seconds)) and not self._above:
            priority: Priority = "high" if severe or self._raised == "high" else config.priority
            if priority == self._raised:
                return None
            said = []
            if self._suppressed:
                said.append(self._episode(time, message, ended=time))
                self._suppressed = ""
            self._raised = priority
            return [*said, self._episode(time, message, value=value)]
        doubtful = (
            self._tainted > self._low and time - self._since >= ns(config.delay_seconds) and self._was == "tainted"
        )
        if doubtful and not self._raised and not self._suppressed and self._blame:
            self._suppressed = max(self._blame, key=lambda reason: (self._blame[reason], reason))
            return self._episode(time, message, value=value)
        return None

    def _other(self, kind: str, message: Message[Numeric]) -> float:
        time, value = self._latest.get(f"{kind} {_device(message.payload.channel)}", (0, math.nan))
        return value if message.time - time <= ns(5) else math.nan

    def _episode(
        self,
        time: int,
        cause: Message[Any] | None,
        *,
        ended: int | None = None,
        value: float | None = None,
        note: str = "",
    ) -> Message[AlertCondition]:
        config = self.config
        onset = self._since if self._suppressed else self._onset
        limit = figure(config.limit_mmhg)
        worst = self._worst if self._worst < math.inf else math.nan
        if self._suppressed:
            text = f"Mean arterial pressure reads below {limit} mmHg, but {REASONS[self._suppressed]}."
        elif ended is None:
            held = seconds(time - onset)
            text = f"Mean arterial pressure {figure(value or worst)} mmHg, below {limit} for {held}."
        else:
            text = (
                f"Mean arterial pressure was below {limit} mmHg for {seconds(ended - onset)}, lowest {figure(worst)}."
            )
        stream = cause.stream if isinstance(cause, Message) else next(iter(self._mean_streams()), "")
        proof = Evidence(stream, onset, ended or time, values=() if math.isnan(worst) else (worst,), unit="mm[Hg]",
                         note="lowest believable value")  # fmt: skip
        return self.say(
            time, cause, code="hypotension", present=ended is None, priority=self._raised or config.priority,
            kind="physiological", text=f"{text} {note}".rstrip(), onset=onset, ended=ended, value=value,
            limit=config.limit_mmhg, unit="mm[Hg]", evidence=(proof,), suppressed_by=self._suppressed,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------ the line

    def _judge_line(self, message: Message[Waveform]) -> Outputs:
        line, time = self.line, message.time
        if line.reason:
            self._line_good = 0
            if not self._line_onset and time - line.since >= ns(self.config.unreliable_seconds):
                self._line_onset = line.since
                return self._line(time, message)
        elif self._line_onset:
            self._line_good = self._line_good or line.pressure.closed
            if time - self._line_good >= ns(6):
                said = self._line(time, message, ended=self._line_good)
                self._line_onset = self._line_good = 0
                return said
        return None

    def _line(
        self, time: int, cause: Message[Any] | None, *, ended: int | None = None, note: str = ""
    ) -> Message[AlertCondition]:
        reason = self.line.bad[-1][1] if self.line.bad else "no_pulse"
        text = f"Arterial pressure cannot be believed: {REASONS[reason]}."
        if ended is not None:
            text = "The arterial line can be believed again."
        proof = Evidence(
            cause.stream if cause else "", self._line_onset, ended or time, self._wave_channel, note=reason
        )
        return self.say(
            time, cause, code="arterial_line_unreliable", subject=self._wave_channel, present=ended is None,
            priority="low", kind="technical", text=f"{text} {note}".rstrip(), onset=self._line_onset, ended=ended,
            evidence=(proof,),
        )  # fmt: skip

    # --------------------------------------------------------------------------------------- roles

    def _meet(self, message: Message[Any]) -> tuple[str, int, float] | None:
        """Find out once what a stream is to this rule."""
        self.origin, payload = message.origin, message.payload
        found = None
        for role in WAVEFORMS if isinstance(payload, Waveform) else NUMERICS:
            place = rank(payload.channel, getattr(self.config, role))
            if place >= 0:
                factor = 1.0 if payload.unit in ("mm[Hg]", "") else CONVERSIONS.get((payload.unit, "mm[Hg]"), 0.0)
                if role == "pressure" and factor != 1.0:
                    factor = 0.0  # thresholds of the line are in mmHg; without a waveform only the numerics are judged
                found = (role, place, factor) if factor or role == "pleth" else None
                break
        self._roles[message.stream] = found
        return found

    def _mean_streams(self) -> list[str]:
        return [stream for stream, role in self._roles.items() if role is not None and role[0] == "mean"]

    def state(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in _KEPT}
        kept["_worst"] = None if self._worst == math.inf else self._worst
        return {**kept, "line": self.line.state(), "mean_seen": [[k, v] for k, v in self._mean_seen.items()]}

    def load_state(self, state: dict[str, Any]) -> None:
        for name in _KEPT:
            setattr(self, name, state[name])
        self._worst = math.inf if state["_worst"] is None else state["_worst"]
        self.line.load_state(state["line"])
        self._mean_seen = {int(k): int(v) for k, v in state["mean_seen"]}


_KEPT = ("now", "_since", "_onset", "_low", "_severe", "_tainted", "_above", "_last", "_was", "_raised", "_suppressed",
         "_blame", "_wave_channel", "_line_onset", "_line_good")  # fmt: skip


def _device(channel: str) -> str:
    return channel.rpartition("/")[0]
