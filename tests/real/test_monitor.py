"""The monitor topology's rules on real recordings, against the truth written in their SOURCES.md."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vitaldb
import yaml

from operators.monitor.freshness import Freshness
from operators.monitor.hypotension import Hypotension
from operators.monitor.limits import Limits
from operators.monitor.vital import VitalReader
from pipeline import registry
from pipeline.message import AlertCondition, Event, Message, Numeric, Waveform
from pipeline.operator import each

pytestmark = pytest.mark.real
TOPOLOGIES = Path(__file__).resolve().parents[2] / "topologies"


def rules(topology: str) -> list[tuple[Any, dict[type, Any]]]:
    """The topology's rule operators and their handlers by payload type."""
    found: list[tuple[Any, dict[type, Any]]] = []
    for name, body in yaml.safe_load((TOPOLOGIES / topology).read_text())["operators"].items():
        cls = registry.names("operators")[body["use"]].load() if body["use"].startswith("monitor.") else None
        if cls is None or cls not in (Freshness, Limits, Hypotension):
            continue
        operator = cls(name=name, **body.get("with", {}))
        if cls is Freshness:
            found.append((operator, dict.fromkeys((Waveform, Numeric, Event), operator.process)))
        elif cls is Limits:
            found.append((operator, {Numeric: operator.process}))
        else:
            found.append((operator, {Numeric: operator.on_numerics, Waveform: operator.on_waveforms}))
    return found


def play(reader: Any, topology: str = "monitor.yaml") -> list[Message[AlertCondition]]:
    said: list[Message[AlertCondition]] = []
    operators = rules(topology)
    for message in reader.messages():
        kind, now = type(message.payload), message.time
        for operator, handlers in operators:
            while operator.wake_at is not None and operator.wake_at < now:
                due, operator.wake_at = operator.wake_at, None
                said += each(operator.on_time(due))
            handler = handlers.get(kind)
            answer = handler(message) if handler is not None else None
            if answer is not None:
                said += each(answer)
    for operator, _ in operators:
        said += each(operator.finish())
    return said


@pytest.fixture(scope="module")
def case(shared_data: Path) -> VitalReader:
    return VitalReader(shared_data / "or_intellivue" / "or_case1.vital")


def begin(reader: Any) -> int:
    return min(info.start for info in reader.streams())


def intervals(said: list[Message[AlertCondition]], code: str, zero: int) -> list[tuple[float, float]]:
    """(onset, end) in seconds after ``zero`` of the episodes that people are told about."""
    found = {}
    for message in said:
        condition = message.payload
        if condition.code == code and not condition.suppressed_by:
            end = (condition.ended - zero) / 1e9 if condition.ended is not None else float("inf")
            found[(condition.subject, (condition.onset - zero) / 1e9)] = end
    return [(onset, end) for (_, onset), end in found.items()]


def test_both_hypotension_episodes_and_nothing_else_about_blood_pressure(case: VitalReader) -> None:
    zero = begin(case)
    said = play(case)
    episodes = intervals(said, "hypotension", zero)
    # SOURCES.md gives start and duration: [1 s, +429 s] and [609 s, +1407 s], the second to the recording's end.
    assert len(episodes) == 2
    assert abs(episodes[0][0] - 1) <= 15
    assert abs(episodes[0][1] - 430) <= 30
    assert abs(episodes[1][0] - 609) <= 15
    assert abs(episodes[1][1] - (609 + 1407)) <= 30
    pressure = [m for m in said if m.payload.kind == "physiological"]
    assert {m.payload.code for m in pressure} == {"hypotension"}
    first_of_second = min(m.time for m in pressure if (m.payload.onset - zero) / 1e9 > 500)
    assert not [m for m in pressure if 446.5 < (m.time - zero) / 1e9 < (first_of_second - zero) / 1e9]
    assert (first_of_second - zero) / 1e9 > 660  # the knock on the line near 605 s did not start or hasten it


