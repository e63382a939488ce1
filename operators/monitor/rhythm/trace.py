"""One channel's last minute and a half, as the rules look at it: beats, quality, and how its wave oscillates."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from typing import Any

import numpy as np

from operators.monitor.beats.detect import Beat, Detector
from operators.monitor.quality.channel import Array, Block, Blocks, Role
from operators.monitor.quality.judge import USABLE, Judge
from pipeline.message import NANOSECONDS, Waveform

MEMORY = 90.0
"""Seconds that are remembered."""
TRANSIT = 0.1
"""Seconds after an R wave before which its pulse cannot come; it comes within half a second."""
BASELINE = 45.0
"""Seconds before an interval that tell what is usual for the patient."""
OSCILLATING = 0.62
"""Share of the power between 1 and 30 Hz that lies within 1.2 Hz of the peak or its double, from which on a wave is
an oscillation rather than a train of complexes."""
BAND = (2.5, 9.0)
"""Hz, of fibrillation and flutter."""
ROUND = 4.5
"""Kurtosis below which a wave has no spikes: a sine has 1.5, an ECG 8 and more."""


@dataclasses.dataclass(frozen=True)
class Second:
    """One block of a channel, judged. Times are event time, s."""

    start: float
    end: float
    index: float
    fault: str
    span: float
    """2nd to 98th centile, in the channel's unit."""
    usual: float
    """The usual span at that time; NaN while unknown."""
    oscillating: bool
    """An ECG that oscillates at 2.5 to 9 Hz, without complexes, in this second and the one before."""


@dataclasses.dataclass(frozen=True)
class Beats:
    """Beats of an interval as arrays, (n,): times in s, and what ``Beat`` says of each."""

    times: Array
    amplitude: Array
    confidence: Array
    similarity: Array
    ventricular: Array

    def within(self, start: float, end: float) -> Beats:
        """The ones with ``start <= time <= end``."""
        keep = (self.times >= start) & (self.times <= end)
        return Beats(
            self.times[keep], self.amplitude[keep], self.confidence[keep], self.similarity[keep], self.ventricular[keep]
        )


