"""A case as a source in real time."""

from __future__ import annotations

import time
from pathlib import Path

from operators.theatre.source import Theatre
from operators.theatre.tracks import FrameTrack
from pipeline.message import VideoFrame
from tests.operators.theatre.test_tracks import SHORT


def test_the_first_picture_comes_as_quickly_as_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(SHORT)
    source = Theatre(case=str(path))
    source.setup()
    assert all(track.studio._renderer is not None for track in source._tracks if isinstance(track, FrameTrack))
    begin = time.perf_counter()
    first = next(message for message in source.run() if isinstance(message.payload, VideoFrame))
    assert time.perf_counter() - begin < 1.0
    assert first.stream == "theatre.video/video"
