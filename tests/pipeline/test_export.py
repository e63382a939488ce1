"""Exports, read back by the tools that they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
import vitaldb

from pipeline.errors import RecordingError
from pipeline.export import export
from pipeline.message import NANOSECONDS, Event, Message, Numeric, VideoFrame, Waveform
from pipeline.recording import McapReader, McapWriter
from pipeline.registry import open_reader
from tests.pipeline.recording import samples
from tests.pipeline.recording.samples import T0


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Message[Any]]]:
    messages = samples.case()
    messages.append(Message("monitor.events/notes", T0 + 2 * NANOSECONDS, 0, Event("note", "Schnitt"), "recorded"))
    path = tmp_path_factory.mktemp("export") / "case.mcap"
    with McapWriter(path, case="17") as writer:
        for message in messages:
            writer.write(message)
    return path, messages


def test_parquet_is_one_row_a_value(recorded: tuple[Path, list[Message[Any]]], tmp_path: Path) -> None:
    path, messages = recorded
    parts: list[float] = []
    summary = export(path, tmp_path / "a.parquet", progress=parts.append)
    table = pd.read_parquet(tmp_path / "a.parquet")
    waves = [message for message in messages if isinstance(message.payload, Waveform)]
    numbers = [message for message in messages if isinstance(message.payload, Numeric)]
    assert len(table) == summary.rows == 10 * len(waves) + len(numbers)
    assert summary.left_out == {"camera.video": 30, "hypotension.conditions": 1, "monitor.events/notes": 1}
    rates = table[table.stream == "monitor.numerics/HR"]
    assert rates.time.astype("int64").tolist() == [message.time for message in numbers]
    assert np.array_equal(rates.value, [message.payload.value for message in numbers], equal_nan=True)
    assert set(rates.origin) == {"simulated"}
    curve = table[table.kind == "waveform"]
    assert curve.time.astype("int64").tolist() == [T0 + i * 10_000_000 for i in range(300)]
    assert np.array_equal(curve.value.astype(np.float32), np.concatenate([wave.payload.values for wave in waves]))
    assert set(curve.unit) == {"mm[Hg]"}
    assert set(curve.code) == {"MDC_PRESS_BLD_ART_ABP"}
    assert parts == sorted(parts)
    assert parts[-1] == 1.0


def test_a_stretch_of_some_streams_as_csv(recorded: tuple[Path, list[Message[Any]]], tmp_path: Path) -> None:
    start, end = T0 + NANOSECONDS, T0 + 2 * NANOSECONDS + 50_000_000
    export(recorded[0], tmp_path / "a.csv", start=start, end=end, streams=("monitor.*",))
    table = pd.read_csv(tmp_path / "a.csv")
    moments = pd.to_datetime(table.time).astype("int64")
    assert moments.min() == start
    assert moments.max() < end
    assert (table.kind == "waveform").sum() == 105  # the last chunk only as far as asked
    assert table[table.kind == "numeric"].value.isna().sum() == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_vital_is_read_by_vitaldb_and_by_us(recorded: tuple[Path, list[Message[Any]]], tmp_path: Path) -> None:
    path, messages = recorded
    summary = export(path, tmp_path / "a.vital")
    assert summary.left_out.keys() == {"camera.video", "hypotension.conditions"}
    file = vitaldb.VitalFile(str(tmp_path / "a.vital"))
    assert set(file.get_track_names()) == {"ABP", "HR", "EVENT"}
    curve = file.to_numpy(["ABP"], 1 / 100).ravel()
    values = np.concatenate([m.payload.values for m in messages if isinstance(m.payload, Waveform)])
    assert np.allclose(curve[: len(values)], values)
    reader = open_reader(tmp_path / "a.vital")
    found = list(reader.messages())
    reader.close()
    heart = [m.payload.value for m in found if m.stream == "numerics/HR"]
    assert np.array_equal(heart, [m.payload.value for m in messages if isinstance(m.payload, Numeric)], equal_nan=True)
    back = [m for m in found if isinstance(m.payload, Waveform)]
    assert np.array_equal(np.concatenate([m.payload.values for m in back]), values)
    assert abs(back[0].time - T0) < 1000
    assert {m.payload.unit for m in back} == {"mm[Hg]"}
    assert [m.payload.text for m in found if isinstance(m.payload, Event)] == ["Schnitt"]


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_clip_keeps_its_pictures_and_their_times(
    recorded: tuple[Path, list[Message[Any]]], tmp_path: Path, suffix: str
) -> None:
    path, messages = recorded
    target = tmp_path / f"a.{suffix}"
    summary = export(path, target, start=T0 + NANOSECONDS)
    assert summary.rows == 20
    pictures = [m for m in messages if isinstance(m.payload, VideoFrame) and m.time >= T0 + NANOSECONDS]
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert "SIMULATED" in container.metadata["title"]
        frames = list(container.decode(video=0))
    assert [round(float(frame.pts * frame.time_base), 3) for frame in frames] == [i / 10 for i in range(20)]
    for frame, message in zip(frames, pictures, strict=True):
        luma = frame.to_ndarray()[: frame.height, : frame.width]
        assert np.abs(luma.astype(int) - message.payload.planes[0]).mean() < 8
    reader = open_reader(target)
    found = list(reader.messages())
    reader.close()
    assert [m.time for m in found] == [m.time for m in pictures]


def test_a_clip_takes_one_stream(tmp_path: Path) -> None:
    with McapWriter(tmp_path / "a.mcap") as writer:
        for stream in ("a.video", "b.video"):
            writer.write(Message(stream, T0, 0, samples.frame("rgb24", 33, 17)))
            writer.write(Message(stream, T0 + 40_000_000, 1, samples.frame("gray", 64, 48)))
    with pytest.raises(RecordingError, match=r"choose one of a\.video, b\.video"):
        export(tmp_path / "a.mcap", tmp_path / "a.mkv")
    assert export(tmp_path / "a.mcap", tmp_path / "a.mkv", streams=("b.*",)).rows == 2
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert [(frame.width, frame.height) for frame in container.decode(video=0)] == [(34, 18)] * 2


def test_a_stretch_as_a_recording(recorded: tuple[Path, list[Message[Any]]], tmp_path: Path) -> None:
    path, messages = recorded
    export(path, tmp_path / "b.mcap", start=T0 + NANOSECONDS, end=T0 + 2 * NANOSECONDS)
    with McapReader(tmp_path / "b.mcap") as reader:
        orders = [message.order for message in reader.messages()]
        assert reader.case == "17"
    assert orders == [m.order for m in messages if T0 + NANOSECONDS <= m.time < T0 + 2 * NANOSECONDS]


def test_nothing_is_written_over_unless_asked(recorded: tuple[Path, list[Message[Any]]], tmp_path: Path) -> None:
    target = tmp_path / "a.parquet"
    target.write_text("mine")
    with pytest.raises(RecordingError, match="there is a file of that name"):
        export(recorded[0], target)
    assert target.read_text() == "mine"
    export(recorded[0], target, overwrite=True)
    assert len(pd.read_parquet(target)) > 0
    assert sorted(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("a.docx", {}, "known: .mkv"),
        ("a.mkv", {"streams": ("monitor.*",)}, "one video stream"),
        ("a.parquet", {"streams": ("camera.*",)}, "nothing that a .parquet file holds"),
        ("a.parquet", {"streams": ("moniter.*",)}, "no stream like"),
        ("a.parquet", {"start": T0 + 100 * NANOSECONDS}, "the time range holds nothing"),
        ("missing/a.csv", {}, "cannot be written"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing_behind(
    recorded: tuple[Path, list[Message[Any]]], tmp_path: Path, name: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(RecordingError, match=says):
        export(recorded[0], tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []
