"""Forward analysis of forecasts: every time point, split by patient, always beside mean pressure and the straight line.

Fixed before anything was measured:

* an event is mean pressure below 65 mmHg for at least 60 s (``patients.episodes``); it counts once;
* every 20 s outside episodes is a point; the two minutes after an episode, the first two minutes of a recording, and
  points with less than two minutes to an onset are left out (that near, nobody is warned any more);
* a point is positive for a horizon where an onset follows within it, negative where none does, and left out where the
  recording ends before that is known;
* AUROC is over points; intervals are bootstrapped over patients; differences are drawn together.
* An alarm goes on where the probability within 15 minutes reaches the threshold, off below 0.7 times that, and not on
  again for five minutes. It answers an event that begins 2 to 15 minutes later; from 2 minutes before an onset to the
  end of the episode alarms count neither way. Thresholds come from other patients than those measured: the lowest that
  keeps to half a false alarm an hour.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from operators.monitor.forecast.features import HORIZONS, WINDOW, cleaned, current, extrapolated, features
from operators.monitor.forecast.model import Forecaster
from operators.monitor.forecast.patients import LIMIT, STEP, Patient
from pipeline.alerts.score import Episode, Score, Span, TrueEvent, raw_figures, score, union
from pipeline.alerts.statistics import ranked_auroc
from pipeline.message import NANOSECONDS

Array = np.ndarray[Any, np.dtype[Any]]

EVERY = 10
"""Steps between two points: 20 s."""
WARM_UP, SETTLE, NEAREST = 120.0, 120.0, 120.0
"""Seconds left out at the beginning, after an episode, and before an onset."""
LATEST = 15 * 60.0
"""Seconds before its onset from which an alarm answers an event."""
RELEASE, REARM = 0.7, 300.0
"""Share of the threshold below which an alarm goes off, and seconds for which it then stays off."""
BUDGET = 0.5
"""False alarms per hour that a threshold may cost."""
TURN = 7.0
"""mmHg by which pressure falls where its value, as an alarm sees it, grows e times."""
CHUNK = 128


@dataclasses.dataclass(frozen=True)
class Points:
    """Time points of several patients, in order."""

    patient: Array
    """(n,) int32."""
    second: Array
    """(n,) float32 from the patient's beginning."""
    features: Array
    """(n, 17) float32."""
    mean: Array
    """(n,) present mean pressure, mmHg."""
    line: Array
    """(n, 3) mean pressure by the straight line at each horizon; present pressure where there is no line."""
    labels: Array
    """(n, 3) int8 as ``model.fit`` wants them; all -1 where a point is left out of the analysis."""
    outside: Array
    """(n,) bool: not in an episode nor just after one."""


def points(patients: Sequence[Patient]) -> Points:
    """All time points of some patients."""
    parts: dict[str, list[Array]] = {field.name: [] for field in dataclasses.fields(Points)}
    for number, patient in enumerate(patients):
        length = patient.values.shape[1]
        padded = np.concatenate([np.full((len(patient.values), WINDOW), np.nan, np.float32), patient.values], axis=1)
        views = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=1)
        ends = np.arange(EVERY, length, EVERY)
        found: list[tuple[Array, Array, Array]] = []
        for begin in range(0, len(ends), CHUNK):
            window = cleaned(views[:, ends[begin : begin + CHUNK]].transpose(1, 0, 2))
            mean = current(window[:, 0])
            lines = np.stack([extrapolated(window[:, 0], minutes) for minutes in HORIZONS], axis=1)
            found.append((features(window), mean, np.where(np.isfinite(lines), lines, mean[:, None])))
        second = ends * STEP
        labels, outside = _labels(second, patient.episodes, length * STEP)
        values = {
            "patient": np.full(len(ends), number, np.int32), "second": second.astype(np.float32),
            "features": np.concatenate([f for f, _, _ in found]), "mean": np.concatenate([m for _, m, _ in found]),
            "line": np.concatenate([line for _, _, line in found]), "labels": labels, "outside": outside,
        }  # fmt: skip
        valid = np.isfinite(values["mean"])
        values["labels"][~valid] = -1
        for name, value in values.items():
            parts[name].append(value)
    return Points(**{name: np.concatenate(values) for name, values in parts.items()})


def _labels(second: Array, episodes: Sequence[tuple[float, float]], length: float) -> tuple[Array, Array]:
    outside = second >= 0
    onsets = np.array([begin for begin, _ in episodes] + [np.inf])
    for begin, end in episodes:
        outside = outside & ~((second >= begin) & (second < end + SETTLE))
    ahead = onsets[np.searchsorted(onsets, second)] - second
    labels = np.full((len(second), len(HORIZONS)), -1, np.int8)
    counted = outside & (second >= WARM_UP) & (ahead >= NEAREST)
    for column, minutes in enumerate(HORIZONS):
        reach = 60 * minutes
        labels[counted & (ahead <= reach), column] = 1
        labels[counted & (ahead > reach) & (second + reach <= length), column] = 0
    return labels, outside


# -------------------------------------------------------------------------------------------- AUROC


