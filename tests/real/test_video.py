"""The real laparoscopic clip by file, RTSP and SRT: all 250 pictures, in order, once, bit for bit."""

from __future__ import annotations

import csv
import hashlib
import itertools
import socket
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import pytest

from operators.video.capture import CaptureVideo
from operators.video.colour import from_rgb
from operators.video.file import VideoReader
from operators.video.live import LiveVideo
from operators.video.signal import VideoSignal, look
from operators.video.source import RtspVideo
from pipeline.message import Message, VideoFrame
from pipeline.testing import run_operator
from tests.video_servers import free_port, kill, need_rtsp, need_srt, rtsp_server, srt_server

pytestmark = pytest.mark.real
COUNT = 250


def digest(frame: VideoFrame) -> str:
    return hashlib.sha256(b"".join(plane.tobytes() for plane in frame.planes)).hexdigest()


@pytest.fixture(scope="module")
def clip(shared_data: Path) -> Path:
    return shared_data / "laparoscopy_clip" / "endo.mp4"


@pytest.fixture(scope="module")
def reference(clip: Path) -> list[str]:
    """The pictures' digests by FFmpeg's own decoder through PyAV, without any code of ours."""
    import av

    found = []
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            planes = (bytes(p) for p in frame.planes)
            rows = (
                data[start : start + plane.width]
                for data, plane in zip(planes, frame.planes, strict=True)
                for start in range(0, plane.height * plane.line_size, plane.line_size)
            )
            found.append(hashlib.sha256(b"".join(rows)).hexdigest())
    assert len(found) == len(set(found)) == COUNT
    return found


def test_file(clip: Path, reference: list[str]) -> None:
    reader = VideoReader(clip)
    found = list(reader.messages())
    assert [digest(message.payload) for message in found] == reference
    assert [message.sequence for message in found] == list(range(COUNT))
    assert [message.time - found[0].time for message in found] == [index * 40_000_000 for index in range(COUNT)]
    assert reader.warnings == []


def received(source: LiveVideo, limit: int = 10_000) -> tuple[list[str], list[int], float]:
    """Digests and event times until the source ends, and the seconds until its first picture."""
    began, first = time.monotonic(), 0.0
    digests: list[str] = []
    times: list[int] = []
    for message in source.run():
        first = first or time.monotonic() - began
        digests.append(digest(message.payload))
        times.append(message.time)
        if len(digests) >= limit:
            break
    source.stopping.set()
    return digests, times, first


def test_rtsp(clip: Path, reference: list[str]) -> None:
    need_rtsp()
    with rtsp_server(clip, port := free_port()):
        source = RtspVideo(name="scope", url=f"rtsp://127.0.0.1:{port}/scope", reconnect=False, buffer=256)
        digests, times, first = received(source)
    assert digests == reference
    assert source.statistics.dropped == 0
    assert all(one < two for one, two in itertools.pairwise(times))
    assert first < 1.0, "the first picture came late: probing?"


def test_srt(clip: Path, reference: list[str]) -> None:
    need_srt()
    with srt_server(clip, port := free_port(socket.SOCK_DGRAM)):
        source = CaptureVideo(name="scope", device=f"srt://127.0.0.1:{port}", reconnect=False, buffer=256)
        digests, times, _ = received(source)
    assert digests == reference
    assert source.statistics.dropped == 0
    assert all(one < two for one, two in itertools.pairwise(times))


@pytest.mark.parametrize("kind", ["rtsp", "srt"])
def test_a_server_killed_and_restarted_is_survived(clip: Path, reference: list[str], kind: str) -> None:
    (need_rtsp if kind == "rtsp" else need_srt)()
    port = free_port(socket.SOCK_STREAM if kind == "rtsp" else socket.SOCK_DGRAM)
    server = rtsp_server if kind == "rtsp" else srt_server
    options: dict[str, Any] = {"buffer": 256, "silent_after_seconds": 1.5, "longest_retry_seconds": 0.5}
    source: LiveVideo = (
        RtspVideo(name="scope", url=f"rtsp://127.0.0.1:{port}/scope", **options)
        if kind == "rtsp"
        else CaptureVideo(name="scope", device=f"srt://127.0.0.1:{port}", **options)
    )
    found: list[Message[VideoFrame]] = []

    def read() -> None:
        for message in source.run():
            found.append(message)

    reader = threading.Thread(target=read, daemon=True)
    try:
        with server(clip, port) as first:
            reader.start()
            wait_for(lambda: len(found) >= 40)
            kill(first)
        before = None
        time.sleep(0.5)
        with server(clip, port):
            wait_for(lambda: source.statistics.connections == 2)
            before = source.statistics.pictures
            wait_for(lambda: len(found) >= before + 60)
    finally:
        source.stopping.set()
        reader.join(5)
    assert not reader.is_alive(), "it ends when the run ends"
    places = [
        reference.index(digest(message.payload)) if digest(message.payload) in reference else -1 for message in found
    ]
    begin = places.index(0, 1)  # where the second server began the clip again
    assert places[:40] == list(range(40))
    assert places[begin : begin + 50] == list(range(50))
    assert [message.sequence for message in found] == list(range(len(found)))
    assert all(one.time < two.time for one, two in itertools.pairwise(found))


def wait_for(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_the_clip_raises_no_alert(clip: Path) -> None:
    assert run_operator(VideoSignal(name="signal"), list(VideoReader(clip).messages())) == []


def test_black_and_blue_frames_of_real_operations_are_told_from_all_others(shared_data: Path) -> None:
    folder = shared_data / "laparoscopy_intermountain"
    limits = VideoSignal.Config()
    wrong = []
    with (folder / "labels.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            image = cv2.imread(str(folder / "images" / row["file"]))
            assert image is not None
            seen = look(from_rgb(image[:, :, ::-1]))
            said = "black" if seen.dark >= limits.black.enter else "blue" if seen.blue >= limits.blue.enter else "other"
            said = "noise" if seen.roughness >= limits.noise.leave else said
            true = {"black": "black", "blue_no_input": "blue"}.get(row["view"], "other")
            if said != true:
                wrong.append((row["file"], true, said))
    assert wrong == []
