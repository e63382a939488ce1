"""Freshness: silence is said once, at the width at which it is, and taken back when data comes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pydantic
import pytest

from operators.monitor.freshness import Freshness
from pipeline.message import AlertCondition, Message, Numeric, Waveform
from pipeline.testing import run_operator

S = 1_000_000_000
WATCHES = [
    {"scope": "source", "silent_after_seconds": 8, "expect": True},
    {"scope": "device", "of": "waveforms", "silent_after_seconds": 1},
    {"scope": "stream", "of": "waveforms", "silent_after_seconds": 2},
    {"scope": "stream", "of": "numerics", "channels": ["*/HR"], "silent_after_seconds": 5},
]


def waves(channel: str, start: float, end: float, value: float = 1.0) -> list[Message[Any]]:
    steps = np.arange(round(start * 10), round(end * 10))
    values = np.full(10, value, np.float32)
    stream = f"monitor.waveforms/{channel}"
    return [
        Message(stream, int(i) * S // 10, int(i), Waveform(channel, "", "", 100.0, values), "recorded") for i in steps
    ]


def rates(start: int, end: int, value: float = 60.0) -> list[Message[Any]]:
    return [
        Message("monitor.numerics/M/HR", i * S, i, Numeric("M/HR", "", "/min", value), "recorded")
        for i in range(start, end)
    ]


def run(*parts: list[Message[Any]], until: float = 0) -> list[tuple[float, AlertCondition]]:
    messages = sorted((m for part in parts for m in part), key=lambda m: m.order)
    options: dict[str, Any] = {"until": int(until * S)} if until else {}
    answers = run_operator(Freshness(watches=WATCHES, name="freshness"), messages, **options)
    return [(m.time / S, m.payload) for m in answers]


def said(found: list[tuple[float, AlertCondition]]) -> list[tuple[float, str, str, bool]]:
    return [(time, c.code, c.subject, c.present) for time, c in found]


def test_steady_data_says_nothing() -> None:
    assert run(waves("M/ECG", 0, 20), waves("M/ABP", 0, 20), rates(0, 20)) == []


def test_a_drop_out_of_the_monitor_is_one_alert_with_its_interval() -> None:
    found = run(waves("M/ECG", 0, 5), waves("M/ABP", 0, 5), waves("M/ECG", 8, 12), waves("M/ABP", 8, 12), rates(0, 12))
    assert said(found) == [
        (6.0, "device_silent", "M waveforms", True),
        (8.0, "device_silent", "M waveforms", False),
    ]
    assert found[0][1].onset == 5 * S
    assert found[1][1].ended == 8 * S
    assert found[0][1].kind == "technical"


def test_one_channel_of_a_speaking_monitor_is_named() -> None:
    found = run(waves("M/ECG", 0, 12), waves("M/ABP", 0, 5), waves("M/ABP", 9, 12))
    assert said(found) == [
        (7.0, "stream_silent", "M/ABP waveforms", True),
        (9.0, "stream_silent", "M/ABP waveforms", False),
    ]


def test_nan_is_silence() -> None:
    nothing = waves("M/ABP", 5, 9, float("nan"))
    found = run(waves("M/ECG", 0, 12), waves("M/ABP", 0, 5), nothing, waves("M/ABP", 9, 12))
    assert [(t, present) for t, _, _, present in said(found)] == [(7.0, True), (9.0, False)]
    found = run(waves("M/ECG", 0, 12), rates(0, 3), rates(3, 12, float("nan")))
    assert said(found)[0] == (7.0, "stream_silent", "M/HR numerics", True)


def test_silence_of_everything_is_said_by_time_alone() -> None:
    found = run(waves("M/ECG", 0, 3), until=30)
    assert said(found)[:2] == [(4.0, "device_silent", "M waveforms", True), (11.0, "source_silent", "any", True)]
    assert all(not present for _, _, _, present in said(found)[2:])


def test_a_channel_that_never_came_is_missed() -> None:
    watch = {"scope": "stream", "channels": ["M/ABP"], "silent_after_seconds": 3, "expect": True}
    answers = run_operator(Freshness(watches=[watch]), rates(0, 10))
    assert answers[0].time == 3 * S
    assert "since the run began" in answers[0].payload.text


def test_state_survives_a_restart() -> None:
    first, second = Freshness(watches=WATCHES), Freshness(watches=WATCHES)
    messages = sorted(waves("M/ECG", 0, 5) + rates(0, 7), key=lambda m: m.order)
    out = run_operator(first, messages[:1])
    for message in messages:
        first.process(message)
    first.on_time(7 * S)
    second.load_state(json.loads(json.dumps(first.state())))
    out = list(second.process(waves("M/ECG", 8, 8.1)[0]) or ())
    assert [(m.payload.present, m.payload.onset) for m in out] == [(False, 5 * S)]


def test_expecting_a_wildcard_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="wildcards"):
        Freshness(watches=[{"channels": ["*/HR"], "expect": True, "silent_after_seconds": 3}])
