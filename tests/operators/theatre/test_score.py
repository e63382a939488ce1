"""Scoring a run against what was planted."""

from __future__ import annotations

import pytest

from operators.theatre.case import SHIPPED
from operators.theatre.reader import TheatreReader
from operators.theatre.score import Alert, alerts_of, events_of, score, told_of
from operators.theatre.truth import Expectation, Planted
from pipeline import message
from pipeline.message import AlertCondition, Rule, Signal

S = 1_000_000_000
HYPOTENSION = Planted("hypotension", 10 * S, 80 * S, expect=(Expectation(code="hypotension"),))
OFF = Planted(
    "sensor_off",
    30 * S,
    40 * S,
    expect=(Expectation(code="stream_silent", subject="*/CO2*"),),
    allow=(Expectation(code="end_tidal*"),),
)


def test_found_missed_false_and_repeated() -> None:
    alerts = [
        Alert("hypotension", 12 * S, 50 * S, detected=72 * S),
        Alert("hypotension", 60 * S),
        Alert("stream_silent", 30 * S, subject="Intellivue/ABP waveforms"),
        Alert("end_tidal_co2_low", 35 * S),
        Alert("heart_rate_low", 5 * S),
    ]
    result = score([HYPOTENSION, OFF], alerts)
    assert (result.planted, result.found, len(result.missed)) == (2, 1, 1)
    assert result.missed[0].planted is OFF
    assert [alert.code for alert in result.false] == ["heart_rate_low", "stream_silent"]
    assert sorted(alert.code for alert in result.repeated) == ["end_tidal_co2_low", "hypotension"]
    assert result.matches[0].delay_seconds == 62
    assert result.plain()["false"] == 2


def test_too_early_and_too_late_are_false() -> None:
    assert score([HYPOTENSION], [Alert("hypotension", 7 * S)]).false
    assert score([HYPOTENSION], [Alert("hypotension", 8 * S)]).found == 1
    assert score([HYPOTENSION], [Alert("hypotension", 101 * S)]).false


def test_two_plantings_need_two_alerts() -> None:
    later = Planted("hypotension", 200 * S, 280 * S, expect=(Expectation(code="hypotension"),))
    assert score([HYPOTENSION, later], [Alert("hypotension", 12 * S)]).found == 1
    assert score([HYPOTENSION, later], [Alert("hypotension", 12 * S), Alert("hypotension", 210 * S)]).found == 2


def test_alerts_are_read_from_conditions() -> None:
    def condition(present: bool, code: str = "hypotension", **more: object) -> AlertCondition:
        return AlertCondition(code, present, "medium", "physiological", "", 12 * S, "rule", Rule("r", "1", ""), **more)  # type: ignore[arg-type]

    alerts = alerts_of(
        [
            (72 * S, condition(True)),
            (74 * S, condition(True, value=50.0)),
            (90 * S, condition(False, ended=85 * S)),
            (72 * S, condition(True, "other", suppressed_by="artefact")),
        ]
    )
    assert alerts == [Alert("hypotension", 12 * S, 85 * S, "", 72 * S)]


def test_alerts_are_read_from_what_people_were_told() -> None:
    def told(alert_id: str, revision: int, ended: int | None = None) -> message.Alert:
        condition = AlertCondition(
            "hypotension", ended is None, "medium", "physiological", "", 12 * S, "rule", Rule("r", "1", ""), ended=ended
        )
        signal = Signal("on", 72 * S)
        return message.Alert(
            alert_id, revision, "start", 72 * S, 72 * S, condition, signal, "room", "case", "theatre", "simulated"
        )

    # A signal that is acknowledged after the condition has ended is a later revision, and the episode stays ended.
    alerts = told_of([told("a", 2, 85 * S), told("a", 1), told("b", 1)])
    assert alerts == [Alert("hypotension", 12 * S, 85 * S, "", 72 * S), Alert("hypotension", 12 * S, None, "", 72 * S)]


def test_delays_are_percentiles_by_nearest_rank() -> None:
    truth = [Planted("x", at * S, (at + 1) * S, expect=(Expectation(code=f"c{at}"),)) for at in (0, 100, 200, 300)]
    alerts = [Alert(f"c{at}", at * S, detected=(at + delay) * S) for at, delay in ((0, 1), (100, 2), (200, 9))]
    result = score(truth, alerts)
    assert (result.delay(50), result.delay(99)) == (2, 9)
    assert result.plain()["delay_p99_seconds"] == 9
    assert score(truth, []).delay(50) is None


def test_what_was_planted_is_given_to_the_common_scorer_as_events() -> None:
    wanted, allowed = events_of([OFF])
    assert (wanted.code, wanted.subject, wanted.required, wanted.name) == (
        "stream_silent",
        "*/CO2*",
        True,
        "sensor_off",
    )
    assert wanted.window == (28 * S, 60 * S), "two seconds early, and the expectation's tail after the end"
    assert (allowed.code, allowed.required) == ("end_tidal*", False)


def test_a_case_brings_its_truth_for_the_command_line() -> None:
    reader = TheatreReader(SHIPPED / "eventful.yaml")
    truth = reader.truth()
    assert truth.monitored == ((reader.case.origin_ns, reader.case.end_ns),)
    assert sum(event.required for event in truth.events) == 11
    nothing = truth.score([])
    assert (len(nothing.matching.missed), nothing.hours) == (11, pytest.approx(reader.case.duration / 3600))
