"""The rule operator: finds the five arrhythmias in waveforms, and judges a monitor's own alarms where it gets them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import pydantic

from operators.monitor.quality.channel import role_of
from operators.monitor.rhythm.adjudicate import (
    LOOK_BACK,
    NAMES,
    Candidate,
    Verdict,
    adjudicate,
    candidates,
    contradiction,
    told,
)  # fmt: skip
from operators.monitor.rhythm.definitions import KINDS, STRICT, Kind
from operators.monitor.rhythm.trace import Trace
from operators.rules import NOT_WATCHED, RuleOperator, rank, seconds
from pipeline.message import NANOSECONDS, AlertCondition, Event, Evidence, Message, Priority, Waveform
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Outputs

ALIVE = 3.5
"""Seconds that a channel may trail event time before the others no longer wait for it."""
IDLE = 30.0
"""Seconds without any waveform after which nothing is looked at until one comes."""
COVERED = 8.0
"""Seconds after an arrhythmia was last seen in which the ones that it covers are not told besides."""
GRAVER: dict[Kind, tuple[Kind, ...]] = {
    "asystole": (), "extreme_bradycardia": ("asystole", "ventricular_fibrillation"),
    "extreme_tachycardia": ("ventricular_tachycardia", "ventricular_fibrillation"),
    "ventricular_tachycardia": ("ventricular_fibrillation",), "ventricular_fibrillation": ("ventricular_tachycardia",),
}  # fmt: skip
"""Arrhythmias that, while they are present, say enough: a tachycardia at 170/min oscillates as flutter does."""
MOST = 16
"""Channels that are looked at, at most."""

WORDS: tuple[tuple[str, Kind], ...] = (
    (r"asyst", "asystole"), (r"brady", "extreme_bradycardia"),
    (r"fib\b|fibrill|flutter|\bvf\b", "ventricular_fibrillation"),
    (r"ventricular[ _-]?tach|v[ -]?tach|\bvt\b", "ventricular_tachycardia"), (r"tachy", "extreme_tachycardia"),
)  # fmt: skip
"""How monitors call their alarms; the first that matches holds."""


def kind_of(event: Event) -> Kind | None:
    """Which of the five alarms an event is; None for every other.

    Only an event that calls itself an alarm or alert, or by an arrhythmia's name, is one: a phase or a note of the case
    that mentions one is not.
    """
    own = event.kind.lower()
    words = own if not re.search(r"alarm|alert", own) else f"{own} {event.text.lower()}"
    if "atrial" in words:
        return None
    return next((kind for pattern, kind in WORDS if re.search(pattern, words)), None)


@dataclasses.dataclass
class _Episode:
    """One arrhythmia that is present, or a candidate that was rejected. Seconds on the traces' own count."""

    onset: float
    seen: float
    raised: bool
    reason: str
    """Why it was rejected; empty where it was raised."""
    value: float
    channel: str
    monitors: bool = False
    """True for an alarm of the monitor's own."""


