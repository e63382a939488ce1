"""Reads recordings: the messages of an MCAP file in the total order, whole or cut, with bounded memory."""

from __future__ import annotations

import fnmatch
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import RecordingError
from pipeline.message import NANOSECONDS, PAYLOADS, Message, Origin
from pipeline.reader import StreamInfo
from pipeline.recording import payloads, protobuf
from pipeline.recording.scan import ChannelRecord, Chunk, DamageError, Record, Scan
from pipeline.recording.video import GROUP, Layout, VideoDecoder

MAXIMUM_HELD = 1 << 30
"""Bytes of messages held to be put in order. A recording holds some seconds of them, which is far less."""
OPEN_DECODERS = 32
_ORIGINS: dict[str, Origin] = {"simulated": "simulated", "composed": "composed"}

_Entry = tuple[int, str, int, int, int, bytes]
"""Time, stream, sequence, place in the file, channel, data: sorts into the total order."""


class McapReader:
    """A recording that Vigil made. See ``pipeline.reader.Reader``.

    A file that was cut opens up to the cut: ``truncated`` says where, and ``warnings`` what was lost. A chunk whose
    checksum is wrong is left out, and video begins again at the next key frame. What was ``live`` when it was recorded
    comes back as ``recorded``; ``simulated`` and ``composed`` stay what they are.

    Args:
        path: the file.

    Raises:
        RecordingError: for a file that is not MCAP, and from ``messages`` for a message that is not what it claims.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise RecordingError(f"cannot be read: {error.strerror}", where=str(path)) from None
        try:
            self._scan = Scan(self.path, self._file)
        except BaseException:
            self._file.close()
            raise
        scan = self._scan
        self.warnings: list[str] = list(scan.warnings)
        self.truncated = scan.truncated
        """Why the file is not whole; empty where it is."""
        self.metadata = dict(scan.metadata)
        """What the recording says about itself."""
        self.case, self.room = self.metadata.get("case", ""), self.metadata.get("room", "")
        origins = {channel.metadata.get("origin", "") for channel in scan.channels.values() if channel.count}
        self.origin: Origin = "recorded"
        """``composed`` or ``simulated`` where any of its messages is."""
        if "composed" in origins:
            self.origin = "composed"
        elif "simulated" in origins or self.metadata.get("simulated") == "true":
            self.origin = "simulated"
        unknown: dict[str, None] = {}
        for channel in scan.channels.values():
            if channel.count and _payload(channel) is None:
                unknown[f"{channel.topic}: {channel.schema or 'no schema'} is not a payload known here; left out"] = (
                    None
                )
        self.warnings.extend(unknown)

    def streams(self) -> list[StreamInfo]:
        """All streams, in name order. ``end`` is a mean interval after the last message."""
        merged: dict[tuple[str, str], list[ChannelRecord]] = {}
        for channel in self._scan.channels.values():
            payload = _payload(channel)
            if payload is not None and channel.count:
                merged.setdefault((channel.topic, payload), []).append(channel)
        found = []
        for (topic, payload), channels in sorted(merged.items()):
            count = sum(channel.count for channel in channels)
            first, last = min(each.first for each in channels), max(each.last for each in channels)
            interval = (last - first) // (count - 1) if count > 1 else 0
            if payload not in ("VideoFrame", "SyntheticFrame", "Waveform"):
                interval = 0
            about = channels[0].metadata
            rate = _number(about.get("rate", ""))
            if interval and payload != "Waveform":
                rate = NANOSECONDS / interval
            code, unit = about.get("code", ""), about.get("unit", "")
            found.append(StreamInfo(topic, payload, count, first, last + interval, code, unit, rate))
        return found

    def times(self) -> dict[str, array[int]]:
        """Event times (ns) of all messages by stream, sorted, from the file's indexes: eight bytes a message."""
        scan = Scan(self.path, self._file, times=True)
        merged: dict[str, array[int]] = {}
        for number, times in (scan.times or {}).items():
            channel = scan.channels[number]
            if _payload(channel) is not None:
                merged.setdefault(channel.topic, array("Q")).extend(times)
        return {stream: array("Q", sorted(times)) for stream, times in sorted(merged.items())}

    def origins(self) -> dict[str, list[str]]:
        """Each stream's origins as they were when it was recorded, ``live`` included."""
        found: dict[str, set[str]] = {}
        for channel in self._scan.channels.values():
            if channel.count:
                found.setdefault(channel.topic, set()).add(channel.metadata.get("origin", ""))
        return {stream: sorted(origins) for stream, origins in sorted(found.items())}

    def messages(
        self, start: int | None = None, end: int | None = None, *, streams: tuple[str, ...] = ("*",)
    ) -> Iterator[Message[Any]]:
        """Messages with ``start <= time < end`` in the order of ``Message.order``. May be called again.

        Args:
            streams: shell patterns over stream names; video that is not asked for is not decoded.

        Raises:
            RecordingError: for a message that is not what its channel says, with the byte of its chunk.
        """
        wanted: dict[int, _Channel] = {}
        for number, record in self._scan.channels.items():
            payload = _payload(record)
            if payload is not None and any(fnmatch.fnmatchcase(record.topic, pattern) for pattern in streams):
                wanted[number] = _Channel(record, payload)
        undecodable: dict[str, int] = {}
        # Pictures depend on those since their key frame, which lies one second back at most.
        lead = GROUP if any(channel.video for channel in wanted.values()) else 0
        begin = None if start is None else start - lead
        for time, stream, sequence, place, number, data in self._ordered(wanted, begin, end):
            channel = wanted[number]
            early = start is not None and time < start
            if early and not channel.video:
                continue
            try:
                decoded = channel.decode(data, wanted)
            except RecordingError as error:
                where = f"{self.path}: chunk at byte {place}: {stream} #{sequence}"
                raise RecordingError(error.message, where=where) from None
            if early:
                continue
            if decoded is None:
                undecodable[stream] = undecodable.get(stream, 0) + 1
                continue
            yield Message(stream, time, sequence, decoded, channel.origin)
        for stream, count in undecodable.items():
            self._warn(f"{stream}: {count} pictures cannot be decoded, for damage or for what they depend on")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> McapReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------ private

    def _ordered(self, wanted: dict[int, _Channel], start: int | None, end: int | None) -> Iterator[_Entry]:
        chunks = sorted(self._scan.chunks, key=lambda chunk: (chunk.start, chunk.offset))
        held: list[_Entry] = []
        at = 0
        for chunk in chunks:
            if end is not None and chunk.start >= end:
                break
            if start is not None and chunk.end < start:
                continue
            while at < len(held) and held[at][0] < chunk.start:
                yield held[at]
                at += 1
            held = held[at:]
            at = 0
            for record in self._read(chunk):
                channel = wanted.get(record.channel)
                if channel is None or (end is not None and record.time >= end):
                    continue
                if start is None or record.time >= start:
                    held.append(
                        (record.time, channel.stream, record.sequence, chunk.offset, record.channel, record.data)
                    )
            held.sort(key=_order)
            if sum(len(entry[5]) + 256 for entry in held) > MAXIMUM_HELD:
                where = f"{self.path}: chunk at byte {chunk.offset}"
                raise RecordingError("too many chunks claim the same time to be put in order", where=where)
        yield from held[at:]

    def _read(self, chunk: Chunk) -> list[Record]:
        try:
            return list(self._scan.read(chunk))
        except DamageError as damage:
            self._warn(f"the chunk at byte {chunk.offset} is lost: {damage}")
        except (OSError, ValueError) as error:
            raise RecordingError(f"cannot be read any more: {error}", where=str(self.path)) from None
        return []

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def _order(entry: _Entry) -> tuple[int, str, int]:
    return entry[:3]


