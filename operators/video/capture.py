"""Capture through a child process: what FFmpeg's or GStreamer's own programs open and PyAV does not.

PyAV's wheels have no SRT, no V4L2 and no SDI. A child process opens the device and hands its packets on, undecoded
where they are coded, in a container over a pipe (NUT from ``ffmpeg``, Matroska from ``gst-launch-1.0``: both carry
times and raw video). They are decoded here like any other, so hardware decode and damage counting are the same, and
a driver that crashes takes only the child with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import av
import pydantic

from operators.video.decode import FAULTS, MAXIMUM_PIXELS, Tally, open_decoder, pictures, reason, video_stream
from operators.video.live import POLL, LiveConfig, LiveVideo, Pictures
from operators.video.source import without_credentials
from pipeline.errors import VigilError

DEVICE = r"^(srt://[^\s]+|v4l2:/dev/[\w./-]+|decklink:\d{1,2})$"
PIPE_BYTES = 1 << 20
"""Size of the pipe where the system allows it: a raw 1080p picture is 3 MB."""


class CaptureVideo(LiveVideo):
    """SRT, a V4L2 device (USB grabbers, UVC cameras) or an SDI card, opened by a child process."""

    class Config(LiveConfig):
        device: str = pydantic.Field(pattern=DEVICE)
        """`srt://host:port?mode=caller&latency=120000` (microseconds; a passphrase is never logged),
        `v4l2:/dev/video0`, or `decklink:0`, the number of a Blackmagic SDI input."""
        size: str = pydantic.Field(default="", pattern=r"^(\d{1,5}x\d{1,5})?$")
        """Picture size asked of a V4L2 device, e.g. `1920x1080`; empty takes the device's own."""
        rate: float = pydantic.Field(default=0.0, ge=0, le=240)
        """Pictures per second asked of a V4L2 device; 0 takes the device's own."""
        coding: str = pydantic.Field(default="", pattern=r"^\w{0,16}$")
        """What a V4L2 device shall send, in FFmpeg's words: `mjpeg`, `h264`, `yuyv422`; empty takes its own."""

    @property
    def where(self) -> str:
        device: str = self.config.device
        return without_credentials(device) if device.startswith("srt:") else device

    def connect(self, halted: Callable[[], bool]) -> Pictures:
        """Start the child and decode what it sends. Raises ``VigilError`` where it fails or falls silent."""
        arguments, form = child_command(self.config)
        if shutil.which(arguments[0]) is None:
            raise VigilError(f"needs the program {arguments[0]}", where=self.where, mend="install it; see deploy/")
        config = self.config
        with Child(arguments, halted, config.open_seconds, config.silent_after_seconds) as child:
            tally = Tally()
            container = None
            try:
                container, self.intake.statistics.decoder = open_decoder(_opener(child, form), config.hardware)
                child.forget()
                stream = video_stream(container, self.where)
                for item in pictures(container, stream, tally):
                    yield item
                    if halted():
                        return
            except FAULTS as error:
                if halted():
                    return
                raise VigilError(f"broke off: {child.complaint() or reason(error)}", where=self.where) from None
            finally:
                if container is not None:
                    container.close()
            if child.silent:
                raise VigilError(f"fell silent after {tally.pictures} pictures", where=self.where)
            complaint = child.complaint()
            # "Input/output error" is all that FFmpeg says of an SRT sender that hung up: the end of the stream.
            hung_up = config.device.startswith("srt:") and tally.pictures and complaint.endswith("Input/output error")
            if complaint and not hung_up and not halted():
                raise VigilError(f"broke off after {tally.pictures} pictures: {complaint}", where=self.where)


