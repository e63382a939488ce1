"""Limits: delay, hysteresis, missing values, units, and going on after a restart."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest

from operators.monitor.limits import Limits
from pipeline.message import AlertCondition, Message, Numeric
from pipeline.testing import run_operator

S = 1_000_000_000
NAN = float("nan")
HEART = {"name": "heart_rate", "channels": ["*/HR"], "low": 40, "high": 130, "delay_seconds": 10, "hysteresis": 5,
         "clear_seconds": 5, "unit": "/min"}  # fmt: skip


def numbers(values: list[float], *, channel: str = "M/HR", unit: str = "/min", start: int = 0) -> list[Message[Any]]:
    return [
        Message(
            f"monitor.numerics/{channel}", (start + i) * S, start + i, Numeric(channel, "", unit, value), "recorded"
        )
        for i, value in enumerate(values, 1)
    ]


def run(messages: list[Message[Any]], *limits: dict[str, Any]) -> list[tuple[int, AlertCondition]]:
    operator = Limits(limits=limits or (HEART,), name="limits")
    answers = run_operator(operator, messages)
    assert all(m.stream == "limits.conditions" for m in answers)
    return [(m.time // S, m.payload) for m in answers]


def test_a_short_excursion_is_no_alert() -> None:
    assert run(numbers([80] * 5 + [30] * 10 + [80] * 20)) == []


def test_begin_after_the_delay_and_end_after_the_hysteresis() -> None:
    said = run(numbers([80] * 5 + [30] * 20 + [42] * 10 + [50] * 20))
    assert [(time, c.code, c.present) for time, c in said] == [
        (16, "heart_rate_low", True),
        (41, "heart_rate_low", False),
    ]
    begin, end = said[0][1], said[1][1]
    assert (begin.onset, begin.value, begin.limit, begin.unit) == (6 * S, 30, 40, "/min")
    assert (end.onset, end.ended) == (6 * S, 36 * S)
    assert begin.kind == "physiological"
    assert begin.evidence[0].start == 6 * S
    assert begin.rule.name == "limits"


def test_the_alert_comes_on_time_between_sparse_values() -> None:
    messages = [m for m in numbers([30] * 40) if m.time // S in (1, 9, 17)]
    assert [time for time, c in run(messages)] == [11, 17]  # and the end of the input ends it


def test_a_value_that_is_too_old_decides_nothing() -> None:
    messages = [m for m in numbers([30] * 60) if m.time // S in (1, 30, 60)]
    assert run(messages, {**HEART, "hold_seconds": 5}) == []


def test_missing_values_neither_begin_nor_end_an_alert() -> None:
    said = run(numbers([30] * 4 + [NAN] * 3 + [30] * 8 + [NAN] * 60))
    assert [(time, c.present) for time, c in said] == [(11, True), (75, False)]
    assert "no longer watched" in said[1][1].text


def test_high_side_and_conversion() -> None:
    limit = {"name": "map", "channels": ["*/ABP_MEAN"], "high": 120, "delay_seconds": 2, "unit": "mm[Hg]"}
    said = run(numbers([17.0] * 5, channel="M/ABP_MEAN", unit="kPa"), limit)
    assert said[0][1].code == "map_high"
    assert said[0][1].value == pytest.approx(127.5, abs=0.1)


def test_a_strange_unit_is_a_technical_alert() -> None:
    said = run(numbers([20.0] * 30, unit="furlong"))
    assert [(c.code, c.kind, c.present) for _, c in said] == [("limit_not_watched", "technical", True)]


def test_the_best_channel_speaks_and_the_next_steps_in() -> None:
    limit = {**HEART, "channels": ["A/HR", "B/HR"]}
    both = sorted(numbers([80] * 30, channel="A/HR") + numbers([30] * 60, channel="B/HR"), key=lambda m: m.order)
    said = run(both, limit)
    assert [c.subject for _, c in said] == ["B/HR", "B/HR"]
    assert said[0][0] > 39  # not before A has been silent for its ten seconds


def test_a_guard_keeps_a_limit_quiet() -> None:
    cuff = {"name": "cuff", "channels": ["*/NIBP_MEAN"], "unless": ["*/ABP_MEAN"], "low": 65, "delay_seconds": 5}
    low = numbers([60] * 30, channel="M/NIBP_MEAN", unit="mm[Hg]")
    guard = numbers([80] * 30, channel="M/ABP_MEAN", unit="mm[Hg]")
    assert run(sorted(low + guard, key=lambda m: m.order), cuff) == []
    assert run(low, cuff)


def test_two_runs_say_the_same_and_a_restart_goes_on() -> None:
    messages = numbers([80] * 5 + [30] * 20 + [80] * 20)
    assert run(messages) == run(messages)
    first, second = Limits(limits=(HEART,)), Limits(limits=(HEART,))
    said = []
    for message in messages[:20]:
        said += [m.payload for m in first.process(message) or ()]
    second.load_state(json.loads(json.dumps(first.state())))
    for message in messages[20:]:
        said += [m.payload for m in second.process(message) or ()]
    assert [(c.present, c.onset // S) for c in said] == [(True, 6), (False, 6)]


@pytest.mark.parametrize(
    "bad", [{"name": "x", "channels": ["*"]}, {**HEART, "low": 200}, {**HEART, "channels": []}, {**HEART, "dealy": 3}]
)
def test_limits_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        Limits(limits=(bad,))
