"""The operator that publishes the forecast, and the advisory that it may give.

It was fitted to simulated patients (``patients``) and has been shown to hold for no real ones (``MODEL.md``). That is
why present mean pressure and the straight line through the last five minutes go out with every forecast, in the
numbers and in the words: in a cohort of 2,022 real patients mean pressure alone did as well as a commercial index
(Anesthesiology 2024; Enevoldsen 2022).
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic

from operators.monitor.arterial import ArterialLine
from operators.monitor.forecast import model
from operators.monitor.forecast.evaluate import SETTLE, Trigger
from operators.monitor.forecast.features import HORIZONS, History, contour, current, extrapolated, features
from operators.monitor.forecast.patients import LIMIT, STEP
from operators.monitor.limits import CONVERSIONS, ns
from operators.rules import NOT_WATCHED, RuleOperator, figure, rank, seconds
from pipeline.message import NANOSECONDS, Evidence, Message, Numeric, Rule, Waveform
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Output, Outputs

log = logging.getLogger("vigil.forecast")

STEP_NS = round(STEP * NANOSECONDS)
ROLES = ("mean", "systolic", "diastolic", "rate")
PRESENT, LINE, CHANCE = "Vigil/MAP", "Vigil/MAP_EXTRAPOLATED_{}MIN", "Vigil/HYPOTENSION_{}MIN"
"""Channels of what is published; the first two in mmHg, the last a probability."""
WHY_NOT = (
    "the model was fitted to simulated patients and not shown to be better on real ones; `publish: model` gives it all "
    "the same"
)
LONGEST_LINE = 250.0
"""mmHg beyond which a straight line is cut off."""


class HypotensionForecast(RuleOperator):
    """Publishes probabilities of hypotension (mean pressure below 65 mmHg for a minute) with their two baselines.

    Every ``every_seconds`` it gives present mean pressure, its straight line in 5, 10 and 15 minutes, and the
    probabilities within these. NaN stands for what cannot be said: no believable pressure, less than two minutes of it,
    or an episode that is there already. It needs an arterial line; a waveform adds the contour.
    """

    class Config(BaseConfig):
        publish: Literal["default", "model", "baselines"] = "default"
        """`default` gives probabilities only where the weights say that they were shown to beat both baselines, which
        the shipped ones were on simulated patients alone; `model` gives them all the same, `baselines` never."""
        weights: Path = model.SHIPPED
        """The fitted model."""
        every_seconds: float = pydantic.Field(default=20.0, ge=2, le=300)
        """Seconds between two forecasts."""
        advise: bool = False
        """Whether to say `hypotension_expected`, an advisory of low priority, when the probability within 15 minutes
        reaches the threshold. It needs the probabilities: `publish: model`."""
        threshold: float | None = pydantic.Field(default=None, gt=0, lt=1)
        """Of the advisory; the one that was frozen with the weights where not given."""
        hold_seconds: float = pydantic.Field(default=10.0, gt=0)
        """A channel that is silent longer than this is replaced by the next."""
        mean: tuple[str, ...] = ("*/ABP_MEAN", "*/ART_MEAN", "*/ART_MBP")
        """Shell patterns over channels of invasive mean pressure, best first."""
        systolic: tuple[str, ...] = ("*/ABP_SYS", "*/ART_SYS", "*/ART_SBP")
        """Channels of invasive systolic pressure."""
        diastolic: tuple[str, ...] = ("*/ABP_DIA", "*/ART_DIA", "*/ART_DBP")
        """Channels of invasive diastolic pressure."""
        rate: tuple[str, ...] = ("*/ECG_HR", "*/HR", "*/PLETH_HR")
        """Channels of heart rate."""
        pressure: tuple[str, ...] = ("*/ABP", "*/ART")
        """Channels of the arterial waveform, in mmHg."""
        pleth: tuple[str, ...] = ("*/PLETH",)
        """Channels of the oximeter's waveform, the witness where the line is judged."""

        @pydantic.model_validator(mode="after")
        def _advice_needs_a_model(self) -> HypotensionForecast.Config:
            if self.advise and self.publish != "model":
                raise ValueError("advise needs the probabilities: write `publish: model`")
            return self

    numerics: Input[Numeric]
    waveforms: Input[Waveform] | None
    forecasts: Output[Numeric]

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self.model: model.Forecaster | None = None
        """None where only the baselines are published."""
        self.history = History()
        self.line = ArterialLine()
        self.trigger = Trigger(1.0)
        self.due = 0
        """Event time of the next forecast, ns."""
        self._roles: dict[str, tuple[str, int, float] | None] = {}
        """Stream to (role, rank of its pattern, factor to its unit); None for streams of no interest."""
        self._seen: dict[str, dict[int, int]] = {}
        """Role to the rank of each of its channels and the time of its last value."""
        self._latest: dict[str, tuple[int, float]] = {}
        """Systolic and diastolic pressure: time and value."""
        self._low_until = 0
        """Until when an episode, or the time just after one, allows no advisory, ns."""
        self._onset = 0
        self._wave: list[np.ndarray] = []
        self._before = np.empty(0, np.float32)
        self._wave_step = -1

    def setup(self) -> None:
        """Load the model. Raises ``VigilError`` where its file is missing or does not fit."""
        if self.config.publish == "baselines":
            return
        found = model.load(self.config.weights)
        if self.config.publish == "default" and found.metadata.get("default") != "true":
            log.warning("%s publishes mean pressure and its straight line alone: %s", self.name, WHY_NOT)
            return
        self.model = found
        frozen = float(found.metadata.get("threshold", "nan"))
        threshold = self.config.threshold if self.config.threshold is not None else frozen
        self.trigger.threshold = threshold

    def rule(self) -> Rule:
        plain = super().rule()
        weights = self.model.digest if self.model is not None else ""
        return Rule(plain.name, plain.version, hashlib.sha256(f"{plain.digest}{weights}".encode()).hexdigest()[:16])

    # ------------------------------------------------------------------------------------- what comes in

    def on_waveforms(self, message: Message[Waveform]) -> Outputs:
        """Judge the arterial line, and measure the contour of its beats."""
        self.now, stream = message.time, message.stream
        role = self._roles[stream] if stream in self._roles else self._meet(message)
        if role is None or not 1 <= message.payload.rate <= 100_000 or self._outdone(role[0], role[1], message.time):
            return None
        if role[0] == "pleth":
            self.line.add_pleth(message.time, message.payload)
            return None
        self.line.add_pressure(message.time, message.payload)
        step = message.time // STEP_NS
        if step != self._wave_step:
            self._close(message.payload.rate)
            self._before = self._before if step == self._wave_step + 1 else self._before[:0]
            self._wave_step = step
        self._wave.append(message.payload.values)
        return None

    def on_numerics(self, message: Message[Numeric]) -> Outputs:
        """Remember values; with one of mean pressure comes the forecast where it is due."""
        self.now, stream, value = message.time, message.stream, message.payload.value
        role = self._roles[stream] if stream in self._roles else self._meet(message)
        if role is None or self._outdone(role[0], role[1], message.time):
            return None
        kind, _, factor = role
        value *= factor
        if kind in ("systolic", "diastolic"):
            self._latest[kind] = (message.time, value)
        step = message.time // STEP_NS
        if math.isfinite(value) and (kind != "mean" or not self._doubt(message.time, value)):
            self.history.add(kind, step, value)
        if kind != "mean" or message.time < self.due:
            return None
        every = ns(self.config.every_seconds)
        self.due = (message.time // every + 1) * every
        return list(self._forecast(message))

    def finish(self) -> Outputs:
        if not self.trigger.on:
            return None
        self.trigger.on = False
        return self._advise(self.now, None, math.nan, math.nan, math.nan, note=NOT_WATCHED)

    # ------------------------------------------------------------------------------------ what goes out

    def _forecast(self, message: Message[Numeric]) -> Iterator[Message[Any]]:
        window = self.history.until(message.time // STEP_NS)
        mean = float(current(window[:, 0])[0])
        lines = [float(extrapolated(window[:, 0], minutes)[0]) for minutes in HORIZONS]
        chances = [math.nan] * len(HORIZONS)
        if self.model is not None and mean >= LIMIT and math.isfinite(lines[0]):
            chances = self.model.probabilities(features(window))[0].tolist()
        yield self._say(message, PRESENT, "mm[Hg]", mean)
        for minutes, line, chance in zip(HORIZONS, lines, chances, strict=True):
            bounded = min(max(line, 0.0), LONGEST_LINE) if math.isfinite(line) else math.nan
            yield self._say(message, LINE.format(minutes), "mm[Hg]", bounded)
            if self.model is not None:
                yield self._say(message, CHANCE.format(minutes), "1", chance)
        if self.config.advise and self.model is not None:
            yield from self._watch(message, mean, lines[-1], chances[-1])

    def _say(self, cause: Message[Any], channel: str, unit: str, value: float) -> Message[Numeric]:
        return self.forecasts.emit(Numeric(channel, "", unit, round(value, 4)), cause, channel=channel)

    def _watch(self, message: Message[Any], mean: float, line: float, chance: float) -> Iterator[Message[Any]]:
        if mean < LIMIT:
            self._low_until = message.time + ns(SETTLE)
        allowed = chance if message.time >= self._low_until else math.nan
        if self.trigger.step(message.time / NANOSECONDS, allowed):
            if self.trigger.on:
                self._onset = message.time
            yield self._advise(message.time, message, mean, line, chance)

    def _advise(
        self, time: int, cause: Message[Any] | None, mean: float, line: float, chance: float, note: str = ""
    ) -> Message[Any]:
        present = self.trigger.on
        if present:
            text = (
                f"Hypotension is expected within {HORIZONS[-1]} min (probability {chance:.2f}). {_plainly(mean, line)}"
            )
        else:
            text = f"Hypotension was expected for {seconds(time - self._onset)}; no longer. "
            text += _plainly(mean, line) if math.isfinite(mean) else ""
        seen = tuple(round(value, 1) for value in (mean, line) if math.isfinite(value))
        note_of = "present mean pressure, and the straight line in 15 min; the model knows simulated patients only"
        stream = cause.stream if cause else ""
        proof = Evidence(stream, time - ns(600), time, PRESENT, seen, "mm[Hg]", note=note_of)
        return self.say(
            time, cause, code="hypotension_expected", present=present, priority="low", kind="advisory",
            text=f"{text} {note}".strip(), onset=self._onset, ended=None if present else time,
            value=round(chance, 4) if math.isfinite(chance) else None, limit=round(self.trigger.threshold, 4), unit="1",
            evidence=(proof,),
        )  # fmt: skip

    # ------------------------------------------------------------------------------------- small things

    def _doubt(self, time: int, value: float) -> bool:
        oldest = time - ns(5)
        known = [self._latest.get(role, (0, math.nan)) for role in ("systolic", "diastolic")]
        systolic, diastolic = (value if at >= oldest else math.nan for at, value in known)
        return bool(self.line.verdict(time, systolic=systolic, mean=value, diastolic=diastolic))

    def _close(self, rate: float) -> None:
        """Measure the contour of the two steps that end with the last one."""
        if not self._wave:
            return
        values = np.concatenate(self._wave)
        self._wave = []
        if not self.line.reason:
            upstroke, area = contour(np.concatenate([self._before, values]), rate)
            for channel, value in (("upstroke", upstroke), ("area", area)):
                if math.isfinite(value):
                    self.history.add(channel, self._wave_step, value)
        self._before = values[-round(8 * max(rate, 1)) :]

    def _outdone(self, role: str, place: int, time: int) -> bool:
        """Whether a better channel for the same has a fresh value."""
        seen = self._seen.setdefault(role, {})
        seen[place] = time
        oldest = time - ns(self.config.hold_seconds)
        return any(other < place and at >= oldest for other, at in seen.items())

    def _meet(self, message: Message[Any]) -> tuple[str, int, float] | None:
        """Find out once what a stream is to this operator."""
        self.origin, payload = message.origin, message.payload
        found = None
        for role in ("pressure", "pleth") if isinstance(payload, Waveform) else ROLES:
            place = rank(payload.channel, getattr(self.config, role))
            if place >= 0:
                wanted = "/min" if role == "rate" else "mm[Hg]"
                factor = 1.0 if payload.unit in (wanted, "") else CONVERSIONS.get((payload.unit, wanted), 0.0)
                plain = role == "pleth" or (factor == 1.0 if role == "pressure" else factor > 0)
                found = (role, place, factor) if plain else None
                break
        self._roles[message.stream] = found
        return found

    def state(self) -> dict[str, Any]:
        trigger = {"on": self.trigger.on, "quiet_until": max(self.trigger.quiet_until, 0.0)}
        return {
            "now": self.now, "history": self.history.state(), "line": self.line.state(), "due": self.due,
            "seen": {role: [[k, v] for k, v in seen.items()] for role, seen in self._seen.items()},
            "latest": {role: list(found) for role, found in self._latest.items() if math.isfinite(found[1])},
            "low_until": self._low_until, "onset": self._onset, "trigger": trigger,
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        self.now, self.due = state["now"], state["due"]
        self.history.load_state(state["history"])
        self.line.load_state(state["line"])
        self._seen = {role: {int(k): int(v) for k, v in seen} for role, seen in state["seen"].items()}
        self._latest = {role: (int(at), float(value)) for role, (at, value) in state["latest"].items()}
        self._low_until, self._onset = state["low_until"], state["onset"]
        self.trigger.on, self.trigger.quiet_until = state["trigger"]["on"], state["trigger"]["quiet_until"]


def _plainly(mean: float, line: float) -> str:
    """What can be said without any model."""
    text = f"Mean arterial pressure is {figure(mean)} mmHg now"
    return f"{text}; a straight line through the last 5 min leads to {figure(line)} mmHg in {HORIZONS[-1]} min."
