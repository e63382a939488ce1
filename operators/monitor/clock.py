"""How far a device's clock is off, and how fast it drifts: from arrivals and from shared signals.

Every device in a room stamps its data with its own clock. Two estimators find the clock's offset and drift:

* ``DeviceClock``, for live devices: a message cannot arrive before it was sent, so the *quickest* messages lie on the
  line ``arrival = device time - offset - drift * elapsed``; jitter only ever adds delay. The line is the edge of the
  lower convex hull below the middle of the data (Moon, Skelly & Towsley, "Estimation and removal of clock skew from
  network delay measurements", INFOCOM 1999). Clocks that somebody sets are noticed and learnt anew.
* ``shared_signal``, for recordings: the ventilator's airway pressure swings the venous pressure that the monitor
  measures, and two devices see the same arterial pressure. The lag between them, window by window, is the offset.

Corrections are applied where data enters (``MonitorFile``, ``Hl7Listener``), so event time is right from the start.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from operators.monitor.tracks import NumericTrack, Track, WaveformTrack
from pipeline.message import NANOSECONDS

MAXIMUM_DRIFT = 500e-6
"""Drift beyond which a fit is not believed: quartz stays within 100 parts per million."""


class ClockEstimate(NamedTuple):
    """A device's clock against the reference: ``device = reference + offset + drift * (reference - at)``."""

    offset: int
    """Nanoseconds by which the device's clock is ahead at ``at``."""
    drift: float = 0.0
    """Seconds that it gains per second; 20e-6 is 20 parts per million."""
    at: int = 0
    """Reference time, ns since the epoch, that ``offset`` holds for."""
    error: int = 0
    """Typical residual, ns."""
    weight: float = 0.0
    """Seconds of data it stands on for ``DeviceClock``; mean correlation (0..1) for ``shared_signal``."""

    def reference(self, device_time: int) -> int:
        """The reference time, ns, at which the device's clock showed ``device_time``."""
        plain = device_time - self.offset
        return plain - round((plain - self.at) * (self.drift / (1 + self.drift))) if self.drift else plain

    def apply(self, device_times: np.ndarray) -> np.ndarray:
        """``reference`` for an array (n,) int64 of device times, ns."""
        plain = device_times - np.int64(self.offset)
        if not self.drift:
            return plain
        shift = (plain - np.int64(self.at)).astype(np.float64) * (self.drift / (1 + self.drift))
        return plain - np.round(shift).astype(np.int64)


