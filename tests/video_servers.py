"""Real servers on loopback that send a video file unchanged: RTSP by gst-rtsp-server, SRT by FFmpeg's own program."""

from __future__ import annotations

import contextlib
import functools
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

RTSP = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
demuxer = "matroskademux" if sys.argv[2].endswith(".mkv") else "qtdemux"
factory.set_launch(f'( filesrc location="{sys.argv[2]}" ! {demuxer} ! h264parse ! rtph264pay name=pay0 pt=96 )')
server.get_mount_points().add_factory("/scope", factory)
assert server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""
SYSTEM_PYTHON = "/usr/bin/python3"
"""Debian's own interpreter, which has the GObject bindings."""


@functools.cache
def has_rtsp() -> bool:
    """True where gst-rtsp-server can run."""
    program = (
        RTSP.partition("server = ")[0].replace("import sys\n", "") + "assert Gst.ElementFactory.find('rtph264pay')"
    )
    program += "\nassert Gst.ElementFactory.find('qtdemux') and Gst.ElementFactory.find('h264parse')"
    if not Path(SYSTEM_PYTHON).exists():
        return False
    done = subprocess.run([SYSTEM_PYTHON, "-c", program], capture_output=True, timeout=60, check=False)
    return done.returncode == 0


@functools.cache
def has_srt() -> bool:
    """True where Debian's FFmpeg speaks SRT."""
    if shutil.which("ffmpeg") is None:
        return False
    said = subprocess.run(["ffmpeg", "-hide_banner", "-protocols"], capture_output=True, timeout=60, check=False).stdout
    return b"srt\n" in said.replace(b" ", b"")


def need_rtsp() -> None:
    """Skip the test where no RTSP server can run."""
    if not has_rtsp():
        pytest.skip("needs Debian's gir1.2-gst-rtsp-server-1.0, python3-gi and GStreamer's good and bad plugins")


def need_srt() -> None:
    """Skip the test where no SRT server can run."""
    if not has_srt():
        pytest.skip("needs an ffmpeg with SRT, as Debian's is")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that nothing listens on now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def rtsp_server(path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serves an H.264 file at ``rtsp://127.0.0.1:port/scope``, from its beginning for each client; killed after."""
    process = subprocess.Popen(
        [SYSTEM_PYTHON, "-c", RTSP, str(port), str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready", "the RTSP server did not start"
        yield process
    finally:
        kill(process)


def length(path: Path) -> float:
    """Seconds of video in a file."""
    with av.open(str(path)) as container:
        return float(container.duration or 0) / av.time_base


@contextlib.contextmanager
def srt_server(path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Sends the file once, at its own pace, to the first that calls ``srt://127.0.0.1:port``; killed at the end.

    Silent sound goes along for two seconds more: a sender that hangs up takes with it what its receiver still holds
    back for SRT's latency (0.12 s; measured: the last three pictures).
    """
    address = f"srt://127.0.0.1:{port}?mode=listener&linger=5"
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-re", "-i", str(path)]
    command += ["-re", "-f", "lavfi", "-t", str(length(path) + 2), "-i", "anullsrc=r=48000:cl=mono"]
    command += ["-map", "0:v:0", "-map", "1:a:0", "-c:v", "copy", "-c:a", "mp2"]
    process = subprocess.Popen(
        [*command, "-muxdelay", "0", "-muxpreload", "0", "-flush_packets", "1", "-f", "mpegts", address],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(0.3)  # a UDP listener cannot be asked whether it is there; a caller tries again anyway
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a server as a crash would: at once, without a word to its clients."""
    process.kill()
    process.wait(5)
    if process.stdout is not None:
        process.stdout.close()
