"""Figures of a classifier and their intervals, resampling whole operations: frames of one are not independent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from operators.perception.view.features import FloatArray
from pipeline.message import Array

DRAWS = 2000
"""Resamples of a bootstrap."""


def recall(truth: Array, said: Array, label: int) -> float:
    """Share of the frames of a class that were called so; NaN where it has none."""
    of = truth == label
    return float((said[of] == label).mean()) if of.any() else float("nan")


def f1(truth: Array, said: Array, label: int) -> float:
    """Harmonic mean of precision and recall of a class: 2 TP / (2 TP + FP + FN)."""
    both = int(((truth == label) & (said == label)).sum())
    return 2 * both / max(int((truth == label).sum() + (said == label).sum()), 1)


def macro_f1(truth: Array, said: Array, labels: Sequence[int] | None = None) -> float:
    """Mean F1 over the classes (all, or those given) that occur in the truth."""
    present = [label for label in np.unique(truth) if labels is None or label in labels]
    return float(np.mean([f1(truth, said, label) for label in present])) if present else float("nan")


def area(truth: Array, score: FloatArray) -> float:
    """Area under the ROC curve: chance that a positive scores above a negative; NaN where either is missing."""
    positive, negative = score[truth == 1], score[truth == 0]
    if not len(positive) or not len(negative):
        return float("nan")
    above = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(above)


def interval(groups: Array, figure: Callable[[Array], float], seed: int = 0, draws: int = DRAWS) -> tuple[float, float]:
    """95 % bootstrap interval of ``figure`` (of the indices of the frames), drawing operations with replacement.

    Resamples in which the figure is not defined (NaN: the class is missing) are left out; NaN where all are.
    """
    random = np.random.Generator(np.random.Philox(seed))
    names = np.unique(groups)
    places = {name: np.flatnonzero(groups == name) for name in names}
    values: list[float] = []
    for _ in range(draws if len(names) else 0):
        drawn = np.concatenate([places[name] for name in random.choice(names, len(names))])
        values.append(figure(drawn))
    known = np.array([value for value in values if not np.isnan(value)])
    if not len(known):
        return (float("nan"), float("nan"))
    low, high = np.quantile(known, [0.025, 0.975])
    return (float(low), float(high))
