"""The .vital reader: what a file says comes out, and no file can hurt."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operators.monitor.vital import VitalReader
from pipeline.errors import RecordingError
from pipeline.message import Event, Numeric, Waveform
from pipeline.reader import Reader
from tests.operators.monitor.files import T0, device, head, number, packet, track, wave, words, write


def sample(path: Path) -> Path:
    values = np.arange(250, dtype="<f4")
    return write(
        path,
        device(1, "Intellivue"),
        track(1, 2, "ABP_MEAN"),
        track(2, 1, "ABP", rate=125.0, unit="mmHg"),
        track(3, 5, "EVENT", device_number=0),
        number(1, T0 + 1, 70.0),
        number(1, T0 + 0.5, 71.0),
        wave(2, T0, values[:125].tobytes(), 125),
        wave(2, T0 + 1, values[125:].tobytes(), 125),
        words(3, T0 + 0.2, "incision"),
    )


def test_messages_carry_what_the_file_says(tmp_path: Path) -> None:
    reader = VitalReader(sample(tmp_path / "a.vital"))
    assert isinstance(reader, Reader)
    messages = list(reader.messages())
    assert [m.order for m in messages] == sorted(m.order for m in messages)
    numerics = [m for m in messages if isinstance(m.payload, Numeric)]
    assert [(m.time, m.payload.value) for m in numerics] == [(int((T0 + 0.5) * 1e9), 71.0), (int((T0 + 1) * 1e9), 70.0)]
    assert numerics[0].payload.unit == "mm[Hg]"
    assert numerics[0].payload.code == "MDC_PRESS_BLD_ART_ABP_MEAN"
    waves = [m for m in messages if isinstance(m.payload, Waveform)]
    assert np.array_equal(np.concatenate([m.payload.values for m in waves]), np.arange(250, dtype=np.float32))
    assert waves[1].time - waves[0].time == 96_000_000  # 12 samples at 125 Hz
    assert waves[0].stream == "waveforms/Intellivue/ABP"
    events = [m for m in messages if isinstance(m.payload, Event)]
    assert [m.payload.text for m in events] == ["incision"]
    assert all(m.origin == "recorded" for m in messages)
    assert {info.stream: info.count for info in reader.streams()}["numerics/Intellivue/ABP_MEAN"] == 2


def test_a_second_pass_and_a_window_give_the_same_messages(tmp_path: Path) -> None:
    reader = VitalReader(sample(tmp_path / "a.vital"))
    everything = [m.order for m in reader.messages()]
    assert [m.order for m in reader.messages()] == everything
    start, end = int((T0 + 0.3) * 1e9), int((T0 + 1) * 1e9)
    assert [m.order for m in reader.messages(start, end)] == [o for o in everything if start <= o[0] < end]


def test_a_gap_is_no_chunk_and_missing_samples_are_nan(tmp_path: Path) -> None:
    values = np.ones(100, "<f4")
    values[40:60] = np.nan
    values[5] = np.nan
    path = write(
        tmp_path / "a.vital", device(1, "D"), track(1, 1, "ECG", rate=100.0),
        wave(1, T0, values.tobytes(), 100), wave(1, T0 + 5, values.tobytes(), 100),
    )  # fmt: skip
    messages = list(VitalReader(path).messages())
    assert not any((m.payload.values == 0).any() for m in messages)
    offsets = [round((m.time / 1e9 - T0) * 10) for m in messages]
    assert offsets == [0, 1, 2, 3, 6, 7, 8, 9, 50, 51, 52, 53, 56, 57, 58, 59]
    assert np.isnan(messages[0].payload.values[5])


def test_integers_are_scaled_and_their_missing_mark_is_honoured(tmp_path: Path) -> None:
    raw = np.array([100, 32767, -32768], "<i2")
    parts = (device(1, "D"), track(1, 1, "CO2", form=5, rate=10, gain=0.5, offset=1), wave(1, T0, raw.tobytes(), 3))
    plain = np.concatenate([m.payload.values for m in VitalReader(write(tmp_path / "a.vital", *parts)).messages()])
    assert plain.tolist() == [51.0, 16384.5, -16383.0]
    path = write(tmp_path / "b.vital", *parts, packed=True)
    packed = [m.payload.values for m in VitalReader(path).messages()]
    assert np.concatenate(packed).tolist() == [51.0, 16384.5]  # the missing sample was a chunk of its own


def test_channels_can_be_chosen(tmp_path: Path) -> None:
    reader = VitalReader(sample(tmp_path / "a.vital"), channels=("*/ABP",))
    assert {info.stream for info in reader.streams()} == {"waveforms/Intellivue/ABP"}


def test_overlapping_records_are_cut_not_doubled(tmp_path: Path) -> None:
    values = np.ones(100, "<f4").tobytes()
    path = write(
        tmp_path / "a.vital", device(1, "D"), track(1, 1, "ECG", rate=100.0), wave(1, T0, values, 100),
        wave(1, T0 + 0.5, values, 100),
    )  # fmt: skip
    messages = list(VitalReader(path).messages())
    assert sum(len(m.payload.values) for m in messages) == 150
    assert [m.order for m in messages] == sorted(m.order for m in messages)


def test_not_a_recording_is_said_with_the_place(tmp_path: Path) -> None:
    for name, content in {
        "empty": b"", "text": b"hello", "gzip of text": gzip.compress(b"hello world, not a recording"),
        "only a header": gzip.compress(head()), "header cut": gzip.compress(head()[:12]),
    }.items():  # fmt: skip
        path = tmp_path / f"{name}.vital"
        path.write_bytes(content)
        with pytest.raises(RecordingError, match="byte"):
            VitalReader(path)
    with pytest.raises(RecordingError, match="cannot be read"):
        VitalReader(tmp_path / "missing.vital")


def test_a_cut_file_opens_up_to_the_cut(tmp_path: Path) -> None:
    whole = sample(tmp_path / "a.vital").read_bytes()
    count = len(list(VitalReader(tmp_path / "a.vital").messages()))
    opened = 0
    for length in range(20, len(whole), 7):
        (tmp_path / "b.vital").write_bytes(whole[:length])
        try:
            reader = VitalReader(tmp_path / "b.vital")
        except RecordingError:
            continue
        opened += 1
        assert reader.warnings
        assert len(list(reader.messages())) <= count
    assert opened


def test_hostile_claims_are_refused(tmp_path: Path) -> None:
    wide = packet(1, struct.pack("<HdHI", 10, T0, 1, 2**31))
    for part in (
        wide,
        packet(1, struct.pack("<HdH", 65535, T0, 1)),
        packet(1, struct.pack("<HdH", 10, float("nan"), 1) + b"\0" * 8),
        packet(1, struct.pack("<HdH", 10, 1e300, 1) + b"\0" * 8),
        track(7, 1, "X", rate=float("inf")),
        track(7, 1, "X", rate=1e-30),
        track(7, 9, "X"),
        packet(0, b"\1\0\1"),
        packet(9, struct.pack("<II", 1, 2**32 - 1)),
    ):
        path = write(tmp_path / "a.vital", device(1, "D"), track(1, 1, "ECG", rate=100.0), part)
        reader = VitalReader(path)
        assert any("packet at byte" in warning for warning in reader.warnings)
        assert list(reader.messages()) == []
    path = write(tmp_path / "a.vital", device(1, "D"), struct.pack("<BI", 1, 2**32 - 1))
    assert "reading stopped" in VitalReader(path).warnings[0]


def test_a_bomb_does_not_unfold(tmp_path: Path) -> None:
    path = tmp_path / "bomb.vital"
    path.write_bytes(gzip.compress(head() + packet(1, b"\0" * (100 << 20))))
    with pytest.raises(RecordingError, match="unfolds into more"):
        VitalReader(path)


def test_times_far_apart_are_merged_at_once(tmp_path: Path) -> None:
    numbers = [number(1, 1.0 + i * 7.9e6, 1.0) for i in range(1000)]
    path = write(tmp_path / "a.vital", device(1, "D"), track(1, 2, "HR"), *numbers)
    assert len(list(VitalReader(path).messages())) == 1000


def mutate(data: bytes, edits: list[tuple[int, int]], cut: int) -> bytes:
    changed = bytearray(data)
    for place, value in edits:
        changed[place % len(changed)] = value
    return bytes(changed[: cut % (len(changed) + 1) or None])


EDITS = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=12)


def attack(folder: Path, edits: list[tuple[int, int]], cut: int, inside: bool) -> None:
    path = folder / "x.vital"
    whole = gzip.decompress(sample(path).read_bytes()) if inside else sample(path).read_bytes()
    changed = mutate(whole, edits, cut)
    path.write_bytes(gzip.compress(changed, 1) if inside else changed)
    try:
        reader = VitalReader(path)
    except RecordingError as error:
        assert str(path) in str(error)
        return
    last = None
    for count, message in enumerate(reader.messages()):
        assert last is None or message.order > last
        last = message.order
        assert count < 10_000


@settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS, cut=st.integers(0, 4000), inside=st.booleans())
def test_no_bytes_crash_the_reader(tmp_path: Path, edits: list[tuple[int, int]], cut: int, inside: bool) -> None:
    attack(tmp_path, edits, cut, inside)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_damaged_files(tmp_path: Path) -> None:
    generator = np.random.default_rng(20261124)
    for _ in range(100_000):
        edits = [(int(p), int(v)) for p, v in generator.integers(0, [[2**20, 256]], (int(generator.integers(0, 8)), 2))]
        attack(tmp_path, edits, int(generator.integers(0, 4000)), bool(generator.integers(0, 2)))
