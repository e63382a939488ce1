"""Beats are found where they are, none where there is none, and rates only where channels agree."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.monitor.beats import Beats
from operators.monitor.beats.library import match, ours, ours_times, run
from operators.monitor.beats.rate import Reading, channel_rate, heart_rate, pulse_rate
from pipeline.message import Array, Event, Message, Numeric, Waveform
from pipeline.testing import run_operator
from tests.operators.monitor.hearts import (
    SECOND,
    START,
    chunks,
    electrocardiogram,
    pulses,
    regular,
    together,
)

NAN = math.nan


def found(said: list[Message[Any]], channel: str) -> Array:
    return np.array([(m.time - START) / SECOND for m in said if isinstance(m.payload, Event) and channel in m.stream])


def rates(said: list[Message[Any]], name: str) -> Array:
    return np.array([m.payload.value for m in said if isinstance(m.payload, Numeric) and name in m.stream])


# ------------------------------------------------------------------------------------------ detection


@pytest.mark.parametrize("per_minute", [32, 60, 110, 190])
@pytest.mark.parametrize("rate", [125.0, 250.0, 360.0, 500.0])
def test_every_r_wave_once_and_in_its_place(per_minute: float, rate: float) -> None:
    beats = regular(0.5, 58, per_minute)
    times = ours_times(electrocardiogram(beats, 60, rate), rate)
    agreement = match(np.array(beats), times, 0.03)
    assert (agreement.missed, agreement.invented) == (0, 0)


@pytest.mark.parametrize("role", ["abp", "pleth"])
def test_every_pulse_once_and_at_its_foot(role: Any) -> None:
    beats = regular(0.5, 58, 80)
    times = np.array([beat.time / SECOND for beat in ours(pulses(beats, 60, low=70, size=40), 125.0, role)])
    agreement = match(np.array(beats) + 0.2, times, 0.07)
    assert (agreement.missed, agreement.invented) == (0, 0)


def test_a_standstill_has_no_beats_though_a_library_detector_counts_on() -> None:
    beats = [beat for beat in regular(0.5, 60, 75) if beat < 30]
    values = electrocardiogram(beats, 60)
    assert (ours_times(values, 250.0) > 30.2).sum() == 0
    assert (run("neurokit2 rodrigues2021", values, 250.0) > 30.2).sum() > 10


def test_a_small_beat_is_found_by_searching_back_and_order_is_kept() -> None:
    beats = regular(0.5, 58, 70)
    small = beats[30]
    values = electrocardiogram([beat for beat in beats if beat != small], 60) + 0.3 * electrocardiogram(
        [small], 60, noise=0.0
    )
    times = ours_times(values, 250.0)
    assert np.abs(times - small).min() < 0.03
    assert (np.diff(times) > 0).all()


def test_wide_beats_unlike_the_usual_are_ventricular_and_a_block_is_not() -> None:
    normal = [beat for beat in regular(0.5, 60, 75) if beat < 40]
    wide = regular(41, 48, 150)
    said = ours(electrocardiogram(normal, 60, wide=wide), 250.0)
    flagged = [beat.time / SECOND for beat in said if beat.ventricular]
    assert match(np.array(wide), np.array(flagged), 0.1).f1 > 0.9
    block = ours(electrocardiogram([], 60, wide=regular(0.5, 58, 75)), 250.0)
    assert not any(beat.ventricular for beat in block)


def test_after_diathermy_the_usual_beats_are_found_at_once() -> None:
    beats = regular(0.5, 58, 70)
    values = electrocardiogram(beats, 60)
    values[5000:6250] += np.random.default_rng(0).normal(0, 1.6, 1250).astype(np.float32)
    late = np.array([beat for beat in beats if beat > 26.5])
    times = ours_times(values, 250.0)
    assert match(late, times[times > 26.2], 0.03).missed == 0


# ------------------------------------------------------------------------------------------- operator


def test_beats_and_rates_of_a_heart_seen_on_three_channels() -> None:
    beats = regular(0.5, 59, 75)
    messages = together(
        chunks("ECG_II", electrocardiogram(beats, 60), 250.0), chunks("ABP", pulses(beats, 60, low=70, size=40), 125.0),
        chunks("PLETH", pulses(beats, 60), 125.0),
    )  # fmt: skip
    said = run_operator(Beats(name="beats"), messages)
    assert len(found(said, "ECG_II")) == len(found(said, "PLETH")) == len(beats)
    first = next(m for m in said if isinstance(m.payload, Event) and "ECG" in m.stream)
    assert first.payload.kind == "beat"
    assert first.payload.data["role"] == "ecg"
    assert first.origin == "simulated"
    assert abs(np.nanmedian(rates(said, "HEART_RATE")) - 75) < 1
    assert abs(np.nanmedian(rates(said, "PULSE_RATE")) - 75) < 1
    assert np.isnan(rates(said, "HEART_RATE")[10:-3]).sum() == 0


def test_channels_that_disagree_give_no_rate() -> None:
    messages = together(
        chunks("ECG_II", electrocardiogram(regular(0.5, 59, 140), 60), 250.0),
        chunks("PLETH", pulses(regular(0.5, 59, 70), 60), 125.0),
    )
    said = run_operator(Beats(name="beats"), messages)
    assert np.isnan(rates(said, "HEART_RATE")).all()
    assert np.isnan(rates(said, "PULSE_RATE")).all()


def test_a_noisy_lead_gives_no_rate() -> None:
    values = electrocardiogram(regular(0.5, 59, 70), 60)
    values[5000:10000] += np.random.default_rng(0).normal(0, 1.6, 5000).astype(np.float32)
    said = run_operator(Beats(name="beats"), chunks("ECG_II", values, 250.0))
    assert np.isnan(rates(said, "HEART_RATE")[23:40]).all()
    assert abs(rates(said, "HEART_RATE")[50] - 70) < 2


def test_a_standstill_that_all_channels_show_is_a_rate_of_zero() -> None:
    beats = regular(0.5, 30, 75)
    messages = together(
        chunks("ECG_II", electrocardiogram(beats, 50), 250.0), chunks("PLETH", pulses(beats, 50), 125.0)
    )
    said = run_operator(Beats(name="beats"), messages)
    assert (rates(said, "HEART_RATE")[38:48] == 0).all()


@settings(max_examples=6, deadline=None)
@given(sizes=st.lists(st.integers(5, 900), min_size=1, max_size=6))
def test_chunks_of_any_size_give_the_same_beats(sizes: list[int]) -> None:
    beats = regular(0.5, 22, 75)
    values = electrocardiogram(beats[:12] + beats[14:], 24, wide=[beats[13]])
    values[3000:3040] = np.nan

    def play(sizes: list[int]) -> list[Any]:
        said = run_operator(Beats(name="beats"), chunks("ECG_II", values, 250.0, sizes))
        assert any(isinstance(m.payload, Numeric) and m.payload.value > 60 for m in said)
        # Rates go on for as long as chunks begin, so they are compared until there.
        last = START + 19 * SECOND
        kept = [m for m in said if isinstance(m.payload, Event) or m.time <= last]
        return [(m.stream, m.time, repr(m.payload)) for m in sorted(kept, key=lambda m: m.order)]

    assert play(sizes) == play([25])


@settings(max_examples=40, deadline=None)
@given(
    data=st.lists(
        st.lists(st.floats(width=32) | st.sampled_from([NAN, math.inf, 1e30, 0.0]), max_size=300), max_size=10
    ),
    steps=st.lists(st.integers(-3_000_000_000, 5_000_000_000), min_size=10, max_size=10),
    name=st.sampled_from(["ECG_II", "ABP", "PLETH"]),
    rate=st.sampled_from([60.0, 125.0, 124.945, 500.0, 0.0, NAN]),
)
def test_bad_samples_times_and_rates_are_survived(
    data: list[list[float]], steps: list[int], name: str, rate: float
) -> None:
    time, messages = START, []
    code = chunks(name, np.zeros(1, np.float32), 125.0)[0].payload
    for index, (values, step) in enumerate(zip(data, steps, strict=False)):
        wave = Waveform(code.channel, code.code, code.unit, rate, np.array(values, np.float32))
        messages.append(Message("w/x", time, index, wave))
        time += step
    said = run_operator(Beats(name="beats"), sorted(messages, key=lambda m: m.time))
    assert all(m.payload.value >= 0 or math.isnan(m.payload.value) for m in said if isinstance(m.payload, Numeric))


def test_a_gap_begins_anew_and_keeps_what_is_usual() -> None:
    beats = regular(0.5, 59, 75)
    messages = [
        m for m in chunks("ECG_II", electrocardiogram(beats, 60), 250.0) if not 20 <= (m.time - START) / SECOND < 26
    ]
    times = found(run_operator(Beats(name="beats"), messages), "ECG_II")
    assert ((times > 20) & (times < 26)).sum() == 0
    assert match(np.array([b for b in beats if b > 31]), times[times > 31], 0.03).f1 == 1.0


def test_a_restart_knows_the_usual_beat() -> None:
    beats = [beat for beat in regular(0.5, 60, 75) if beat < 40]
    messages = chunks("ECG_II", electrocardiogram(beats, 60, wide=regular(41, 48, 150)), 250.0, [250])
    first, second = Beats(name="beats"), Beats(name="beats")
    for message in messages[:30]:
        first.process(message)
    second.load_state(json.loads(json.dumps(first.state())))
    said = [m for message in messages[30:] for m in (second.process(message) or [])]
    assert sum(m.payload.data["ventricular"] for m in said) >= 10


# ---------------------------------------------------------------------------------------------- rates


def test_matching_counts_each_beat_once() -> None:
    reference, detected = np.array([1.0, 2.0, 3.0]), np.array([1.05, 1.06, 2.2, 3.0])
    assert match(reference, detected, 0.075) == (2, 1, 2)
    assert match(reference, detected, 0.075).f1 == pytest.approx(4 / 7)
    assert math.isnan(match(np.empty(0), np.empty(0)).f1)


@pytest.mark.parametrize(
    ("readings", "heart", "pulse"),
    [
        ([("ecg", 70)], 70, NAN),
        ([("pleth", 70)], NAN, 70),
        ([("ecg", 70), ("pleth", 72)], 70, 72),
        ([("ecg", 140), ("pleth", 70)], NAN, NAN),
        ([("ecg", 140), ("ecg", 70), ("pleth", 70)], 70, 70),
        ([("ecg", 140), ("ecg", 141), ("abp", 70), ("pleth", 70)], 140.5, 70),
        ([("ecg", 140), ("ecg", 70), ("abp", 70), ("pleth", 140)], NAN, NAN),
        ([("ecg", NAN), ("pleth", 70), ("abp", 71)], NAN, 70.5),
        ([("ecg", 0), ("pleth", 0)], 0, 0),
        ([], NAN, NAN),
    ],
)
def test_rates_by_agreement(readings: list[tuple[str, float]], heart: float, pulse: float) -> None:
    given_ = [Reading(role, rate) for role, rate in readings]
    assert heart_rate(given_) == pytest.approx(heart, nan_ok=True)
    assert pulse_rate(given_) == pytest.approx(pulse, nan_ok=True)


def test_the_rate_of_a_channel_falls_while_no_beat_comes() -> None:
    times = [float(second) for second in range(10)]
    assert channel_rate(times, 9.5, True) == 60
    assert channel_rate(times, 12.0, True) == 20
    assert channel_rate(times, 13.0, True) == 0
    assert math.isnan(channel_rate(times, 9.5, False))
    assert math.isnan(channel_rate([8.0], 9.0, True))
