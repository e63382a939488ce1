"""Writes ``.vital``, the format of Vital Recorder, which ``vitaldb`` and Vital Recorder itself open.

Layout as ``operators.monitor.vital`` describes it. Waveforms are kept as float32, numerics as float64, so values are
exact; times are seconds as doubles, good to half a microsecond.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.message import NANOSECONDS, Event, Message, Numeric, Waveform

if TYPE_CHECKING:
    from pipeline.export import Subject

WAVE, NUMBER, TEXT = 1, 2, 5
FLOAT32, FLOAT64 = 1, 2
UNITS = {"mm[Hg]": "mmHg", "cm[H2O]": "cmH2O", "Cel": "C", "[degF]": "F", "L/min": "L/min", "1": ""}
"""UCUM to what monitors write, where they differ."""
MAXIMUM_TRACKS = 0xFFFF


class VitalSink:
    """One track a stream, named ``device/track`` as its channel; events become text."""

    takes: ClassVar[tuple[type, ...]] = (Numeric, Waveform, Event)

    def __init__(self, path: Path, subject: Subject) -> None:
        self.rows = 0
        self._tracks: dict[tuple[str, str, float], int] = {}
        self._devices: dict[str, int] = {"": 0}
        self._names: set[str] = set()
        self._first: int | None = None
        self._raw = path.open("xb")
        # No name and no time in the gzip header: the same recording gives the same bytes.
        self._file: Any = gzip.GzipFile("", "wb", compresslevel=6, fileobj=self._raw, mtime=0)
        start, end = subject.start / NANOSECONDS, subject.end / NANOSECONDS
        header = struct.pack("<hIIddB", 0, 0, 0, start, end, 0)
        self._file.write(b"VITA" + struct.pack("<IH", 3, len(header)) + header)

    def write(self, message: Message[Any]) -> bool:
        payload = message.payload
        if message.time <= 0:
            return False
        if isinstance(payload, Waveform):
            if not 0 < payload.rate < 1e9:
                return False
            samples = np.asarray(payload.values, "<f4")
            track = self._track(message.stream, payload.channel, WAVE, payload.unit, payload.rate)
            data = struct.pack("<I", len(samples)) + samples.tobytes()
            self.rows += len(samples)
        elif isinstance(payload, Numeric):
            track = self._track(message.stream, payload.channel, NUMBER, payload.unit, 0.0)
            data = struct.pack("<d", payload.value)
            self.rows += 1
        else:
            channel = payload.data.get("channel")
            track = self._track(message.stream, channel if isinstance(channel, str) else "EVENT", TEXT, "", 0.0)
            data = struct.pack("<I", 0) + _text(payload.text or payload.kind)
            self.rows += 1
        if not track:
            return False
        seconds = self._seconds(message.time, wave=isinstance(payload, Waveform))
        self._packet(1, struct.pack("<HdH", 10, seconds, track) + data)
        return True

    def close(self) -> None:
        self._file.close()
        self._raw.close()

    def abandon(self) -> None:
        try:
            self._file.close()
        finally:
            self._raw.close()

    def _seconds(self, time: int, *, wave: bool) -> float:
        """``time`` as a double, one unit in the last place before it for waveforms and after it for all else.

        ``vitaldb`` counts samples from the start of the file and rounds the place of a waveform's record up and that
        of a number down: without this, the error of the doubles puts every other record one sample too far.
        """
        seconds = time / NANOSECONDS
        if self._first is None:
            self._first = time
        if time <= self._first:
            return seconds
        return math.nextafter(seconds, 0.0 if wave else math.inf)

    def _track(self, stream: str, channel: str, kind: int, unit: str, rate: float) -> int:
        """Number of the track for a stream, declared when it is first seen; 0 beyond 65,535 of them."""
        key = (stream, channel, rate)
        known = self._tracks.get(key)
        if known is not None:
            return known
        number = len(self._tracks) + 1
        if number > MAXIMUM_TRACKS:
            return 0
        device, _, name = channel.rpartition("/")
        full, copy = channel, 2
        while full in self._names:
            full, copy = f"{channel}~{copy}", copy + 1
        self._names.add(full)
        name = full[len(device) + 1 :] if device else full
        if device not in self._devices:
            self._devices[device] = len(self._devices)
            described = struct.pack("<I", self._devices[device]) + _text(device) + _text(device) + _text("")
            self._packet(9, described)
        form = FLOAT32 if kind == WAVE else FLOAT64 if kind == NUMBER else 0
        body = struct.pack("<HBB", number, kind, form) + _text(name or "track") + _text(UNITS.get(unit, unit))
        body += struct.pack("<ffIfddBI", 0, 0, 0xFFFFFFFF, rate, 1.0, 0.0, 0, self._devices[device])
        self._packet(0, body)
        self._tracks[key] = number
        return number

    def _packet(self, kind: int, body: bytes) -> None:
        self._file.write(struct.pack("<BI", kind, len(body)) + body)


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    return struct.pack("<I", len(data)) + data
