"""The MCAP container, written so that a cut at any byte loses only what came after it.

Schemas and channels stand outside the chunks, before the first message that needs them; each chunk is handed to the
operating system as soon as it is full. Format: https://mcap.dev/spec. The ``mcap`` library's own writer keeps channels
inside chunks, gives no way to end a chunk when a second has passed, and costs ten times as much a message.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import BinaryIO

import zstandard
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

MAGIC = b"\x89MCAP0\r\n"
MESSAGE_HEAD = struct.Struct("<BQHIQQ")
"""Opcode, record length, channel, sequence, log time, publish time."""
_CHUNK_HEAD = struct.Struct("<BQQQQI")
_INDEX_HEAD = struct.Struct("<BQHI")


class ContainerWriter:
    """Writes MCAP records to a binary file that it does not own. Times are nanoseconds and not negative.

    Args:
        file: opened for writing, at its beginning.
        metadata: text about the whole file, stored as the metadata record ``vigil``.
        chunk_bytes: a chunk is written out when it holds this many bytes,
        chunk_nanoseconds: or spans this much event time.

    Raises:
        OSError: from any method, as the file raises it.
    """

    def __init__(
        self,
        file: BinaryIO,
        metadata: Mapping[str, str],
        *,
        chunk_bytes: int = 1 << 20,
        chunk_nanoseconds: int = 1_000_000_000,
    ) -> None:
        self.file, self.chunk_bytes, self.chunk_nanoseconds = file, chunk_bytes, chunk_nanoseconds
        self.offset = 0
        """Bytes written so far."""
        self._schemas: list[Schema] = []
        self._channels: list[Channel] = []
        self._chunks: list[ChunkIndex] = []
        self._counts: dict[int, int] = {}
        self._first, self._last = 2**64, 0
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._parts: list[bytes] = []
        self._size = 0
        self._from, self._to = 2**64, 0
        self._index: dict[int, list[tuple[int, int]]] = {}
        self._write(MAGIC)
        self._record(Header(profile="", library=f"vigil {_version()}"))
        self._metadata = MetadataIndex(offset=self.offset, length=0, name="vigil")
        self._metadata.length = self._record(Metadata(name="vigil", metadata=dict(metadata)))
        self.file.flush()

    def schema(self, name: str, encoding: str, data: bytes) -> int:
        """Declare a schema; its number."""
        self._schemas.append(Schema(id=len(self._schemas) + 1, data=data, encoding=encoding, name=name))
        self._record(self._schemas[-1])
        return len(self._schemas)

    def channel(self, topic: str, encoding: str, schema: int, metadata: Mapping[str, str]) -> int:
        """Declare a channel; its number. Raises ``ValueError`` beyond 65,535 of them."""
        number = len(self._channels) + 1
        if number > 0xFFFF:
            raise ValueError("a recording holds at most 65,535 channels")
        self._channels.append(
            Channel(id=number, topic=topic, message_encoding=encoding, metadata=dict(metadata), schema_id=schema)
        )
        self._record(self._channels[-1])
        return number

    def add(self, channel: int, sequence: int, time: int, data: bytes) -> None:
        """A message. It is in the file once its chunk is."""
        entries = self._index.get(channel)
        if entries is None:
            entries = self._index[channel] = []
        entries.append((time, self._size))
        self._parts.append(MESSAGE_HEAD.pack(Opcode.MESSAGE, 22 + len(data), channel, sequence, time, time))
        self._parts.append(data)
        self._size += MESSAGE_HEAD.size + len(data)
        self._from = min(self._from, time)
        self._to = max(self._to, time)
        if self._size >= self.chunk_bytes or self._to - self._from >= self.chunk_nanoseconds:
            self.flush()

    @property
    def waiting(self) -> bool:
        """True where messages are not in the file yet."""
        return self._size > 0

    def flush(self) -> None:
        """End the chunk and hand it to the operating system."""
        if not self._size:
            return
        raw = b"".join(self._parts)
        packed = self._compressor.compress(raw)
        name = b"zstd"
        if len(packed) >= len(raw):
            packed, name = raw, b""
        start = self.offset
        length = 8 + 8 + 8 + 4 + 4 + len(name) + 8 + len(packed)
        head = _CHUNK_HEAD.pack(Opcode.CHUNK, length, self._from, self._to, len(raw), zlib.crc32(raw))
        self._write(head + struct.pack("<I", len(name)) + name + struct.pack("<Q", len(packed)) + packed)
        chunk_length = self.offset - start
        offsets: dict[int, int] = {}
        for channel, entries in self._index.items():
            offsets[channel] = self.offset
            flat = [number for entry in sorted(entries) for number in entry]
            body = struct.pack(f"<{len(flat)}Q", *flat)
            self._write(_INDEX_HEAD.pack(Opcode.MESSAGE_INDEX, 6 + len(body), channel, len(body)) + body)
            self._counts[channel] = self._counts.get(channel, 0) + len(entries)
        index_length = self.offset - start - chunk_length
        self._chunks.append(
            ChunkIndex(
                chunk_length=chunk_length, chunk_start_offset=start, compression=name.decode(),
                compressed_size=len(packed), message_end_time=self._to, message_index_length=index_length,
                message_index_offsets=offsets, message_start_time=self._from, uncompressed_size=len(raw),
            )
        )  # fmt: skip
        self._first, self._last = min(self._first, self._from), max(self._last, self._to)
        self._begin_chunk()
        self.file.flush()

    def finish(self) -> None:
        """Write what is left, and the closing index."""
        self.flush()
        self._record(DataEnd(data_section_crc=0))
        start = self.offset
        total = sum(self._counts.values())
        statistics = Statistics(
            attachment_count=0, channel_count=len(self._channels), channel_message_counts=dict(self._counts),
            chunk_count=len(self._chunks), message_count=total, message_end_time=self._last,
            message_start_time=self._first if total else 0, metadata_count=1, schema_count=len(self._schemas),
        )  # fmt: skip
        groups: tuple[tuple[Opcode, list[McapRecord]], ...] = (
            (Opcode.SCHEMA, [*self._schemas]),
            (Opcode.CHANNEL, [*self._channels]),
            (Opcode.STATISTICS, [statistics]),
            (Opcode.CHUNK_INDEX, [*self._chunks]),
            (Opcode.METADATA_INDEX, [self._metadata]),
        )
        summary = RecordBuilder()
        offsets = []
        for opcode, records in groups:
            begin = summary.count
            for record in records:
                record.write(summary)
            if records:
                offsets.append(SummaryOffset(opcode, start + begin, summary.count - begin))
        offsets_start = start + summary.count
        for offset in offsets:
            offset.write(summary)
        data = bytes(summary.end())  # type: ignore[no-untyped-call]
        head = struct.pack("<BQQQ", Opcode.FOOTER, 20, start, offsets_start)
        self._write(data)
        self._record(Footer(start, offsets_start, zlib.crc32(head, zlib.crc32(data))))
        self._write(MAGIC)
        self.file.flush()

    # ------------------------------------------------------------------------------------ private

    def _begin_chunk(self) -> None:
        self._parts = []
        self._size = 0
        self._from, self._to = 2**64, 0
        self._index = {}

    def _record(self, record: McapRecord) -> int:
        builder = RecordBuilder()
        record.write(builder)
        data = bytes(builder.end())  # type: ignore[no-untyped-call]
        self._write(data)
        return len(data)

    def _write(self, data: bytes) -> None:
        self.file.write(data)
        self.offset += len(data)


def _version() -> str:
    try:
        return version("vigil")
    except PackageNotFoundError:
        return "0"
