"""The metrics, against figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from operators.video.privacy.evaluate import (
    Score,
    bootstrap,
    decide,
    recall_and_specificity,
    recall_at,
    score,
    total,
)  # fmt: skip
from operators.video.privacy.gate import Gate

MS = 1_000_000


def test_a_stream_worked_out_by_hand() -> None:
    # Ten frames, 100 ms apart but for a step of 300 ms after frame 4. Outside: 3, 4, 5 and 8.
    times = [t * MS for t in (0, 100, 200, 300, 400, 700, 800, 900, 1000, 1100)]
    outside = [i in (3, 4, 5, 8) for i in range(10)]
    # Shown: 0, 3, 4, 8, 9. Leaked 3, 4 (100 + 300 ms) and 8 (100 ms). Needless: 1, 2, 6, 7.
    shown = [i in (0, 3, 4, 8, 9) for i in range(10)]
    found = score(times, outside, shown)
    assert found == Score(10, 4, 3, 4, pytest.approx(0.4), pytest.approx(0.4), pytest.approx(1.2))
    assert found.leaked_per_transition == 0.75
    # 0.4 s in 1.2 s is 20 minutes in an hour.
    assert found.needless_per_hour == pytest.approx(20.0)


def test_nothing_leaked_and_nothing_there() -> None:
    clean = score([0, 40 * MS], [True, False], [False, True])
    assert (clean.leaked, clean.transitions, clean.longest_leak, clean.needless) == (0, 1, 0.0, 0.0)
    empty = score([], [], [])
    assert math.isnan(empty.leaked_per_transition)
    assert math.isnan(empty.needless_per_hour)
    assert score([0], [True], [True]).leaked == 1
    with pytest.raises(ValueError, match="do not belong together"):
        score([0], [True], [])


def test_streams_add_up() -> None:
    one = score([0, 100 * MS], [True, True], [True, True])
    two = score([0, 100 * MS], [False, True], [False, False])
    assert total([one, two]) == Score(4, 3, 2, 1, pytest.approx(0.2), pytest.approx(0.1), pytest.approx(0.4))
    assert total([]) == Score(0, 0, 0, 0, 0.0, 0.0, 0.0)


def test_recall_and_specificity_by_hand() -> None:
    evidence = np.array([0.1, 0.2, 0.6, 0.55, 0.7, 0.8, 0.9, 0.4])
    outside = np.array([True, True, True, False, False, False, False, False])
    assert recall_and_specificity(evidence, outside, 0.5) == (pytest.approx(2 / 3), pytest.approx(4 / 5))
    # To flag 0.6 as well the threshold must pass 0.4 and 0.55: specificity 3/5.
    assert recall_at(evidence, outside, 0.6) == 1.0
    assert recall_at(evidence, outside, 0.8) == pytest.approx(2 / 3)
    assert recall_at(evidence, outside, 1.0) == pytest.approx(2 / 3)
    assert math.isnan(recall_at(evidence, np.ones(8, bool), 0.9))
    assert math.isnan(recall_and_specificity(evidence, np.zeros(8, bool), 0.5)[0])


def test_a_gate_decides_by_the_evidence() -> None:
    times = [i * 40 * MS for i in range(6)]
    gate: Gate[int] = Gate(2, 0, 1, 0, 1)
    assert decide(times, [0.9, 0.9, 0.9, 0.2, 0.9, 0.9], 0.5, gate) == [False, True, False, False, False, False]


def test_the_bootstrap_draws_operations_not_frames() -> None:
    values = np.array([1.0, 1.0, 1.0, 0.0])
    groups = ["a", "a", "a", "b"]
    low, high = bootstrap(lambda index: float(values[index].mean()), groups)
    assert (low, high) == (0.0, 1.0), "with two operations a draw holds one of them alone a quarter of the time"
    assert all(math.isnan(v) for v in bootstrap(lambda _: math.nan, groups, draws=5))
