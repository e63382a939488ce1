"""Dice, calibration and AUROC, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from operators.perception.segment.evaluate import Tally, auroc, bootstrap, calibration_error, colours, dice, dice_of


def test_dice() -> None:
    found, truth = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert dice(found, truth) == pytest.approx(0.5)
    assert dice(truth, truth) == 1
    assert dice(np.zeros(4, bool), np.zeros(4, bool)) == 1


def test_calibration_error_by_hand() -> None:
    # Two bins of ten: 0.05 twice with no yes (off by 0.05), 0.95 twice with one yes (off by 0.45).
    p, y = np.array([0.05, 0.05, 0.95, 0.95]), np.array([0, 0, 1, 0])
    assert calibration_error(p, y, bins=10) == pytest.approx((2 * 0.05 + 2 * 0.45) / 4)
    random = np.random.default_rng(0)
    p = random.random(200_000)
    assert calibration_error(p, random.random(200_000) < p) < 0.01
    assert calibration_error(np.array([]), np.array([])) == 0


def test_auroc_by_hand() -> None:
    assert auroc(np.array([0.1, 0.2, 0.3]), np.array([0, 0, 1])) == 1
    assert auroc(np.array([0.1, 0.2, 0.3]), np.array([1, 0, 0])) == 0
    assert auroc(np.array([0.1, 0.3, 0.2, 0.3]), np.array([0, 0, 1, 1])) == pytest.approx(2.5 / 4)
    assert auroc(np.ones(6), np.array([0, 1, 0, 1, 1, 0])) == pytest.approx(0.5)
    assert math.isnan(auroc(np.ones(3), np.zeros(3)))


def test_dice_of_worlds_weighs_by_area_and_its_interval_holds_it() -> None:
    worlds = [
        Tally(np.array([both, 0, 0]), np.array([total, 0, 0]), np.zeros(3), np.zeros(3))
        for both, total in ((4, 10), (9, 20))
    ]
    assert dice_of(worlds, 0) == pytest.approx(26 / 30)
    assert math.isnan(dice_of(worlds, 1))
    low, high = bootstrap(worlds, lambda drawn: dice_of(drawn, 0))
    assert 0.8 - 1e-9 <= low <= 26 / 30 <= high <= 0.9 + 1e-9


def test_the_colour_baseline_names_steel_blood_and_smoke() -> None:
    image = np.full((20, 20, 3), (180, 90, 70), np.uint8)
    image[:5], image[15:] = (120, 118, 119), (110, 20, 22)
    found = colours(image)
    assert found[0, :5].all()
    assert found[1, 15:].all()
    assert not found[:, 6:14].any()
    assert colours(np.full((20, 20, 3), (150, 140, 138), np.uint8))[2].all()
