"""The five life-threatening arrhythmia alarms of the PhysioNet/CinC Challenge 2015, on sequences of beats.

| alarm | definition |
|---|---|
| asystole | no QRS complex for at least 4 s |
| extreme bradycardia | rate below 40/min over 5 consecutive beats |
| extreme tachycardia | rate above 140/min over 17 consecutive beats |
| ventricular tachycardia | 5 or more consecutive ventricular beats at more than 100/min |
| ventricular fibrillation or flutter | fibrillatory, flutter or oscillatory waveform for at least 4 s |

Source: Clifford et al., "The PhysioNet/Computing in Cardiology Challenge 2015: reducing false arrhythmia alarms in the
ICU", CinC 2015. Times here are seconds, as (n,) float64 rising; a rate over n beats is (n - 1) / (last - first).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Kind = Literal[
    "asystole", "extreme_bradycardia", "extreme_tachycardia", "ventricular_tachycardia", "ventricular_fibrillation"
]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Interval(NamedTuple):
    """Where a definition holds, s, and the figure that decided: a pause in s, or a rate per minute."""

    start: float
    end: float
    value: float


class Limits(NamedTuple):
    """The definitions' figures."""

    pause: float = 4.0
    """s."""
    slow: float = 40.0
    slow_beats: int = 5
    fast: float = 140.0
    fast_beats: int = 17
    ventricular: float = 100.0
    ventricular_beats: int = 5
    oscillation: float = 4.0
    """s."""


STRICT = Limits()
"""As published: what a rule of our own says a condition by."""
LENIENT = Limits(3.6, 44.0, 4, 132.0, 14, 95.0, 4, 3.0)
"""A little wider: what a monitor's own alarm is looked for with. A beat that one detector counts and another does not,
or a mark that is off by some 20 ms, must not make a true alarm a false one."""


def asystole(times: Array, start: float, end: float, limits: Limits = STRICT) -> list[Interval]:
    """Pauses within ``[start, end]``, also the ones that begin or end there."""
    inside = times[(times >= start) & (times <= end)]
    marks = np.concatenate([[start], inside, [end]])
    pauses = np.diff(marks)
    return [
        Interval(float(marks[i]), float(marks[i + 1]), float(pauses[i]))
        for i in np.flatnonzero(pauses >= limits.pause - 1e-9)
    ]


def extreme_bradycardia(times: Array, limits: Limits = STRICT) -> list[Interval]:
    """Stretches in which every five consecutive beats are slower than 40/min; the value is the lowest rate."""
    return _runs(times, limits.slow_beats, lambda rate: rate < limits.slow, np.min)


def extreme_tachycardia(times: Array, limits: Limits = STRICT) -> list[Interval]:
    """Stretches in which every seventeen consecutive beats are faster than 140/min; the value is the highest rate."""
    return _runs(times, limits.fast_beats, lambda rate: rate > limits.fast, np.max)


def ventricular_tachycardia(times: Array, ventricular: Array, limits: Limits = STRICT) -> list[Interval]:
    """Runs of five or more beats that are all ventricular, at more than 100/min over any five of them.

    Args:
        times: (n,) s.
        ventricular: (n,) bool.
    """
    found = []
    for first, last in _stretches(ventricular):
        run = times[first : last + 1]
        found += _runs(run, limits.ventricular_beats, lambda rate: rate > limits.ventricular, np.max)
    return found


def ventricular_fibrillation(starts: Array, ends: Array, oscillating: Array, limits: Limits = STRICT) -> list[Interval]:
    """Stretches of windows that oscillate, 4 s or longer; the value is their length in s.

    Args:
        starts: (n,) s, of windows in time order, which may overlap.
        ends: (n,) s.
        oscillating: (n,) bool.
    """
    found = []
    for first, last in _stretches(oscillating):
        start, end = float(starts[first]), float(ends[last])
        if end - start >= limits.oscillation - 1e-9:
            found.append(Interval(start, end, end - start))
    return found


def _runs(times: Array, beats: int, holds: Any, worst: Any) -> list[Interval]:
    if len(times) < beats:
        return []
    rates = 60 * (beats - 1) / np.maximum(times[beats - 1 :] - times[: len(times) - beats + 1], 1e-9)
    return [
        Interval(float(times[first]), float(times[last + beats - 1]), float(worst(rates[first : last + 1])))
        for first, last in _stretches(holds(rates))
    ]


def _stretches(flags: Array) -> list[tuple[int, int]]:
    """First and last index of each run of True."""
    padded = np.concatenate([[False], np.asarray(flags, bool), [False]]).astype(np.int8)
    steps = np.diff(padded)
    return list(zip(np.flatnonzero(steps == 1).tolist(), (np.flatnonzero(steps == -1) - 1).tolist(), strict=True))
