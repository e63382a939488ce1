"""Video files: complete, in order, with their own times, and nothing hostile gets further than an error."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from operators.video.file import UNDATED, VideoReader
from operators.video.source import VideoFile
from pipeline.errors import RecordingError
from pipeline.reader import Reader
from tests.operators.video.clips import HEIGHT, WIDTH, encode, number

MS = 1_000_000


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mov", ".avi", ".h264"])
def test_every_picture_comes_once_and_in_order(tmp_path: Path, suffix: str) -> None:
    reader = VideoReader(encode(tmp_path / f"clip{suffix}", 30, options={"bf": "0"} if suffix == ".avi" else None))
    assert isinstance(reader, Reader)
    found = list(reader.messages())
    assert [number(message.payload) for message in found] == list(range(30))
    assert [message.sequence for message in found] == list(range(30))
    assert [message.order for message in found] == sorted(message.order for message in found)
    assert {(message.stream, message.origin) for message in found} == {("video/video", "recorded")}
    assert (found[0].payload.width, found[0].payload.height) == (WIDTH, HEIGHT)
    (info,) = reader.streams()
    assert (info.stream, info.payload, info.start) == ("video/video", "VideoFrame", UNDATED)
    assert info.count in (30, -1)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_variable_rate_is_kept(tmp_path: Path, suffix: str) -> None:
    times = [0, 40, 80, 480, 500, 1500, 1533, 1600, 1610, 4000]
    found = list(VideoReader(encode(tmp_path / f"clip{suffix}", 10, milliseconds=times)).messages())
    assert [round((message.time - found[0].time) / MS) for message in found] == times
    assert [number(message.payload) for message in found] == list(range(10))


def test_an_interval_is_the_same_part_of_the_whole(tmp_path: Path) -> None:
    reader = VideoReader(encode(tmp_path / "clip.mp4", 150))
    whole = list(reader.messages())
    start, end = whole[77].time, whole[101].time
    part = list(reader.messages(start, end))
    assert [(m.sequence, m.time) for m in part] == [(m.sequence, m.time) for m in whole[77:101]]
    for one, other in zip(part, whole[77:101], strict=True):
        np.testing.assert_array_equal(one.payload.planes[0], other.payload.planes[0])


def test_the_source_gives_the_file_under_its_own_name(tmp_path: Path) -> None:
    source = VideoFile(name="scope", path=encode(tmp_path / "clip.mp4", 12))
    assert not source.live
    found = list(source.run())
    assert [number(message.payload) for message in found] == list(range(12))
    assert {message.stream for message in found} == {"scope.video/video"}


def test_damage_in_the_middle_is_survived_and_said(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.ts", 60)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 188 * 188
    for packet in range(middle, middle + 188 * 6, 188):
        data[packet + 8 : packet + 188] = bytes(180)
    path.write_bytes(data)
    reader = VideoReader(path)
    found = list(reader.messages())
    numbers = [number(message.payload) for message in found if not message.payload.corrupt]
    assert {0, 1, 58, 59} <= set(numbers)
    assert len(found) < 60 or any(message.payload.corrupt for message in found) or reader.warnings
    assert reader.warnings
    assert [message.order for message in found] == sorted(message.order for message in found)


def test_a_file_cut_short_opens_as_far_as_it_goes(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mkv", 60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    numbers = [number(message.payload) for message in VideoReader(path).messages() if not message.payload.corrupt]
    assert len(numbers) > 20
    assert numbers[:20] == list(range(20))


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"\0" * 5000, b"not a video at all", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
     b"ffconcat version 1.0\nfile /etc/passwd\n", bytes(range(256)) * 40],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".mp4", ".h264", ".ts"])
def test_what_is_no_video_is_refused_by_name(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"hostile{suffix}"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="hostile"):
        list(VideoReader(path).messages())


def test_missing_files_and_folders_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"gone\.mp4"):
        VideoReader(tmp_path / "gone.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(RecordingError, match=r"folder\.mp4"):
        VideoReader(tmp_path / "folder.mp4")


def read_mutants(folder: Path, count: int, seed: int) -> tuple[int, int]:
    """Read ``count`` damaged files; returns how many were refused and how many gave pictures."""
    chance = random.Random(seed)
    originals = [
        encode(folder / f"seed{suffix}", 6, options={"bf": "1"}).read_bytes() for suffix in (".mp4", ".mkv", ".ts")
    ]
    refused = gave = 0
    for index in range(count):
        data = bytearray(originals[index % 3])
        for _ in range(chance.choice((1, 1, 3, 20))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        path = folder / f"mutant{('.mp4', '.mkv', '.ts')[index % 3]}"
        path.write_bytes(data)
        try:
            reader = VideoReader(path)
            reader.streams()
            for message in itertools.islice(reader.messages(), 200):
                assert isinstance(message.time, int)
            gave += 1
        except RecordingError as error:
            assert "mutant" in str(error)
            refused += 1
    return refused, gave


def test_damaged_bytes_are_refused_or_read(tmp_path: Path) -> None:
    refused, gave = read_mutants(tmp_path, 300, seed=1)
    assert refused > 10
    assert gave > 50


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_damaged_files(tmp_path: Path) -> None:
    refused, gave = read_mutants(tmp_path, 100_000, seed=2)
    assert refused + gave == 100_000
