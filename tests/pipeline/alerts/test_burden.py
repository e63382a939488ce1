"""Alarm burden and the limit on alerts of low priority, in event time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts import AlertMachine, Digest, Origins, Policy
from pipeline.alerts.burden import Burden, RateLimit
from pipeline.alerts.score import told_of
from pipeline.message import NANOSECONDS, Alert, AlertCondition, Command, Rule

S = NANOSECONDS
MINUTE = 60 * S
RULE = Rule("limit", "1", "0" * 16)


def machine(**policy: Any) -> AlertMachine:
    return AlertMachine(Origins("room", "case", "test"), Policy(**policy))


def condition(code: str, priority: Any = "low", *, onset: int = 0, present: bool = True) -> AlertCondition:
    return AlertCondition(
        code, present, priority, "technical", "text", onset, "rule", RULE, ended=None if present else onset + S
    )


def test_alarms_of_the_last_two_hours_by_the_hour() -> None:
    burden = Burden()
    assert burden.per_hour is None
    burden.reach(0)
    assert burden.per_hour == 0
    for minute in range(0, 120, 10):
        burden.add(minute * MINUTE)
    burden.reach(120 * MINUTE - 1)
    assert burden.alarms == 12
    assert burden.per_hour == pytest.approx(6.0, rel=1e-9)
    burden.reach(125 * MINUTE)
    assert burden.alarms == 11, "the one at 0 is more than two hours ago"
    burden.reach(500 * MINUTE)
    assert burden.per_hour == 0


def test_a_run_that_has_just_begun_is_not_said_to_storm() -> None:
    burden = Burden()
    burden.add(5 * S)
    assert burden.per_hour == pytest.approx(6), "one in the ten minutes that it counts as at least"
    burden.reach(30 * MINUTE + 5 * S)
    assert burden.per_hour == pytest.approx(2)


def test_a_storm_needs_no_memory_and_a_restart_goes_on() -> None:
    burden = Burden()
    for second in range(0, 4 * 3600, 1):
        burden.add(second * S, 3)
    assert len(burden.state()["bins"]) <= 121
    assert burden.per_hour == pytest.approx(3 * 3600)
    again = Burden()
    again.load_state(json.loads(json.dumps(burden.state())))
    again.add(4 * 3600 * S)
    burden.add(4 * 3600 * S)
    assert again.state() == burden.state()


def test_a_clock_that_was_not_set_before_does_not_stretch_the_time_that_was_watched() -> None:
    burden = Burden()
    burden.reach(1)  # before a replay's clock knows when its recording begins
    for second in range(0, 1800, 5):
        burden.reach(1_700_000_000 * S + second * S)
    burden.add(1_700_001_800 * S)
    assert burden.per_hour == pytest.approx(2)


@given(st.lists(st.integers(0, 10**15), max_size=60))
def test_the_burden_is_what_one_counts_by_hand(times: list[int]) -> None:
    burden = Burden()
    for time in sorted(times):
        burden.add(time)
    newest = max(times, default=0) // MINUTE
    assert burden.alarms == sum(time // MINUTE > newest - 120 for time in times)


def test_a_limit_lets_so_many_through_in_any_hour() -> None:
    limit = RateLimit(2)
    assert [limit.passes(minute * MINUTE) for minute in (0, 10, 20, 59, 60, 65, 70)] == [
        True, True, False, False, True, False, True,
    ]  # fmt: skip
    assert not RateLimit(0).passes(0)
    again = RateLimit(2)
    again.load_state(limit.state())
    assert not again.passes(71 * MINUTE)


def test_further_low_alerts_are_recorded_with_the_reason_and_not_signalled() -> None:
    alerts = machine(most_per_hour={"low": 2})
    said = [alerts.condition(condition(f"c{i}"), i * S, "live")[0] for i in range(4)]
    assert [alert.signal.presence for alert in said] == ["on", "on", "off", "off"]
    assert said[2].signal.withheld == "more than 2 alerts of low priority in an hour"
    assert alerts.burden.alarms == 2
    ended = alerts.condition(condition("c3", present=False), 9 * S, "live")
    assert (ended[0].phase, ended[0].signal.presence, bool(ended[0].signal.withheld)) == ("end", "off", True)
    assert [episode.code for episode in told_of([*said, *ended])] == ["c0", "c1"]
    digest = Digest()
    for alert in said:
        digest.add(alert)
    assert (digest.count, digest.suppressed) == (2, 2)
    later = alerts.condition(condition("c9", onset=3600 * S), 3600 * S, "live")
    assert later[0].signal.presence == "on", "an hour later there is room again"


@pytest.mark.parametrize("priority", ["high", "medium"])
def test_medium_and_high_are_never_limited(priority: Any) -> None:
    alerts = machine(most_per_hour={"low": 0, "info": 0})
    said = [alerts.condition(condition(f"c{i}", priority), i, "live")[0] for i in range(500)]
    assert {alert.signal.presence for alert in said} == {"on"}
    with pytest.raises(ValueError, match="most_per_hour"):
        Policy(most_per_hour={priority: 5})


def test_what_was_withheld_is_signalled_once_it_gets_worse() -> None:
    alerts = machine(most_per_hour={"low": 0})
    assert alerts.condition(condition("c"), 0, "live")[0].signal.presence == "off"
    worse = alerts.condition(condition("c", "medium"), S, "live")[0]
    assert (worse.phase, worse.signal.presence, worse.signal.withheld) == ("escalate", "on", "")
    assert [episode.code for episode in told_of([worse])] == ["c"]


def test_a_pause_that_ends_does_not_signal_what_was_withheld() -> None:
    alerts = machine(most_per_hour={"low": 0})
    alerts.condition(condition("low"), 0, "live")
    alerts.condition(condition("high", "high"), 0, "live")
    alerts.command(Command("pause_alarm", "room", "nurse", seconds=30), S)
    back = {alert.condition.code: alert.signal for alert in alerts.advance(60 * S) if alert.time == 31 * S}
    assert (back["low"].presence, bool(back["low"].withheld)) == ("off", True)
    assert back["high"].presence == "on"


def test_being_called_again_counts_and_a_pause_of_alarms_does_not() -> None:
    alerts = machine(escalate_after_seconds={"high": 60})
    alerts.condition(condition("c", "high"), 0, "live")
    alerts.advance(1000 * S)
    assert alerts.burden.alarms == 4, "once, and three times because nobody answered"
    alerts.command(Command("pause_alarm", "room", "nurse", seconds=30), 1000 * S)
    alerts.condition(condition("d", "high"), 1001 * S, "live")
    assert alerts.burden.alarms == 4


def test_escalation_ends_with_an_answer_and_starts_again_when_it_gets_worse() -> None:
    alerts = machine(escalate_after_seconds={"high": 60, "medium": 300})
    alerts.condition(condition("c", "medium"), 0, "live")
    assert [alert.time // S for alert in alerts.advance(310 * S)] == [300]
    alerts.command(Command("acknowledge", "room", "nurse"), 320 * S)
    assert alerts.advance(10_000 * S) == []
    alerts.condition(condition("c", "high"), 10_000 * S, "live")
    assert [alert.time // S for alert in alerts.advance(10_070 * S)] == [10_060]


def test_a_restart_keeps_burden_and_limits() -> None:
    def play(alerts: AlertMachine, seconds: range) -> list[Alert]:
        return [alerts.condition(condition(f"c{i}", onset=i * S), i * S, "live")[0] for i in seconds]

    whole = machine(most_per_hour={"low": 3})
    said = play(whole, range(6))
    first, second = machine(most_per_hour={"low": 3}), machine(most_per_hour={"low": 3})
    head = play(first, range(2))
    second.load_state(json.loads(json.dumps(first.state())))
    assert head + play(second, range(2, 6)) == said
    assert second.burden.state() == whole.burden.state()
