"""Beats of one channel as its blocks come: R waves of an ECG, feet of the pulses of a pressure or an oximeter's wave.

One detector for both, with another front end: a linear-phase filter, a feature that stands high where a beat is, its
local maxima, and a threshold that follows the size of the last eight beats (Pan & Tompkins 1985; Hamilton & Tompkins
1986: search back after 1.66 intervals; Zong et al., CinC 2003: slope sum of a pressure). What differs from them is
what happens in silence: the threshold sinks to four times the background's median and a seventh of the usual beat, and
no further. A detector whose threshold sinks to zero finds "beats" in the noise of a heart that stands still.

A beat is known at most 1.5 s after it (block of 1 s, filter, the neighbourhood that it must be the maximum of); one
that was found by searching back at most 1.66 intervals and 1.5 s after. All decisions fall at block ends, so beats do
not depend on chunks, and there is no other, "offline" result.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np

from operators.monitor.beats.shape import Shapes
from operators.monitor.quality.channel import Array, Block, Role
from operators.monitor.quality.judge import USABLE, Verdict, middle
from pipeline.message import NANOSECONDS

HELD = 8.0
"""Seconds of samples that are held."""
LEARN = 4
"""Good blocks that the first threshold is learnt from."""
SHARE, LEAST = 0.35, 0.14
"""Threshold as a share of the usual beat, and where it sinks to in silence."""
BACKGROUND = 4.0
"""Times the background's median that a beat must stand out at least where the threshold has sunk."""
FORGET = 30.0
"""Seconds without a beat after which the usual size is learnt anew."""


class FrontEnd(NamedTuple):
    """What differs between an ECG and a pulse."""

    band: tuple[float, float]
    """Of the filter, Hz; 0 for a low-pass."""
    taps: float
    """Length of the filter, s."""
    window: float
    """Length of the moving sum, s."""
    apart: float
    """Beats are at least this far apart, s."""
    floor: float
    """Feature below which nothing is a beat, mV or mmHg."""
    before: float
    """Seconds of a beat's shape before its mark ..."""
    after: float
    """... and after it."""


FRONT_ENDS: dict[Role, FrontEnd] = {
    "ecg": FrontEnd((8.0, 25.0), 0.22, 0.05, 0.20, 0.012, 0.12, 0.20),
    "abp": FrontEnd((0.0, 10.0), 0.12, 0.128, 0.22, 2.0, 0.06, 0.38),
    "pleth": FrontEnd((0.0, 10.0), 0.12, 0.128, 0.22, 0.0, 0.06, 0.38),
}


class Beat(NamedTuple):
    """One beat of one channel."""

    time: int
    """Event time of the R wave or of the pulse's foot, ns."""
    amplitude: float
    """Peak to peak in the beat's shape, mV; of a pulse from foot to top, mmHg or the wave's own unit."""
    confidence: float
    """0 to 1: quality of the second it lies in, less where it barely passed the threshold."""
    similarity: float
    """Correlation with the patient's usual beat on this channel, -1 to 1; NaN while that is not known."""
    slowness: float
    """Characteristic time of the shape, s: a narrow QRS 0.012 to 0.018, a wide one above 0.022."""
    ventricular: bool
    """Wide and unlike the usual beat. Always False for pulses."""


