"""WFDB records: written by the ``wfdb`` library, read by us; headers that lie are refused before anything is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operators.monitor.source import WfdbFile
from operators.monitor.waveform_database import WfdbReader
from pipeline.errors import RecordingError
from pipeline.message import Numeric, Waveform

S = 1_000_000_000


def record(folder: Path, *, gap: bool = True) -> Path:
    """Ten seconds of two leads at 100 Hz, with half a second of missing samples in the first."""
    times = np.arange(1000) / 100
    values = np.stack([np.sin(times), 80 + 20 * np.cos(times)], 1)
    if gap:
        values[300:350, 0] = np.nan
    wfdb.wrsamp("case", fs=100, units=["mV", "mmHg"], sig_name=["II", "ABP"], p_signal=values, fmt=["16", "16"],
                write_dir=str(folder))  # fmt: skip
    return folder / "case.hea"


def test_samples_chunks_units_and_gaps(tmp_path: Path) -> None:
    messages = list(WfdbFile(path=record(tmp_path), name="monitor").run())
    assert {m.stream for m in messages} == {"monitor.waveforms/WFDB/II", "monitor.waveforms/WFDB/ABP"}
    lead = [m for m in messages if m.payload.channel == "WFDB/II"]
    assert (lead[0].payload.code, lead[0].payload.unit) == ("MDC_ECG_ELEC_POTL_II", "mV")
    assert all(len(m.payload.values) == 10 for m in messages)
    begin = lead[0].time
    assert not [m for m in lead if 3 * S <= m.time - begin < 3.5 * S]
    there = np.concatenate([m.payload.values for m in lead])
    times = np.arange(1000) / 100
    expected = np.delete(np.sin(times), slice(300, 350))
    assert np.allclose(there, expected, atol=1e-3)
    pressure = np.concatenate([m.payload.values for m in messages if m.payload.channel == "WFDB/ABP"])
    assert np.allclose(pressure, 80 + 20 * np.cos(times), atol=0.01)


def test_segments_that_are_missing_are_no_data(tmp_path: Path) -> None:
    record(tmp_path, gap=False)
    (tmp_path / "whole.hea").write_text("whole/3 2 100 3000\ncase 1000\n~ 1000\ncase 1000\n")
    messages = list(WfdbReader(tmp_path / "whole.hea").messages())
    begin = messages[0].time
    seconds = {(m.time - begin) // S for m in messages}
    assert seconds == set(range(10)) | set(range(20, 30))
    assert all(np.isfinite(m.payload.values).all() for m in messages)


def test_slow_signals_are_numerics(tmp_path: Path) -> None:
    wfdb.wrsamp("slow", fs=1, units=["bpm"], sig_name=["HR"], p_signal=np.array([[60.0], [np.nan], [62.0]]), fmt=["16"],
                write_dir=str(tmp_path))  # fmt: skip
    messages = list(WfdbReader(tmp_path / "slow.hea").messages())
    assert [type(m.payload) for m in messages] == [Numeric, Numeric]
    assert [(m.time - messages[0].time) // S for m in messages] == [0, 2]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", "no record line"), ("case\n", "not a record line"), ("other 1 100 10\nc.dat 16", "names the record"),
        ("case 1 100 10\n../../etc/passwd 16\n", "outside the record's folder"),
        ("case 1 100 10\n/etc/passwd 16\n", "outside the record's folder"),
        ("case 1 100 10\nnone.dat 16\n", "which is not there"), ("case 1 100 10\ncase.dat 999\n", "is not known"),
        ("case 1 100 999999999\ncase.dat 16\n", "too few for"), ("case 900 100 10\n", "claims 900 signals"),
        ("case 1 0 10\ncase.dat 16\n", "cannot be"), ("case 1 nan 10\ncase.dat 16\n", "cannot be|not a record"),
        ("case/99999 1 100 10\ncase 10\n", "segments"),
        ("case 1 100 10 99:99:99 31/02/2020\ncase.dat 16\n", "not a date"),
    ],
)  # fmt: skip
def test_headers_that_lie(tmp_path: Path, header: str, expected: str) -> None:
    path = record(tmp_path)
    path.write_text(header)
    with pytest.raises(RecordingError, match=expected) as error:
        WfdbReader(path)
    assert str(path) in error.value.where


def attack(path: Path, header: bytes, samples: bytes) -> None:
    path.write_bytes(header)
    path.with_suffix(".dat").write_bytes(samples)
    try:
        reader = WfdbReader(path)
    except RecordingError as error:
        assert "case.hea" in str(error)
        return
    last = None
    for message in reader.messages():
        assert last is None or message.order > last
        last = message.order
        assert isinstance(message.payload, Waveform | Numeric)


EDITS = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=6)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS, cut=st.integers(0, 4000))
def test_no_bytes_crash_the_reader(tmp_path: Path, edits: list[tuple[int, int]], cut: int) -> None:
    path = record(tmp_path)
    header, samples = bytearray(path.read_bytes()), path.with_suffix(".dat").read_bytes()
    for place, value in edits:
        header[place % len(header)] = value
    attack(path, bytes(header), samples[:cut] if cut % 3 == 0 else samples)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_damaged_records(tmp_path: Path) -> None:
    path = record(tmp_path)
    header, samples = path.read_bytes(), path.with_suffix(".dat").read_bytes()
    chance = np.random.default_rng(20261124)
    for _ in range(100_000):
        changed = bytearray(header)
        for place, value in chance.integers(0, [len(header), 256], (int(chance.integers(1, 5)), 2)):
            changed[place] = value
        attack(path, bytes(changed), samples[: int(chance.integers(0, len(samples) + 1))])