def discrimination(
    points: Points, scores: dict[str, Array], horizon: int, *, samples: int = 400, seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """AUROC of each score (n,) at a horizon (index), and of ``first - other`` for every later one: value, low, high.

    The 95 % intervals are over patients; all scores meet the same draws.
    """
    used = points.labels[:, horizon] >= 0
    outcome, patient = points.labels[used, horizon] == 1, points.patient[used]
    places = {name: np.unique(value[used], return_inverse=True)[1] for name, value in scores.items()}
    count = int(points.patient.max()) + 1
    random = np.random.default_rng(seed)

    def measured(weight: Array) -> list[float]:
        areas = [ranked_auroc(place, outcome, weight) for place in places.values()]
        return areas + [areas[0] - area for area in areas[1:]]

    names = list(scores) + [f"{next(iter(scores))} - {name}" for name in list(scores)[1:]]
    value = measured(np.ones(len(outcome)))
    drawn = np.array([
        measured(np.bincount(random.integers(0, count, count), minlength=count)[patient].astype(float))
        for _ in range(samples)
    ])  # fmt: skip
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    return {name: (value[i], float(low[i]), float(high[i])) for i, name in enumerate(names)}


# ------------------------------------------------------------------------------------------- alarms


class Trigger:
    """When an alarm goes on and off: a threshold, a release below it, and a pause before the next."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.on = False
        self.quiet_until = -np.inf
        """Second until which it does not go on again."""

    def step(self, second: float, value: float) -> bool:
        """Take a value; True where the alarm went on or off with it. NaN, as in an episode, ends it."""
        if self.on:
            if value >= RELEASE * self.threshold:
                return False
            self.on, self.quiet_until = False, second + REARM
            return True
        if value >= self.threshold and second >= self.quiet_until:
            self.on = True
            return True
        return False


def alarms(points: Points, value: Array, patients: Sequence[Patient], threshold: float) -> list[Score]:
    """Score the alarms that a (n,) value at each point would give, patient by patient."""
    bounds = np.searchsorted(points.patient, np.arange(len(patients) + 1))
    shown = np.where(points.outside & (points.second >= WARM_UP), value, np.nan)
    found = []
    for number, patient in enumerate(patients):
        part = slice(bounds[number], bounds[number + 1])
        trigger, episodes = Trigger(threshold), []
        onset = 0.0
        for second, now in zip(points.second[part].tolist(), shown[part].tolist(), strict=True):
            if trigger.step(second, now):
                if trigger.on:
                    onset = second
                else:
                    episodes.append(Episode("forecast", _ns(onset), _ns(second)))
        if trigger.on:
            episodes.append(Episode("forecast", _ns(onset)))
        found.append(score(events_of(patient.episodes), episodes, monitored(patient)))
    return found


def events_of(episodes: Sequence[tuple[float, float]], zero: int = 0) -> list[TrueEvent]:
    """Episodes (s after ``zero``, ns) as events to be warned of; what is told too late is allowed, and no answer."""
    events = []
    for begin, end in episodes:
        onset = zero + _ns(begin)
        events.append(TrueEvent("forecast", onset, onset, early=_ns(LATEST), late=-_ns(NEAREST), name="hypotension"))
        events.append(TrueEvent("forecast", onset - _ns(NEAREST), zero + _ns(end), required=False))
    return events


def monitored(patient: Patient) -> list[Span]:
    """When a forecast could be had: after the warm-up and outside episodes. Onsets with less than two minutes of that
    before them could not be warned of, and are no events."""
    free, at = [], WARM_UP
    for begin, end in patient.episodes:
        if begin >= at + NEAREST:
            free.append((_ns(at), _ns(begin) + 1))
        at = max(at, end + SETTLE)
    last = patient.values.shape[1] * STEP
    return union([*free, (_ns(at), _ns(last))])


def threshold(points: Points, value: Array, patients: Sequence[Patient], budget: float = BUDGET) -> float:
    """The lowest of fifty thresholds that keeps to so many false alarms an hour on these patients."""
    used = value[points.outside & np.isfinite(value) & (points.second >= WARM_UP)]
    candidates = np.unique(np.quantile(used, np.linspace(0.5, 0.999, 50)))
    chosen = float(candidates[-1])
    for candidate in candidates[::-1].tolist():
        rate = raw_figures(alarms(points, value, patients, candidate)).false_alarms_per_hour
        if rate is not None and rate > budget:
            break
        chosen = candidate
    return chosen


def values(points: Points, model: Forecaster, horizon: int) -> dict[str, Array]:
    """The three to be compared, each higher where hypotension is likelier; the model comes first.

    Pressures are turned so that a release at 0.7 of the threshold is one 2.5 mmHg above it: AUROC knows only the order.
    """
    return {
        "model": model.probabilities(points.features)[:, horizon],
        "mean pressure": np.exp((LIMIT - points.mean) / TURN),
        "straight line": np.exp((LIMIT - points.line[:, horizon]) / TURN),
    }


def pressure(value: float) -> float:
    """The pressure (mmHg) that a value of ``mean pressure`` or ``straight line`` stands for."""
    return LIMIT - TURN * math.log(value)


def _ns(seconds: float) -> int:
    return round(seconds * NANOSECONDS)
