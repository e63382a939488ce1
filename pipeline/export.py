"""A time range of any recording as a file for other tools: an MKV clip, Parquet, CSV, ``.vital``, or our own MCAP."""

from __future__ import annotations

import contextlib
import fnmatch
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import msgspec

from pipeline.errors import RecordingError
from pipeline.message import Message
from pipeline.reader import Reader, StreamInfo
from pipeline.recording import McapReader, McapWriter
from pipeline.registry import open_reader

Progress = Callable[[float], None]
"""Called with the done part of the event time, 0 to 1, at most some two hundred times, and with 1 at the end."""


class ExportSummary(msgspec.Struct, frozen=True):
    """What was exported."""

    path: str
    format: str
    messages: int
    """Messages that went into the file."""
    rows: int
    """Rows of a table, samples of a ``.vital``, or pictures of a clip."""
    size_bytes: int
    left_out: dict[str, int]
    """Streams (with their messages) that were asked for and that the format cannot hold; -1 where not counted."""
    warnings: tuple[str, ...]


class Sink(Protocol):
    """A file being exported."""

    takes: ClassVar[tuple[type, ...]]
    """Payload types that it holds; empty for all."""
    rows: int

    def write(self, message: Message[Any]) -> bool:
        """Add a message; False where it cannot be held."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...

    def abandon(self) -> None:
        """Close without finishing."""
        ...


class Subject(msgspec.Struct, frozen=True):
    """What a sink is told about the recording."""

    reader: Reader
    streams: tuple[StreamInfo, ...]
    """Those asked for."""
    start: int
    end: int

    @property
    def label(self) -> str:
        """What people must be told about the data; empty for what was recorded from a patient."""
        return {"simulated": "SIMULATED", "composed": "COMPOSED"}.get(self.reader.origin, "")


def export(
    source: Reader | Path | str,
    target: Path | str,
    *,
    start: int | None = None,
    end: int | None = None,
    streams: tuple[str, ...] = ("*",),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportSummary:
    """Write ``start <= time < end`` of a recording to ``target``; its suffix says the format.

    ``.mkv`` and ``.mp4`` take one video stream; ``.parquet`` and ``.csv`` numerics and waveforms, one row a sample;
    ``.vital`` numerics, waveforms and events; ``.mcap`` everything. The file appears whole or not at all: it is
    written beside its place under a temporary name.

    Args:
        source: an opened reader, which stays open, or a path.
        start, end: event times, ns; None for the recording's own.
        streams: shell patterns over stream names.
        overwrite: write over an existing file.
        progress: see ``Progress``.

    Raises:
        RecordingError: where the target exists, the format is not known or holds nothing of this, or the disk is full.
    """
    target = Path(target)
    make = _format(target)
    if target.exists() and not overwrite:
        mend = "choose another name, or say that it may be overwritten"
        raise RecordingError("there is a file of that name", where=str(target), mend=mend)
    if isinstance(source, (str, Path)):
        reader = open_reader(source)
        try:
            return _export(reader, target, make, start, end, streams, overwrite, progress)
        finally:
            reader.close()
    return _export(source, target, make, start, end, streams, overwrite, progress)


def _format(target: Path) -> Callable[[Path, Subject], Sink]:
    match target.suffix.lower():
        case ".mkv" | ".mp4" as suffix:
            from pipeline.recording.clip import ClipSink

            return lambda path, subject: ClipSink(path, subject, "matroska" if suffix == ".mkv" else "mp4")
        case ".parquet" | ".csv" as suffix:
            from pipeline.recording.table import TableSink

            return lambda path, subject: TableSink(path, subject, suffix[1:])
        case ".vital":
            from pipeline.recording.vital import VitalSink

            return VitalSink
        case ".mcap":
            return _McapSink
    mend = "known: .mkv, .mp4, .parquet, .csv, .vital, .mcap"
    raise RecordingError(f"nothing is exported as {target.suffix or 'a file without suffix'!r}", mend=mend)


def _export(
    reader: Reader, target: Path, make: Callable[[Path, Subject], Sink], start: int | None, end: int | None,
    patterns: tuple[str, ...], overwrite: bool, progress: Progress | None,
) -> ExportSummary:  # fmt: skip
    infos = tuple(
        info for info in reader.streams() if any(fnmatch.fnmatchcase(info.stream, pattern) for pattern in patterns)
    )
    if not infos:
        mend = "it holds " + (", ".join(info.stream for info in reader.streams()[:8]) or "nothing")
        raise RecordingError(f"has no stream like {', '.join(patterns)}", where=str(reader.path), mend=mend)
    first = start if start is not None else min(info.start for info in infos)
    last = end if end is not None else max(info.end for info in infos)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        sink = make(partial, Subject(reader, infos, first, last))
        try:
            messages, left_out = _copy(reader, sink, infos, start, end, _paced(progress, first, last))
            sink.close()
        except BaseException:
            with contextlib.suppress(Exception):
                sink.abandon()
            raise
        if messages == 0:
            held = ", ".join(sorted({info.payload for info in infos}))
            fits = not sink.takes or any(info.payload in {kind.__name__ for kind in sink.takes} for info in infos)
            mend = "the time range holds nothing" if fits else f"those streams hold {held}"
            raise RecordingError(f"has nothing that a {target.suffix} file holds", where=str(reader.path), mend=mend)
        _rename(partial, target, overwrite)
    except OSError as error:
        raise RecordingError(f"cannot be written: {error.strerror or error}", where=str(target)) from None
    finally:
        partial.unlink(missing_ok=True)
    if progress is not None:
        progress(1.0)
    return ExportSummary(
        path=str(target), format=target.suffix[1:].lower(), messages=messages, rows=sink.rows,
        size_bytes=target.stat().st_size, left_out=left_out, warnings=tuple(reader.warnings),
    )  # fmt: skip


def _copy(
    reader: Reader, sink: Sink, infos: tuple[StreamInfo, ...], start: int | None, end: int | None, at: Progress
) -> tuple[int, dict[str, int]]:
    held = {kind.__name__ for kind in sink.takes}
    wanted = {info.stream for info in infos if not held or info.payload in held}
    left_out = {info.stream: info.count for info in infos if info.stream not in wanted}
    count = 0
    for message in _messages(reader, start, end, wanted):
        if message.stream not in wanted:
            continue
        if sink.write(message):
            count += 1
        else:
            left_out[message.stream] = left_out.get(message.stream, 0) + 1
        at(message.time)
    return count, left_out


def _messages(reader: Reader, start: int | None, end: int | None, wanted: set[str]) -> Iterator[Message[Any]]:
    if not wanted:
        return iter(())
    if isinstance(reader, McapReader):  # what is not wanted is not decoded
        exact = tuple(name.translate({ord("["): "[[]", ord("*"): "[*]", ord("?"): "[?]"}) for name in sorted(wanted))
        return reader.messages(start, end, streams=exact)
    return reader.messages(start, end)


def _paced(progress: Progress | None, first: int, last: int) -> Progress:
    told = -1.0
    span = max(1, last - first)

    def at(time: float) -> None:
        nonlocal told
        part = min(1.0, max(0.0, (time - first) / span))
        if progress is not None and part - told >= 0.005:
            told = part
            progress(part)

    return at


def _rename(partial: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        partial.replace(target)
        return
    try:
        os.link(partial, target)  # unlike a rename, never writes over what came meanwhile
    except FileExistsError:
        raise RecordingError("there is a file of that name", where=str(target)) from None
    except OSError:  # a file system without hard links
        partial.rename(target)


class _McapSink:
    """Our own format: also what makes a recording of a ``.vital`` or a video file."""

    takes: ClassVar[tuple[type, ...]] = ()

    def __init__(self, path: Path, subject: Subject) -> None:
        reader = subject.reader
        self.rows = 0
        self._writer = McapWriter(
            path, case=str(getattr(reader, "case", "")) or reader.path.stem, room=str(getattr(reader, "room", "")),
            simulated=reader.origin == "simulated", metadata={"exported_from": reader.path.name},
        )  # fmt: skip

    def write(self, message: Message[Any]) -> bool:
        self._writer.write(message)
        self.rows += 1
        return True

    def close(self) -> None:
        self._writer.close()

    abandon = close
