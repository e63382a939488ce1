"""Live video: never slowed by the graph, back after a loss, ended promptly; and a child process as a camera."""

from __future__ import annotations

import itertools
import shutil
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pydantic
import pytest

from operators.video.capture import CaptureVideo, Child, child_command
from operators.video.colour import from_rgb, luma, rgb
from operators.video.live import Intake, LiveClock, Pictures
from operators.video.source import RtspVideo, without_credentials
from pipeline.errors import VigilError
from pipeline.message import VideoFrame
from tests.operators.video.clips import numbered

MS = 1_000_000
FRAME = VideoFrame(2, 2, "gray", (np.zeros((2, 2), np.uint8),))


def test_the_graph_never_slows_the_device() -> None:
    stopping, pace = threading.Event(), []

    def connect(halted: Callable[[], bool]) -> Pictures:
        for index in range(100):
            pace.append(time.monotonic())
            yield index * MS, FRAME
            time.sleep(0.001)

    intake = Intake("test", connect, stopping, capacity=4, reconnect=False)
    taken = 0
    for _ in intake:
        taken += 1
        time.sleep(0.02)
    assert len(pace) == 100
    assert pace[-1] - pace[0] < 1.0
    assert intake.statistics.dropped == 100 - taken > 0


def test_a_lost_device_is_found_again_and_every_picture_of_both_comes() -> None:
    stopping, calls = threading.Event(), itertools.count()

    def connect(halted: Callable[[], bool]) -> Pictures:
        call = next(calls)
        if call in (1, 2):
            raise VigilError("refused", where="test")
        for index in range(5):
            yield index * MS, FRAME
        if call == 0:
            raise VigilError("broke off", where="test")

    intake = Intake("test", connect, stopping, retry_seconds=0.01, capacity=64)
    found = list(itertools.islice(intake, 10))
    times = [event_time for event_time, _ in found]
    assert all(one < two for one, two in itertools.pairwise(times))
    assert intake.statistics.connections == 2
    assert intake.statistics.failures >= 3


def test_without_reconnecting_what_broke_it_is_raised() -> None:
    def connect(halted: Callable[[], bool]) -> Pictures:
        yield 0, FRAME
        raise VigilError("broke off", where="test")

    found = []
    with pytest.raises(VigilError, match="broke off"):
        found += list(Intake("test", connect, threading.Event(), reconnect=False))


def test_a_silent_device_does_not_hold_up_the_end() -> None:
    stopping = threading.Event()

    def connect(halted: Callable[[], bool]) -> Pictures:
        while not halted():
            time.sleep(0.01)
        yield 0, FRAME

    threading.Timer(0.1, stopping.set).start()
    began = time.monotonic()
    assert list(Intake("test", connect, stopping)) == []
    assert time.monotonic() - began < 30.0, "it ended, which is the point; how fast depends on the machine"


def test_the_live_clock_keeps_the_devices_spacing_and_follows_its_jumps() -> None:
    chance, clock = np.random.default_rng(0), LiveClock()
    sent = [index * 40 * MS for index in range(500)]
    arrived = [10**18 + time + int(chance.exponential(5 * MS)) for time in sent]
    events = [clock.time(time, now) for time, now in zip(sent, arrived, strict=True)]
    steps = np.diff(events[50:])
    assert np.abs(steps - 40 * MS).max() < 2 * MS, "jitter of arrival is not in event time"
    assert max(np.subtract(arrived, events)) < 100 * MS
    later = arrived[-1] + 3_000_000_000
    assert clock.time(0, later) == later, "the device began again at zero"
    assert clock.time(None, later + MS) == later + MS
    assert clock.time(40 * MS, later + MS) > later + MS, "time never stands still"


def test_addresses_are_logged_without_credentials() -> None:
    assert without_credentials("rtsp://user:secret@10.0.0.1:554/a?token=x") == "rtsp://10.0.0.1:554/a"
    assert "secret" not in RtspVideo(url="rtsp://user:secret@127.0.0.1/a").where
    assert "secret" not in CaptureVideo(device="srt://127.0.0.1:1?passphrase=secretsecret").where


@pytest.mark.parametrize("device", ["file:///etc/passwd", "v4l2:/etc/passwd", "-i", "decklink:0 ! filesink", "srt://"])
def test_only_devices_are_opened(device: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        CaptureVideo(device=device)


def test_the_childs_command_says_what_was_asked() -> None:
    config = CaptureVideo.Config(device="v4l2:/dev/video0", size="1920x1080", rate=59.94, coding="mjpeg")
    command, form = child_command(config)
    line = " ".join(command)
    assert "-f v4l2 -input_format mjpeg -video_size 1920x1080 -framerate 59.94 -i /dev/video0" in line
    assert form == "nut"
    assert child_command(CaptureVideo.Config(device="decklink:1"))[0][:3] == [
        "gst-launch-1.0",
        "-q",
        "decklinkvideosrc",
    ]


def test_a_child_that_falls_silent_is_noticed_and_ended() -> None:
    program = "import sys,time; sys.stdout.write('abc'); sys.stdout.flush(); time.sleep(60)"
    with Child([sys.executable, "-c", program], lambda: False, 10.0, 0.2) as child:
        assert child.read(100) == b"abc"
        child.rewind()
        assert child.read(2) == b"ab"
        assert child.read(2) == b"c"
        assert child.read(100) == b""
        assert child.silent
    assert child._process.poll() is not None


def test_a_childs_last_words_are_kept_without_secrets() -> None:
    program = "import sys; sys.stderr.write('srt://h:1?passphrase=hush: refused\\n'); sys.exit(1)"
    with Child([sys.executable, "-c", program], lambda: False, 10.0, 10.0) as child:
        assert child.read(10) == b""
        assert not child.silent
        assert child.complaint().endswith("refused")
        assert "hush" not in child.complaint()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs Debian's ffmpeg")
def test_raw_pictures_from_a_child_arrive_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=2",
            "-pix_fmt", "yuv420p", "-c:v", "rawvideo", "-f", "nut", "pipe:1"]  # fmt: skip
    monkeypatch.setattr("operators.video.capture.child_command", lambda config: (made, "nut"))
    source = CaptureVideo(name="card", device="v4l2:/dev/video0", reconnect=False, buffer=256, hardware="none")
    found = list(source.run())
    assert len(found) == 50
    assert {(m.payload.width, m.payload.height, m.payload.format) for m in found} == {(160, 120, "yuv420p")}
    assert len({m.payload.planes[0].tobytes() for m in found}) == 50
    assert {m.stream for m in found} == {"card.video/video"}


@pytest.mark.parametrize("form", ["yuv420p", "nv12", "rgb24"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("size", [(64, 96), (61, 95), (720, 96)])
def test_colours_come_back(form: str, full_range: bool, size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    image[:, : size[1] // 2 // 2 * 2] = (200, 40, 30)
    image[:, size[1] // 2 // 2 * 2 :] = (30, 120, 210)
    frame = from_rgb(image, form, full_range=full_range)  # type: ignore[arg-type]
    assert int(np.abs(rgb(frame).astype(int) - image).max()) <= 4
    red, green, blue = (0.2126, 0.7152, 0.0722) if size[0] >= 720 else (0.299, 0.587, 0.114)
    expected = image[0, 0] @ np.array([red, green, blue])
    assert abs(int(luma(frame)[0, 0]) - expected) <= 2


def test_the_numbered_picture_survives_grey() -> None:
    frame = from_rgb(numbered(5), "gray")
    assert rgb(frame).shape == (64, 96, 3)
