"""The operator: an event a beat, and once a second the rates that the channels agree on."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from typing import Any

from operators.monitor.beats.detect import Beat, Detector
from operators.monitor.beats.rate import Reading, channel_rate, heart_rate, pulse_rate
from operators.monitor.quality.channel import Blocks, Role, role_of
from operators.monitor.quality.judge import USABLE, Judge
from operators.rules import rank
from pipeline.message import NANOSECONDS, Event, Message, Numeric, Origin, Waveform
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Operator, Output, Outputs

ALIVE = 3 * NANOSECONDS
"""A channel that trails event time by more is not read."""
IDLE = 10 * NANOSECONDS
"""Without any waveform for longer, no rates are given."""
TRUSTED = 0.5
"""Confidence from which on a beat counts towards a rate."""


@dataclasses.dataclass
class _Channel:
    """One waveform."""

    name: str
    role: Role
    blocks: Blocks
    judge: Judge
    detector: Detector
    beats: deque[tuple[int, int, float]] = dataclasses.field(default_factory=lambda: deque(maxlen=96))
    """Of the last beats: end of the second that made it certain, time, confidence."""
    seconds: deque[tuple[int, float, int]] = dataclasses.field(default_factory=lambda: deque(maxlen=16))
    """Of the last seconds: end, index of quality, and until when beats were certain by it."""


class Beats(Operator):
    """Finds beats on every ECG lead, arterial pressure and oximeter wave.

    ``beats`` carries one ``Event`` of kind ``beat`` a beat, its time that of the R wave or of the pulse's foot, its
    ``data`` ``{channel, role, amplitude, confidence, similarity, ventricular}``; it comes at most 1.5 s after the beat
    (more where it was found by searching back, see ``detect``). ``numerics`` carries ``Vigil/HEART_RATE`` and
    ``Vigil/PULSE_RATE``, /min, once a second; NaN where channels disagree or none is good enough, 0 where they agree
    that there is no beat.
    """

    class Config(BaseConfig):
        channels: tuple[str, ...] = ("*",)
        """Shell patterns over channel names. ECG leads, arterial pressures and oximeter waves among them are read."""

    waveforms: Input[Waveform]
    beats: Output[Event]
    numerics: Output[Numeric]

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self._channels: dict[str, _Channel | None] = {}
        self._now = 0
        self._origin: Origin = "live"
        self._loaded: dict[str, dict[str, Any]] = {}

    def process(self, message: Message[Waveform]) -> Outputs:
        """Take a chunk; answers with the beats that are certain by it."""
        if message.time > self._now:
            self._now, self._origin = message.time, message.origin
        stream = message.stream
        channel = self._channels[stream] if stream in self._channels else self._meet(message)
        if channel is None:
            return None
        if self.wake_at is None:
            self.wake((message.time // NANOSECONDS + 1) * NANOSECONDS)
        said: list[Message[Any]] = []
        for block in channel.blocks.add(message.time, message.payload):
            verdict = channel.judge.judge(block)
            beats = channel.detector.add(block, verdict)
            channel.seconds.append((block.end, verdict.index, channel.detector.settled))
            said += [self._beat(channel, beat, message, block.end) for beat in beats]
        return said or None

    def on_time(self, time: int) -> Outputs:
        """Once a second: the rates."""
        self.wake(time + NANOSECONDS if time < self._now + IDLE else None)
        readings = [self._reading(channel, time) for channel in self._channels.values() if channel is not None]
        rates = (
            ("Vigil/HEART_RATE", "MDC_ECG_HEART_RATE", heart_rate),
            ("Vigil/PULSE_RATE", "MDC_PULS_RATE", pulse_rate),
        )
        said = []
        for name, code, rate in rates:
            value = round(rate(readings), 1)
            said.append(self.numerics.first(
                Numeric(name, code, "/min", value), time, channel=name, origin=self._origin
            ))  # fmt: skip
        return said

    def finish(self) -> Outputs:
        said: list[Message[Any]] = []
        for channel in self._channels.values():
            if channel is not None:
                found = [
                    beat for block in channel.blocks.finish()
                    for beat in channel.detector.add(block, channel.judge.judge(block))
                ]  # fmt: skip
                said += [self._beat(channel, beat, None, beat.time) for beat in [*found, *channel.detector.finish()]]
        return said

    def _meet(self, message: Message[Waveform]) -> _Channel | None:
        wave = message.payload
        role = role_of(wave) if rank(wave.channel, self.config.channels) >= 0 else None
        channel = None
        if role is not None:
            channel = _Channel(wave.channel, role, Blocks(), Judge(role), Detector(role))
            kept = self._loaded.pop(message.stream, None)
            if kept is not None:
                channel.judge.load_state(kept["judge"])
                channel.detector.shapes.load_state(kept["shapes"])
        self._channels[message.stream] = channel
        return channel

    def _reading(self, channel: _Channel, time: int) -> Reading:
        # Only what is certain by seconds that are over: how far a chunk reached beyond must not matter.
        known = [second for second in channel.seconds if second[0] <= time][-4:]
        if len(known) < 4 or known[-1][2] < time - ALIVE:
            return Reading(channel.role, math.nan)
        settled, usable = known[-1][2], min(index for _, index, _ in known) >= USABLE
        times = [at / NANOSECONDS for by, at, confidence in channel.beats if by <= time and confidence >= TRUSTED]
        return Reading(channel.role, channel_rate(times, settled / NANOSECONDS, usable))

    def _beat(self, channel: _Channel, beat: Beat, cause: Message[Any] | None, certain: int) -> Message[Event]:
        channel.beats.append((certain, beat.time, beat.confidence))
        similarity = None if math.isnan(beat.similarity) else round(beat.similarity, 4)
        event = Event("beat", data={
            "channel": channel.name, "role": channel.role, "amplitude": round(beat.amplitude, 5),
            "confidence": round(beat.confidence, 4), "similarity": similarity, "ventricular": beat.ventricular,
        })  # fmt: skip
        if cause is not None:
            return self.beats.emit(event, cause, time=beat.time, channel=channel.name)
        return self.beats.first(event, beat.time, channel=channel.name, origin=self._origin)

    def state(self) -> dict[str, Any]:
        found = {
            stream: {"judge": channel.judge.state(), "shapes": channel.detector.shapes.state()}
            for stream, channel in self._channels.items() if channel is not None
        }  # fmt: skip
        return {"now": self._now, "channels": {**self._loaded, **found}}

    def load_state(self, state: dict[str, Any]) -> None:
        self._now, self._loaded = state.get("now", 0), dict(state.get("channels", {}))
