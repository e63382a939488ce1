"""`vigil score`: recordings that are replayed, recordings and journals that hold alerts, cases with their own truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import operators.theatre
from operators.sinks.recorder import Recorder
from pipeline.cli.app import app
from pipeline.errors import VigilError
from pipeline.journal import Journal
from pipeline.message import Alert, AlertCondition, Message, Numeric, Rule, Signal
from pipeline.testing import run_operator

S = 1_000_000_000
T0 = 1_577_836_800 * S
"""2020-01-01T00:00:00Z"""
CASE = Path(operators.theatre.__path__[0]) / "cases" / "eventful.yaml"
TRUTH = "truth: 1\nstart: 2020-01-01T00:00:00Z\nmonitored: [[0, 3600]]\nevents:\n"
FIRST = "  - {code: hypotension, onset: 100, end: 300, early: 30, name: first}\n"
SECOND = "  - {code: hypotension, onset: 2000, end: 2300, name: second}\n"


def score(*arguments: str | Path, expect: int = 0) -> str:
    done = CliRunner().invoke(app, ["score", *map(str, arguments)])
    if isinstance(done.exception, VigilError):
        raise done.exception
    assert done.exit_code == expect, (done.output, done.exception)
    return done.stdout


def told(onset: int, code: str = "hypotension", **more: Any) -> list[Alert]:
    rule = Rule("r", "1", "")
    start = AlertCondition(code, True, "medium", "physiological", "low", T0 + onset * S, "rule", rule, **more)
    end = AlertCondition(code, False, "medium", "physiological", "low", T0 + onset * S, "rule", rule,
                         ended=T0 + (onset + 60) * S, **more)  # fmt: skip
    return [
        Alert(f"{code}-{onset}", revision, phase, condition.onset, T0 + onset * S, condition, Signal("on", 0), "room",
              "case", "monitor", "recorded")
        for revision, phase, condition in ((1, "start", start), (2, "end", end))
    ]  # fmt: skip


ALERTS = [*told(80), *told(200), *told(1000), *told(1500, suppressed_by="the line is open to air")]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    writer = Journal(path)
    for alert in ALERTS:
        writer.append("suppressed" if alert.condition.suppressed_by and alert.revision == 1 else "alert", alert)
    writer.close()
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    messages: list[Message[Any]] = [
        Message("monitor.numerics/M/ABP_MEAN", T0 + second * S, second, Numeric("M/ABP_MEAN", "", "mm[Hg]", 80.0))
        for second in range(0, 3600, 60)
    ]
    messages += [Message("alerts.alerts", alert.time, n, alert) for n, alert in enumerate(ALERTS)]
    run_operator(Recorder(), sorted(messages, key=lambda m: m.order), data=tmp_path)
    return tmp_path / "recording.mcap"


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.yaml"
    path.write_text(TRUTH + FIRST)
    return path


def test_a_journals_alerts_are_judged_as_they_are(journal: Path, truth: Path) -> None:
    found = json.loads(score(journal, "--truth", truth, "--json"))["score"]
    assert (found["alerts_from"], found["origin"], found["monitored_hours"]) == ("journal", "recorded", 1.0)
    raw = found["raw"]
    assert (raw["events"], raw["found"], raw["alerts"], raw["false"], raw["repeated"]) == (1, 1, 3, 1, 1)
    assert raw["ppv"] == pytest.approx(1 / 3)
    assert found["lead_seconds"]["median"] == 20
    assert found["alarm_minutes_per_hour"] == pytest.approx(3)


def test_a_recordings_alerts_are_judged_the_same_and_not_replayed(recording: Path, journal: Path, truth: Path) -> None:
    one = json.loads(score(recording, "--truth", truth, "--json"))["score"]
    other = json.loads(score(journal, "--truth", truth, "--json"))["score"]
    assert one["alerts_from"] == "recording"
    for name in ("raw", "merged", "lead_seconds", "matches", "false"):
        assert one[name] == other[name]


def test_with_a_topology_it_is_replayed_all_the_same(recording: Path, truth: Path, tmp_path: Path) -> None:
    topology = tmp_path / "t.yaml"
    topology.write_text(
        "operators:\n  monitor: {use: monitor.vital, with: {path: none.vital}}\n"
        "  hypotension: {use: monitor.hypotension, from: {numerics: monitor.numerics}}\n"
        "  alerts: {use: alerts, from: hypotension.conditions}\n"
    )
    found = json.loads(score(recording, "--truth", truth, "--topology", topology, "--json", expect=1))["score"]
    assert (found["alerts_from"], found["raw"]["alerts"], found["raw"]["found"]) == ("replay", 0, 0)


def test_a_missed_event_is_exit_code_one_and_people_see_which(journal: Path, truth: Path) -> None:
    truth.write_text(TRUTH + FIRST + SECOND)
    text = score(journal, "--truth", truth, expect=1)
    assert "second" in text
    assert "NO" in text
    assert "sensitivity" in text


def test_a_theatre_case_brings_its_own_truth(tmp_path: Path) -> None:
    topology = tmp_path / "short.yaml"
    topology.write_text(
        "operators:\n  theatre: {use: theatre, with: {case: '${CASE}', video: false}}\n"
        "  hypotension: {use: monitor.hypotension, from: {numerics: theatre.numerics, waveforms: theatre.waveforms}}\n"
        "  alerts: {use: alerts, from: hypotension.conditions}\n"
    )
    short = tmp_path / "case.yaml"
    short.write_text(CASE.read_text().replace("size: [320, 240]", "size: [32, 32]").replace("rate: 15", "rate: 1"))
    found = json.loads(score(short, "-t", topology, "--json", expect=1))["score"]
    assert (found["alerts_from"], found["origin"]) == ("replay", "simulated")
    answers = {item["name"]: item["found"] for item in found["matches"]}
    assert answers.pop("hypotension")
    assert not any(answers.values()), "nobody watches for the rest here"
    assert found["raw"]["false"] == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("truth: 1\nevents:\n  - {code: hypotension, onset: soon}\n", r"truth.yaml:3: events\[0\].onset"),
        ("truth: 1\nevents:\n" + FIRST, "does not say when its recording began"),
    ],
)
def test_a_mistake_names_the_place(journal: Path, truth: Path, text: str, said: str) -> None:
    truth.write_text(text)
    with pytest.raises(VigilError, match=said):
        score(journal, "--truth", truth)


def test_without_a_truth_there_is_nothing_to_judge_by(journal: Path, recording: Path) -> None:
    for source in (journal, recording):
        with pytest.raises(VigilError, match="says nothing of what happened"):
            score(source)
