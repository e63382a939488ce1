"""Writing a case down, and playing it in real time."""

from __future__ import annotations

import time
from pathlib import Path

from operators.theatre.reader import TheatreReader
from operators.theatre.simulate import simulate
from operators.theatre.source import Theatre
from operators.theatre.tracks import FrameTrack
from pipeline.message import Message, VideoFrame
from tests.operators.theatre.test_tracks import SHORT


def test_everything_is_written_and_progress_is_told(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(SHORT)
    reader = TheatreReader(path)
    written: list[Message] = []
    told: list[tuple[float, float]] = []
    counts = simulate(reader, written.append, lambda done, whole: told.append((done, whole)))
    assert counts == {info.stream: info.count for info in reader.streams()}
    assert len(written) == sum(counts.values())
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (12.0, 12.0)
    assert len(told) >= 10


def test_the_first_picture_comes_as_quickly_as_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(SHORT)
    source = Theatre(case=str(path))
    source.setup()
    assert all(track.studio._renderer is not None for track in source._tracks if isinstance(track, FrameTrack))
    begin = time.perf_counter()
    first = next(message for message in source.run() if isinstance(message.payload, VideoFrame))
    assert time.perf_counter() - begin < 1.0
    assert first.stream == "theatre.video"
