"""Reads CSV exports of monitor data, wide (a time column and one column a channel) or long (time, channel, value).

Wide: the first row names the columns; the first column is the time; other names may end in a unit, ``ABP [mmHg]`` or
``ABP (mmHg)``. Long: three columns without a header, as ventilators' data export tools write them. Times are ISO 8601
(UTC where they name no zone), ``22-08-2017 08:30:35`` (day first), or plain seconds, in which case the recording
begins at the epoch plus that many seconds. Empty cells are no data. A column in even steps of more than 5 samples per
second is a waveform; other numbers are numerics; a column with words in it is events.
"""

from __future__ import annotations

import csv
import datetime
import math
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

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

MAXIMUM_BYTES = 1 << 30
MAXIMUM_COLUMNS = 1024
MAXIMUM_TEXT = 4096
MAXIMUM_FAULTS = 1000
"""Rows left out after which the file is refused."""
WAVEFORM_RATE = 5.0
"""Samples per second above which evenly spaced values are a waveform."""

_NAMED = re.compile(r"(?P<name>[^\[\](){}]{1,200}?)\s*[\[(](?P<unit>[^\[\]()]{1,64}(?:\[[^\[\]]{1,16}\])?)[\])]")
_DAY_FIRST = re.compile(r"(\d{1,2})-(\d{1,2})-(\d{4})[ T](\d{1,2}):(\d{1,2}):(\d{1,2})(\.\d{1,9})?")
_NOTHING = ("", "nan", "na", "n/a", "null", "none", "-", "--")


class _Column:
    """A channel while it is being collected. Words are kept beside numbers."""

    def __init__(self, name: str, unit: str) -> None:
        self.name, self.unit = name, unit
        self.times, self.values = array("q"), array("d")
        self.words: list[tuple[int, str]] = []

    def add(self, time: int, cell: str) -> None:
        cell = cell.strip()
        if cell.lower() in _NOTHING:
            return
        try:
            value = float(cell)
        except ValueError:
            text = "".join(character if character.isprintable() else " " for character in cell[:MAXIMUM_TEXT])
            self.words.append((time, text))
            return
        self.times.append(time)
        self.values.append(value if math.isfinite(value) else math.nan)


