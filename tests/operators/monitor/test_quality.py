"""Each fault is named, a good signal and a silent heart are not; chunks and bad input change nothing."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.monitor.quality import SignalQuality
from operators.monitor.quality.channel import Blocks, role_of
from operators.monitor.quality.judge import USABLE, Judge
from pipeline.message import AlertCondition, Array, Message, Numeric, Waveform
from pipeline.testing import run_operator
from tests.operators.monitor.hearts import SECOND, START, chunks, electrocardiogram, pulses, regular, together

BEATS = regular(0.3, 60, 72)


def wave(name: str) -> tuple[Array, float]:
    if name.startswith("ECG"):
        return electrocardiogram(BEATS, 60), 250.0
    return pulses(BEATS, 60, low=70 if name == "ABP" else 20, size=45), 125.0


def spoilt(name: str, fault: str) -> Array:
    """A minute whose second half has the fault."""
    values = wave(name)[0].copy()
    half = slice(len(values) // 2, None)
    random = np.random.default_rng(5)
    if fault == "lead_off":
        values[half] = np.nan if name != "ECG_V" else 4.9
    elif fault == "flat":
        values[half] = values[len(values) // 2]
    elif fault == "clipped":
        middle, top = np.percentile(values, (50, 99))
        values[half] = np.clip(3 * (values[half] - middle) + middle, middle - 0.02 * top, middle + 0.2 * (top - middle))
    elif fault == "saturated":
        values[half] = (
            9.0 * np.sin(np.arange(len(values[half]))) if name.startswith("ECG") else 285.0 + values[half] / 50
        )
    elif fault == "noise":
        values[half] += random.normal(0, 1.5 if name.startswith("ECG") else 20, len(values[half]))
    elif fault == "zeroing":
        values[half] = random.normal(0, 0.2, len(values[half]))
    return values.astype(np.float32)


def run(values: Array, name: str, rate: float, **options: Any) -> list[Message[Any]]:
    return run_operator(SignalQuality(name="quality", **options), chunks(name, values, rate))


def indices(said: list[Message[Any]]) -> Array:
    return np.array([m.payload.value for m in said if isinstance(m.payload, Numeric)])


def conditions(said: list[Message[Any]]) -> list[AlertCondition]:
    return [m.payload for m in said if isinstance(m.payload, AlertCondition)]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("ECG_V", "lead_off"), ("ECG_II", "flat"), ("ECG_II", "saturated"), ("ECG_II", "noise"), ("ABP", "flat"),
        ("ABP", "saturated"), ("ABP", "noise"), ("ABP", "zeroing"), ("PLETH", "flat"), ("PLETH", "clipped"),
        ("PLETH", "noise"), ("PLETH", "lead_off"),
    ],
)  # fmt: skip
def test_a_fault_is_named_and_the_good_half_is_not(name: str, fault: str) -> None:
    values, rate = spoilt(name, fault), wave(name)[1]
    judge, found = Judge(role_of(chunks(name, values, rate)[0].payload)), []
    blocks = Blocks()
    for message in chunks(name, values, rate):
        found += [judge.judge(block) for block in blocks.add(message.time, message.payload)]
    good, bad = found[:29], found[31:]
    assert all(verdict.index > 0.8 for verdict in good), [v for v in good if v.index <= 0.8]
    assert [verdict.fault for verdict in bad if verdict.fault != fault] == []
    assert all(verdict.index < USABLE for verdict in bad)


def test_a_heart_that_stands_still_is_no_fault_of_the_lead() -> None:
    values = electrocardiogram([beat for beat in BEATS if beat < 30], 60)
    assert indices(run(values, "ECG_II", 250.0)).min() > 0.8


def test_an_index_a_second_with_its_name_unit_and_time() -> None:
    said = run(wave("ECG_II")[0][:2500], "ECG_II", 250.0)
    assert [m.payload.channel for m in said] == ["Test/ECG_II_QUALITY"] * 10
    assert [m.time for m in said] == [START + second * SECOND for second in range(1, 11)]
    assert {m.payload.unit for m in said} == {"1"}


def test_a_lasting_fault_is_told_after_its_delay_and_ends_with_its_interval() -> None:
    values = electrocardiogram(BEATS, 60)
    values[2500:7500] += np.random.default_rng(0).normal(0, 2, 5000).astype(np.float32)
    first, last = conditions(run(values, "ECG_II", 250.0))
    assert (first.code, first.subject, first.kind, first.priority) == (
        "signal_unusable", "Test/ECG_II", "technical", "low",
    )  # fmt: skip
    assert first.onset == START + 10 * SECOND
    assert "noise" in first.text
    assert (last.present, last.ended) == (False, START + 30 * SECOND)


def test_a_short_fault_is_not_told_but_without_delay_it_is() -> None:
    values = electrocardiogram(BEATS, 60)
    values[2500:5000] = 0.1
    assert conditions(run(values, "ECG_II", 250.0)) == []
    assert len(conditions(run(values, "ECG_II", 250.0, delay_seconds=0))) == 2


def test_what_the_rules_of_the_arterial_line_say_is_not_said_again() -> None:
    for fault in ("saturated", "noise", "zeroing"):
        assert conditions(run(spoilt("ABP", fault), "ABP", 125.0)) == []


def test_silence_is_left_to_freshness() -> None:
    values, rate = wave("ECG_II")
    messages = [m for m in chunks("ECG_II", values, rate) if not 20 <= (m.time - START) / SECOND < 45]
    said = run_operator(SignalQuality(name="quality", delay_seconds=5), messages)
    assert conditions(said) == []
    assert len(indices(said)) == 35


def test_the_baseline_takes_noise_for_a_good_signal() -> None:
    values = spoilt("ECG_II", "noise")
    assert indices(run(values, "ECG_II", 250.0, baseline=True)).min() == 1.0
    assert indices(run(values, "ECG_II", 250.0))[31:].max() < USABLE


def test_microvolts_and_kilopascals_are_read_and_unknown_units_are_left_alone() -> None:
    values, rate = wave("ECG_II")
    for factor, unit, count in ((1e3, "uV", 60), (1.0, "Ohm", 0)):
        messages = [
            Message(m.stream, m.time, m.sequence, msgspec.structs.replace(m.payload, unit=unit))
            for m in chunks("ECG_II", values * factor, rate)
        ]
        assert len(run_operator(SignalQuality(name="quality"), messages)) == count


@settings(max_examples=12, deadline=None)
@given(sizes=st.lists(st.integers(3, 700), min_size=1, max_size=6))
def test_chunks_of_any_size_give_the_same(sizes: list[int]) -> None:
    values = spoilt("ECG_II", "noise")[6000:9500]
    whole = run_operator(SignalQuality(name="quality", delay_seconds=3), chunks("ECG_II", values, 250.0, [3500]))
    parts = run_operator(SignalQuality(name="quality", delay_seconds=3), chunks("ECG_II", values, 250.0, sizes))
    assert [(m.order, m.payload) for m in parts] == [(m.order, m.payload) for m in whole]


@settings(max_examples=60, deadline=None)
@given(
    data=st.lists(
        st.lists(st.floats(width=32) | st.sampled_from([math.nan, math.inf, 1e30, 0.0]), max_size=80), max_size=12
    ),
    steps=st.lists(st.integers(-3_000_000_000, 5_000_000_000), min_size=12, max_size=12),
    rate=st.sampled_from([60.0, 125.0, 124.945, 500.0, 1.0, math.nan, 1e9]),
    name=st.sampled_from(["ECG_II", "ABP", "PLETH"]),
)
def test_bad_samples_times_and_rates_are_survived(
    data: list[list[float]], steps: list[int], rate: float, name: str
) -> None:
    time, messages = START, []
    for index, (values, step) in enumerate(zip(data, steps, strict=False)):
        payload = chunks(name, np.array([1.0], np.float32), 125.0)[0].payload
        wave_ = Waveform(payload.channel, payload.code, payload.unit, rate, np.array(values, np.float32))
        messages.append(Message("w/x", time, index, wave_))
        time += step
    said = run_operator(SignalQuality(name="quality", delay_seconds=0), sorted(messages, key=lambda m: m.time))
    assert all(0 <= value <= 1 for value in indices(said))


def test_a_restart_keeps_the_episode() -> None:
    values = electrocardiogram(BEATS, 60)
    values[2500:10000] += np.random.default_rng(0).normal(0, 2, 7500).astype(np.float32)
    messages = chunks("ECG_II", values, 250.0, [250])
    first, second = SignalQuality(name="quality"), SignalQuality(name="quality")
    said = [m for message in messages[:30] for m in (first.process(message) or [])]
    second.load_state(json.loads(json.dumps(first.state())))
    said += [m for message in messages[30:] for m in (second.process(message) or [])]
    whole = run_operator(SignalQuality(name="quality"), messages)
    assert conditions(said) == conditions(whole)


def test_memory_is_bounded() -> None:
    blocks, held = Blocks(), 0
    values = np.zeros(7, np.float32)
    for index in range(3000):
        list(blocks.add(START + round(index * 7 / 250 * SECOND), chunks("ECG_II", values, 250.0)[0].payload))
        held = max(held, blocks._holding)
    assert held < 250


def test_channels_are_told_apart_by_code() -> None:
    values, rate = wave("ABP")
    other = [
        Message("w/cvp", m.time, m.sequence, msgspec.structs.replace(m.payload, code="MDC_PRESS_BLD_VEN_CENT"))
        for m in chunks("ABP", values, rate)
    ]
    said = run_operator(SignalQuality(name="quality"), together(other, chunks("ABP", values, rate)))
    assert {m.payload.channel for m in said} == {"Test/ABP_QUALITY"}
