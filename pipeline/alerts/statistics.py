"""Statistics that alerts and forecasts are judged by. Small, and checked against figures worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from pipeline.message import Array

Patient = TypeVar("Patient")

BINS = 10
"""Of the calibration error and of the reliability plot."""


def base_rate_ppv(sensitivity: float, specificity: float, prevalence: float) -> float:
    """PPV where the share ``prevalence`` of what is judged is true (Bayes); NaN where nothing would be said at all."""
    true, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    return true / (true + false) if true + false else float("nan")


def brier(probabilities: Any, outcomes: Any) -> float:
    """Mean squared difference of (n,) probabilities and (n,) outcomes 0 or 1. NaN where there are none.

    Raises:
        ValueError: where shapes differ or a probability is not within 0 and 1.
    """
    p, y = _checked(probabilities, outcomes)
    return float(np.mean((p - y) ** 2)) if p.size else float("nan")


def reliability(probabilities: Any, outcomes: Any, bins: int = BINS) -> list[tuple[float, float, int]]:
    """For each of ``bins`` equal parts of 0..1 that holds anything: mean probability, share that came true, count."""
    p, y = _checked(probabilities, outcomes)
    part = np.minimum((p * bins).astype(int), bins - 1)
    return [
        (float(p[part == i].mean()), float(y[part == i].mean()), int((part == i).sum()))
        for i in range(bins) if (part == i).any()
    ]  # fmt: skip


def calibration_error(probabilities: Any, outcomes: Any, bins: int = BINS) -> float:
    """Expected calibration error: mean distance of probability and frequency over the bins, weighted by count."""
    found = reliability(probabilities, outcomes, bins)
    total = sum(count for _, _, count in found)
    return sum(abs(p - y) * count for p, y, count in found) / total if total else float("nan")


def auroc(scores: Any, outcomes: Any, weights: Any = None) -> float:
    """Area under the ROC curve: chance that a true one scores above a false one, ties counting half.

    Args:
        scores: (n,), higher meaning more likely.
        outcomes: (n,) 0 or 1.
        weights: (n,) how often each counts; once where not given.

    Returns:
        NaN where all outcomes are the same.
    """
    _, place = np.unique(np.asarray(scores, np.float64), return_inverse=True)
    y = np.asarray(outcomes, bool)
    w = np.ones(y.shape) if weights is None else np.asarray(weights, np.float64)
    return ranked_auroc(place, y, w)


def ranked_auroc(place: Array, outcomes: Array, weights: Array) -> float:
    """``auroc`` of scores given by their rank (n,) int from 0 up, equal for ties: no sorting, for the bootstrap."""
    count = int(place.max()) + 1 if place.size else 0
    true = np.bincount(place, weights * outcomes, count)
    false = np.bincount(place, weights * ~outcomes, count)
    pairs = true.sum() * false.sum()
    if not pairs:
        return float("nan")
    return float((true * (np.cumsum(false) - false / 2)).sum() / pairs)


def quantile(values: Sequence[float], share: float) -> float | None:
    """That quantile, linear between neighbours; None of nothing."""
    return float(np.quantile(np.asarray(values), share)) if len(values) else None


def interval(
    patients: Sequence[Patient], statistic: Callable[[Sequence[Patient]], float | None], *, samples: int = 1000,
    seed: int = 0, level: float = 0.95,
) -> tuple[float, float] | None:  # fmt: skip
    """Percentile bootstrap of a statistic over patients, each drawn whole.

    None for fewer than two patients, or where the statistic is undefined (None or NaN) in more than half the samples.
    """
    if len(patients) < 2:
        return None
    random = np.random.default_rng(seed)
    found = []
    for _ in range(samples):
        drawn = random.integers(0, len(patients), len(patients))
        value = statistic([patients[i] for i in drawn])
        if value is not None and not np.isnan(value):
            found.append(value)
    if len(found) * 2 < samples:
        return None
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _checked(probabilities: Any, outcomes: Any) -> tuple[Array, Array]:
    p, y = np.asarray(probabilities, np.float64).ravel(), np.asarray(outcomes, np.float64).ravel()
    if p.shape != y.shape:
        raise ValueError(f"{p.size} probabilities and {y.size} outcomes")
    if not bool(np.all((p >= 0) & (p <= 1))):
        raise ValueError("a probability is not within 0 and 1")
    return p, y