class _Channel:
    """A channel being read."""

    def __init__(self, record: ChannelRecord, payload: str) -> None:
        self.stream, self.payload = record.topic, payload
        self.origin = _ORIGINS.get(record.metadata.get("origin", ""), "recorded")
        self.video = record.encoding == "protobuf"
        self.kind = PAYLOADS[payload]
        self.metadata = record.metadata
        self.decoder: VideoDecoder | None = None

    def decode(self, data: bytes, others: dict[int, _Channel]) -> Any:
        """The payload; None for a picture that cannot be had. Raises ``RecordingError``."""
        if not self.video:
            return payloads.decode(self.kind, data)
        if self.decoder is None:
            open_ones = [channel for channel in others.values() if channel.decoder is not None]
            if len(open_ones) >= OPEN_DECODERS:
                open_ones[0].decoder = None
            self.decoder = VideoDecoder(Layout.read(self.metadata))
        return self.decoder.decode(protobuf.decode(data))


def _payload(channel: ChannelRecord) -> str | None:
    """Name of the payload type in a channel; None where we cannot read it."""
    name = channel.metadata.get("payload", "")
    if channel.schema == protobuf.NAME and channel.encoding == "protobuf":
        return name if name in ("VideoFrame", "SyntheticFrame") else None
    known = channel.encoding == "json" and channel.schema == f"vigil.{name}" and name in PAYLOADS
    return name if known else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
