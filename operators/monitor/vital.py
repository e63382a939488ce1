"""Reads ``.vital``, the recording format of Vital Recorder (vitaldb.net).

Layout, from VitalDB's published description and checked against the ``vitaldb`` library: gzip over ``VITA``, u32
version, u16 header length, header (time zone, and in newer files start, end and a ``packed`` flag), then packets of
u8 type, u32 length, body: device (9), track (0), record (1), command (6). Little endian, times UTC seconds as doubles.

Our own parser rather than the library's, because the library prints and carries on where a file is damaged, opens
URLs, has no bound on memory, and keeps a dictionary for each record. The tests equate the two on real recordings.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from operators.monitor import codes
from operators.monitor.tracks import (
    LATEST,
    EventTrack,
    NumericTrack,
    Track,
    TrackReader,
    WaveformTrack,
    join_records,
    wanted,
)
from pipeline.errors import RecordingError
from pipeline.message import NANOSECONDS, Event

MAXIMUM_BYTES = 4 << 30
"""Largest unpacked file that is read; the rest is left out, with a warning."""
MAXIMUM_RATIO = 200
"""Largest unpacked size relative to the file, beyond the first 64 MiB: real recordings stay below 30."""
MAXIMUM_PACKET = 512 << 20
MAXIMUM_TRACKS = 4096
MAXIMUM_FAULTS = 100
"""Malformed packets after which reading stops."""
MAXIMUM_TEXT = 4096
"""Longest text of an annotation, characters."""
MAXIMUM_RUN_SECONDS = 32 * 86_400.0
RATES = (0.01, 100_000.0)
"""Sampling rates taken for real, per second."""

WAVE, NUMBER, TEXT = 1, 2, 5
FORMATS = {1: "<f4", 2: "<f8", 3: "<i1", 4: "<u1", 5: "<i2", 6: "<u2", 7: "<i4", 8: "<u4"}
MISSING = {3: -128, 4: 255, 5: -32768, 6: 65535, 7: -(2**31), 8: 2**32 - 1}
"""What integer formats of *packed* files fill their gaps with."""


class _Bytes:
    """The unpacked bytes of a gzip file, read in order, never more than allowed."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.allowed = file, min(MAXIMUM_BYTES, max(64 << 20, MAXIMUM_RATIO * size))
        self.inflate = zlib.decompressobj(wbits=31)
        self.buffer = bytearray()
        self.start = 0
        """Offset of ``buffer[at]`` counted from the beginning of the unpacked file."""
        self.at = 0
        self.fault = ""

    def take(self, count: int) -> bytes | None:
        """The next ``count`` bytes; None where the file ends before (``fault`` says why, if it is damaged)."""
        while len(self.buffer) - self.at < count:
            if not self._more():
                return None
        piece = bytes(self.buffer[self.at : self.at + count])
        self.at += count
        self.start += count
        return piece

    def left(self) -> int:
        return len(self.buffer) - self.at

    def _more(self) -> bool:
        if self.fault or self.inflate.eof:
            return False
        packed = self.inflate.unconsumed_tail or self.file.read(1 << 16)
        if not packed:
            self.fault = "the file is cut off"
            return False
        try:
            unpacked = self.inflate.decompress(packed, 1 << 20)
        except zlib.error as error:
            self.fault = f"its compressed data is damaged ({error})"
            return False
        if self.at > 1 << 20:
            del self.buffer[: self.at]
            self.at = 0
        self.buffer += unpacked
        if self.start + self.left() > self.allowed:
            self.fault = f"it unfolds into more than {self.allowed:,} bytes"
            return False
        return True


class _Track:
    """A track while its records are being collected."""

    def __init__(self, body: _Body, devices: dict[int, str]) -> None:
        self.id, self.kind, self.format = body.u16(), body.u8(), body.u8()
        if self.kind not in (WAVE, NUMBER, TEXT):
            raise ValueError(f"unknown kind {self.kind} of track")
        if self.kind != TEXT and self.format not in FORMATS:
            raise ValueError(f"unknown number format {self.format}")
        name = body.text(200)
        self.unit = body.text(64) if body.left() else ""
        body.skip(12)  # display range and colour
        self.rate = body.f32() if body.left() else 0.0
        self.gain = body.f64() if body.left() else 1.0
        self.offset = body.f64() if body.left() else 0.0
        body.skip(1)  # montage
        device = devices.get(body.u32(), "") if body.left() else ""
        self.channel = f"{device}/{name}" if device else name
        if not name:
            raise ValueError("a track without a name")
        if self.kind == WAVE and not RATES[0] <= self.rate <= RATES[1]:
            raise ValueError(f"{self.channel} cannot have {self.rate:g} samples per second")
        if not (np.isfinite(self.gain) and np.isfinite(self.offset)):
            raise ValueError(f"{self.channel} has no usable gain and offset")
        self.times: list[int] = []
        self.values: list[np.ndarray | float | str] = []


