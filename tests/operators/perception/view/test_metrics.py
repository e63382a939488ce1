"""The figures, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from operators.perception.view import metrics

TRUTH = np.array([0, 0, 0, 0, 1, 1, 2])
SAID = np.array([0, 0, 0, 1, 1, 2, 0])


def test_recall_and_f1_by_hand() -> None:
    assert [metrics.recall(TRUTH, SAID, label) for label in (0, 1, 2)] == [0.75, 0.5, 0.0]
    # class 0: 3 right of 4 true and 4 said; class 1: 1 of 2 and 2; class 2: 0 of 1 and 1.
    assert [metrics.f1(TRUTH, SAID, label) for label in (0, 1, 2)] == [6 / 8, 2 / 4, 0.0]
    assert metrics.macro_f1(TRUTH, SAID) == pytest.approx((0.75 + 0.5 + 0) / 3)
    assert metrics.macro_f1(TRUTH, SAID, [0, 1]) == pytest.approx(0.625)


def test_a_class_that_the_truth_lacks_counts_only_as_a_mistake() -> None:
    assert metrics.macro_f1(np.array([0, 0]), np.array([0, 3])) == pytest.approx(2 / 3)
    assert np.isnan(metrics.recall(TRUTH, SAID, 5))


def test_area_under_the_curve_by_hand() -> None:
    truth, score = np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.4, 0.4, 0.2, 0.5])
    assert metrics.area(truth, score) == pytest.approx((3 + 0.5 + 1) / 6)
    assert np.isnan(metrics.area(np.zeros(3), score[:3]))


def test_the_interval_draws_whole_operations() -> None:
    groups = np.array(["a"] * 50 + ["b"] * 50)
    right = np.array([1.0] * 50 + [0.0] * 50)
    low, high = metrics.interval(groups, lambda i: right[i].mean(), draws=500)
    assert (low, high) == (0.0, 1.0), "two operations that disagree say next to nothing, however many frames"
    same = metrics.interval(groups, lambda i: right[i].mean(), draws=500)
    assert same == (low, high)


def test_resamples_without_the_class_are_left_out() -> None:
    groups, truth = np.array(["a", "b"]), np.array([0, 1])
    low, high = metrics.interval(groups, lambda i: metrics.recall(truth[i], truth[i], 1), draws=50)
    assert (low, high) == (1.0, 1.0)
    assert np.isnan(metrics.interval(groups, lambda i: float("nan"), draws=5)).all()
