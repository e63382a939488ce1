"""Source and reader: the same messages, in order, exact, at any moment."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from operators.theatre.case import SHIPPED, load
from operators.theatre.reader import TheatreReader
from operators.theatre.source import Theatre
from operators.theatre.tracks import frame_times
from pipeline.message import Message, Numeric, VideoFrame, Waveform
from pipeline.reader import Reader

SHORT = """\
theatre: 1
duration: 12
seed: 5
video: {rate: 5, size: [96, 64]}
phases: [{at: 0, name: a}, {at: 6, name: b, view: close}]
script:
  - {at: 1, do: instrument, tool: grasper, lasts: 8}
  - {at: 2, do: bleeding, lasts: 6}
  - {at: 3, do: sensor_off, sensor: arterial, lasts: 4}
  - {at: 5, do: video_fault, how: frozen, lasts: 2}
  - {at: 8, do: video_fault, how: lost, lasts: 2}
  - {at: 10.5, do: sponge_count, given: 5, counted: 5}
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("case") / "short.yaml"
    path.write_text(SHORT)
    return path


@pytest.fixture(scope="module")
def messages(script: Path) -> list[Message]:
    return list(TheatreReader(script).messages())


def same(one: Message, other: Message) -> bool:
    if (one.time, one.sequence) != (other.time, other.sequence) or type(one.payload) is not type(other.payload):
        return False
    if isinstance(one.payload, VideoFrame):
        return all(np.array_equal(a, b) for a, b in zip(one.payload.planes, other.payload.planes, strict=True))
    if isinstance(one.payload, Waveform):
        return np.array_equal(one.payload.values, other.payload.values, equal_nan=True)
    if isinstance(one.payload, Numeric):
        return one.payload.channel == other.payload.channel and np.array_equal(
            one.payload.value, other.payload.value, equal_nan=True
        )
    return one.payload == other.payload


def test_order_and_origin(messages: list[Message]) -> None:
    assert [m.order for m in messages] == sorted(m.order for m in messages)
    assert len({m.order for m in messages}) == len(messages)
    assert {m.origin for m in messages} == {"simulated"}
    for _, group in itertools.groupby(sorted(messages, key=lambda m: m.stream), key=lambda m: m.stream):
        sequences = [m.sequence for m in group]
        assert sequences == list(range(len(sequences)))


def test_the_source_gives_the_same_messages(script: Path, messages: list[Message]) -> None:
    source = Theatre(case=str(script), name="room")
    source.setup()
    given = list(source.run())
    assert [m.stream for m in given] == [f"room.{m.stream}" for m in messages]
    assert all(same(a, b) for a, b in zip(given, messages, strict=True))


def test_any_stretch_equals_the_whole(script: Path, messages: list[Message]) -> None:
    reader = TheatreReader(script)
    start, end = reader.case.ns(4.05), reader.case.ns(7.3)
    part = list(reader.messages(start, end))
    whole = [m for m in messages if start <= m.time < end]
    assert [m.order for m in part] == [m.order for m in whole]
    assert all(same(a, b) for a, b in zip(part, whole, strict=True))


def test_sensor_off_is_silence_not_zeros(messages: list[Message], script: Path) -> None:
    case = load(script)
    off = [m for m in messages if case.ns(3) <= m.time < case.ns(7)]
    assert not [m for m in off if "/ABP" in m.stream]
    assert [m for m in off if m.stream == "waveforms/Intellivue/PLETH"]
    assert [m for m in messages if "/ABP" in m.stream and m.time >= case.ns(7)]


def test_frozen_and_lost_pictures(messages: list[Message], script: Path) -> None:
    case = load(script)
    frames = {round((m.time - case.origin_ns) / 1e9, 3): m.payload for m in messages if m.stream == "video/video"}
    frozen = [frame for at, frame in frames.items() if 5 <= at < 7]
    assert len(frozen) == 10
    assert all(np.array_equal(frozen[0].planes[0], frame.planes[0]) for frame in frozen)
    assert np.array_equal(frozen[0].planes[0], frames[4.8].planes[0])
    assert not np.array_equal(frozen[0].planes[0], frames[7.2].planes[0])
    assert not [at for at in frames if 8 <= at < 10]


def test_streams_describe_what_comes(script: Path, messages: list[Message]) -> None:
    reader = TheatreReader(script)
    assert isinstance(reader, Reader)
    counts = Counter(m.stream for m in messages)
    assert {info.stream: info.count for info in reader.streams()} == counts
    assert {
        "video/video",
        "waveforms/Intellivue/ECG_II",
        "numerics/Intellivue/ABP_MEAN",
        "events/phase",
        "truth/bleeding",
    } <= set(counts)
    assert all(info.unit for info in reader.streams() if info.payload in ("Numeric", "Waveform"))


def test_truth_comes_with_every_picture_when_asked(script: Path) -> None:
    source = Theatre(case=str(script), truth=True, width=64, height=48, rate=2.0)
    source.setup()
    given = list(
        itertools.islice((m for m in source.run() if m.stream.split(".")[1] in ("video/video", "masks", "scene")), 12)
    )
    assert [m.stream for m in given[:3]] == ["theatre.masks", "theatre.scene", "theatre.video/video"]
    mask, patch, frame = (m.payload for m in given[-3:])
    assert mask.labels.shape == (48, 64) == frame.planes[0].shape
    assert patch.points.shape == (48 * 64, 3)
    # Points, seen from the camera, fall on the pixels that they came from.
    local = (patch.points - patch.pose[:3, 3]) @ patch.pose[:3, :3]
    column = local[:, 0] / local[:, 2] * 0.98 * 48 + 31.5
    off = (column.reshape(48, 64) - np.arange(64)[None])[~np.isnan(column.reshape(48, 64))]
    assert off.size > 0.6 * 48 * 64
    assert np.abs(off).max() < 0.05


def test_seed_and_video_options() -> None:
    def first(**options: object) -> list[Message]:
        source = Theatre(case="uneventful", **options)
        source.setup()
        return list(itertools.islice(source.run(), 60))

    quiet = first(video=False)
    assert not [m for m in quiet if m.stream == "theatre.video/video"]
    assert all(same(a, b) for a, b in zip(quiet, first(video=False), strict=True))
    assert not all(same(a, b) for a, b in zip(quiet, first(video=False, seed=99), strict=True))


def test_bursts_change_the_rate() -> None:
    filming = load(SHIPPED / "long.yaml").video
    times = frame_times(filming, 21_600)
    assert np.all(np.diff(times) > 0)
    assert ((times >= 1800) & (times < 1810)).sum() == 150
    assert ((times >= 1000) & (times < 1100)).sum() == 10