def test_the_real_drop_outs_are_technical_alerts(case: VitalReader) -> None:
    zero = begin(case)
    said = play(case)
    silent = intervals(said, "device_silent", zero)
    assert any(abs(onset - 1666.0) < 0.5 and abs(end - 1667.6) < 0.5 for onset, end in silent)
    assert any(abs(onset - 1974.6) < 0.5 for onset, _ in silent)  # the monitor leaves 40 s before the ventilator
    technical = [m for m in said if m.payload.kind == "technical" and m.payload.present]
    assert len(technical) <= 5
    assert not [m for m in technical if (m.time - zero) / 1e9 < 1660]


def test_the_trivial_rule_finds_the_same_episodes_here(case: VitalReader) -> None:
    """No artefact of this recording lasts a minute, so the baseline is as good; the simulated lines part the two."""
    zero = begin(case)
    said = play(case, "monitor_baseline.yaml")
    plain = [e for e in intervals(said, "mean_pressure_low", zero)]
    ours = intervals(said, "hypotension", zero)
    assert [round(onset) for onset, _ in plain if onset < 1000][:1] == [round(ours[0][0])]


def test_two_plays_say_the_same(case: VitalReader) -> None:
    assert [(m.order, m.payload) for m in play(case)] == [(m.order, m.payload) for m in play(case)]


def test_faster_than_three_hundred_times_real_time(shared_data: Path) -> None:
    begun = time.process_time()
    reader = VitalReader(shared_data / "or_intellivue" / "or_case1.vital")
    play(reader)
    spent = time.process_time() - begun
    lasted = (max(info.end for info in reader.streams()) - begin(reader)) / 1e9
    assert lasted / spent > 600  # the engine has the other half of the budget


@pytest.mark.parametrize("name", ["test_data_demo", "test_intelliue_demo2", "test_intellivue_demo1"])
def test_a_monitor_in_demo_mode_is_quiet(shared_data: Path, name: str) -> None:
    reader = VitalReader(shared_data / "monitor_demo" / f"{name}.vital")
    said = play(reader)
    # One of the files ends with 1.4 s of numerics without waveforms: that silence is real, and all there is.
    last_wave = max(info.end for info in reader.streams() if info.payload == "Waveform")
    assert all(m.payload.code == "device_silent" and m.payload.onset >= last_wave - 1_000_000 for m in said)
    assert len(said) <= 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # vitaldb leaves its files open
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    "name", ["or_intellivue/or_case1", "monitor_demo/test_data_demo", "monitor_demo/test_intelliue_demo2"]
)
def test_our_parser_agrees_with_vitaldb(shared_data: Path, name: str) -> None:
    path = shared_data / f"{name}.vital"
    theirs = vitaldb.VitalFile(str(path))
    ours = VitalReader(path, chunk_seconds=1.0)
    values: dict[str, list[Any]] = {}
    times: dict[str, list[int]] = {}
    for message in ours.messages():
        payload = message.payload
        found = (
            payload.values
            if isinstance(payload, Waveform)
            else [payload.value if isinstance(payload, Numeric) else payload.text]
        )
        values.setdefault(message.stream.partition("/")[2], []).extend(found)
        times.setdefault(message.stream.partition("/")[2], []).append(message.time)
    assert not ours.warnings
    for channel, track in theirs.trks.items():
        if not track.recs:
            continue
        if track.type == 1:
            expected = np.concatenate([record["val"] for record in track.recs]).astype(np.float64)
            if track.fmt > 2:
                expected = expected * track.gain + track.offset
            got = np.array(values[channel])
            assert np.allclose(got[np.isfinite(got)], expected[np.isfinite(expected)], atol=1e-3)
        else:
            assert (
                values[channel] == pytest.approx([record["val"] for record in track.recs]) if track.type == 2 else True
            )
            assert times[channel] == [round(record["dt"] * 1e9) for record in track.recs]
