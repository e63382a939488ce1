"""``foxglove.CompressedVideo`` in protobuf: its descriptor, one message, and back, in the few lines that it takes.

Fields 1 to 4 are Foxglove's (timestamp, frame_id, data, format). From 100 on are ours, which others pass over:
whether a picture can be decoded alone, its number in the encoder's output, and whether its source called it damaged.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.errors import RecordingError
from pipeline.message import NANOSECONDS

NAME = "foxglove.CompressedVideo"
_VARINT, _BYTES = 0, 2
_INT64, _INT32, _BOOL, _STRING, _MESSAGE, _BLOB, _UINT64 = 3, 5, 8, 9, 11, 12, 4
"""Field types as ``google.protobuf.FieldDescriptorProto`` numbers them."""


class Picture(NamedTuple):
    """One encoded picture."""

    data: bytes
    """H.264, Annex B."""
    keyframe: bool
    number: int
    """Counts the pictures that one encoder made, from 0."""
    corrupt: bool


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value) if value else b""


def _block(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(data)) + data


def _field(name: str, number: int, kind: int, of: str = "") -> bytes:
    described = _block(1, name.encode()) + _number(3, number) + _number(4, 1) + _number(5, kind)
    return _block(2, described + (_block(6, of.encode()) if of else b""))


def descriptor() -> bytes:
    """The ``FileDescriptorSet`` that an MCAP schema holds."""
    moment = _block(1, b"Timestamp") + _field("seconds", 1, _INT64) + _field("nanos", 2, _INT32)
    time_file = _block(1, b"google/protobuf/timestamp.proto") + _block(2, b"google.protobuf") + _block(4, moment)
    video = (
        _block(1, b"CompressedVideo")
        + _field("timestamp", 1, _MESSAGE, ".google.protobuf.Timestamp")
        + _field("frame_id", 2, _STRING)
        + _field("data", 3, _BLOB)
        + _field("format", 4, _STRING)
        + _field("vigil_keyframe", 100, _BOOL)
        + _field("vigil_index", 101, _UINT64)
        + _field("vigil_corrupt", 102, _BOOL)
    )
    video_file = _block(1, b"foxglove/CompressedVideo.proto") + _block(2, b"foxglove")
    video_file += _block(3, b"google/protobuf/timestamp.proto") + _block(4, video)
    return b"".join(_block(1, file + _block(12, b"proto3")) for file in (time_file, video_file))


def encode(time: int, frame_id: str, picture: Picture) -> bytes:
    """One ``foxglove.CompressedVideo``; ``time`` is event time, ns."""
    moment = _number(1, time // NANOSECONDS) + _number(2, time % NANOSECONDS)
    return b"".join((
        _block(1, moment), _block(2, frame_id.encode()), _block(3, picture.data), _block(4, b"h264"),
        _number(100, picture.keyframe), _number(101, picture.number), _number(102, picture.corrupt),
    ))  # fmt: skip


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise RecordingError(f"a number does not end, at byte {at} of the message")


def decode(data: bytes) -> Picture:
    """The picture in a ``foxglove.CompressedVideo``. Raises ``RecordingError`` for anything else."""
    at = 0
    blocks: dict[int, bytes] = {}
    numbers: dict[int, int] = {}
    while at < len(data):
        key, at = _read_varint(data, at)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            numbers[field], at = _read_varint(data, at)
            continue
        if wire == _BYTES:
            length, at = _read_varint(data, at)
        else:
            length = {1: 8, 5: 4}.get(wire, len(data))
        if length > len(data) - at:
            raise RecordingError(f"field {field} is longer than its message, at byte {at} of the message")
        if field in (3, 4):
            blocks[field] = data[at : at + length]
        at += length
    if blocks.get(4) != b"h264":
        raise RecordingError(f"video in {blocks.get(4, b'')!r:.40} is not read, only in h264")
    flags = numbers.get(100, 0), numbers.get(102, 0)
    return Picture(blocks.get(3, b""), bool(flags[0]), numbers.get(101, 0), bool(flags[1]))
