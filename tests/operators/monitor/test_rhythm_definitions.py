"""The five definitions of CinC 2015 on hand-made beats, to either side of each limit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.monitor.rhythm.definitions import (
    LENIENT,
    asystole,
    extreme_bradycardia,
    extreme_tachycardia,
    ventricular_fibrillation,
    ventricular_tachycardia,
)


def every(period: float, count: int, begin: float = 0.0) -> np.ndarray:
    return begin + period * np.arange(count)


def test_four_seconds_without_a_beat_are_asystole() -> None:
    assert asystole(np.array([1.0, 2.0, 6.0, 7.0]), 0, 8) == [(2.0, 6.0, 4.0)]
    assert asystole(np.array([1.0, 2.0, 5.99, 7.0]), 0, 8) == []


def test_a_pause_that_goes_on_and_no_beat_at_all_are_asystole_too() -> None:
    assert asystole(np.array([1.0, 2.0]), 0, 6.5) == [(2.0, 6.5, 4.5)]
    assert asystole(np.empty(0), 10, 20) == [(10.0, 20.0, 10.0)]


def test_five_beats_below_forty_are_extreme_bradycardia() -> None:
    slow = every(60 / 39, 5)
    assert [interval.value for interval in extreme_bradycardia(slow)] == [pytest.approx(39)]
    assert extreme_bradycardia(slow[:4]) == []
    assert extreme_bradycardia(every(60 / 41, 20)) == []
    long_stretch = extreme_bradycardia(every(60 / 30, 12))
    assert [(interval.start, interval.end) for interval in long_stretch] == [(0.0, 22.0)]


def test_seventeen_beats_above_one_hundred_and_forty_are_extreme_tachycardia() -> None:
    fast = every(60 / 141, 17)
    assert [interval.value for interval in extreme_tachycardia(fast)] == [pytest.approx(141)]
    assert extreme_tachycardia(fast[:16]) == []
    assert extreme_tachycardia(every(60 / 139, 60)) == []


def test_five_ventricular_beats_in_a_row_above_one_hundred_are_ventricular_tachycardia() -> None:
    times, wide = every(0.4, 9), np.array([False, False, True, True, True, True, True, False, False])
    assert [(i.start, pytest.approx(i.end)) for i in ventricular_tachycardia(times, wide)] == [(0.8, 2.4)]
    assert ventricular_tachycardia(times, wide & (np.arange(9) != 4)) == []  # interrupted
    assert ventricular_tachycardia(every(0.61, 9), np.ones(9, bool)) == []  # an idioventricular rhythm
    assert len(ventricular_tachycardia(times, wide & (np.arange(9) < 6), LENIENT)) == 1


def test_four_seconds_of_oscillation_are_fibrillation() -> None:
    starts = np.arange(10.0)
    waves = np.isin(starts, (3, 4, 5))
    assert ventricular_fibrillation(starts, starts + 2, waves) == [(3.0, 7.0, 4.0)]
    assert ventricular_fibrillation(starts, starts + 2, np.isin(starts, (3, 4))) == []


@given(st.lists(st.floats(0.01, 5), max_size=60))
def test_any_beats_give_intervals_within_them(steps: list[float]) -> None:
    times = np.cumsum(steps) if steps else np.empty(0)
    wide = np.arange(len(times)) % 3 > 0
    end = float(times[-1]) + 1 if len(times) else 1.0
    for found in (
        asystole(times, 0, end), extreme_bradycardia(times), extreme_tachycardia(times),
        ventricular_tachycardia(times, wide),
    ):  # fmt: skip
        assert all(0 <= interval.start < interval.end <= end for interval in found)