class Trace:
    """Takes a channel's waveform, keeps what the rules need of its last 90 s. Memory is bounded."""

    def __init__(self, channel: str, role: Role, zero: int) -> None:
        self.channel, self.role = channel, role
        self.zero = zero
        """Event time, ns, that seconds count from."""
        self.stream = ""
        self._blocks, self.judge, self.detector = Blocks(), Judge(role), Detector(role)
        self._beats: deque[Beat] = deque()
        self.seconds: deque[Second] = deque(maxlen=int(MEMORY))
        self._before: Array = np.empty(0)
        self._queue: deque[Block] = deque()
        """Blocks that were completed and not looked at yet."""
        self._table: Beats | None = None

    @property
    def short(self) -> str:
        """The channel's name for people."""
        return self.channel.rpartition("/")[2]

    def add(self, time: int, wave: Waveform) -> None:
        """Take a chunk. It is looked at by ``advance``."""
        self._queue.extend(self._blocks.add(time, wave))

    def advance(self, time: int) -> None:
        """Look at all seconds that are over at event time ``time``, and at no later ones: what is known at a time then
        does not depend on how far a chunk reached beyond it."""
        while self._queue and self._queue[0].end <= time:
            self._add(self._queue.popleft())

    def finish(self) -> None:
        """The channel has ended: all that is held counts."""
        self._queue.extend(self._blocks.finish())
        while self._queue:
            self._add(self._queue.popleft())
        self._keep(self.detector.finish())

    def settled(self) -> float:
        """Seconds up to which the channel's beats are decided; -1 before anything is."""
        return (self.detector.settled - self.zero) / NANOSECONDS if self.seconds else -1.0

    def _add(self, block: Block) -> None:
        verdict = self.judge.judge(block)
        there = block.values[np.isfinite(block.values)]
        low, high = np.percentile(there, (2, 98)) if len(there) else (0.0, 0.0)
        both = np.concatenate([self._before if not block.fresh else np.empty(0), block.values])
        self._before = block.values
        oscillating = self.role == "ecg" and verdict.index > 0 and _oscillates(both, block.rate)
        self.seconds.append(Second(
            (block.start - self.zero) / NANOSECONDS, (block.end - self.zero) / NANOSECONDS, verdict.index,
            verdict.fault, float(high - low), self.judge.usual(), oscillating,
        ))  # fmt: skip
        self._keep(self.detector.add(block, verdict))
        horizon = block.end - round(MEMORY * NANOSECONDS)
        while self._beats and self._beats[0].time < horizon:
            self._beats.popleft()

    def _keep(self, beats: list[Beat]) -> None:
        self._beats.extend(beats)
        self._table = None

    def beats(self) -> Beats:
        """All remembered beats."""
        if self._table is None:
            rows = self._beats
            self._table = Beats(
                np.array([(beat.time - self.zero) / NANOSECONDS for beat in rows]),
                np.array([beat.amplitude for beat in rows]), np.array([beat.confidence for beat in rows]),
                np.array([beat.similarity for beat in rows]), np.array([beat.ventricular for beat in rows], bool),
            )  # fmt: skip
        return self._table

    def state(self) -> dict[str, Any]:
        return {"judge": self.judge.state(), "shapes": self.detector.shapes.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.judge.load_state(state["judge"])
        self.detector.shapes.load_state(state["shapes"])

    def over(self, start: float, end: float) -> list[Second]:
        """The seconds that overlap an interval by more than a tenth."""
        return [second for second in self.seconds if second.end > start + 0.1 and second.start < end - 0.1]

    def usable(self, start: float, end: float, share: float = 0.75) -> bool:
        """True where at least that share of an interval is there and may speak."""
        over = self.over(start, end)
        covered = sum(min(second.end, end) - max(second.start, start) for second in over if second.index >= USABLE)
        return covered >= share * (end - start) > 0

    def usual(self, before: float) -> tuple[float, float]:
        """Median amplitude and rate (/min) of the good beats in the 45 s before; NaN where fewer than 5 are known."""
        beats = self.beats().within(before - BASELINE, before)
        good = beats.confidence >= USABLE
        if good.sum() < 5:
            return math.nan, math.nan
        return float(np.median(beats.amplitude[good])), 60 / float(np.median(np.diff(beats.times[good])))


def _oscillates(values: Array, rate: float) -> bool:
    """Does two seconds of an ECG oscillate? One spectral peak with its double, in the band, and no spikes."""
    values = values[np.isfinite(values)]
    if len(values) < 1.9 * rate:
        return False
    slope = np.linspace(-1, 1, len(values))
    values = values - values.mean() - slope * (float(values @ slope) / float(slope @ slope))
    power = np.abs(np.fft.rfft(values * np.hanning(len(values)))) ** 2
    hertz = np.fft.rfftfreq(len(values), 1 / rate)
    wide = (hertz >= 1.0) & (hertz <= 30.0)
    total = float(power[wide].sum())
    if total <= 0 or float(np.ptp(values)) < 0.08:
        return False
    peak = float(hertz[wide][int(power[wide].argmax())])
    if not BAND[0] <= peak <= BAND[1]:
        return False
    near = wide & ((np.abs(hertz - peak) <= 1.2) | (np.abs(hertz - 2 * peak) <= 1.2))
    smooth = np.convolve(values, np.full(max(1, round(0.02 * rate)), 1 / max(1, round(0.02 * rate))), "same")
    spread = float(smooth.std())
    kurtosis = float(np.mean((smooth - smooth.mean()) ** 4)) / spread**4 if spread > 0 else 9.0
    return float(power[near].sum()) / total >= OSCILLATING and kurtosis < ROUND
