"""Is this machine fit to run Vigil? Each check says what it found and, where something is wrong, what to do.

Nothing here names the machine or its user, so a report can be passed on.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import psutil

State = Literal["ok", "warn", "fail"]

FREE_GIGABYTES = 20.0
"""Room on the disk for some hours of recording."""
FSYNC_MILLISECONDS = 10.0
"""An alert has to be on the disk within this; a slower disk delays every alert."""
OFFSET_SECONDS = 0.1
"""A clock further off confuses the order of devices."""


class Check(msgspec.Struct, frozen=True):
    """What one look at the machine found."""

    name: str
    state: State
    found: str
    mend: str = ""


def _run(*command: str) -> str:
    """Standard output of a program; empty where it is missing, fails, or takes long."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""


def python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    found = f"Python {version}, vigil {importlib.metadata.version('vigil')}"
    return Check("python", "ok", found)


def packages() -> Iterator[Check]:
    """What the optional parts need."""
    extras = {
        "gpu": ("torch", "tensorrt", "pycuda"), "hl7": ("hl7",), "models": ("torch", "onnxruntime", "rapidocr"),
        "vlm": ("torch", "transformers"), "tracing": ("opentelemetry.sdk",),
    }  # fmt: skip
    for extra, modules in extras.items():
        missing = [module for module in modules if not _importable(module)]
        if missing:
            mend = f"only where you need it: pip install 'vigil[{extra}]'"
            yield Check(f"extra {extra}", "warn", f"missing: {', '.join(missing)}", mend)
        else:
            yield Check(f"extra {extra}", "ok", ", ".join(modules))


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def gpu() -> Check:
    listed = _run("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    if listed:
        return Check("gpu", "ok", "; ".join(listed.splitlines()))
    mend = "operators placed on `cuda` run inline here; for models install an NVIDIA driver"
    return Check("gpu", "warn", "no NVIDIA GPU answers", mend)


def decoders() -> Iterator[Check]:
    import av
    from av.codec.hwaccel import hwdevices_available

    missing = [name for name in ("h264", "hevc", "mjpeg") if name not in av.codecs_available]
    hardware = ", ".join(hwdevices_available()) or "none"
    found = f"PyAV {av.__version__}, hardware interfaces built in: {hardware}"
    if missing:
        yield Check("decoders", "fail", f"{found}; cannot decode {', '.join(missing)}", "pip install --upgrade av")
    else:
        yield Check("decoders", "ok", found)
    for program, purpose in (("ffmpeg", "SRT, V4L2 and SDI capture"), ("gst-launch-1.0", "GStreamer capture")):
        if shutil.which(program):
            yield Check(program, "ok", "is there")
        else:
            mend = "only for that: sudo apt-get install ffmpeg gstreamer1.0-tools"
            yield Check(program, "warn", f"missing; {purpose} needs it", mend)


def clock() -> Check:
    """Is the wall clock kept by somebody, and does it run as fast as the monotonic one?"""
    began, monotonic = time.time_ns(), time.monotonic_ns()
    time.sleep(0.2)
    drift = abs((time.time_ns() - began) - (time.monotonic_ns() - monotonic)) / 1e9
    if drift > OFFSET_SECONDS:
        return Check("clock", "fail", f"jumped by {drift:.3f} s while we looked", "stop what sets it in steps")
    kept = _run("timedatectl", "show", "--property=NTPSynchronized", "--value") or _run("chronyc", "-n", "tracking")
    if kept == "yes" or "Leap status     : Normal" in kept:
        return Check("clock", "ok", "synchronised")
    mend = "run chrony or systemd-timesyncd: times of devices and of commands are compared"
    return Check("clock", "warn", "nothing says that it is synchronised", mend)


def disk(data: Path) -> Iterator[Check]:
    """Room, permission, and how long an fsync takes in the data folder."""
    folder = data if data.exists() else data.absolute().parent
    try:
        data.mkdir(parents=True, exist_ok=True)
        probe = data / f".doctor-{os.getpid()}"
        taken = []
        with probe.open("wb") as file:
            for _ in range(20):
                began = time.perf_counter()
                file.write(b"\0" * 4096)
                file.flush()
                os.fsync(file.fileno())
                taken.append((time.perf_counter() - began) * 1e3)
        probe.unlink()
    except OSError as error:
        yield Check("data folder", "fail", f"{data}: {error.strerror}", "give --data a folder that you may write to")
        return
    worst = sorted(taken)[-1]
    found = f"fsync {sorted(taken)[10]:.2f} ms, at worst {worst:.2f} ms"
    slow = worst > FSYNC_MILLISECONDS
    mend = "alerts wait for the disk: use a local SSD for --data" if slow else ""
    yield Check("data folder", "warn" if slow else "ok", found, mend)
    free = shutil.disk_usage(folder).free / 1e9
    low = free < FREE_GIGABYTES
    yield Check("disk space", "warn" if low else "ok", f"{free:,.0f} GB free", "make room before recording" * low)


def memory() -> Check:
    found = psutil.virtual_memory()
    text = f"{found.available / 2**30:.1f} of {found.total / 2**30:.1f} GiB free, {os.cpu_count()} cores"
    if found.available < 2 << 30:
        return Check("memory", "warn", text, "close other programs: video and its recording need about 1 GiB")
    return Check("memory", "ok", text)


def cameras() -> Check:
    devices = sorted(Path("/dev").glob("video*"))
    closed = [device.name for device in devices if not os.access(device, os.R_OK | os.W_OK)]
    if closed:
        mend = "sudo usermod -aG video $USER, then log in again"
        return Check("cameras", "fail", f"may not open {', '.join(closed)}", mend)
    found = ", ".join(device.name for device in devices) or "none attached (RTSP and SRT need none)"
    return Check("cameras", "ok", found)


def port(number: int) -> Check:
    try:
        socket.create_server(("127.0.0.1", number)).close()
    except OSError as error:
        mend = "a vigil that runs already? else give `vigil launch --port`"
        return Check("health port", "warn", f"{number}: {error.strerror}", mend)
    return Check("health port", "ok", f"{number} is free")


def local_broker() -> Check:
    if shutil.which("java") and shutil.which("mvn"):
        return Check("local broker", "ok", "Java and Maven are here: `vigil broker start` can run Apache Kafka")
    mend = "only for a broker on this machine: sudo apt-get install openjdk-17-jre-headless maven"
    return Check("local broker", "warn", "Java or Maven is missing", mend)


def broker(bootstrap: str) -> Iterator[Check]:
    """Can the broker be reached, and are the topics there or may they be made?"""
    import asyncio

    from aiokafka.errors import KafkaError

    from pipeline.errors import VigilError
    from pipeline.kafka import KafkaSettings, ensure_topics

    began = time.perf_counter()
    try:
        asyncio.run(asyncio.wait_for(ensure_topics(KafkaSettings(bootstrap=bootstrap)), 15))
    except (KafkaError, VigilError, OSError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        mend = "alerts wait in the journal meanwhile; check the address, the firewall, TLS and SASL"
        yield Check("broker", "fail", f"{bootstrap}: {reason}", mend)
        return
    yield Check("broker", "ok", f"{bootstrap} has the topics, {(time.perf_counter() - began) * 1e3:.0f} ms")


def examine(data: Path, health_port: int, bootstrap: str = "") -> Iterator[Check]:
    """Every check, one after the other. A check that itself fails is a finding, never the end."""
    checks: list[tuple[str, Callable[[], Check | Iterator[Check]]]] = [
        ("python", python), ("extras", packages), ("gpu", gpu), ("decoders", decoders), ("clock", clock),
        ("data folder", lambda: disk(data)), ("memory", memory), ("cameras", cameras),
        ("health port", lambda: port(health_port)), ("local broker", local_broker),
    ]  # fmt: skip
    if bootstrap:
        checks.append(("broker", lambda: broker(bootstrap)))
    for name, check in checks:
        try:
            found = check()
            yield from [found] if isinstance(found, Check) else found
        except Exception as error:
            yield Check(name, "fail", f"the check itself failed: {error!r}", "tell us")
