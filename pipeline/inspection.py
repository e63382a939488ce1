"""What is in a recording: streams, rates, gaps, origin, and whether the file is whole."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pipeline.message import NANOSECONDS, Array
from pipeline.reader import Reader, StreamInfo
from pipeline.recording import McapReader
from pipeline.registry import open_reader

REGULAR = ("VideoFrame", "SyntheticFrame", "Waveform", "Numeric")
"""Payloads that come at a pace, so that a pause is a gap."""
LISTED_GAPS = 10


class Gap(msgspec.Struct, frozen=True):
    """A pause in a stream."""

    start: int
    """Event time of the last message before it, ns."""
    seconds: float


class StreamSummary(msgspec.Struct, frozen=True):
    """One stream of a recording."""

    stream: str
    payload: str
    count: int
    """Messages; -1 where only decoding everything would tell."""
    start: int
    """Event time of the first message, ns."""
    end: int
    """Event time at which the last one ends, ns."""
    messages_per_second: float
    """Over the whole stream, gaps included; 0 where it cannot be said."""
    samples_per_second: float
    """Of a waveform; 0 for others."""
    code: str
    unit: str
    origins: tuple[str, ...]
    """As when it was recorded: ``live``, ``recorded``, ``simulated``, ``composed``."""
    gaps: int | None
    """Pauses longer than a second and than five usual intervals; None where it was not looked at."""
    longest_gaps: tuple[Gap, ...] = ()
    """The longest of them, longest first, ten at most."""


class Summary(msgspec.Struct, frozen=True):
    """A recording at a glance; plain data for ``msgspec.json.encode``."""

    path: str
    format: str
    """Suffix of the file, e.g. ``mcap``."""
    size_bytes: int
    start: int
    """Event time of the first message, ns; 0 where there is none."""
    end: int
    duration_seconds: float
    origin: str
    simulated: bool
    """True where anything in it is not from a patient as recorded: shown to people."""
    truncated: str
    """Why the file is not whole; empty where it is, or where its kind cannot tell."""
    case: str
    room: str
    warnings: tuple[str, ...]
    streams: tuple[StreamSummary, ...]


def inspect(source: Reader | Path | str, *, gaps: bool = True) -> Summary:
    """What a recording holds.

    Args:
        source: an opened reader, which stays open, or a path.
        gaps: look for pauses. An MCAP file's indexes tell them; other files are read through, unless they hold video.

    Raises:
        RecordingError: for a file that cannot be read.
    """
    if isinstance(source, (str, Path)):
        reader = open_reader(source)
        try:
            return inspect(reader, gaps=gaps)
        finally:
            reader.close()
    infos = source.streams()
    times = _times(source, infos) if gaps else {}
    origins = source.origins() if isinstance(source, McapReader) else {}
    streams = tuple(
        _stream(info, times.get(info.stream), tuple(origins.get(info.stream, [source.origin]))) for info in infos
    )
    start = min((info.start for info in infos), default=0)
    end = max((info.end for info in infos), default=0)
    path = source.path
    return Summary(
        path=str(path), format=path.suffix.lstrip(".").lower(), size_bytes=path.stat().st_size if path.exists() else 0,
        start=start, end=end, duration_seconds=(end - start) / NANOSECONDS, origin=source.origin,
        simulated=source.origin in ("simulated", "composed"), truncated=str(getattr(source, "truncated", "")),
        case=str(getattr(source, "case", "")) if isinstance(source, McapReader) else path.stem,
        room=str(getattr(source, "room", "")), warnings=tuple(source.warnings), streams=streams,
    )  # fmt: skip


def _times(reader: Reader, infos: list[StreamInfo]) -> dict[str, array[int]]:
    """Event times by stream, sorted; empty where reading them would mean decoding video."""
    if isinstance(reader, McapReader):
        return reader.times()
    if any(info.payload in ("VideoFrame", "SyntheticFrame") for info in infos):
        return {}
    found: dict[str, array[int]] = {info.stream: array("q") for info in infos}
    for message in reader.messages():
        found[message.stream].append(message.time)
    return found


def _stream(info: StreamInfo, times: array[int] | None, origins: tuple[str, ...]) -> StreamSummary:
    count = info.count if info.count >= 0 or times is None else len(times)
    seconds = (info.end - info.start) / NANOSECONDS
    number, longest = _gaps(times) if times is not None and info.payload in REGULAR else (None, ())
    return StreamSummary(
        stream=info.stream, payload=info.payload, count=count, start=info.start, end=info.end,
        messages_per_second=count / seconds if seconds > 0 and count > 1 else 0.0,
        samples_per_second=info.rate if info.payload == "Waveform" else 0.0,
        code=info.code, unit=info.unit, origins=origins, gaps=number, longest_gaps=longest,
    )  # fmt: skip


def _gaps(times: array[int]) -> tuple[int, tuple[Gap, ...]]:
    if len(times) < 3:
        return 0, ()
    moments: Array = np.array(times, np.int64)
    pauses = np.diff(moments)
    limit: Any = max(float(NANOSECONDS), 5 * float(np.median(pauses)))
    where = np.flatnonzero(pauses > limit)
    longest = sorted(where.tolist(), key=lambda index: (-int(pauses[index]), index))[:LISTED_GAPS]
    return len(where), tuple(Gap(int(moments[index]), int(pauses[index]) / NANOSECONDS) for index in longest)