class _Body:
    """Reads fields from a packet; ``ValueError`` where it is too short."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def left(self) -> int:
        return len(self.data) - self.at

    def _field(self, form: str, size: int) -> int | float:
        if self.left() < size:
            raise ValueError("it ends in the middle of a field")
        value: int | float = struct.unpack_from(form, self.data, self.at)[0]
        self.at += size
        return value

    def u8(self) -> int:
        return int(self._field("<B", 1))

    def u16(self) -> int:
        return int(self._field("<H", 2))

    def u32(self) -> int:
        return int(self._field("<I", 4))

    def f32(self) -> float:
        return float(self._field("<f", 4))

    def f64(self) -> float:
        return float(self._field("<d", 8))

    def skip(self, count: int) -> None:
        self.at = min(len(self.data), self.at + count)

    def text(self, longest: int) -> str:
        length = self.u32()
        if length > self.left():
            raise ValueError("a text is longer than its packet")
        raw = self.data[self.at : self.at + length]
        self.at += length
        text = raw.decode("utf-8", "replace")[:longest]
        return "".join(character if character.isprintable() else " " for character in text).strip()


class VitalReader(TrackReader):
    """A ``.vital`` recording. Streams are ``waveforms|numerics|events/<device>/<track>``.

    Args:
        path: the file.
        chunk_seconds: length of waveform chunks.
        channels: shell patterns over channel names; others are not even kept in memory.

    Raises:
        RecordingError: for a file that is not a .vital recording, or in which nothing can be read.
    """

    def __init__(self, path: Path, *, chunk_seconds: float = 0.1, channels: tuple[str, ...] = ("*",)) -> None:
        super().__init__()
        self.path, self.chunk_seconds, self.channels = Path(path), chunk_seconds, channels
        self.packed = False
        self._devices: dict[int, str] = {}
        self._found: dict[int, _Track | None] = {}
        try:
            with self.path.open("rb") as file:
                self._read(_Bytes(file, self.path.stat().st_size))
        except OSError as error:
            raise RecordingError(f"cannot be read: {error.strerror}", where=str(path)) from None
        self._finish()

    def _read(self, source: _Bytes) -> None:
        self._header(source)
        faults, packets = 0, 0
        for kind, where, body in self._packets(source):
            packets += 1
            try:
                self._packet(kind, body)
            except (ValueError, struct.error) as error:
                faults += 1
                if faults <= 5:
                    self.warnings.append(f"packet at byte {where} left out: {error}")
                if faults == MAXIMUM_FAULTS:
                    self.warnings.append(f"reading stopped at byte {where}: {faults} malformed packets")
                    break
        if faults > 5:
            self.warnings.append(f"{faults} malformed packets in all")
        if source.fault:
            self.warnings.append(f"{source.fault}, at byte {source.start} of the unpacked data")
        if packets in (0, faults):
            reason = source.fault or (self.warnings[0] if self.warnings else "there is nothing after the header")
            raise RecordingError(f"nothing can be read: {reason}", where=f"{self.path}: byte {source.start}")

    def _header(self, source: _Bytes) -> None:
        head = source.take(10)
        if head is None or head[:4] != b"VITA":
            reason = source.fault or "it does not begin with VITA"
            mend = "a .vital file is gzip over VITA; was it saved by Vital Recorder or vitaldb?"
            raise RecordingError(f"is not a .vital recording: {reason}", where=f"{self.path}: byte 0", mend=mend)
        header = source.take(struct.unpack_from("<H", head, 8)[0])
        if header is None:
            raise RecordingError("ends inside its header", where=f"{self.path}: byte {source.start}")
        self.packed = len(header) >= 27 and header[26] == 1

    def _packets(self, source: _Bytes) -> Iterator[tuple[int, int, bytes]]:
        while True:
            where = source.start
            head = source.take(5)
            if head is None:
                if source.left():
                    self.warnings.append(f"the last packet, at byte {where}, is cut off")
                return
            kind, length = struct.unpack("<BI", head)
            if length > MAXIMUM_PACKET or kind > 32:
                self.warnings.append(f"reading stopped at byte {where}: packet of type {kind} and {length:,} bytes")
                return
            body = source.take(length)
            if body is None:
                self.warnings.append(f"the last packet, at byte {where}, is cut off")
                return
            yield kind, where, body

    def _packet(self, kind: int, data: bytes) -> None:
        if kind == 1:
            self._record(data)
        elif kind == 9:
            body = _Body(data)
            number, model, name = body.u32(), body.text(100), body.text(100)
            self._devices[number] = name or model
        elif kind == 0:
            track = _Track(_Body(data), self._devices)
            if len(self._found) >= MAXIMUM_TRACKS:
                raise ValueError(f"more than {MAXIMUM_TRACKS} tracks")
            if track.id not in self._found:
                self._found[track.id] = track if wanted(track.channel, self.channels) else None
        elif kind == 6 and data[:1] == b"\x06":  # "reset events"
            for found in self._found.values():
                if found is not None and found.channel == "EVENT":
                    found.times, found.values = [], []

    def _record(self, data: bytes) -> None:
        if len(data) < 12:
            raise ValueError("a record shorter than its header")
        length, seconds, number = struct.unpack_from("<HdH", data)
        track = self._found.get(number)
        if track is None:
            if number not in self._found:
                raise ValueError(f"a record of track {number}, which is not declared")
            return
        if not 0 < seconds < LATEST:
            raise ValueError(f"{track.channel} at an impossible time ({seconds:g} s)")
        at = 2 + length
        value: np.ndarray | float | str
        if track.kind == NUMBER:
            raw = np.frombuffer(data, FORMATS[track.format], 1, at)[0]
            value = float(raw) if self._there(track, raw) else float("nan")
            if track.format > 2:
                value = value * track.gain + track.offset
        elif track.kind == WAVE:
            count = struct.unpack_from("<I", data, at)[0]
            dtype = FORMATS[track.format]
            if count * np.dtype(dtype).itemsize > len(data) - at - 4:
                raise ValueError(f"{track.channel} claims {count:,} samples, more than its packet holds")
            if count / track.rate > MAXIMUM_RUN_SECONDS:
                raise ValueError(f"{track.channel} claims {count / track.rate / 86400:.0f} days in one record")
            value = self._scaled(track, np.frombuffer(data, dtype, count, at + 4))
        else:
            body = _Body(data)
            body.at = min(len(data), at + 4)
            value = body.text(MAXIMUM_TEXT)
        track.times.append(round(seconds * NANOSECONDS))
        track.values.append(value)

    def _there(self, track: _Track, raw: object) -> bool:
        return not (self.packed and track.format > 2 and raw == MISSING[track.format])

    def _scaled(self, track: _Track, raw: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            if track.format <= 2:
                return raw.astype(np.float32)
            values = (raw * track.gain + track.offset).astype(np.float32)
        if self.packed:
            values[raw == MISSING[track.format]] = np.nan
        return values

    def _finish(self) -> None:
        used: dict[str, int] = {}
        for found in self._found.values():
            if found is None or not found.times:
                continue
            key = f"{found.kind}/{found.channel}"
            used[key] = used.get(key, 0) + 1
            channel = found.channel if used[key] == 1 else f"{found.channel}~{used[key]}"
            track = self._track(channel, found)
            if len(track.times):
                self.tracks.append(track)
            found.values = []
        self._found = {}

    def _track(self, channel: str, found: _Track) -> Track:
        code, unit = codes.describe(found.channel, found.unit)
        times = np.array(found.times, np.int64)
        if found.kind == NUMBER:
            return NumericTrack(channel, times, np.array(found.values, np.float64), code, unit)
        if found.kind == WAVE:
            records = list(zip(found.times, found.values, strict=True))
            runs = join_records(records, found.rate)  # type: ignore[arg-type]
            return WaveformTrack(channel, runs, found.rate, self.chunk_seconds, code, unit)
        kind = "annotation" if channel.rpartition("/")[2].startswith("EVENT") else "text"
        return EventTrack(channel, times, [Event(kind, str(text), {"channel": channel}) for text in found.values])