class Detector:
    """Finds the beats of one channel. Holds eight seconds of samples and the figures of the last eight beats."""

    def __init__(self, role: Role) -> None:
        self.role: Role = role
        self.front = FRONT_ENDS[role]
        self.shapes = Shapes(role)
        self._begin(0.0)

    def _begin(self, rate: float) -> None:
        """Forget the samples; what was learnt about the patient stays."""
        self._rate = rate
        self._samples: Array = np.empty(0)
        self._feature: Array = np.empty(0)
        self._band: Array = np.empty(0)
        self._offset = 0
        """Index of ``_samples[0]``; indices count from where the detector began."""
        self._start = 0
        """Event time of index 0, ns."""
        self._judged: deque[float] = deque(maxlen=int(HELD) + 2)
        """Index of quality of the last blocks, the newest last."""
        self._looked = 0
        """Index up to which maxima were looked for."""
        self._sizes: deque[float] = deque(maxlen=8)
        self._rates: deque[int] = deque(maxlen=8)
        """Intervals between the last beats, samples."""
        self._last, self._last_size = -1, 0.0
        self._passed: list[tuple[int, float]] = []
        """Maxima since the last beat that were no beats."""
        self._waiting: list[tuple[int, float]] = []
        """Maxima that wait for the first threshold, or beats that wait for the rest of their shape."""
        self._pending: list[tuple[int, float]] = []
        self._background = 0.0
        if rate:
            self._taps = _taps(self.front, rate)

    # ------------------------------------------------------------------------------------ samples

    def add(self, block: Block, verdict: Verdict) -> list[Beat]:
        """Take a block and what was judged of it; gives the beats that are certain now, in time order."""
        found: list[Beat] = []
        if block.fresh or block.rate != self._rate:
            found = self.finish()
            self._begin(block.rate)
            self._start = block.start
        self._append(block.values)
        self._judged.append(verdict.index)
        for index, size in self._maxima():
            self._search_back(index)
            self._consider(index, size)
        self._search_back(self._looked)
        return [*found, *self._measured()]

    def finish(self) -> list[Beat]:
        """The channel has ended: the beats that still wait for samples that will not come, as far as they go."""
        return self._measured(last=True) if self._rate else []

    @property
    def settled(self) -> int:
        """Event time up to which it is decided where beats are, but for what a search back may still find, ns."""
        return self._start + round((self._looked - self._lag()) / self._rate * NANOSECONDS) if self._rate else 0

    def _append(self, values: Array) -> None:
        bad = ~np.isfinite(values)
        before = self._samples[-1] if len(self._samples) else math.nan
        if bad.all():
            values = np.full(len(values), before if math.isfinite(before) else 0.0)
        elif bad.any():
            there = np.flatnonzero(~bad)
            values = np.interp(np.arange(len(values)), there, values[there])
        taps = len(self._taps) - 1
        if not len(self._samples):
            self._samples = np.full(taps, values[0])
            self._offset = -taps
            self._band = np.full(taps, 0.0 if self.front.band[0] else values[0])
            self._feature = np.zeros(taps)
        self._samples = np.concatenate([self._samples, values])
        fresh = np.convolve(self._samples[-len(values) - taps :], self._taps, "valid")
        self._band = np.concatenate([self._band, fresh])
        sums = max(1, round(self.front.window * self._rate))
        if self.role == "ecg":
            lift = np.abs(self._band[-len(values) - sums + 1 :])
        else:
            lift = np.maximum(np.diff(self._band[-len(values) - sums :]), 0) * sums
        summed = np.concatenate([np.zeros(max(0, len(values) + sums - 1 - len(lift))), lift])
        feature = np.convolve(summed, np.full(sums, 1 / sums), "valid")
        self._feature = np.concatenate([self._feature, feature])
        keep = round(HELD * self._rate) + len(values)
        if len(self._samples) > keep:
            drop = len(self._samples) - keep
            self._samples, self._band = self._samples[drop:], self._band[drop:]
            self._feature = self._feature[drop:]
            self._offset += drop

    def _lag(self) -> int:
        """Samples by which the feature trails the samples."""
        sums = max(1, round(self.front.window * self._rate))
        return (len(self._taps) - 1) // 2 + (sums // 2 if self.role == "ecg" else 0)

    # ------------------------------------------------------------------------------------ decisions

    def _maxima(self) -> list[tuple[int, float]]:
        """New maxima of the feature: (index into the feature's own time, height)."""
        from scipy.ndimage import maximum_filter1d

        reach = max(1, round(self.front.apart * self._rate))
        end = self._offset + len(self._feature) - reach
        begin = max(self._looked, self._offset + 1)
        if end <= begin:
            return []
        first = max(0, begin - reach - self._offset)
        part = self._feature[first:]
        top = maximum_filter1d(part, 2 * reach + 1, mode="nearest")
        lo, hi = begin - self._offset - first, end - self._offset - first
        mask = (part[lo:hi] >= top[lo:hi]) & (part[lo:hi] > part[lo - 1 : hi - 1]) & (part[lo:hi] > self.front.floor)
        self._looked = end
        back = round(2 * self._rate)
        self._background = float(np.median(self._feature[-back:]))
        at = np.flatnonzero(mask)
        return [(int(i) + begin, float(part[i + lo])) for i in at]

    def _quality(self, index: int) -> float:
        """Index of quality of the second that a sample lies in."""
        blocks = round(self._rate)
        back = (self._offset + len(self._samples) - 1 - min(index, self._offset + len(self._samples) - 1)) // blocks
        return self._judged[-1 - back] if back < len(self._judged) else 0.0

    def _size(self) -> float:
        return middle(self._sizes)

    def _interval(self) -> float:
        return middle(self._rates) if len(self._rates) >= 2 else self._rate

    def _consider(self, index: int, size: float) -> None:
        if not self._sizes:
            self._learn(index, size)
            return
        since = index - self._last if self._last >= 0 else round(10 * self._rate)
        if since > FORGET * self._rate:
            self._sizes.clear()
            self._last = -1
            self._learn(index, size)
            return
        threshold = SHARE * self._size()
        if since > max(1.5 * self._interval(), self._rate):
            threshold = max(LEAST * self._size(), min(threshold, BACKGROUND * self._background))
        # A T wave follows within 360 ms and is less steep than its QRS complex.
        late = since < 0.36 * self._rate and size < 0.5 * self._last_size
        if size >= threshold and not late:
            self._accept(index, size)
        else:
            self._passed.append((index, size))

    def _learn(self, index: int, size: float) -> None:
        """Hold maxima until four seconds are known; the two highest of their seconds give the first size."""
        self._waiting.append((index, size))
        if index - self._waiting[0][0] < (LEARN - 1) * self._rate:
            return
        good = [size for at, size in self._waiting if self._quality(at) >= USABLE]
        if len(good) < 3:
            self._waiting = self._waiting[1:]
            return
        waiting, self._waiting = self._waiting, []
        usual = sorted(good)[-2]
        if usual < BACKGROUND * self._background:
            self._waiting = waiting[1:]
            return
        self._sizes.append(usual)
        for at, height in waiting:
            self._consider(at, height)

    def _accept(self, index: int, size: float) -> None:
        if self._last >= 0:
            self._rates.append(index - self._last)
        if self._quality(index) >= USABLE:
            self._sizes.append(size)
        self._last, self._last_size = index, size
        self._passed = []
        self._pending.append((index, size))

    def _search_back(self, now: int) -> None:
        """No beat for 1.66 intervals until index ``now``: the highest maximum that was passed by, if it stands out,
        was one."""
        while self._sizes and self._last >= 0 and now - self._last > 1.66 * self._interval():
            threshold = max(0.5 * SHARE * self._size(), BACKGROUND * self._background)
            fit = [
                (size, -index) for index, size in self._passed
                if size >= threshold and index - self._last > 0.36 * self._rate
            ]  # fmt: skip
            if not fit:
                return
            size, index = max(fit)
            later = [maximum for maximum in self._passed if maximum[0] > -index]
            self._accept(-index, size)
            for maximum in later:
                self._consider(*maximum)
            if not later:
                return

    # ------------------------------------------------------------------------------------ measures

    def _measured(self, last: bool = False) -> list[Beat]:
        found = []
        after = round((self.front.after + 0.1) * self._rate)
        end = self._offset + len(self._samples)
        while self._pending and (last or self._pending[0][0] - self._lag() + after < end):
            index, size = self._pending.pop(0)
            found.append(self._measure(index, size))
        return found

    def _measure(self, index: int, size: float) -> Beat:
        mark = self._mark(index)
        before, after = round(self.front.before * self._rate), round(self.front.after * self._rate)
        at = mark - self._offset
        shape = self._samples[max(0, at - before) : at + after]
        if self.role == "ecg":
            core = shape[max(0, before - round(0.08 * self._rate)) : before + round(0.1 * self._rate)]
            amplitude = float(core.max() - core.min()) if len(core) else 0.0
        else:
            amplitude = float(shape.max() - self._samples[at]) if len(shape) and 0 <= at < len(self._samples) else 0.0
        similarity, slowness, ventricular = math.nan, 0.0, False
        quality = min(self._quality(mark), self._quality(mark + after // 2))
        room = max(2, round(0.03 * self._rate))
        if at - before - room >= 0 and at + after + room <= len(self._samples):
            wide = self._samples[at - before - room : at + after + room]
            similarity, slowness, ventricular = self.shapes.add(wide, room, self._rate, quality)
        stands_out = min(1.0, size / max(SHARE * self._size(), 1e-12)) if self._sizes else 0.0
        time = self._start + round(mark / self._rate * NANOSECONDS)
        return Beat(time, amplitude, quality * stands_out, similarity, slowness, ventricular)

    def _mark(self, index: int) -> int:
        """The R wave (largest swing of the filtered signal), or the foot (where the rise began)."""
        delay = (len(self._taps) - 1) // 2
        if self.role == "ecg":
            reach = max(1, round(0.07 * self._rate))
            middle = index - max(1, round(self.front.window * self._rate)) // 2 - self._offset
            first = max(0, middle - reach)
            part = np.abs(self._band[first : middle + reach + 1])
            return int(part.argmax()) + first + self._offset - delay if len(part) else index - delay
        at = index - self._offset
        first = max(1, at - round(0.3 * self._rate))
        rise = np.diff(self._band[first - 1 : at + 1])
        steepest = int(rise.argmax()) if len(rise) else 0
        below: Array = np.flatnonzero(rise[: steepest + 1] < 0.1 * rise[steepest]) if len(rise) else np.empty(0)
        foot = (int(below[-1]) + 1 if len(below) else 0) + first
        return foot + self._offset - delay


def _taps(front: FrontEnd, rate: float) -> Array:
    """A linear-phase filter of odd length, a windowed sinc (Hamming); unit gain in the middle of its band, or at 0."""
    count = max(5, round(front.taps * rate)) | 1
    low, high = (min(edge, 0.45 * rate) / rate for edge in front.band)
    at = np.arange(count) - count // 2
    taps: Array = (2 * high * np.sinc(2 * high * at) - 2 * low * np.sinc(2 * low * at)) * np.hamming(count)
    centre = (low + high) / 2 if low else 0.0
    return taps / float(np.sum(taps * np.cos(2 * np.pi * centre * at)))
