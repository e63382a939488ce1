"""The alert state machine."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts import AlertMachine, Digest, Origins, Policy
from pipeline.errors import MessageError
from pipeline.message import NANOSECONDS, Alert, AlertCondition, Command, Rule

S = NANOSECONDS
RULE = Rule("limit", "1", "0" * 16)


def machine(**policy: Any) -> AlertMachine:
    return AlertMachine(Origins("room", "case", "test"), Policy(**policy))


def condition(present: bool = True, onset: int = 0, code: str = "low", **changes: Any) -> AlertCondition:
    plain: dict[str, Any] = {
        "priority": "high", "kind": "physiological", "text": "low", "source": "limits", "rule": RULE,
        "ended": None if present else 10 * S,
    } | changes  # fmt: skip
    return AlertCondition(code=code, present=present, onset=onset, **plain)


def command(name: Any, **changes: Any) -> Command:
    return Command(name, changes.pop("room", "room"), changes.pop("by", "anaesthesia"), **changes)


def told(alerts: list[Alert]) -> list[tuple[str, str, str]]:
    return [(alert.phase, alert.signal.presence, alert.signal.inactivation) for alert in alerts]


def test_a_condition_starts_changes_gets_worse_and_ends() -> None:
    alerts = machine(latching=())
    first = alerts.condition(condition(priority="medium"), S, "live")
    same = alerts.condition(condition(priority="medium"), 2 * S, "live")
    changed = alerts.condition(condition(priority="medium", value=3.0), 3 * S, "live")
    worse = alerts.condition(condition(), 4 * S, "live")
    ended = alerts.condition(condition(False), 10 * S, "live")
    assert same == []
    assert [a.phase for a in [*first, *changed, *worse, *ended]] == ["start", "update", "escalate", "end"]
    assert [a.revision for a in [*first, *changed, *worse, *ended]] == [1, 2, 3, 4]
    assert len({a.alert_id for a in [*first, *changed, *worse, *ended]}) == 1
    assert ended[0].signal.presence == "off"
    assert ended[0].detected == S
    assert alerts.due() is None


def test_a_high_physiological_alert_latches_until_acknowledged_and_a_technical_one_does_not() -> None:
    alerts = machine()
    alerts.condition(condition(), 0, "live")
    alerts.condition(condition(code="silent", kind="technical"), 0, "live")
    assert told(alerts.condition(condition(False), 10 * S, "live")) == [("end", "latched", "none")]
    assert told(alerts.condition(condition(False, code="silent", kind="technical"), 10 * S, "live"))[0][1] == "off"
    assert told(alerts.command(command("acknowledge"), 11 * S)) == [("signal", "off", "none")]
    assert alerts.active == {}


def test_an_acknowledged_alert_is_silent_until_it_gets_worse() -> None:
    alerts = machine()
    first = alerts.condition(condition(priority="medium"), 0, "live")[0]
    assert told(alerts.command(command("acknowledge", alert_id=first.alert_id), S)) == [
        ("signal", "acknowledged", "none")
    ]
    assert alerts.command(command("acknowledge"), 2 * S) == [], "once is enough"
    assert alerts.due() is None
    assert told(alerts.condition(condition(), 3 * S, "live")) == [("escalate", "on", "none")]


def test_nobody_answers() -> None:
    alerts = machine(escalate_after_seconds={"high": 60})
    alerts.condition(condition(), 0, "live")
    said = alerts.advance(10_000 * S)
    assert [(a.time // S, a.signal.escalation) for a in said] == [(60, 1), (120, 2), (180, 3)]
    assert alerts.due() is None


def test_paused_sound_does_not_hide_a_new_alert_and_a_paused_alarm_does_visibly() -> None:
    alerts = machine(longest_pause_seconds=120)
    alerts.condition(condition(), 0, "live")
    assert told(alerts.command(command("pause_audio", seconds=600), S)) == [("signal", "on", "audio_paused")]
    assert alerts.active["limits", "low", ""].alert.signal.until == 121 * S, "no longer than the policy allows"
    assert told(alerts.condition(condition(code="other"), 2 * S, "live")) == [("start", "on", "none")]
    alerts.command(command("pause_alarm", seconds=30), 3 * S)
    assert told(alerts.condition(condition(code="third"), 4 * S, "live")) == [("start", "off", "alarm_paused")]
    back = alerts.advance(33 * S)
    assert told(back) == [("signal", "on", "none")] * 3
    assert {a.time for a in back} == {33 * S}


def test_resume_ends_a_pause_early() -> None:
    alerts = machine()
    alerts.command(command("pause_alarm"), 0)
    alerts.condition(condition(), S, "live")
    assert told(alerts.command(command("resume"), 2 * S)) == [("signal", "on", "none")]
    assert told(alerts.condition(condition(code="other"), 3 * S, "live")) == [("start", "on", "none")]


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        (command("acknowledge", room="other"), "room"),
        (command("acknowledge", by=" "), "by"),
        (command("acknowledge", alert_id="nothing"), "alert_id"),
        (command("pause_audio", seconds=-1), "seconds"),
        (command("pause_audio", seconds=float("nan")), "seconds"),
        (command("alarm_off"), "alarm_off"),
    ],
)
def test_a_command_that_cannot_be_done_changes_nothing(wrong: Command, place: str) -> None:
    alerts = machine()
    alerts.condition(condition(), 0, "live")
    before = alerts.state()
    with pytest.raises(MessageError) as refused:
        alerts.command(wrong, S)
    assert refused.value.where == place
    assert alerts.state() == before


def test_alarms_are_switched_off_only_where_the_policy_allows() -> None:
    alerts = machine(allow_off=True)
    alerts.command(command("alarm_off"), 0)
    assert told(alerts.condition(condition(), S, "live")) == [("start", "off", "alarm_off")]
    assert alerts.advance(10**6 * S) == []


def test_a_new_episode_takes_a_latched_ones_place_and_has_its_own_id() -> None:
    alerts = machine()
    first = alerts.condition(condition(), 0, "live")[0]
    alerts.condition(condition(False), 10 * S, "live")
    again = alerts.condition(condition(onset=20 * S), 20 * S, "live")
    assert told(again) == [("signal", "off", "none"), ("start", "on", "none")]
    assert again[0].alert_id == first.alert_id != again[1].alert_id


def test_an_episode_told_twice_with_one_onset_still_has_two_ids() -> None:
    alerts = machine(latching=())
    ids = []
    for time in (0, 20 * S):
        ids.append(alerts.condition(condition(), time, "live")[0].alert_id)
        alerts.condition(condition(False), time + S, "live")
    assert len(set(ids)) == 2


def test_a_suppressed_candidate_is_said_but_never_signalled() -> None:
    alerts = machine()
    said = alerts.condition(condition(suppressed_by="flush"), 0, "live")
    assert told(said) == [("start", "off", "none")]
    assert alerts.active == {}
    assert alerts.condition(condition(False, suppressed_by="flush"), S, "live") == []


def test_a_verdict_revises_its_own_alert_and_never_begins_one() -> None:
    alerts = machine()
    early = alerts.condition(condition(verified="confirmed"), 0, "live")
    first = alerts.condition(condition(), S, "live")
    other = alerts.condition(condition(onset=S, verified="demoted", priority="low"), 2 * S, "live")
    demoted = alerts.condition(condition(verified="demoted", priority="low"), 3 * S, "live")
    assert [early, other] == [[], []]
    assert told(first + demoted) == [("start", "on", "none"), ("update", "on", "none")]
    assert demoted[0].alert_id == first[0].alert_id
    assert demoted[0].revision == 2
    assert alerts.due() is None, "what was demoted to low is not signalled anew as if it were high"
    assert told(alerts.condition(condition(False), 4 * S, "live")) == [("end", "off", "none")]
    assert alerts.condition(condition(verified="confirmed"), 5 * S, "live") == [], "it is over"


def test_a_verdict_on_a_latched_alert_comes_too_late() -> None:
    alerts = machine()
    alerts.condition(condition(), S, "live")
    alerts.condition(condition(False), 2 * S, "live")
    assert alerts.condition(condition(verified="demoted", priority="low"), 3 * S, "live") == []


def test_it_goes_on_from_its_state() -> None:
    one = machine()
    one.condition(condition(), 0, "live")
    one.command(command("pause_audio"), S)
    other = machine()
    other.load_state(msgspec.json.decode(msgspec.json.encode(one.state())))
    assert other.due() == one.due()
    assert other.advance(500 * S) == one.advance(500 * S)
    assert other.condition(condition(False), 600 * S, "live") == one.condition(condition(False), 600 * S, "live")


steps = st.lists(
    st.tuples(
        st.sampled_from(["on", "worse", "off", "acknowledge", "pause_audio", "pause_alarm", "resume", "wait"]),
        st.sampled_from(["low", "high"]),
        st.integers(1, 200),
    ),
    max_size=40,
)


@given(steps)
def test_whatever_happens_revisions_count_up_and_time_never_goes_back(script: list[tuple[str, str, int]]) -> None:
    alerts, said, time, onsets = machine(), list[Alert](), 0, {"low": 0, "high": 0}
    for what, code, seconds in script:
        time += seconds * S
        said += alerts.advance(time)
        if what in ("on", "worse"):
            priority = "high" if what == "worse" else "medium"
            said += alerts.condition(condition(code=code, onset=onsets[code], priority=priority), time, "live")
        elif what == "off":
            said += alerts.condition(condition(False, code=code, onset=onsets[code], ended=time), time, "live")
            onsets[code] = time
        elif what != "wait":
            said += alerts.command(command(what), time)
    revisions: dict[str, int] = {}
    for alert in said:
        revisions[alert.alert_id] = revisions.get(alert.alert_id, 0) + 1
        assert alert.revision == revisions[alert.alert_id]
        if alert.signal.presence == "latched":
            assert alert.condition.ended is not None
    assert [alert.time for alert in said] == sorted(alert.time for alert in said)
    assert msgspec.json.decode(msgspec.json.encode(said), type=list[Alert]) == said


def test_the_digest_knows_content_and_not_order_or_run() -> None:
    def digest(room: str, *, backwards: bool = False, text: str = "low") -> str:
        alerts, found = AlertMachine(Origins(room, "case", "test")), Digest()
        said = alerts.condition(condition(text=text), 0, "live") + alerts.condition(condition(code="x"), 0, "live")
        for alert in reversed(said) if backwards else said:
            found.add(alert)
        assert found.count == 2
        return found.hexdigest()

    assert digest("one") == digest("two") == digest("one", backwards=True)
    assert digest("one") != digest("one", text="other")
