"""The operator: an index a second for every ECG lead, arterial pressure and oximeter wave, and who is unusable."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pydantic

from operators.monitor.quality.channel import Block, Blocks, Role, role_of
from operators.monitor.quality.judge import USABLE, Fault, Judge, Verdict
from operators.rules import NOT_WATCHED, RuleOperator, rank, seconds
from pipeline.message import NANOSECONDS, Evidence, Message, Numeric, Priority, Waveform
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Output, Outputs

TEXTS: dict[Fault, str] = {
    "lead_off": "a lead is off", "flat": "a constant", "clipped": "clipped at the amplifier's limits",
    "saturated": "beyond what a patient can give", "noise": "noise or motion", "zeroing": "open to air (zeroing)",
}  # fmt: skip
SAID_ELSEWHERE: dict[Role, tuple[Fault, ...]] = {
    "ecg": (), "pleth": (), "abp": ("noise", "saturated", "zeroing", "lead_off"),
}  # fmt: skip
"""Of the arterial line's faults these are ``arterial_line_unreliable``'s (``monitor.hypotension``)."""


@dataclasses.dataclass
class _Watch:
    """One channel. Times are event time, ns; -1 for none."""

    channel: str
    role: Role
    bad: int = -1
    """Since when it is unusable."""
    good: int = -1
    """Since when it is usable again, while that is not yet believed."""
    present: bool = False
    fault: str = ""
    last: int = -1
    """End of the last second that was judged."""


class SignalQuality(RuleOperator):
    """Emits a quality index a second and channel, and a technical alert while a channel is unusable for long.

    The numeric's channel is the waveform's with ``_QUALITY`` behind it: ``Intellivue/ECG_II_QUALITY``, unit ``1``,
    0 (useless) to 1; its time is the end of the second that it is about. Seconds without any sample have no index, and
    no alert: silence is ``monitor.freshness``'. The trivial baseline, ``baseline: true``, calls a second bad only
    where it has missing samples or is a constant.
    """

    class Config(BaseConfig):
        channels: tuple[str, ...] = ("*",)
        """Shell patterns over channel names. ECG leads, arterial pressures and oximeter waves among them are judged."""
        delay_seconds: float = pydantic.Field(default=15.0, ge=0)
        """Seconds that a channel must be unusable until the alert."""
        clear_seconds: float = pydantic.Field(default=5.0, ge=0)
        """Seconds that it must be usable again until the end is said."""
        priority: Priority = "low"
        """Priority of the alert."""
        baseline: bool = False
        """Judge by the trivial baseline instead."""

    waveforms: Input[Waveform]
    quality: Output[Numeric]

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self._known: dict[str, tuple[Blocks, Judge, _Watch] | None] = {}
        self._loaded: dict[str, dict[str, Any]] = {}

    def process(self, message: Message[Waveform]) -> Outputs:
        """Take a chunk; answers for each second that it completes."""
        self.now, self.origin = max(self.now, message.time), message.origin
        stream = message.stream
        known = self._known[stream] if stream in self._known else self._meet(message)
        if known is None:
            return None
        blocks, judge, watch = known
        said: list[Message[Any]] = []
        for block in blocks.add(message.time, message.payload):
            watch.last = block.end
            verdict = self._baseline(block, judge) if self.config.baseline else judge.judge(block)
            value = Numeric(f"{watch.channel}_QUALITY", "", "1", round(verdict.index, 4))
            said.append(self.quality.emit(value, message, time=block.end, channel=value.channel))
            said += self._step(watch, stream, block, verdict, message)
        return said or None

    def finish(self) -> Outputs:
        said = []
        for stream, known in self._known.items():
            if known is not None and known[2].present:
                last = known[2].last
                said.append(self._say(known[2], stream, last, None, ended=last, note=NOT_WATCHED))
        return said

    def _meet(self, message: Message[Waveform]) -> tuple[Blocks, Judge, _Watch] | None:
        wave = message.payload
        role = role_of(wave) if rank(wave.channel, self.config.channels) >= 0 else None
        known = None
        if role is not None:
            known = (Blocks(), Judge(role), _Watch(wave.channel, role))
            kept = self._loaded.pop(message.stream, None)
            if kept is not None:
                known[1].load_state(kept["judge"])
                known = (known[0], known[1], _Watch(**kept["watch"]))
        self._known[message.stream] = known
        return known

    def _baseline(self, block: Block, judge: Judge) -> Verdict:
        """Missing or constant, or good."""
        values = block.values
        there = values[np.isfinite(values)]
        bad = len(there) < len(values) or not len(there) or there.min() == there.max()
        return Verdict(0.0, "flat") if bad else Verdict(1.0, "")

    def _step(
        self, watch: _Watch, stream: str, block: Block, verdict: Verdict, cause: Message[Any]
    ) -> list[Message[Any]]:
        # What is missing is silence, and said by monitor.freshness; it neither begins nor ends a fault here.
        if not np.isfinite(block.values).any():
            return []
        bad = verdict.index < USABLE and verdict.fault not in SAID_ELSEWHERE[watch.role]
        if bad:
            watch.bad = block.start if watch.bad < 0 else watch.bad
            watch.good, watch.fault = -1, verdict.fault
            if not watch.present and block.end - watch.bad >= self.config.delay_seconds * NANOSECONDS:
                watch.present = True
                return [self._say(watch, stream, block.end, cause, value=verdict.index)]
            return []
        if not watch.present:
            watch.bad = -1
            return []
        watch.good = block.start if watch.good < 0 else watch.good
        if block.end - watch.good < self.config.clear_seconds * NANOSECONDS:
            return []
        said = self._say(watch, stream, block.end, cause, ended=watch.good, value=verdict.index)
        return [said]

    def _say(
        self, watch: _Watch, stream: str, time: int, cause: Message[Any] | None, *, ended: int | None = None,
        value: float | None = None, note: str = "",
    ) -> Message[Any]:  # fmt: skip
        onset, end = watch.bad, time if ended is None else max(ended, watch.bad)
        what = f"{watch.channel} cannot be used: {TEXTS[watch.fault]}"  # type: ignore[index]
        text = (
            f"{what}, for {seconds(end - onset)}." if ended is None else f"{what}; over after {seconds(end - onset)}."
        )
        said = self.say(
            time, cause, code="signal_unusable", subject=watch.channel, present=ended is None,
            priority=self.config.priority, kind="technical", text=f"{text} {note}".rstrip(), onset=onset,
            ended=None if ended is None else end, value=None if value is None else round(value, 4), limit=USABLE,
            evidence=(Evidence(stream, onset, end, channel=watch.channel, note=watch.fault),),
        )  # fmt: skip
        if ended is not None:
            watch.present, watch.bad, watch.good, watch.fault = False, -1, -1, ""
        return said

    def state(self) -> dict[str, Any]:
        found = {
            stream: {"judge": known[1].state(), "watch": dataclasses.asdict(known[2])}
            for stream, known in self._known.items() if known is not None
        }  # fmt: skip
        return {"now": self.now, "channels": {**self._loaded, **found}}

    def load_state(self, state: dict[str, Any]) -> None:
        self.now, self._loaded = state.get("now", 0), dict(state.get("channels", {}))
