"""Clocks: offset and drift come out of arrivals and of shared signals as they were put in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.monitor.clock import AVERAGES, BREATHS, ClockEstimate, DeviceClock, shared_signal

S = 1_000_000_000
T0 = 1_790_000_000 * S


def device_time(reference: int, offset: float, ppm: float) -> int:
    return reference + round(offset * S) + round((reference - T0) * ppm * 1e-6)


@settings(max_examples=60, deadline=None)
@given(
    offset=st.floats(-1e5, 1e5), ppm=st.floats(-200, 200), jitter=st.floats(0.001, 0.3), seed=st.integers(0, 2**31),
    whole_seconds=st.booleans(),
)  # fmt: skip
def test_offset_and_drift_come_out_of_arrivals(
    offset: float, ppm: float, jitter: float, seed: int, whole_seconds: bool
) -> None:
    """Half an hour, a message about every 0.9 s, delayed by 5 ms at least and by ``jitter`` s more on average."""
    chance = np.random.default_rng(seed)
    clock = DeviceClock()
    now = T0
    for delay in chance.exponential(jitter, 2000):
        now += round(0.9037 * S)
        sent = device_time(now, offset, ppm)
        if whole_seconds:
            sent -= sent % S
        estimate = clock.observe(sent, now + 5_000_000 + min(round(delay * S), S))
    assert clock.steps == 0
    # The quickest message is late by 5 ms and a little; stamps cut to the second cost at most the quickest one's rest.
    allowed = 0.005 + jitter / 10 + (0.15 if whole_seconds else 0.01)
    assert abs(estimate.reference(device_time(now, offset, ppm)) - now) <= allowed * S
    assert abs(estimate.drift * 1e6 - ppm) <= (150 if whole_seconds else 20 + 150 * jitter)


def test_a_clock_that_is_set_is_learnt_anew() -> None:
    clock = DeviceClock()
    for second in range(100):
        clock.observe(T0 + second * S, T0 + second * S + 20_000_000)
    estimate = clock.observe(T0 + 3700 * S, T0 + 100 * S + 20_000_000)  # daylight saving: an hour forward
    assert (clock.steps, round(estimate.offset / S)) == (1, 3600)
    for second in range(101, 200):
        estimate = clock.observe(T0 + second * S, T0 + second * S + 20_000_000)  # and back
    assert clock.steps == 2
    assert abs(estimate.offset) < 0.1 * S


def test_a_slow_network_is_no_clock() -> None:
    clock = DeviceClock()
    for second in range(600):
        late = 4.0 if 300 <= second < 320 else 0.02
        estimate = clock.observe(T0 + second * S, T0 + round((second + late) * S))
    assert clock.steps == 0
    assert abs(estimate.offset + 0.02 * S) < 0.001 * S


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)), max_size=60))
def test_any_stamps_give_an_estimate_and_no_future(stamps: list[tuple[int, int]]) -> None:
    clock = DeviceClock()
    for sent, arrival in stamps:
        estimate = clock.observe(sent, arrival)
        assert estimate.reference(sent) <= arrival + 2 * S
        assert len(clock._points) <= clock.BUCKETS


@given(st.integers(-(10**15), 10**15), st.floats(-4e-4, 4e-4), st.integers(0, 10**14))
def test_a_correction_undoes_the_clock(offset: int, drift: float, elapsed: int) -> None:
    estimate = ClockEstimate(offset, drift, T0)
    device = T0 + elapsed + offset + round(elapsed * drift)
    assert abs(estimate.reference(device) - (T0 + elapsed)) <= 2
    assert abs(int(estimate.apply(np.array([device]))[0]) - estimate.reference(device)) <= 2


def breaths(seconds: float, rate: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A simulated ventilator's pressure: breaths of about five seconds, no two quite alike."""
    chance = np.random.default_rng(seed)
    times = np.arange(0, seconds, 1 / rate)
    starts = np.cumsum(chance.normal(5.0, 0.15, int(seconds / 4)))
    sizes = chance.normal(1.0, 0.1, len(starts))
    which = np.searchsorted(starts, times).clip(1, len(starts) - 1) - 1
    phase = times - starts[which]
    return times, np.where((phase > 0) & (phase < 1.7), sizes[which], 0.0)


@settings(max_examples=15, deadline=None)
@given(offset=st.floats(-12, 12), ppm=st.floats(-300, 300), seed=st.integers(0, 1000))
def test_shared_breaths_give_the_clock(offset: float, ppm: float, seed: int) -> None:
    times, pressure = breaths(900, 25, seed)
    chance = np.random.default_rng(seed + 1)
    venous = 8 + 2 * pressure + chance.normal(0, 1.0, len(times)) + np.sin(times * 7.3)
    reference = T0 + np.round(times * S).astype(np.int64)
    device = np.array([device_time(int(t), offset, ppm) for t in reference], np.int64)
    found = shared_signal((reference, venous), (device, pressure), BREATHS)
    assert found is not None
    middle = T0 + 450 * S
    assert abs(found.reference(device_time(middle, offset, ppm)) - middle) < 0.08 * S
    assert abs(found.drift * 1e6 - ppm) < 120


def test_signals_that_share_nothing_say_nothing() -> None:
    times, pressure = breaths(900, 25, 1)
    reference = T0 + np.round(times * S).astype(np.int64)
    noise = np.random.default_rng(5).normal(size=len(times))
    assert shared_signal((reference, noise), (reference, pressure)) is None
    assert shared_signal((reference, np.full(len(times), 3.0)), (reference, pressure)) is None
    assert shared_signal((reference[:100], noise[:100]), (reference, pressure)) is None
    assert shared_signal((reference, pressure), (reference + 40 * S, pressure)) is None  # beyond the search


def test_gaps_do_not_shift_the_clock() -> None:
    times, pressure = breaths(1200, 25, 3)
    reference = T0 + np.round(times * S).astype(np.int64)
    kept = ~((times > 300) & (times < 420))
    holey = np.where((times > 700) & (times < 730), np.nan, pressure)
    found = shared_signal((reference[kept], pressure[kept]), (reference + 2 * S, holey))
    assert found is not None
    assert abs(found.offset - 2 * S) < 0.03 * S


def test_numerics_of_two_devices() -> None:
    chance = np.random.default_rng(4)
    walk = 70 + np.cumsum(chance.normal(0, 0.3, 2000))
    ours = T0 + np.arange(2000) * S
    found = shared_signal((ours, walk), (ours[::2] + 13 * S, walk[::2]), AVERAGES)
    assert found is not None
    assert found.offset == pytest.approx(13 * S, abs=0.5 * S)