class Rhythm(RuleOperator):
    """Raises asystole, extreme bradycardia and tachycardia, ventricular tachycardia and fibrillation.

    A definition that holds on a lead of good quality is a candidate (CinC 2015, ``definitions``); what other signals
    show in the same seconds may contradict it (``adjudicate``), and then it is said with ``suppressed_by`` and nobody
    is told. Once raised it is not taken back by a contradiction: it ends when a good lead shows another rhythm.

    Everything is decided once a second of event time, on beats that are certain by then: about 1.5 s after they
    happen. Sensitivity to real lethal arrhythmia has NOT been shown: there was no recording of one to show it on.
    """

    class Config(BaseConfig):
        channels: tuple[str, ...] = ("*",)
        """Shell patterns over the channels that are looked at; of these, ECG leads, arterial pressures and
        oximeter waves are told by their codes, the rest is ignored."""
        kinds: tuple[Kind, ...] = KINDS
        """Which arrhythmias are looked for."""
        clear_seconds: float = pydantic.Field(default=5.0, ge=1)
        """Seconds of another rhythm on a lead of good quality until an episode ends."""
        adjudicate: bool = True
        """False: the baseline beside it, which tells every candidate of every lead whatever the other signals show."""
        priority: Priority = "high"
        """Priority of the alerts."""

    waveforms: Input[Waveform]
    alarms: Input[Event] | None

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self._traces: dict[str, Trace | None] = {}
        self._zero = -1
        self._episodes: dict[str, _Episode] = {}
        self._told: dict[str, float] = {}
        """Kind to the second at which it was last seen, of what people were told."""
        self._asked: list[tuple[Kind, float]] = []
        """Alarms of the monitor that wait for the signals to be known up to them."""
        self._loaded: dict[str, Any] = {}

    # ---------------------------------------------------------------------------------- handlers

    def on_waveforms(self, message: Message[Waveform]) -> Outputs:
        """Take a chunk. Answers nothing: what there is to say is said once a second, by ``on_time``."""
        time = message.time
        if time > self.now:
            self.now, self.origin = time, message.origin
        trace = self._traces[message.stream] if message.stream in self._traces else self._meet(message)
        if trace is None:
            return None
        trace.add(time, message.payload)
        if self.wake_at is None:
            self.wake((time // NANOSECONDS + 1) * NANOSECONDS)
        return None

    def on_alarms(self, message: Message[Event]) -> Outputs:
        """Take a monitor's alarm; it is judged when the signals are known up to its time."""
        kind = kind_of(message.payload)
        if kind is None or kind not in self.config.kinds:
            return None
        self._begin(message.time)
        self._asked = [*self._asked[-31:], (kind, self._second(message.time))]
        if self.wake_at is None:
            self.wake((message.time // NANOSECONDS + 1) * NANOSECONDS)
        return None

    def on_time(self, time: int) -> Outputs:
        """Look at all channels up to what is certain by now."""
        self.wake(time + NANOSECONDS if time < self.now + IDLE * NANOSECONDS or self._asked else None)
        return self._look(time)

    def finish(self) -> Outputs:
        for trace in self._live():
            trace.finish()
        said = [self._judge(kind, at, max(self.now, self._time(at))) for kind, at in self._asked]
        self._asked = []
        for code, episode in self._episodes.items():
            said.append(
                self._say(code, episode, max(self.now, self._time(episode.onset)), ended=True, note=NOT_WATCHED)
            )
        self._episodes = {}
        return said

    # ------------------------------------------------------------------------------------ private

    def _begin(self, time: int) -> None:
        if self._zero < 0:
            self._zero = time

    def _second(self, time: int) -> float:
        return (time - self._zero) / NANOSECONDS

    def _time(self, second: float) -> int:
        return self._zero + round(second * NANOSECONDS)

    def _meet(self, message: Message[Waveform]) -> Trace | None:
        wave = message.payload
        role = role_of(wave) if rank(wave.channel, self.config.channels) >= 0 else None
        trace = None
        if role is not None and len(self._live()) < MOST:
            self._begin(message.time)
            trace = Trace(wave.channel, role, self._zero)
            trace.stream = message.stream
            kept = self._loaded.pop(message.stream, None)
            if kept:
                trace.load_state(kept)
        self._traces[message.stream] = trace
        return trace

    def _live(self) -> list[Trace]:
        return [trace for trace in self._traces.values() if trace is not None]

    def _look(self, time: int) -> list[Message[AlertCondition]]:
        now = self._second(time)
        for trace in self._live():
            trace.advance(time)
        traces = sorted((t for t in self._live() if t.settled() > now - ALIVE), key=lambda trace: trace.stream)
        said: list[Message[AlertCondition]] = []
        upto = min((trace.settled() for trace in traces), default=-math.inf)
        for kind, at in self._asked:
            if upto >= at or now >= at + ALIVE:
                said.append(self._judge(kind, at, time))
        self._asked = [(kind, at) for kind, at in self._asked if not (upto >= at or now >= at + ALIVE)]
        for kind in self.config.kinds:
            found = self._find(kind, traces, upto) if traces else None
            said += self._step(kind, found, traces, upto if traces else now, time)
        for code, episode in list(self._episodes.items()):
            if episode.monitors and now - episode.seen >= 2 * self.config.clear_seconds:
                del self._episodes[code]
                said.append(self._say(code, episode, time, ended=True))
        return said

    def _find(self, kind: Kind, traces: Sequence[Trace], upto: float) -> tuple[Candidate, str, str] | None:
        """The candidate that goes on now, and what contradicts it with the channel that does; uncontradicted first."""
        for graver in GRAVER[kind]:
            if upto - self._told.get(graver, -math.inf) < COVERED:
                return None  # it goes by the other name already
        rejected = None
        for lead in traces:
            if lead.role != "ecg":
                continue
            for candidate in candidates(kind, lead, upto - LOOK_BACK[kind], upto, STRICT):
                start, end, value = candidate.interval
                ongoing = max(2.5, 60 / value + 1.0 if kind == "extreme_bradycardia" and value > 0 else 0.0)
                if end < upto - ongoing or not lead.usable(start, end, 0.9):
                    continue
                over = lead.over(start + 1, end)
                if kind == "asystole" and 2 * sum(second.oscillating for second in over) > len(over):
                    continue  # no beat, but no silence either: this is fibrillation
                reason, channel = contradiction(kind, candidate, traces) if self.config.adjudicate else ("", "")
                if not reason:
                    return candidate, "", ""
                rejected = rejected or (candidate, reason, channel)
        return rejected

    def _step(
        self, kind: Kind, found: tuple[Candidate, str, str] | None, traces: Sequence[Trace], upto: float, time: int
    ) -> list[Message[AlertCondition]]:
        episode = self._episodes.get(kind)
        if found is None:
            if episode is None or not self._over(kind, episode, traces, upto):
                return []
            del self._episodes[kind]
            return [self._say(kind, episode, time, ended=True)]
        candidate, reason, _ = found
        start, end, value = candidate.interval
        if not reason or (episode is not None and episode.raised):
            self._told[kind] = max(end, self._told.get(kind, end))
        if episode is not None and (episode.raised or reason):
            episode.seen = max(episode.seen, end)
            return []
        said = []
        if episode is not None:  # the witness has fallen silent
            said.append(self._say(kind, episode, time, ended=True))
        begun = _Episode(start, end, not reason, reason, value, candidate.trace.stream)
        self._episodes[kind] = begun
        return [*said, self._say(kind, begun, time, found=found)]

    def _over(self, kind: Kind, episode: _Episode, traces: Sequence[Trace], upto: float) -> bool:
        """Silence and noise end no episode: a good lead must show another rhythm."""
        clear = self.config.clear_seconds
        if upto - episode.seen < clear:
            return False
        if not episode.raised:
            return True
        for lead in traces:
            if lead.role == "ecg" and lead.usable(upto - clear, upto):
                if kind not in ("asystole", "ventricular_fibrillation"):
                    return True  # neither a fast nor a slow rhythm: also where there is none at all any more
                oscillates = any(second.oscillating for second in lead.over(upto - clear, upto))
                if len(lead.beats().within(upto - clear, upto).times) >= 2 and not oscillates:
                    return True
        return False

    def _judge(self, kind: Kind, at: float, time: int) -> Message[AlertCondition]:
        """A monitor's own alarm: said as it is, or with the reason why nobody is to be told."""
        verdict: Verdict = adjudicate(kind, self._live(), at)
        interval = verdict.interval
        episode = _Episode(at, at, verdict.true, "" if verdict.true else verdict.reason, interval.value, "", True)
        trace = next((trace for trace in self._live() if trace.channel == verdict.channel), None)
        episode.channel = trace.stream if trace is not None else ""
        self._episodes[f"{kind} monitor"] = episode
        evidence = Evidence(
            episode.channel or "*", max(0, self._time(interval.start)), max(0, self._time(interval.end)),
            channel=verdict.channel, note=verdict.reason,
        )  # fmt: skip
        return self._say(f"{kind} monitor", episode, max(time, self._time(at)), evidence=(evidence,))

    def _say(
        self, code: str, episode: _Episode, time: int, *, found: tuple[Candidate, str, str] | None = None,
        evidence: tuple[Evidence, ...] = (), ended: bool = False, note: str = "",
    ) -> Message[AlertCondition]:  # fmt: skip
        kind: Kind = code.partition(" ")[0]  # type: ignore[assignment]
        onset = self._time(episode.onset)
        end = min(time, max(onset, self._time(episode.seen))) if ended else None
        what = NAMES[kind].capitalize()
        if ended:
            text = f"{what}: over after {seconds((end or onset) - onset)}. {note}".rstrip()
        elif episode.monitors:
            text = f"The monitor's alarm: {what.lower()}."
        else:
            text = f"{what}: {told(kind, found[0])}." if found else f"{what}."
        if found is not None:
            evidence = self._evidence(kind, found)
        value = None if math.isnan(episode.value) else round(episode.value, 2)
        limit, unit = _LIMITS[kind]
        return self.say(
            time, None, code=kind, subject="monitor alarm" if episode.monitors else "", present=not ended,
            priority=self.config.priority, kind="physiological", text=text, onset=onset, ended=end, value=value,
            limit=limit, unit=unit, suppressed_by=episode.reason,
            evidence=evidence or (Evidence(episode.channel or "*", onset, end or time),),
        )  # fmt: skip

    def _evidence(self, kind: Kind, found: tuple[Candidate, str, str]) -> tuple[Evidence, ...]:
        candidate, reason, channel = found
        start, end = (self._time(second) for second in candidate.interval[:2])
        lead = candidate.trace
        shown = [Evidence(
            lead.stream, start, end, channel=lead.channel, values=(round(candidate.interval.value, 2),),
            unit=_LIMITS[kind][1], note=told(kind, candidate),
        )]  # fmt: skip
        witness = next((trace for trace in self._live() if reason and trace.channel == channel), None)
        if witness is not None:
            shown.append(Evidence(witness.stream, start, end, channel=channel, note=reason))
        return tuple(shown)

    def state(self) -> dict[str, Any]:
        traces = {stream: trace.state() for stream, trace in self._traces.items() if trace is not None}
        return {
            "now": self.now, "zero": self._zero, "told": dict(self._told), "traces": {**self._loaded, **traces},
            "episodes": {
                code: {**dataclasses.asdict(episode), "value": None if math.isnan(episode.value) else episode.value}
                for code, episode in self._episodes.items()
            },
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        self.now, self._zero = state.get("now", 0), state.get("zero", -1)
        self._loaded, self._told = dict(state.get("traces", {})), dict(state.get("told", {}))
        for code, kept in state.get("episodes", {}).items():
            value = math.nan if kept["value"] is None else kept["value"]
            self._episodes[code] = _Episode(**{**kept, "value": value})


_LIMITS: dict[Kind, tuple[float, str]] = {
    "asystole": (STRICT.pause, "s"), "extreme_bradycardia": (STRICT.slow, "/min"),
    "extreme_tachycardia": (STRICT.fast, "/min"), "ventricular_tachycardia": (STRICT.ventricular, "/min"),
    "ventricular_fibrillation": (STRICT.oscillation, "s"),
}  # fmt: skip
