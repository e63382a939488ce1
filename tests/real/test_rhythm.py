"""Beats, quality and arrhythmia rules on real recordings. None of them holds a true lethal arrhythmia."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operators.monitor.beats import Beats
from operators.monitor.beats.library import match, ours_times, run
from operators.monitor.quality import SignalQuality
from operators.monitor.rhythm import Rhythm, challenge
from operators.monitor.rhythm.bench import mit_bih, told
from operators.monitor.vital import VitalReader
from operators.monitor.waveform_database import WfdbReader
from operators.theatre.reader import TheatreReader
from pipeline.message import AlertCondition, Event, Message, Numeric, Waveform
from pipeline.testing import run_operator

pytestmark = pytest.mark.real
CASES = Path(__file__).resolve().parents[2] / "operators" / "theatre" / "cases"


def waves(reader: Any) -> list[Message[Waveform]]:
    reader.tracks = [track for track in reader.tracks if track.payload == "Waveform"]
    return list(reader.messages())


@pytest.fixture(scope="module")
def operation(shared_data: Path) -> list[Message[Any]]:
    return list(VitalReader(shared_data / "or_intellivue" / "or_case1.vital").messages())


def of_monitor(operation: list[Message[Any]]) -> list[Message[Waveform]]:
    return [m for m in operation if type(m.payload) is Waveform and m.payload.channel.startswith("Intellivue/")]


@pytest.mark.parametrize(("record", "least"), [("100", 0.99), ("105", 0.97)])
def test_beats_of_mit_bih_are_found_as_well_as_by_the_library(shared_data: Path, record: str, least: float) -> None:
    values, reference, rate = mit_bih(shared_data, record)
    assert len(reference) == {"100": 2273, "105": 2572}[record]
    ours = match(reference, ours_times(values, rate)).f1
    assert ours >= least
    assert ours >= match(reference, run("wfdb xqrs", values, rate)).f1 - 0.001


def test_the_two_leads_agree_on_the_rate_of_a_quiet_record(shared_data: Path) -> None:
    said = run_operator(Beats(name="beats"), waves(WfdbReader(shared_data / "wfdb" / "100.hea")))
    rates = np.array([m.payload.value for m in said if isinstance(m.payload, Numeric) and "HEART" in m.stream])
    assert np.isnan(rates).mean() < 0.01
    assert 70 < np.nanmin(rates) < np.nanmax(rates) < 90


def test_the_false_asystole_alarm_is_suppressed_and_says_why(shared_data: Path) -> None:
    record = challenge.load(shared_data / "wfdb" / "a103l.hea")
    assert (record.kind, record.true, record.alarm) == ("asystole", False, 300.0)
    verdict = challenge.judge(record)
    assert not verdict.true
    assert verdict.channel == "WFDB/PLETH"
    assert "PLETH shows regular pulses at 127/min, longest pause 0.5" in verdict.reason


def test_as_an_event_of_the_monitor_that_alarm_is_suppressed_too(shared_data: Path) -> None:
    messages = waves(WfdbReader(shared_data / "wfdb" / "a103l.hea"))
    alarm = Message("monitor.alarms", messages[0].time + 300_000_000_000, 0, Event("alarm", "Asystole"), "recorded")
    operator, said = Rhythm(name="rhythm"), []
    for message in [m for m in messages if m.time < alarm.time] + [alarm]:
        while operator.wake_at is not None and operator.wake_at < message.time:
            due, operator.wake_at = operator.wake_at, None
            said += operator.on_time(due) or []
        (operator.on_alarms if message is alarm else operator.on_waveforms)(message)
    said += operator.finish()
    (condition, _) = [m.payload for m in said if m.payload.subject == "monitor alarm"]
    assert condition.code == "asystole"
    assert "PLETH shows regular pulses" in condition.suppressed_by
    assert not [m for m in said if not m.payload.suppressed_by]


def test_the_real_operation_raises_no_arrhythmia_alert_whatever_the_drop_outs(operation: list[Message[Any]]) -> None:
    assert told(of_monitor(operation)) == []
    without_pleth = [m for m in of_monitor(operation) if "PLETH" not in m.stream]
    assert told(without_pleth) == []


def test_its_channels_are_never_called_unusable_for_long(operation: list[Message[Any]]) -> None:
    said = run_operator(SignalQuality(name="quality"), of_monitor(operation))
    assert [m for m in said if isinstance(m.payload, AlertCondition)] == []
    values = np.array([m.payload.value for m in said if isinstance(m.payload, Numeric)])
    assert np.mean(values > 0.8) > 0.97


def test_the_rate_is_the_monitors_own(operation: list[Message[Any]]) -> None:
    said = run_operator(Beats(name="beats"), of_monitor(operation))
    own = np.array([(m.time, m.payload.value) for m in said if getattr(m.payload, "channel", "") == "Vigil/HEART_RATE"])
    theirs = np.array(
        [(m.time, m.payload.value) for m in operation if getattr(m.payload, "channel", "") == "Intellivue/HR"]
    )
    off = np.abs(np.interp(theirs[:, 0], own[:, 0], own[:, 1]) - theirs[:, 1])
    assert np.isnan(off).mean() < 0.12
    assert np.nanmedian(off) <= 0.5
    assert np.nanmean(off > 5) < 0.02


@pytest.mark.parametrize("name", ["test_data_demo", "test_intelliue_demo2", "test_intellivue_demo1"])
def test_a_monitor_in_demo_mode_is_quiet(shared_data: Path, name: str) -> None:
    assert told(waves(VitalReader(shared_data / "monitor_demo" / f"{name}.vital"))) == []


@pytest.mark.parametrize("name", ["100", "03700181", "mixedsignals", "a103l"])
def test_records_without_a_lethal_rhythm_are_quiet(shared_data: Path, name: str) -> None:
    assert told(waves(WfdbReader(shared_data / "wfdb" / f"{name}.hea"))) == []


def test_the_theatres_quiet_case_is_quiet_and_its_eventful_one_told() -> None:
    """Simulated; it is here because these are the cases that people launch."""
    quiet = waves(TheatreReader(CASES / "uneventful.yaml"))
    assert run_operator(Rhythm(name="rhythm"), quiet, port="waveforms") == []
    assert not [m for m in run_operator(SignalQuality(name="q"), quiet) if isinstance(m.payload, AlertCondition)]
    eventful = waves(TheatreReader(CASES / "eventful.yaml"))
    begin = eventful[0].time
    said = [(m.payload.code, round((m.time - begin) / 1e9)) for m in told(eventful)]
    assert [code for code, _ in said] == ["extreme_tachycardia", "asystole"]
    assert said[0][1] <= 22
    assert said[1][1] - 35.5 <= 6
