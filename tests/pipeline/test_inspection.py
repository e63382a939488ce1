"""What ``inspect`` says of recordings."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pipeline.errors import RecordingError
from pipeline.export import export
from pipeline.inspection import inspect
from pipeline.message import NANOSECONDS, Message, Numeric
from pipeline.recording import McapReader, McapWriter
from tests.pipeline.recording import samples
from tests.pipeline.recording.samples import T0


def written(path: Path, seconds: float = 3.0, **options: str) -> Path:
    with McapWriter(path, **options) as writer:  # type: ignore[arg-type]
        for message in samples.case(seconds):
            writer.write(message)
    return path


def test_a_recording_at_a_glance(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mcap", case="17", room="2")
    summary = inspect(path)
    assert (summary.case, summary.room, summary.format, summary.truncated) == ("17", "2", "mcap", "")
    assert summary.simulated
    assert summary.duration_seconds == pytest.approx(3.0)
    assert summary.size_bytes == path.stat().st_size
    streams = {stream.stream: stream for stream in summary.streams}
    assert list(streams) == sorted(streams)
    assert streams["camera.video"].messages_per_second == pytest.approx(10)
    assert streams["monitor.waveforms/ABP"].samples_per_second == 100
    assert streams["monitor.numerics/HR"].origins == ("simulated",)
    assert streams["hypotension.conditions"].gaps is None
    assert all(stream.gaps in (0, None) for stream in summary.streams)
    assert msgspec.json.decode(msgspec.json.encode(summary), type=type(summary)) == summary


def test_pauses_are_gaps(tmp_path: Path) -> None:
    moments = [0, 1, 2, 3, 20, 21, 22, 23, 30]
    with McapWriter(tmp_path / "a.mcap") as writer:
        for number, moment in enumerate(moments):
            writer.write(Message("m.n", T0 + moment * NANOSECONDS, number, Numeric("HR", "", "", 60.0)))
    (stream,) = inspect(tmp_path / "a.mcap").streams
    assert stream.gaps == 2
    assert [(gap.start - T0, gap.seconds) for gap in stream.longest_gaps] == [
        (3 * NANOSECONDS, 17),
        (23 * NANOSECONDS, 7),
    ]
    assert inspect(tmp_path / "a.mcap", gaps=False).streams[0].gaps is None


def test_a_cut_file_says_so(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mcap")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    summary = inspect(path)
    assert "byte" in summary.truncated
    assert summary.warnings
    assert 0 < summary.duration_seconds < 3


def test_an_empty_recording_and_a_reader_that_stays_open(tmp_path: Path) -> None:
    McapWriter(tmp_path / "a.mcap", simulated=True).close()
    with McapReader(tmp_path / "a.mcap") as reader:
        summary = inspect(reader)
        assert (summary.streams, summary.duration_seconds, summary.origin) == ((), 0.0, "simulated")
        assert list(reader.messages()) == []


def test_other_kinds_of_files(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mcap")
    export(path, tmp_path / "a.vital")
    export(path, tmp_path / "a.mkv")
    vital = inspect(tmp_path / "a.vital")
    assert {stream.payload for stream in vital.streams} == {"Numeric", "Waveform"}
    assert all(stream.gaps == 0 for stream in vital.streams)
    (video,) = inspect(tmp_path / "a.mkv").streams
    assert (video.count, video.gaps) == (30, None)


def test_what_is_not_a_recording(tmp_path: Path) -> None:
    with pytest.raises(RecordingError):
        inspect(tmp_path / "missing.mcap")
