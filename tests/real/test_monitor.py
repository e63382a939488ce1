"""The monitor topology's rules on real recordings, against the truth written in their SOURCES.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import vitaldb
import wfdb
import yaml

from operators.monitor.clock import AVERAGES, BREATHS, ClockEstimate, Series, series, shared_signal
from operators.monitor.csv import CsvReader
from operators.monitor.freshness import Freshness
from operators.monitor.hl7 import Hl7Listener
from operators.monitor.hypotension import Hypotension
from operators.monitor.limits import Limits
from operators.monitor.source import VitalFile
from operators.monitor.vital import VitalReader
from operators.monitor.waveform_database import WfdbReader
from pipeline import registry
from pipeline.message import AlertCondition, Event, Message, Numeric, Waveform
from pipeline.operator import Context, each
from pipeline.replay import Replay
from pipeline.time import ReplayClock
from pipeline.topology import load, loads
from tests.operators.monitor.hl7_samples import observations

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


def play(reader: Any, topology: str = "monitor.yaml", messages: Any = None) -> list[Message[AlertCondition]]:
    said: list[Message[AlertCondition]] = []
    operators = rules(topology)
    for message in reader.messages() if messages is None else messages:
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
    plain = intervals(said, "mean_pressure_low", zero)
    ours = intervals(said, "hypotension", zero)
    assert [round(onset) for onset, _ in plain if onset < 1000][:1] == [round(ours[0][0])]


def test_two_plays_say_the_same(case: VitalReader) -> None:
    assert [(m.order, m.payload) for m in play(case)] == [(m.order, m.payload) for m in play(case)]


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


# --------------------------------------------------------------------------------------- the engine


async def test_the_topology_in_the_engine_says_the_same(case: VitalReader, tmp_path: Path) -> None:
    """``vigil replay`` without its sink; how fast it is, ``vigil bench recordings`` says."""
    document = yaml.safe_load((TOPOLOGIES / "monitor.yaml").read_text())
    del document["operators"]["alerts"]
    replay = Replay(case, loads(yaml.safe_dump(document), "monitor.yaml"), data=tmp_path)
    said: list[Message[AlertCondition]] = []
    for node in ("freshness", "limits", "hypotension"):
        replay.engine.listen(node, "conditions", said.extend)
    summary = await replay.run()
    assert summary.unused == ()
    facts = [
        sorted((m.time, m.payload.code, m.payload.subject, m.payload.present, m.payload.text) for m in part)
        for part in (said, play(case))
    ]
    assert facts[0] == facts[1]
    assert facts[0]


@pytest.mark.parametrize("name", ["monitor.yaml", "monitor_baseline.yaml"])
def test_the_shipped_topologies_load(name: str) -> None:
    pytest.importorskip("operators.sinks.alerts", reason="the alert sink is not part of this checkout")
    assert load(TOPOLOGIES / name).sources()


# -------------------------------------------------------------------------------------- the baseline


def zeroed(reader: VitalReader, begin_second: float, end_second: float) -> Iterator[Message[Any]]:
    """Composed, not recorded: the real case with the arterial transducer opened to air for a while."""
    zero = begin(reader)
    for message in reader.messages():
        payload = message.payload
        second = (message.time - zero) / 1e9
        if payload_channel(payload).startswith("Intellivue/ABP") and begin_second <= second < end_second:
            if isinstance(payload, Waveform):
                payload = msgspec.structs.replace(payload, values=np.zeros_like(payload.values))
            else:
                payload = msgspec.structs.replace(payload, value=0.0)
            message = msgspec.structs.replace(message, payload=payload, origin="composed")
        yield message


def payload_channel(payload: Any) -> str:
    return str(getattr(payload, "channel", ""))


def test_the_trivial_rule_is_taken_in_by_a_zeroed_line_and_ours_is_not(case: VitalReader) -> None:
    """Between the two true episodes (430 s to 609 s) the line is opened to air for 75 s."""
    zero = begin(case)
    messages = list(zeroed(case, 470, 545))
    plain = intervals(play(case, "monitor_baseline.yaml", messages), "mean_pressure_low", zero)
    assert len([onset for onset, _ in plain if 465 < onset < 550]) == 1  # a false alarm
    said = play(case, messages=messages)
    ours = intervals(said, "hypotension", zero)
    assert [onset for onset, _ in ours] == pytest.approx([1, 609], abs=15)
    suppressed = [m.payload for m in said if m.payload.code == "hypotension" and m.payload.suppressed_by]
    assert {condition.suppressed_by for condition in suppressed} == {"open_to_air"}
    assert [m.payload.code for m in said if m.payload.code == "arterial_line_unreliable" and m.payload.present]


def begun(said: list[Message[AlertCondition]], source: str) -> list[AlertCondition]:
    return [m.payload for m in said if m.payload.source == source and m.payload.present]


def test_one_timeout_for_all_misses_the_drop_out_and_floods(case: VitalReader) -> None:
    zero = begin(case)
    said = play(case, "monitor_baseline.yaml")
    ours, plain = begun(said, "freshness"), begun(said, "freshness_baseline")
    assert [round((condition.onset - zero) / 1e9) for condition in ours] == [1666, 1975, 1975, 1975]
    waves = {f"Intellivue/{name} any" for name in ("ECG_II", "ABP", "CVP", "PLETH")}
    # 1.5 s of lost waveforms go unnoticed; the monitor's end is an alert for every channel, and so is every slow one.
    assert not [c for c in plain if c.subject in waves and (c.onset - zero) / 1e9 < 1970]
    assert len([c for c in plain if (c.onset - zero) / 1e9 > 1970]) > 20
    assert len(plain) > 500


def test_limits_without_delay_and_hysteresis_flood(case: VitalReader) -> None:
    said = play(case, "monitor_baseline.yaml")
    ours, plain = begun(said, "limits"), begun(said, "limits_baseline")
    assert 1 <= len(ours) <= 3
    assert len(plain) > 20 * len(ours)
    assert not [c for c in ours if c.code.startswith("cuff")]  # the arterial line is there, and says more
    assert [c for c in plain if c.code == "plain_cuff_pressure_low"]


# ---------------------------------------------------------------------------------------- the clocks


def shifted(found: Series, offset: float, ppm: float) -> Series:
    times = found[0]
    return times + round(offset * 1e9) + np.round((times - times[0]) * ppm * 1e-6).astype(np.int64), found[1]


@pytest.mark.parametrize(("offset", "ppm"), [(7.0, 0.0), (-6.0, -150.0), (3.3, 200.0), (-9.0, 50.0)])
def test_a_ventilators_clock_that_is_set_wrong_is_found(case: VitalReader, offset: float, ppm: float) -> None:
    """The recorder's own clocks have an unknown lag; what is added to it is known, and must come out."""
    tracks = {track.stream.partition("/")[2]: track for track in case.tracks}
    venous, airway = series(tracks["Intellivue/CVP"]), series(tracks["DraegerRT/AWP"])
    before, after = shared_signal(venous, airway), shared_signal(venous, shifted(airway, offset, ppm))
    assert before is not None
    assert after is not None
    middle = airway[0][0] + (before.at - airway[0][0])
    added = offset + (middle - airway[0][0]) * ppm * 1e-15
    assert abs((after.offset - before.offset) / 1e9 - added) < 0.1
    assert abs((after.drift - before.drift) * 1e6 - ppm) < 100
    halves = [
        shared_signal((venous[0][part], venous[1][part]), airway)
        for part in (venous[0] < before.at + 200 * 10**9, venous[0] >= before.at + 200 * 10**9)
    ]
    for half in halves:  # each half of the case says by itself what the whole says of that time
        assert half is not None
        there = before.offset + before.drift * (half.at - before.at)
        assert abs(half.offset - there) < 0.3e9


def test_three_vendors_on_one_clock(shared_data: Path) -> None:
    """Monitor (Philips), ventilator (Draeger), cardiac output computer (Edwards): corrected at the source."""
    pairs = (
        {"channel": "DraegerRT/AWP", "reference": "Intellivue/CVP"},
        {"channel": "EV1000/ART_MBP", "reference": "Intellivue/ABP_MEAN", "kind": "averages"},
    )
    path = shared_data / "or_intellivue" / "or_case1.vital"
    messages = list(VitalFile(path=path, name="monitor", align=pairs).run())
    told = {m.payload.data["device"]: m.payload.data for m in messages if getattr(m.payload, "kind", "") == "clock"}
    assert set(told) == {"DraegerRT", "EV1000"}
    assert 1.0 < told["DraegerRT"]["ahead_seconds"] < 2.0
    assert told["DraegerRT"]["error_seconds"] < 0.1
    assert 5 < told["EV1000"]["ahead_seconds"] < 15  # its 20 s average counts as lateness
    assert [m.order for m in messages] == sorted(m.order for m in messages)
    found = {}
    for channel in ("DraegerRT/AWP", "Intellivue/CVP", "EV1000/ART_MBP", "Intellivue/ABP_MEAN"):
        mine = [m for m in messages if payload_channel(m.payload) == channel]
        if isinstance(mine[0].payload, Waveform):
            rate = mine[0].payload.rate
            times = [m.time + np.round(np.arange(len(m.payload.values)) / rate * 1e9).astype(np.int64) for m in mine]
            found[channel] = (np.concatenate(times), np.concatenate([m.payload.values for m in mine]))
        else:
            found[channel] = (np.array([m.time for m in mine]), np.array([m.payload.value for m in mine]))
    for reference, channel, search, allowed in (
        ("Intellivue/CVP", "DraegerRT/AWP", BREATHS, 0.05), ("Intellivue/ABP_MEAN", "EV1000/ART_MBP", AVERAGES, 1.0),
    ):  # fmt: skip
        left = shared_signal(found[reference], found[channel], search)
        assert isinstance(left, ClockEstimate)
        assert abs(left.offset / 1e9) < allowed


