"""What a forecast looks at: the last ten minutes of pressures, heart rate and contour, in steps of two seconds.

One function makes the features for training and for the operator, so that there is nothing between the two to differ.
Every feature looks back from the present; none knows how long the recording has lasted but by what is missing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from operators.monitor.forecast.patients import CHANNELS, STEP

Array = np.ndarray[Any, np.dtype[Any]]

WINDOW = 300
"""Steps that are looked at: ten minutes."""
NOW, MINUTE, TWO, FIVE = 10, 30, 60, 150
"""Steps in 20 s and in 1, 2 and 5 minutes."""
HORIZONS = (5, 10, 15)
"""Minutes."""
NAMES = (
    "mean, 20 s", "mean, 1 min", "mean, 5 min", "mean, 10 min", "slope of mean, 2 min", "slope of mean, 5 min",
    "spread of mean, 5 min", "lowest mean, 5 min", "pulse pressure, 1 min", "pulse pressure against before",
    "slope of pulse pressure, 5 min", "pulse pressure by mean against before", "heart rate, 1 min",
    "heart rate against before", "upstroke against before", "area against before", "slope of area, 5 min",
)  # fmt: skip
"""Features by name; *before* is the mean of the first five of the ten minutes. Pulse pressure and contour are
logarithms, slopes per minute."""
GROUPS = {"pressures": (8, 9, 10, 11), "rate": (12, 13), "contour": (14, 15, 16)}
"""Features that are missing together, where a monitor does not give what they are made of."""


def cleaned(windows: Array) -> Array:
    """(n, 6, w) with NaN instead of pressures that cannot be: see ``believable``."""
    windows = np.array(windows, np.float32)
    bad = ~believable(windows[:, 0], windows[:, 1], windows[:, 2])
    for row in (0, 1, 2, 4, 5):
        windows[:, row][bad] = np.nan
    return windows


def believable(mean: Array, systolic: Array, diastolic: Array) -> Array:
    """Whether pressures (mmHg) may be a patient's: mean within 20 and 180 and between the other two, a pulse of at
    least 8 (the limits of ``operators.monitor.arterial``). Missing ones contradict nothing, a missing mean is bad."""
    with np.errstate(invalid="ignore"):
        contradicted = (systolic - diastolic < 8) | (mean > systolic + 1) | (mean < diastolic - 1)
        found: Array = (mean >= 20) & (mean <= 180) & ~contradicted
    return found


def current(mean: Array) -> Array:
    """Present mean pressure: the median of the last 20 s of (n, w) cleaned values; NaN where there is none."""
    return _middle(mean[:, -NOW:])


def extrapolated(mean: Array, minutes: float) -> Array:
    """Where a straight line through the last five minutes of (n, w) cleaned mean pressure leads, mmHg, (n,).

    At least two minutes of values are asked for, else NaN. It is no forecast but the line that a person draws in mind.
    """
    part = mean[:, -FIVE:]
    slope, level = _line(part)
    there = np.isfinite(part)
    first = np.where(there.any(axis=1), there.argmax(axis=1), part.shape[1])
    enough = (part.shape[1] - first >= TWO) & (there.sum(axis=1) >= 5)
    return np.where(enough, level + slope * minutes, np.nan)


def features(windows: Array) -> Array:
    """(n, 17) float32 from (n, 6, 300) cleaned windows; NaN where what a feature is made of is missing."""
    mean, systolic, diastolic, rate = (windows[:, i] for i in range(4))
    pulse = _logarithm(systolic - diastolic)
    relative = pulse - _logarithm(mean)
    upstroke, area = _logarithm(windows[:, 4]), _logarithm(windows[:, 5])
    columns = [
        current(mean), _average(mean[:, -MINUTE:]), _average(mean[:, -FIVE:]), _average(mean),
        _line(mean[:, -TWO:])[0], _line(mean[:, -FIVE:])[0], _spread(mean[:, -FIVE:]), _lowest(mean[:, -FIVE:]),
        _average(pulse[:, -MINUTE:]), _change(pulse), _line(pulse[:, -FIVE:])[0], _change(relative),
        _average(rate[:, -MINUTE:]), _change(rate), _change(upstroke), _change(area), _line(area[:, -FIVE:])[0],
    ]  # fmt: skip
    return np.stack(columns, axis=1).astype(np.float32)


# -------------------------------------------------------------------------- statistics that leave NaN out


def _average(values: Array) -> Array:
    there = np.isfinite(values)
    count = there.sum(axis=1)
    total = np.where(there, values, 0).sum(axis=1, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _change(values: Array) -> Array:
    """Last minute against the first five of ten."""
    return _average(values[:, -MINUTE:]) - _average(values[:, :-FIVE])


def _line(values: Array) -> tuple[Array, Array]:
    """Slope per minute and level at the end, by least squares; NaN for fewer than three values."""
    there = np.isfinite(values)
    count = there.sum(axis=1)
    time = (np.arange(values.shape[1]) - values.shape[1] + 1) * STEP / 60
    enough = np.where(count >= 3, count, np.nan)
    middle = (there * time).sum(axis=1) / enough
    mean = np.where(there, values, 0).sum(axis=1, dtype=np.float64) / enough
    away = np.where(there, time - middle[:, None], 0)
    slope = (away * np.where(there, values - mean[:, None], 0)).sum(axis=1) / (away**2).sum(axis=1).clip(1e-9)
    slope = np.where(count >= 3, slope, np.nan)
    return slope, mean - slope * middle


def _spread(values: Array) -> Array:
    mean = _average(values)
    return np.sqrt(_average((values - mean[:, None]) ** 2))


def _lowest(values: Array) -> Array:
    """Lowest average of any 20 s: one value alone is noise."""
    parts = values.reshape(len(values), -1, NOW)
    averages = np.stack([_average(parts[:, i]) for i in range(parts.shape[1])], axis=1)
    found = np.where(np.isfinite(averages), averages, np.inf).min(axis=1)
    return np.where(np.isfinite(found), found, np.nan)


def _middle(values: Array) -> Array:
    ordered, count = np.sort(values, axis=1), np.isfinite(values).sum(axis=1)  # NaN is sorted last
    rows = np.arange(len(values))
    low, high = np.maximum((count - 1) // 2, 0), count // 2
    found = (ordered[rows, low] + ordered[rows, np.minimum(high, values.shape[1] - 1)]) / 2
    return np.where(count > 0, found, np.nan)


def _logarithm(values: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(values > 0, np.log(np.where(values > 0, values, 1)), np.nan)


# ------------------------------------------------------------------------------------- the contour


def contour(values: Array, rate: float) -> tuple[float, float]:
    """Steepest rise (mmHg/s) and area of the systolic part (mmHg s) of an arterial waveform, medians over its beats.

    A beat begins at the lowest point in the 0.25 s before its steepest rise; its systole is taken to last
    ``0.30 s * sqrt(interval / 0.857 s)``, the usual correction for rate. NaN where fewer than two beats are seen. The
    area under the systolic part is the classical pulse-contour measure of stroke volume, without its scale.

    Args:
        values: (n,) mmHg, about four seconds.
        rate: samples per second.
    """
    nothing = (math.nan, math.nan)
    if rate < 40 or len(values) < 2 * rate or not np.isfinite(values).all():
        return nothing
    gap = max(1, round(0.024 * rate))
    rise = (values[gap:] - values[:-gap]).astype(np.float64) * rate / gap
    steepest = float(np.quantile(rise, 0.99))
    if steepest < 100:  # mmHg/s: no pulse to speak of
        return nothing
    above = np.flatnonzero(rise > 0.5 * steepest)
    beats = [
        part[int(rise[part].argmax())] for part in np.split(above, np.flatnonzero(np.diff(above) > 0.2 * rate) + 1)
    ]
    if len(beats) < 2:
        return nothing
    interval = float(np.median(np.diff(beats))) / rate
    if not 0.25 < interval < 2.2:
        return nothing
    length, back = round(0.30 * math.sqrt(interval / 0.857) * rate), round(0.25 * rate)
    areas = []
    for beat in beats:
        if beat < back:
            continue
        foot = beat - back + int(values[beat - back : beat + 1].argmin())
        if foot + length <= len(values):
            areas.append(float((values[foot : foot + length] - values[foot]).sum()) / rate)
    return float(np.median(rise[beats])), float(np.median(areas)) if areas else math.nan


class History:
    """The last ten minutes of one patient, in steps of two seconds of event time."""

    def __init__(self) -> None:
        self.values = np.full((len(CHANNELS), WINDOW), np.nan, np.float32)
        self.step = -1
        """Number of the newest step, event time over two seconds; -1 before anything has come."""

    def add(self, channel: str, step: int, value: float) -> None:
        """A value; the last of a step stands for it. What is older than the window is left out."""
        self.reach(step)
        place = step - self.step - 1
        if place >= -WINDOW:
            self.values[CHANNELS.index(channel), place] = value

    def reach(self, step: int) -> None:
        """Time has got so far."""
        by = min(step - self.step, WINDOW) if self.step >= 0 else WINDOW
        if by > 0:
            self.values = np.concatenate(
                [self.values[:, by:], np.full((len(CHANNELS), by), np.nan, np.float32)], axis=1
            )
            self.step = step

    def until(self, step: int) -> Array:
        """(1, 6, 300) cleaned: the window that ends before ``step``."""
        self.reach(step - 1)
        behind = min(self.step + 1 - step, WINDOW)
        values = self.values if behind == 0 else np.concatenate(
            [np.full((len(CHANNELS), behind), np.nan, np.float32), self.values[:, :-behind]], axis=1
        )  # fmt: skip
        return cleaned(values[None])

    def state(self) -> dict[str, Any]:
        """As plain JSON values."""
        rows = [[None if math.isnan(value) else value for value in row] for row in self.values.tolist()]
        return {"step": self.step, "values": rows}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self.step = state["step"]
        self.values = np.array(
            [[math.nan if value is None else value for value in row] for row in state["values"]], np.float32
        )
