"""Real monitor data and real video through recordings and exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.export import export
from pipeline.inspection import inspect
from pipeline.message import Message, VideoFrame
from pipeline.registry import open_reader
from tests.pipeline.recording.samples import same

pytestmark = pytest.mark.real


def read(path: Path) -> list[Message[Any]]:
    reader = open_reader(path)
    try:
        return list(reader.messages())
    finally:
        reader.close()


def test_a_monitor_recording_is_the_same_as_mcap(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "or_intellivue" / "or_case1.vital"
    export(source, tmp_path / "a.mcap")
    found, wanted = read(tmp_path / "a.mcap"), read(source)
    assert len(found) == len(wanted) > 100_000
    assert all(same(one, other) for one, other in zip(found, wanted, strict=True))
    one, other = inspect(tmp_path / "a.mcap"), inspect(source)
    assert [(s.stream, s.count, s.gaps, s.unit, s.code) for s in one.streams] == [
        (s.stream, s.count, s.gaps, s.unit, s.code) for s in other.streams
    ]


def test_a_monitor_recording_as_vital_differs_by_less_than_a_microsecond(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "or_intellivue" / "or_case1.vital"
    wanted = read(source)
    end = wanted[0].time + 120_000_000_000
    export(source, tmp_path / "a.vital", end=end)
    streams: dict[str, list[Message[Any]]] = {}
    for message in wanted:
        if message.time < end:
            streams.setdefault(message.stream, []).append(message)
    back: dict[str, list[Message[Any]]] = {}
    for message in read(tmp_path / "a.vital"):
        back.setdefault(message.stream, []).append(message)
    assert back.keys() == streams.keys()
    for stream, messages in streams.items():
        assert abs(back[stream][0].time - messages[0].time) < 1000
        if hasattr(messages[0].payload, "values"):
            one, other = (np.concatenate([m.payload.values for m in part]) for part in (back[stream], messages))
            assert np.array_equal(one, other, equal_nan=True)


def test_a_laparoscope_s_picture_is_close_to_what_it_was(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "laparoscopy_clip" / "endo.mp4"
    reader = open_reader(source)
    start = reader.streams()[0].start
    reader.close()
    export(source, tmp_path / "a.mcap", end=start + 1_500_000_000)
    found, wanted = read(tmp_path / "a.mcap"), read(source)[:38]
    assert [message.order for message in found] == [message.order for message in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert isinstance(one.payload, VideoFrame)
        error = np.mean((one.payload.planes[0].astype(float) - other.payload.planes[0]) ** 2)
        assert 10 * np.log10(255**2 / error) > 38  # dB