def test_the_case_over_hl7_from_a_gateway_whose_clock_is_an_hour_off(case: VitalReader) -> None:
    """Composed: the recorded mean pressures as PCD-01 messages; the same episodes come out as from the file."""
    zero = begin(case)
    values = [m for m in case.messages() if payload_channel(m.payload) == "Intellivue/ABP_MEAN"]
    direct, live = Hypotension(name="h"), Hypotension(name="h")
    expected = [said.payload for m in values for said in each(direct.on_numerics(m))]
    listener = Hl7Listener(name="gateway", device="Intellivue")
    clock = ReplayClock(zero, float("inf"))
    listener.context = Context(clock=clock)
    chance = np.random.default_rng(1)
    for number, message in enumerate(values):
        clock.reached = message.time + round(float(chance.exponential(0.05)) * 1e9) + 10_000_000
        code = "150039^MDC_PRESS_BLD_ART_ABP_MEAN^MDC"
        content = {code: ("1.1.2.150039", f"{message.payload.value:g}", "266016^MDC_DIM_MMHG^MDC")}
        sent = message.time + 3600 * 10**9 + round((message.time - zero) * 80e-6)
        answer = listener.answer(observations(content, control=str(number), time=sent))
        assert answer is not None
        assert b"MSA|CA" in answer
    heard = [m for m in listener._waiting if isinstance(m.payload, Numeric)]
    assert [m.payload.value for m in heard] == [m.payload.value for m in values]
    said = [answer.payload for m in heard for answer in each(live.on_numerics(m))]
    assert [(c.code, c.present, c.priority) for c in said] == [(c.code, c.present, c.priority) for c in expected]
    assert all(abs(a.onset - b.onset) < 0.5e9 for a, b in zip(said, expected, strict=True))


# ----------------------------------------------------------------------------------- other recordings


def test_gaps_are_no_data(case: VitalReader) -> None:
    zero = begin(case)
    waves = [m for m in case.messages() if isinstance(m.payload, Waveform)]
    assert all(len(m.payload.values) <= round(m.payload.rate * 0.1) + 1 for m in waves)
    assert not any(np.isnan(m.payload.values).all() for m in waves)
    pressure = [m for m in waves if m.payload.channel == "Intellivue/ABP"]
    assert not [m for m in pressure if 1666.2 < (m.time - zero) / 1e9 < 1667.5]
    assert min(float(np.nanmin(m.payload.values)) for m in pressure) > 10


@pytest.mark.parametrize("name", ["100", "105", "a103l", "03700181", "mixedsignals"])
def test_our_reader_agrees_with_wfdb(shared_data: Path, name: str) -> None:
    path = shared_data / "wfdb" / f"{name}.hea"
    ours = WfdbReader(path)
    theirs = wfdb.rdrecord(str(path.with_suffix("")), smooth_frames=False)
    assert theirs.e_p_signal is not None
    got: dict[str, list[Any]] = {}
    for message in ours.messages():
        if isinstance(message.payload, Waveform):
            got.setdefault(message.payload.channel, []).append(message.payload.values)
            assert len(message.payload.values) <= max(1, round(message.payload.rate * 0.1))
    assert len(got) == len(theirs.sig_name)
    for channel, expected in zip(theirs.sig_name, theirs.e_p_signal, strict=True):
        mine = np.concatenate(got["WFDB/" + "_".join(channel.split())])
        there = np.isfinite(expected)
        assert np.allclose(mine[np.isfinite(mine)], expected[there], atol=1e-3)


@pytest.mark.parametrize(("name", "count"), [("100", 2274), ("105", None)])
def test_annotations_are_events(shared_data: Path, name: str, count: int | None) -> None:
    ours = [m for m in WfdbReader(shared_data / "wfdb" / f"{name}.hea").messages() if isinstance(m.payload, Event)]
    theirs = wfdb.rdann(str(shared_data / "wfdb" / name), "atr")
    assert [m.payload.text for m in ours] == list(theirs.symbol)
    assert count is None or len(ours) == count
    if name == "105":
        symbols = [m.payload.text for m in ours]
        assert (symbols.count("N"), symbols.count("V")) == (2526, 41)


@pytest.mark.parametrize("kind", ["MeasuredCP1", "DeviceSettings", "TextMessages"])
def test_a_ventilators_exports(shared_data: Path, kind: str) -> None:
    path = shared_data / "or_intellivue" / f"DrgVentMedibusX{kind}DataExport.csv"
    reader = CsvReader(path)
    rows = [line.split(",", 2) for line in path.read_text(errors="replace").splitlines() if line.strip()]
    filled = [row for row in rows if row[2].strip().lower() not in ("", "-", "--", "nan", "na", "none")]
    found = [m for m in reader.messages() if isinstance(m.payload, Numeric | Event)]
    assert len(found) == len(filled)
    assert not reader.warnings
