"""Makes small .vital files for the tests, byte by byte from the published layout."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

T0 = 1_600_000_000.0
"""Where the tests' recordings begin, seconds since the epoch."""


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<I", len(raw)) + raw


def packet(kind: int, body: bytes) -> bytes:
    return struct.pack("<BI", kind, len(body)) + body


def head(packed: bool = False) -> bytes:
    fields = struct.pack("<hIII", 0, 0, 0, 0)[:10] + struct.pack("<ddB", T0, T0 + 10, packed)
    return b"VITA" + struct.pack("<IH", 3, len(fields)) + fields


def device(number: int, name: str) -> bytes:
    return packet(9, struct.pack("<I", number) + text(name) + text(name))


def track(
    number: int, kind: int, name: str, *, form: int = 1, unit: str = "", rate: float = 0.0, gain: float = 1.0,
    offset: float = 0.0, device_number: int = 1,
) -> bytes:  # fmt: skip
    body = struct.pack("<HBB", number, kind, form) + text(name) + text(unit)
    body += struct.pack("<ffIfddBI", 0, 0, 0, rate, gain, offset, 0, device_number)
    return packet(0, body)


def record(number: int, seconds: float, payload: bytes) -> bytes:
    return packet(1, struct.pack("<HdH", 10, seconds, number) + payload)


def number(track_number: int, seconds: float, value: float) -> bytes:
    return record(track_number, seconds, struct.pack("<f", value))


def wave(track_number: int, seconds: float, values: bytes, count: int) -> bytes:
    return record(track_number, seconds, struct.pack("<I", count) + values)


def words(track_number: int, seconds: float, value: str) -> bytes:
    return record(track_number, seconds, b"\0\0\0\0" + text(value))


def write(path: Path, *parts: bytes, packed: bool = False) -> Path:
    path.write_bytes(gzip.compress(head(packed) + b"".join(parts)))
    return path