def child_command(config: Any) -> tuple[list[str], str]:
    """The child's command line, and the container that it writes to its standard output."""
    device: str = config.device
    if device.startswith("decklink:"):
        source = [
            "decklinkvideosrc",
            f"device-number={device.partition(':')[2]}",
            "mode=auto",
            "drop-no-signal-frames=true",
        ]
        tail = [
            "!",
            "videoconvert",
            "!",
            "video/x-raw,format=I420",
            "!",
            "matroskamux",
            "streamable=true",
            "!",
            "fdsink",
            "fd=1",
        ]
        return ["gst-launch-1.0", "-q", *source, *tail], "matroska"
    command = ["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-fpsprobesize", "0"]
    if device.startswith("v4l2:"):
        command += ["-f", "v4l2"]
        command += ["-input_format", config.coding] if config.coding else []
        command += ["-video_size", config.size] if config.size else []
        command += ["-framerate", f"{config.rate:g}"] if config.rate else []
        command += ["-i", device.partition(":")[2]]
    else:
        # Enough to meet one key frame of an 80 Mbit/s stream, and no longer than its first pictures.
        command += ["-probesize", "2M", "-analyzeduration", "1000", "-f", "mpegts", "-i", device]
    command += ["-map", "0:v:0", "-c", "copy", "-copyts", "-flush_packets", "1", "-f", "nut", "pipe:1"]
    return command, "nut"


def _opener(child: Child, form: str) -> Callable[[Any], Any]:
    def attempt(accelerator: Any) -> Any:
        child.rewind()  # a decoder that does not open has read the stream's beginning; the next one needs it too
        options = {
            "analyzeduration": "1",
            "fpsprobesize": "0",
            "probesize": "5000000",
            "max_pixels": str(MAXIMUM_PIXELS),
        }
        return av.open(
            child, format=form, options=options, metadata_errors="replace", hwaccel=accelerator, buffer_size=PIPE_BYTES
        )

    return attempt


class Child:
    """A child process's output as a file to read, with its own idea of patience.

    ``read`` gives an empty answer, the end of a file, when the child ends, falls silent (``silent`` is then True) or
    ``halted`` says that the run is over. Leaving the context ends the child.
    """

    def __init__(
        self, arguments: list[str], halted: Callable[[], bool], open_seconds: float, silent_after_seconds: float
    ) -> None:
        self.halted, self.open_seconds, self.silent_seconds = halted, open_seconds, silent_after_seconds
        self.silent = False
        self.received = 0
        """Bytes so far."""
        self._head: bytearray | None = bytearray()
        """What was read so far, until ``forget``."""
        self._again = b""
        self._said: deque[str] = deque(maxlen=5)
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        with contextlib.suppress(ImportError, AttributeError, OSError):  # not Linux, or more than a user may have
            import fcntl

            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._listener = threading.Thread(target=self._listen, name="video child", daemon=True)
        self._listener.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, as soon as there are any."""
        if self._again:
            data, self._again = self._again[:size], self._again[size:]
            return data
        patience = self.silent_seconds if self.received else self.open_seconds
        deadline = time.monotonic() + patience
        while not self.halted():
            ready, _, _ = select.select([self._pipe], [], [], POLL)
            if ready:
                data = os.read(self._pipe, size)
                self.received += len(data)
                if self._head is not None:
                    self._head += data
                return data
            if time.monotonic() > deadline:
                self.silent = True
                break
        return b""

    def rewind(self) -> None:
        """Read again from the beginning; only before ``forget``."""
        self._again = bytes(self._head or b"")

    def forget(self) -> None:
        """Keep no more of what is read."""
        self._head = None

    def complaint(self) -> str:
        """The last thing the child said, without addresses that may hold a passphrase; empty where it said nothing."""
        if self._process.poll() is not None:
            self._listener.join(0.5)
        return self._said[-1] if self._said else ""

    def end(self) -> None:
        """End the child: asked first, killed after a second."""
        process = self._process
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(1.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5.0)
        self._listener.join(1.0)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()

    def _listen(self) -> None:
        """Keep the child's last words; never let its pipe fill."""
        assert self._process.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            while line := self._process.stderr.readline(2000):
                words = (_discreet(word) for word in line.decode("utf-8", "replace").split())
                if text := " ".join(words)[:300]:
                    self._said.append(text)


def _discreet(word: str) -> str:
    if "://" not in word:
        return word
    try:
        return without_credentials(word) if urlsplit(word).netloc else word
    except ValueError:
        return "(address)"