class DeviceClock:
    """Offset and drift of a live device's clock from pairs of (its time stamp, our time of arrival).

    Keeps the quickest message of every ten seconds for an hour. Time stamps cut to whole seconds are no trouble: the
    quickest messages are those sent just after the second.

    Args:
        step_seconds: a jump of the clock beyond this is learnt at once where it goes forward (nothing arrives before
            it is sent), and after ``patience_seconds`` where it goes back (it might be a slow network).
    """

    BUCKET = 10 * NANOSECONDS
    BUCKETS = 360
    JUMP = 60 * NANOSECONDS
    """Lateness, ns, that no network explains: learnt at once."""
    BASELINE = 300 * NANOSECONDS
    """Data that a drift needs, ns."""

    def __init__(self, *, step_seconds: float = 1.5, patience_seconds: float = 30.0) -> None:
        self.step, self.patience = round(step_seconds * NANOSECONDS), round(patience_seconds * NANOSECONDS)
        self.steps = 0
        """How often the clock was found to have been set."""
        self._points: list[tuple[int, int]] = []
        """(device time, arrival - device time) of the quickest message of each bucket, by time."""
        self._slow: list[tuple[int, int]] = []
        """Messages that came too late for the estimate, without a punctual one between."""
        self._estimate: ClockEstimate | None = None

    def observe(self, device_time: int, arrival: int) -> ClockEstimate:
        """Take one message's stamps, ns since the epoch; the estimate with it."""
        late = arrival - device_time
        if self._estimate is None:
            return self._restart([(device_time, late)])
        excess = arrival - self._estimate.reference(device_time)
        if excess < -self.step or excess > self.JUMP:
            self.steps += 1
            return self._restart([(device_time, late)])
        if excess > self.step:
            self._slow = [*self._slow[-63:], (device_time, late)]
            if arrival - (self._slow[0][0] + self._slow[0][1]) >= self.patience:
                self.steps += 1
                return self._restart(self._slow)
            return self._estimate
        self._slow = []
        if self._add(device_time, late):
            self._fit()
        return self._estimate

    @property
    def estimate(self) -> ClockEstimate | None:
        """What is known; None before the first message."""
        return self._estimate

    def _add(self, device_time: int, late: int) -> bool:
        """Keep the message if it is the quickest of its bucket. True where the line may have changed."""
        points = self._points
        bucket = device_time // self.BUCKET
        place = bisect.bisect_left(points, bucket, key=lambda point: point[0] // self.BUCKET)
        if place < len(points) and points[place][0] // self.BUCKET == bucket:
            if late >= points[place][1]:
                return False
            points[place] = (device_time, late)
            return True
        points.insert(place, (device_time, late))
        if len(points) > self.BUCKETS:
            del points[0]
        return True

    def _restart(self, points: Sequence[tuple[int, int]]) -> ClockEstimate:
        self._points, self._slow = [], []
        for device_time, late in sorted(points):
            self._add(device_time, late)
        return self._fit()

    def _fit(self) -> ClockEstimate:
        first = self._points[0][0]
        span = self._points[-1][0] - first
        slope, base = 0.0, float(min(late for _, late in self._points))
        if span >= self.BASELINE:
            origin = self._points[0][1]  # small numbers, so that floats are exact to the nanosecond
            hull = _lower_hull([(time - first, late - origin) for time, late in self._points])
            middle = sum(time - first for time, _ in self._points) / len(self._points)
            for (t0, d0), (t1, d1) in itertools.pairwise(hull):
                if t0 <= middle <= t1 and abs(d1 - d0) <= MAXIMUM_DRIFT * (t1 - t0):
                    slope = (d1 - d0) / (t1 - t0)
                    base = origin + d0 - slope * t0
        else:
            first = self._points[-1][0]
        residuals = sorted(late - base - slope * (time - first) for time, late in self._points)
        # late = base + slope * (device - first), so the device is ahead by -base at `first` and gains -slope.
        at = first + round(base)
        self._estimate = ClockEstimate(
            -round(base), -slope / (1 + slope), at, round(residuals[len(residuals) // 2]), span / NANOSECONDS
        )
        return self._estimate


def _lower_hull(points: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Lower convex hull of points in rising time (Andrew's monotone chain)."""
    hull: list[tuple[int, int]] = []
    for point in points:
        while len(hull) >= 2 and _turn(hull[-2], hull[-1], point) <= 0:
            hull.pop()
        hull.append(point)
    return hull


def _turn(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> int:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


# ------------------------------------------------------------------------------------- shared signals


class Search(NamedTuple):
    """How ``shared_signal`` looks for a lag. Seconds, but for the last two."""

    reach: float = 15.0
    """Largest lag looked for."""
    window: float = 120.0
    """Length of the pieces that are compared."""
    step: float = 0.1
    """Grid that both signals are put on."""
    smooth: float = 1.0
    """Changes quicker than this are taken out (heart beats, to leave breaths)."""
    detrend: float = 10.0
    """Changes slower than this are taken out."""
    drift: float = MAXIMUM_DRIFT
    """Largest drift looked for, seconds per second."""
    least: float = 0.3
    """Mean correlation at the best lag below which nothing is claimed."""


BREATHS = Search()
"""For airway pressure against venous pressure, 50 to 500 samples per second."""
AVERAGES = Search(reach=60.0, window=600.0, step=0.5, smooth=4.0, detrend=600.0, drift=0.0, least=0.6)
"""For numerics of one quantity from two devices; their lag is clocks and averaging together."""

Series = tuple[np.ndarray, np.ndarray]
"""Times (n,) int64 ns, rising, and values (n,) float; NaN where there is none."""


def shared_signal(reference: Series, other: Series, search: Search = BREATHS) -> ClockEstimate | None:
    """Offset and drift of the clock of ``other``, from a quantity that both signals show with the same sign.

    Windows' correlation curves are added up along every drift looked for, and the best sum wins: breaths repeat every
    few seconds, but only the true lag fits in all windows. None where the signals share too little to say, or where
    the best lag lies at the edge of what was looked for.
    """
    begin, end = max(int(reference[0][0]), int(other[0][0])), min(int(reference[0][-1]), int(other[0][-1]))
    seconds = (end - begin) / NANOSECONDS
    if seconds < search.window + 2 * search.reach:
        return None
    grid = np.arange(0.0, seconds, search.step)
    a, b = (_prepare(series, begin, grid, search) for series in (reference, other))
    curves, centres = _curves(a, b, search)
    if not len(curves):
        return None
    reach = round(search.reach / search.step)
    lags = np.arange(-reach, reach + 1) * search.step
    middle = float(centres.mean())
    spread = max(float(np.abs(centres - middle).max()), search.step)
    fine = max(search.step / 2 / spread, 1e-9)
    count = min(int(search.drift / fine), 200)
    best = (-2.0, 0, 0.0)
    for drift in np.arange(-count, count + 1) * fine if len(centres) > 2 else [0.0]:
        shifted = [
            np.interp(lags + drift * (centre - middle), lags, curve)
            for centre, curve in zip(centres, curves, strict=True)
        ]
        total = np.mean(shifted, axis=0)
        top = int(total.argmax())
        if total[top] > best[0]:
            best = (float(total[top]), top, float(drift))
    height, top, drift = best
    if height < search.least or top in (0, len(lags) - 1):
        return None
    return _refine(curves, centres - middle, lags, (float(lags[top]), drift, height), begin, middle, search)


def _prepare(series: Series, begin: int, grid: np.ndarray, search: Search) -> np.ndarray:
    """The series on the grid, without what is too quick or too slow; NaN in gaps of more than two steps or samples."""
    times, values = series
    there = np.isfinite(values)
    seconds, values = (times[there] - begin) / NANOSECONDS, np.asarray(values[there], np.float64)
    usual = float(np.median(np.diff(seconds))) if len(seconds) > 1 else search.step
    if usual < search.step / 2:  # average what falls between grid points rather than picking samples
        width = max(1, round(search.step / usual))
        values = np.convolve(values, np.ones(width) / width, "same")
    out = np.interp(grid, seconds, values)
    following = np.searchsorted(seconds, grid).clip(1, len(seconds) - 1)
    gap = seconds[following] - seconds[following - 1] > 2.5 * max(usual, search.step)
    hole = gap | (grid < seconds[0]) | (grid > seconds[-1])
    out = _average(out, search.smooth / search.step) - _average(out, search.detrend / search.step)
    out[hole] = np.nan
    return out


def _average(values: np.ndarray, width: float) -> np.ndarray:
    size = max(1, round(width))
    padded = np.pad(values, (size // 2, size - 1 - size // 2), mode="edge")
    sums = np.concatenate(([0.0], np.cumsum(padded)))
    return (sums[size:] - sums[:-size]) / size


def _curves(a: np.ndarray, b: np.ndarray, search: Search) -> tuple[np.ndarray, np.ndarray]:
    """Correlation by lag (windows, 2 * reach + 1) and the windows' centres (windows,), seconds."""
    length, reach = round(search.window / search.step), round(search.reach / search.step)
    curves, centres = [], []
    for at in range(reach, len(a) - length - reach + 1, max(1, length // 2)):
        piece, wide = a[at : at + length], b[at - reach : at + length + reach]
        if np.isnan(piece).mean() > 0.05 or np.isnan(wide).mean() > 0.05:
            continue
        piece, wide = np.nan_to_num(piece - np.nanmean(piece)), np.nan_to_num(wide - np.nanmean(wide))
        sums, squares = (np.concatenate(([0.0], np.cumsum(x))) for x in (wide, wide**2))
        mean, square = ((s[length:] - s[:-length]) / length for s in (sums, squares))
        scale = np.sqrt(np.maximum(square - mean**2, 0)) * piece.std() * length
        product = np.correlate(wide, piece, "valid")
        curves.append(np.divide(product, scale, out=np.zeros_like(product), where=scale > 1e-9))
        centres.append((at + length / 2) * search.step)
    return np.array(curves), np.array(centres)


def _refine(
    curves: np.ndarray, centres: np.ndarray, lags: np.ndarray, start: tuple[float, float, float], begin: int,
    middle: float, search: Search,
) -> ClockEstimate:  # fmt: skip
    """The windows' own peaks near the line that was found, and the weighted straight line through them."""
    lag, drift, height = start
    near = max(2 * search.smooth, 10 * search.step) / 2
    peaks, weights, places = [], [], []
    for centre, curve in zip(centres, curves, strict=True):
        masked = np.where(np.abs(lags - lag - drift * centre) <= near, curve, -2.0)
        top = int(masked.argmax())
        if not 0 < top < len(lags) - 1 or curve[top] < search.least / 2:
            continue
        left, peak, right = curve[top - 1 : top + 2]
        bend = left - 2 * peak + right
        peaks.append(float(lags[top]) + (0.5 * (left - right) / bend * search.step if bend < 0 else 0.0))
        weights.append(max(float(curve[top]), 0.0))
        places.append(centre)
    if len(peaks) >= 2:
        lag = float(np.average(peaks, weights=weights))
    if search.drift and len(peaks) >= 4:
        drift, lag = (float(value) for value in np.polyfit(places, peaks, 1, w=np.sqrt(weights)))
    residuals = np.abs(np.array(peaks) - lag - drift * np.array(places)) if peaks else np.array([search.step])
    at = begin + round(middle * NANOSECONDS)
    return ClockEstimate(round(lag * NANOSECONDS), drift, at, round(float(np.median(residuals)) * NANOSECONDS), height)


# ----------------------------------------------------------------------------------------- recordings


def series(track: Track) -> Series:
    """All samples of a track with their times."""
    if isinstance(track, WaveformTrack):
        times = [
            start + np.round(np.arange(stop - first) / track.rate * NANOSECONDS).astype(np.int64)
            for start, first, stop in zip(track.times.tolist(), track.starts, track.stops, strict=True)
        ]
        values = [track.values[first:stop] for first, stop in zip(track.starts, track.stops, strict=True)]
        return np.concatenate(times), np.concatenate(values)
    if isinstance(track, NumericTrack):
        return track.times, np.array(track.values)
    raise TypeError(f"{track.stream} has no samples")


def correct(tracks: Sequence[Track], clocks: dict[str, ClockEstimate]) -> None:
    """Put the tracks of the named devices (the channel up to the slash) on the reference clock, in place."""
    for track in tracks:
        estimate = clocks.get(track.stream.partition("/")[2].partition("/")[0])
        if estimate is not None:
            track.times = estimate.apply(track.times)


def plain(estimate: ClockEstimate) -> dict[str, Any]:
    """An estimate for people and records: seconds and parts per million."""
    return {
        "ahead_seconds": round(estimate.offset / NANOSECONDS, 4),
        "drift_ppm": round(estimate.drift * 1e6, 2),
        "error_seconds": round(estimate.error / NANOSECONDS, 4),
    }