class CsvReader(TrackReader):
    """A CSV recording. Streams are ``waveforms|numerics|events/CSV/<column>``.

    Args:
        path: the file, UTF-8 (other bytes are replaced).
        chunk_seconds: length of waveform chunks.
        channels: shell patterns over channel names.

    Raises:
        RecordingError: where the file has no time column, no usable row, or more than a thousand unusable ones.
    """

    def __init__(self, path: Path, *, chunk_seconds: float = 0.1, channels: tuple[str, ...] = ("*",)) -> None:
        super().__init__()
        self.path, self.chunk_seconds, self.channels = Path(path), chunk_seconds, channels
        self._columns: dict[str, _Column] = {}
        self._faults = 0
        self._begin = 0
        try:
            if self.path.stat().st_size > MAXIMUM_BYTES:
                raise RecordingError(f"is larger than {MAXIMUM_BYTES:,} bytes", where=str(path), mend="split it")
            with self.path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
                self._read(file)
        except OSError as error:
            raise RecordingError(f"cannot be read: {error.strerror}", where=str(path)) from None
        self._finish()

    def _read(self, file: TextIO) -> None:
        rows = self._rows(file)
        place, first = next(rows, (1, []))
        if len(first) < 2:
            raise RecordingError(
                "there is no table", where=f"{self.path}:{place}", mend="the first row names a time column and channels"
            )
        if len(first) > MAXIMUM_COLUMNS:
            raise RecordingError(f"has more than {MAXIMUM_COLUMNS} columns", where=f"{self.path}:{place}")
        if len(first) == 3 and _time(first[0]) is not None:
            self._long(place, first, rows)
        else:
            self._wide(place, first, rows)

    def _rows(self, file: TextIO) -> Iterator[tuple[int, list[str]]]:
        """Line number and cells of each row that is not empty."""
        reader = csv.reader((line.replace("\0", " ") for line in file), _dialect(file))
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise RecordingError(f"is not CSV: {error}", where=f"{self.path}:{reader.line_num}") from None
            if any(cell.strip() for cell in row):
                yield reader.line_num, row

    def _wide(self, place: int, header: list[str], rows: Iterator[tuple[int, list[str]]]) -> None:
        if _time(header[0]) is not None:
            raise RecordingError(
                "the first row has to name the columns", where=f"{self.path}:{place}", mend="e.g. time,HR [/min]"
            )
        columns: list[_Column | None] = []
        for position, cell in enumerate(header[1:], 2):
            columns.append(self._column(cell.strip() or f"column{position}", place))
        for line, row in rows:
            time = self._when(line, row)
            if time is None:
                continue
            if len(row) > len(header):
                self._fault(line, f"has {len(row)} cells, the header {len(header)}")
                continue
            for column, cell in zip(columns, row[1:], strict=False):
                if column is not None and cell:
                    column.add(time, cell)

    def _long(self, place: int, first: list[str], rows: Iterator[tuple[int, list[str]]]) -> None:
        for line, row in _chain((place, first), rows):
            if len(row) != 3:
                self._fault(line, f"has {len(row)} cells, not time, channel and value")
                continue
            time = self._when(line, row)
            if time is None:
                continue
            name = row[1].strip()[:200] or "unnamed"
            column = self._columns.get(name)
            if column is None:
                if len(self._columns) >= MAXIMUM_COLUMNS:
                    raise RecordingError(f"has more than {MAXIMUM_COLUMNS} channels", where=f"{self.path}:{line}")
                column = self._columns[name] = _Column(_clean(name), "")
            column.add(time, row[2])

    def _column(self, cell: str, place: int) -> _Column | None:
        match = _NAMED.fullmatch(cell[:300])
        name, unit = (match["name"], match["unit"]) if match else (cell[:200], "")
        name = _clean(name)
        if name in self._columns:
            raise RecordingError(f"two columns are called {name!r}", where=f"{self.path}:{place}", mend="rename one")
        self._columns[name] = column = _Column(name, unit)
        return column if wanted(f"CSV/{name}", self.channels) else None

    def _when(self, line: int, row: list[str]) -> int | None:
        time = _time(row[0])
        if time is None:
            self._fault(line, f"{row[0][:40]!r} is not a time")
        return time

    def _fault(self, line: int, reason: str) -> None:
        self._faults += 1
        if self._faults <= 5:
            self.warnings.append(f"line {line} left out: {reason}")
        if self._faults > MAXIMUM_FAULTS:
            raise RecordingError(f"more than {MAXIMUM_FAULTS} rows cannot be used", where=f"{self.path}:{line}")

    def _finish(self) -> None:
        if self._faults > 5:
            self.warnings.append(f"{self._faults} lines left out in all")
        for column in self._columns.values():
            channel = f"CSV/{column.name}"
            if not wanted(channel, self.channels):
                continue
            if column.words:
                times = np.array([time for time, _ in column.words], np.int64)
                events = [Event("text", text, {"channel": channel}) for _, text in column.words]
                self.tracks.append(EventTrack(channel, times, events))
            if column.times:
                self.tracks.append(self._numbers(channel, column))
        self.tracks = [track for track in self.tracks if len(track.times)]
        if not self.tracks and not any(column for column in self._columns.values()):
            raise RecordingError("holds no data", where=str(self.path))
        if not self.tracks:
            self.warnings.append("no cell holds a value")
        self._columns = {}

    def _numbers(self, channel: str, column: _Column) -> Track:
        code, unit = codes.describe(column.name, column.unit)
        times, values = np.frombuffer(column.times, np.int64), np.frombuffer(column.values, np.float64)
        rate = _even_rate(times)
        if rate is None:
            return NumericTrack(channel, times, values, code, unit)
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order].astype(np.float32)
        cuts = np.flatnonzero(np.diff(times) > 1.5 * NANOSECONDS / rate) + 1
        starts = times[np.concatenate(([0], cuts))].tolist()
        runs = join_records(list(zip(starts, np.split(values, cuts), strict=True)), rate)
        return WaveformTrack(channel, runs, rate, self.chunk_seconds, code, unit)


def _even_rate(times: np.ndarray) -> float | None:
    """Samples per second where the times are a waveform's: fast, and nine steps in ten are the usual step."""
    if len(times) < 16:
        return None
    steps = np.diff(np.sort(times))
    step = float(np.median(steps))
    if step <= 0 or step > NANOSECONDS / WAVEFORM_RATE:
        return None
    usual = np.abs(steps - step) <= max(0.25 * step, 1_000_000)
    if usual.mean() < 0.9:
        return None
    mean = float(steps[usual].mean())
    return round(NANOSECONDS / mean, 3) if mean > 0 else None


def _time(cell: str) -> int | None:
    """Nanoseconds since the epoch; None for what is not a time between the epoch and the year 2223."""
    cell = cell.strip()
    if not 0 < len(cell) <= 64:
        return None
    try:
        seconds = float(cell)
    except ValueError:
        return _date(cell)
    return round(seconds * NANOSECONDS) if 0 <= seconds < LATEST else None


def _date(cell: str) -> int | None:
    try:
        if match := _DAY_FIRST.fullmatch(cell):
            day, month, year, hour, minute, second = (int(part) for part in match.groups()[:6])
            moment = datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC)
            fraction = round(float(match[7] or 0) * NANOSECONDS)
        else:
            moment = datetime.datetime.fromisoformat(cell)
            fraction = moment.microsecond * 1000
            moment = moment.replace(microsecond=0)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=datetime.UTC)
        seconds = int(moment.timestamp())
    except (ValueError, OverflowError):
        return None
    return seconds * NANOSECONDS + fraction if 0 <= seconds < LATEST else None


def _dialect(file: TextIO) -> type[csv.Dialect]:
    """Comma, semicolon or tab, whichever the first line has most of."""
    here = file.tell()
    line = file.readline(65536)
    file.seek(here)

    class Dialect(csv.excel):
        delimiter = max(",;\t", key=line.count)

    return Dialect


def _clean(name: str) -> str:
    return "".join(character if character.isprintable() else " " for character in name).strip() or "unnamed"


def _chain(
    first: tuple[int, list[str]], rest: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:  # itertools.chain, spelled out for its types
    yield first
    yield from rest
