"""How well masks and their uncertainty fit: Dice, calibration, and whether uncertainty points at errors.

Definitions are hand-computed in ``tests/operators/perception/segment/test_evaluate.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from operators.perception.segment import scenes
from operators.perception.segment.prompts import CLASSES
from pipeline.message import Array

BINS = 15


def dice(found: Array, truth: Array) -> float:
    """Twice the common area over the sum of both; 1 where both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


def calibration_error(probability: Array, truth: Array, bins: int = BINS) -> float:
    """Expected calibration error of probabilities of *yes*: mean over evenly wide bins of |mean p - share of yes|,
    weighted by their counts. Bins are [0, 1/n), ..., [1 - 1/n, 1]."""
    p, y = probability.ravel().astype(np.float64), truth.ravel().astype(np.float64)
    if not p.size:
        return 0.0
    index = np.minimum((p * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    off = np.abs(np.bincount(index, p, bins) - np.bincount(index, y, bins))
    return float(off[count > 0].sum() / p.size)


def auroc(score: Array, wrong: Array) -> float:
    """Chance that a wrong pixel has a higher score than a right one, ties counting half; NaN with one kind only."""
    score, wrong = score.ravel(), wrong.ravel().astype(bool)
    positive, negative = int(wrong.sum()), int((~wrong).sum())
    if not positive or not negative:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((rank[wrong].sum() - positive * (positive + 1) / 2) / (positive * negative))


class Tally(NamedTuple):
    """What one world gives: arrays over classes (3,), areas summed over its pictures."""

    both: Array
    """Pixels found and true."""
    total: Array
    """Pixels found plus pixels true."""
    calibration: Array
    information: Array
    """AUROC of predictive entropy against error, by class."""


def tally(answers: list[tuple[Array, Array, Array]]) -> Tally:
    """Of pictures' probabilities, uncertainties (both (3, h, w) float32) and truths (3, h, w) bool of one world."""
    p, u, truth = (np.stack([answer[part] for answer in answers], 1) for part in range(3))
    found = p > 0.5
    sparse = np.s_[:, ::3, ::3]  # neighbours say the same
    return Tally(
        (found & truth).sum((1, 2, 3)), found.sum((1, 2, 3)) + truth.sum((1, 2, 3)),
        np.array([calibration_error(p[k], truth[k]) for k in range(len(p))]),
        np.array([auroc(u[k][sparse], (found ^ truth)[k][sparse]) for k in range(len(p))]),
    )  # fmt: skip


def bootstrap(worlds: list[Tally], figure: Callable[[list[Tally]], float], seed: int = 0) -> tuple[float, float]:
    """95 % interval of a figure over worlds, which are drawn with replacement."""
    random = np.random.default_rng(seed)
    values = [figure([worlds[i] for i in random.integers(len(worlds), size=len(worlds))]) for _ in range(500)]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def dice_of(worlds: list[Tally], index: int) -> float:
    """Dice of a class over all pictures of all worlds together."""
    total = sum(int(world.total[index]) for world in worlds)
    return 2 * sum(int(world.both[index]) for world in worlds) / total if total else float("nan")


def colours(image: Array) -> Array:
    """The trivial baseline: (3, h, w) float32 of thresholds on colour, for an (h, w, 3) uint8 picture.

    Instrument: lit and grey. Blood: green under an eighth of red, as light. Smoke: the whole picture, where the median
    saturation of what is lit is under a third. Limits were read off the training worlds.
    """
    light = (image.astype(np.float32) / 255) ** 2
    lit = image.max(-1) > 25
    saturation = 1 - image.min(-1) / np.maximum(image.max(-1), 1)
    smoky = bool(lit.any()) and float(np.median(saturation[lit])) < 0.33
    blood = (light[..., 1] + 0.004) / (light[..., 0] + 0.004) < 0.12
    grey = (saturation < 0.2) & (not smoky)
    return np.stack([lit & grey, (image[..., 0] > 44) & blood, lit & smoky]).astype(np.float32)


Predict = Callable[[Array], tuple[Array, Array]]
"""From a picture (224, 224, 3) uint8 to probabilities and uncertainties, (3, 224, 224) float32."""


def measure(predict: Predict, seeds: tuple[int, ...], count: int) -> list[Tally]:
    """One tally a world, with the truth at the model's size."""
    worlds: dict[int, list[tuple[Array, Array, Array]]] = {}
    for seed, sample in scenes.pictures(seeds, count):
        probability, uncertainty = predict(sample.image)
        worlds.setdefault(seed, []).append((probability, uncertainty, sample.masks))
    return [tally(answers) for answers in worlds.values()]


def report(worlds: list[Tally]) -> str:
    """The figures in words, for people at a terminal."""
    lines = []
    for index, name in enumerate(CLASSES[1:]):
        lines.append(
            f"{name}: Dice {dice_of(worlds, index):.3f}, ECE {np.mean([w.calibration[index] for w in worlds]):.4f}, "
            f"AUROC {np.nanmean([w.information[index] for w in worlds]):.3f}"
        )
    return "\n".join(lines)
