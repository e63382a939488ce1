"""Finds the chunks and channels of an MCAP file without trusting a byte of it.

The closing index of a file is never used: a cut file has none, and a hostile one could lie. Instead the records are
walked from the beginning, which skips over what the chunks hold (a six-hour recording takes less than a second).
"""

from __future__ import annotations

import dataclasses
import os
import struct
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import lz4.frame
import zstandard

from pipeline.errors import RecordingError
from pipeline.recording.container import MAGIC

HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, INDEX = 1, 2, 3, 4, 5, 6, 7
METADATA, DATA_END = 12, 15
MAXIMUM_CHUNK = 256 << 20
"""Largest chunk that is read, bytes, packed or not."""
MAXIMUM_DESCRIPTION = 1 << 20
"""Largest schema, channel or metadata record, bytes."""
MAXIMUM_DESCRIPTIONS = 64 << 20
"""All of them together, bytes."""
_END = 9 + 20 + len(MAGIC)
"""Length of the footer and the magic at a file's end."""


class DamageError(Exception):
    """Bytes that make no sense; the text says why, the caller knows where."""


class Fields:
    """Reads little-endian fields. Raises ``DamageError`` where they end too soon."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self, size: int) -> int:
        return int.from_bytes(self.block(size), "little")

    def block(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise DamageError("it ends in the middle of a field")
        piece = self.data[self.at : self.at + size]
        self.at += size
        return piece

    def text(self) -> str:
        try:
            return self.block(self.number(4)).decode()
        except UnicodeDecodeError:
            raise DamageError("a text in it is not UTF-8") from None

    def pairs(self) -> dict[str, str]:
        end = self.number(4) + self.at
        found: dict[str, str] = {}
        while self.at < end:
            key = self.text()
            found[key] = self.text()
        return found


@dataclasses.dataclass
class ChannelRecord:
    """A channel and what is known of its messages."""

    topic: str
    encoding: str
    schema: str
    metadata: dict[str, str]
    count: int = 0
    first: int = 2**64
    last: int = 0

    def saw(self, time: int) -> None:
        self.count += 1
        self.first, self.last = min(self.first, time), max(self.last, time)


@dataclasses.dataclass
class Chunk:
    """Where a chunk lies, and what its head says."""

    offset: int
    """Of its record in the file."""
    start: int
    end: int
    data_offset: int
    data_length: int
    size: int
    """Unpacked, bytes."""
    checksum: int
    compression: str
    cut: bool = False
    """True where the file ends inside it."""


@dataclasses.dataclass
class Record:
    """One message of a chunk."""

    __slots__ = ("channel", "data", "offset", "sequence", "time")
    channel: int
    sequence: int
    time: int
    data: bytes
    offset: int
    """In the unpacked chunk."""


class Scan:
    """The outline of one MCAP file.

    Raises:
        RecordingError: for what does not begin as an MCAP file.
    """

    def __init__(self, path: Path, file: BinaryIO, *, times: bool = False) -> None:
        self.path, self.file = path, file
        self.size = os.fstat(file.fileno()).st_size
        self.channels: dict[int, ChannelRecord] = {}
        self.chunks: list[Chunk] = []
        self.metadata: dict[str, str] = {}
        self.times: dict[int, array[int]] | None = {} if times else None
        """Event times of all messages by channel, where asked for."""
        self.warnings: list[str] = []
        self.truncated = ""
        """Why the file is not whole; empty where it is."""
        self._schemas: dict[int, str] = {}
        self._described = 0
        self._pending: Chunk | None = None
        self._pending_times: dict[int, array[int]] = {}
        self._stray = 0
        self._inside = False
        """True where chunks hold channels, as other makers write them: then all of them must be read."""
        file.seek(0)
        head = file.read(len(MAGIC))
        if head != MAGIC:
            what = "is empty" if self.size == 0 else "is not an MCAP file"
            mend = "a recording begins with the bytes 89 4D 43 41 50 30 0D 0A"
            raise RecordingError(what, where=f"{path}: byte 0", mend=mend)
        self._walk()
        if self._stray:
            self.warnings.append(f"{self._stray} messages outside of chunks are left out")

    # ------------------------------------------------------------------------------------ records

    def _walk(self) -> None:
        at = len(MAGIC)
        while True:
            self.file.seek(at)
            head = self.file.read(9)
            if len(head) < 9:
                self._stop(at, "it ends without a closing index")
                return
            opcode, length = head[0], int.from_bytes(head[1:], "little")
            if opcode == 0:
                self._stop(at, "there is no record of type 0")
                return
            inside = at + 9 + length <= self.size
            if not inside and opcode != CHUNK:
                self._stop(at, f"a record of {length:,} bytes is longer than the file")
                return
            try:
                if self._record(opcode, at, length):
                    return
            except DamageError as damage:
                self._stop(at, str(damage))
                return
            if not inside:
                self._stop(at, "the file is cut inside a chunk")
                return
            at += 9 + length

    def _record(self, opcode: int, at: int, length: int) -> bool:
        """Take note of one record; True at the end of the data."""
        if opcode == INDEX:
            self._index(Fields(self._read(length, MAXIMUM_CHUNK)))
            return False
        self._settle(recount=False)
        self.file.seek(at + 9)
        if opcode == CHUNK:
            self._chunk(at, length)
        elif opcode in (SCHEMA, CHANNEL, METADATA):
            self._described += length
            if self._described > MAXIMUM_DESCRIPTIONS:
                raise DamageError(f"schemas and channels take more than {MAXIMUM_DESCRIPTIONS:,} bytes")
            self._describe(opcode, Fields(self._read(length, MAXIMUM_DESCRIPTION)))
        elif opcode == MESSAGE:
            self._stray += 1
        elif opcode in (DATA_END, FOOTER):
            self.file.seek(max(0, self.size - _END))
            tail = self.file.read(_END)
            if len(tail) < _END or tail[0] != FOOTER or tail[-len(MAGIC) :] != MAGIC:
                self._stop(at, "its closing index is cut off", lost=False)
            return True
        return False

    def _read(self, length: int, most: int) -> bytes:
        if length > most:
            raise DamageError(f"a record of {length:,} bytes is larger than any is ({most:,})")
        data = self.file.read(length)
        if len(data) < length:
            raise DamageError("the file is cut inside a record")
        return data

    def _describe(self, opcode: int, fields: Fields) -> None:
        if opcode == METADATA:
            if fields.text() == "vigil":
                self.metadata = fields.pairs()
            return
        number = fields.number(2)
        if opcode == SCHEMA:
            self._schemas.setdefault(number, fields.text())
            return
        schema = fields.number(2)
        topic, encoding, metadata = fields.text(), fields.text(), fields.pairs()
        if number not in self.channels:
            name = self._schemas.get(schema, "")
            self.channels[number] = ChannelRecord(topic, encoding, name, metadata)

    def _chunk(self, at: int, length: int) -> None:
        head = Fields(self.file.read(32))
        start, end, size, checksum = head.number(8), head.number(8), head.number(8), head.number(4)
        name_length = head.number(4)
        if name_length > 16:
            raise DamageError("a chunk's compression has an impossible name")
        rest = Fields(self.file.read(name_length + 8))
        name = rest.block(name_length).decode("ascii", "replace")
        data_length = rest.number(8)
        if 32 + name_length + 8 + data_length > length:
            raise DamageError("a chunk claims more bytes than its record has")
        if size > MAXIMUM_CHUNK or data_length > MAXIMUM_CHUNK:
            raise DamageError(f"a chunk of {size:,} bytes is larger than any is ({MAXIMUM_CHUNK:,})")
        chunk = Chunk(at, start, end, at + 9 + 40 + name_length, data_length, size, checksum, name)
        chunk.cut = chunk.data_offset + data_length > self.size
        self._pending = chunk

    def _index(self, fields: Fields) -> None:
        channel, length = fields.number(2), fields.number(4)
        data = fields.block(length)
        if self._pending is None:
            return
        times = array("Q", data[: length // 16 * 16])[::2]
        self._pending_times.setdefault(channel, array("Q")).extend(times)

    def _settle(self, *, recount: bool) -> None:
        """Count the messages of the last chunk, by its index or, where that is missing or cut, by reading it."""
        chunk, times = self._pending, self._pending_times
        self._pending, self._pending_times = None, {}
        if chunk is None:
            return
        if recount or self._inside or chunk.cut or not times or not times.keys() <= self.channels.keys():
            times = {}
            try:
                for record in self.read(chunk):
                    times.setdefault(record.channel, array("Q")).append(record.time)
            except DamageError as damage:
                self.warnings.append(f"the chunk at byte {chunk.offset} is lost: {damage}")
                return
            if chunk.cut:
                if not times:
                    return
                chunk.start = min(min(each) for each in times.values())
                chunk.end = max(max(each) for each in times.values())
        self.chunks.append(chunk)
        for number, found in times.items():
            channel = self.channels.get(number)
            if channel is None or not found:
                continue
            channel.count += len(found)
            channel.first = min(channel.first, *found)
            channel.last = max(channel.last, *found)
            if self.times is not None:
                self.times.setdefault(number, array("Q")).extend(found)

    def _stop(self, at: int, why: str, *, lost: bool = True) -> None:
        self._settle(recount=True)
        self.truncated = f"cut or damaged at byte {at}: {why}"
        left = self.size - at
        after = f"; {left:,} bytes from there on are not read" if lost and left > 0 else ""
        self.warnings.append(self.truncated + after)

    # ------------------------------------------------------------------------------------ chunks

    def read(self, chunk: Chunk) -> Iterator[Record]:
        """The messages of a chunk in the order they were written; of a cut one, those that are whole.

        Raises ``DamageError`` where it cannot be unpacked, its checksum is wrong, or its records make no sense.
        """
        self.file.seek(chunk.data_offset)
        packed = self.file.read(chunk.data_length)
        if len(packed) < chunk.data_length and not chunk.cut:
            raise DamageError("the file became shorter")
        data = _unpack(packed, chunk)
        if not chunk.cut:
            if len(data) != chunk.size:
                raise DamageError(f"it unpacks to {len(data):,} bytes instead of {chunk.size:,}")
            if chunk.checksum and zlib.crc32(data) != chunk.checksum:
                raise DamageError("its checksum is wrong")
        return self._records(data, chunk)

    def _records(self, data: bytes, chunk: Chunk) -> Iterator[Record]:
        at, size = 0, len(data)
        while at < size:
            length = int.from_bytes(data[at + 1 : at + 9], "little")
            if at + 9 > size or length > size - at - 9:
                if chunk.cut:
                    return
                raise DamageError(f"a record at byte {at} of it is longer than the chunk")
            opcode = data[at]
            if opcode == MESSAGE:
                if length < 22:
                    raise DamageError(f"a message at byte {at} of it has no head")
                channel, sequence, time = struct.unpack_from("<HIQ", data, at + 9)
                if time >= 2**63 or (not chunk.cut and not chunk.start <= time <= chunk.end):
                    raise DamageError(f"a message at byte {at} of it lies outside of its time")
                yield Record(channel, sequence, time, data[at + 31 : at + 9 + length], at)
            elif opcode in (SCHEMA, CHANNEL) and length <= MAXIMUM_DESCRIPTION:
                self._inside = True
                self._described += length
                if self._described <= MAXIMUM_DESCRIPTIONS:
                    self._describe(opcode, Fields(data[at + 9 : at + 9 + length]))
            at += 9 + length


def _unpack(packed: bytes, chunk: Chunk) -> bytes:
    """The chunk's bytes, never more than it claims; of a cut chunk as many as can be had."""
    most = chunk.size + 1
    try:
        if chunk.compression == "zstd":
            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(packed) as reader:
                return _gather(reader, most)
        if chunk.compression == "lz4":
            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(packed, max_length=most))
    except (zstandard.ZstdError, RuntimeError, MemoryError, ValueError, EOFError) as error:
        raise DamageError(f"its compressed data is damaged ({error})") from None
    if chunk.compression == "":
        return packed
    raise DamageError(f"compression {chunk.compression!r} is not known")


def _gather(reader: zstandard.ZstdDecompressionReader, most: int) -> bytes:
    out = bytearray()
    while len(out) < most:
        piece = reader.read(min(1 << 20, most - len(out)))
        if not piece:
            break
        out += piece
    return bytes(out)
