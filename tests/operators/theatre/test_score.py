"""Scoring a run against what was planted."""

from __future__ import annotations

from operators.theatre.score import Alert, alerts_of, score
from operators.theatre.truth import Expectation, Planted
from pipeline.message import AlertCondition, Rule

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
