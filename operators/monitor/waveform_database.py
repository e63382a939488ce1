"""Reads WFDB records (PhysioNet): a ``.hea`` header, the signal files it names, and annotation files beside it.

The ``wfdb`` library decodes the signals. It trusts its input, so the header is first read by us and refused where it
names files outside its folder, claims more samples than its files can hold, or is otherwise not what a record can be.

Gaps stay gaps: WFDB's invalid-sample marks and the null segments of multi-segment records become no data, never zeros.
Records of 2 samples per second or less (MIMIC "numerics") become numerics.
"""

from __future__ import annotations

import datetime
import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import wfdb

from operators.monitor import codes
from operators.monitor.tracks import LATEST, EventTrack, NumericTrack, TrackReader, WaveformTrack, wanted
from pipeline.errors import RecordingError
from pipeline.message import NANOSECONDS, Event

MAXIMUM_HEADER = 1 << 20
MAXIMUM_LINE = 2000
MAXIMUM_SIGNALS = 256
MAXIMUM_SEGMENTS = 10_000
MAXIMUM_SAMPLES = 1 << 29
"""Samples of all signals together."""
MAXIMUM_PER_FRAME = 10_000
MAXIMUM_SKEW = 1_000_000
NUMERICS_RATE = 2.0
"""Samples per second up to which a signal is a numeric."""

BYTES = {
    "8": 1.0,
    "16": 2.0,
    "24": 3.0,
    "32": 4.0,
    "61": 2.0,
    "80": 1.0,
    "160": 2.0,
    "212": 1.5,
    "310": 4 / 3,
    "311": 4 / 3,
}
"""Bytes a sample takes in each format; the FLAC formats (508, 516, 524) are bounded by ``FLAC_RATIO`` instead."""
FLAC = ("508", "516", "524")
FLAC_RATIO = 1000
"""Samples a byte of FLAC may stand for, beyond the first million: constant blocks pack very well."""

ANNOTATIONS = ("atr", "ari", "ecg", "qrs", "sqrs", "wqrs", "wabp", "alm")
MAXIMUM_ANNOTATIONS = 64 << 20
"""Bytes of an annotation file."""

UNDATED = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
"""When a record that does not say its date is taken to begin."""

_RECORD = re.compile(
    r"(?P<name>[-\w]{1,200})(?:/(?P<segments>\d{1,6}))?[ \t]+(?P<signals>\d{1,6})"
    r"(?:[ \t]+(?P<rate>[-+.\deE]{1,30})(?:/(?P<counter>[-+.\deE]{1,30})(?:\([-+.\deE]{1,30}\))?)?)?"
    r"(?:[ \t]+(?P<length>\d{1,15}))?(?:[ \t]+(?P<time>(?:\d{1,2}:){0,2}\d{1,2}(?:\.\d{1,9})?))?"
    r"(?:[ \t]+(?P<date>\d{1,2}/\d{1,2}/\d{4}))?[ \t]*"
)
_SIGNAL = re.compile(
    r"(?P<file>[^ \t]{1,255})[ \t]+(?P<format>\d{1,3})(?:x(?P<per_frame>\d{1,9}))?(?::(?P<skew>\d{1,9}))?"
    r"(?:\+(?P<offset>\d{1,15}))?(?P<rest>(?:[ \t].*)?)"
)


class WfdbReader(TrackReader):
    """A WFDB record. Streams are ``waveforms|numerics/WFDB/<signal>`` and ``events/WFDB/<annotator>``.

    Args:
        path: the ``.hea`` file.
        chunk_seconds: length of waveform chunks.
        channels: shell patterns over channel names.

    Raises:
        RecordingError: where header or signals are not those of a record; names the file and line.
    """

    def __init__(self, path: Path, *, chunk_seconds: float = 0.1, channels: tuple[str, ...] = ("*",)) -> None:
        super().__init__()
        self.path, self.chunk_seconds, self.channels = Path(path), chunk_seconds, channels
        self._runs: dict[str, list[tuple[int, np.ndarray]]] = {}
        self._about: dict[str, tuple[float, str]] = {}
        self._budget = MAXIMUM_SAMPLES
        header = _Header(self.path)
        self.begin = header.begin()
        if header.undated:
            self.warnings.append(f"the header gives no date: the record is taken to begin at {UNDATED:%Y-%m-%d}")
        if header.segments:
            self._segments(header)
        else:
            self._signals(header, self.begin)
        for channel, runs in self._runs.items():
            self._track(channel, runs)
        for name in ANNOTATIONS:
            self._annotations(name, header.rate)

    def _segments(self, header: _Header) -> None:
        at = 0
        for name, length in header.segments:
            if name != "~" and length:
                part = _Header(self.path.with_name(f"{name}.hea"))
                if part.segments:
                    part.fail(1, "a segment cannot have segments")
                self._signals(part, self.begin + round(at / header.rate * NANOSECONDS))
            at += length

    def _signals(self, header: _Header, begin: int) -> None:
        if not header.signals:
            return
        self._budget -= header.check_files()
        if self._budget < 0:
            header.fail(1, f"claims more than {MAXIMUM_SAMPLES:,} samples")
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                record: Any = wfdb.rdrecord(str(header.path.with_suffix("")), physical=True, smooth_frames=False)
            signals, names, units, frames = record.e_p_signal, record.sig_name, record.units, record.samps_per_frame
        except Exception as error:  # the library fails in as many ways as there are wrong files
            header.fail(2, f"its signals cannot be decoded: {type(error).__name__}: {str(error)[:200]}")
        used: dict[str, int] = {}
        for values, name, unit, per_frame in zip(signals, names, units, frames, strict=True):
            channel = f"WFDB/{_clean(name)}"
            used[channel] = used.get(channel, 0) + 1
            if used[channel] > 1:
                channel += f"~{used[channel]}"
            rate = header.rate * per_frame
            if self._about.setdefault(channel, (rate, unit or ""))[0] != rate:
                self.warnings.append(
                    f"{channel} changes its rate between segments; the part in {header.path.name} is left out"
                )
                continue
            if wanted(channel, self.channels):
                self._runs.setdefault(channel, []).append((begin, np.asarray(values, np.float32)))

    def _track(self, channel: str, runs: list[tuple[int, np.ndarray]]) -> None:
        rate, unit = self._about[channel]
        code, ucum = codes.describe(channel, unit)
        if rate <= NUMERICS_RATE:
            times = np.concatenate([begin + _steps(len(values), rate) for begin, values in runs])
            values = np.concatenate([values for _, values in runs])
            there = np.isfinite(values)
            if there.any():
                self.tracks.append(NumericTrack(channel, times[there], values[there], code, ucum))
            return
        track = WaveformTrack(channel, sorted(runs, key=lambda run: run[0]), rate, self.chunk_seconds, code, ucum)
        if len(track.times):
            self.tracks.append(track)

    def _annotations(self, name: str, rate: float) -> None:
        path = self.path.with_suffix(f".{name}")
        channel = f"WFDB/{name}"
        if not path.is_file() or not wanted(channel, self.channels):
            return
        if path.stat().st_size > MAXIMUM_ANNOTATIONS:
            self.warnings.append(f"{path.name} is larger than {MAXIMUM_ANNOTATIONS:,} bytes and left out")
            return
        try:
            found: Any = wfdb.rdann(str(path.with_suffix("")), name)
            samples = np.asarray(found.sample, np.float64)
            steps = samples / float(found.fs or rate) * NANOSECONDS
            notes = [str(note).strip("\0") for note in found.aux_note]
            events = [
                Event("annotation", str(symbol), {"channel": channel, **({"note": note[:255]} if note else {})})
                for symbol, note in zip(found.symbol, notes, strict=True)
            ]
        except Exception as error:  # as above
            self.warnings.append(f"{path.name} left out: {type(error).__name__}: {str(error)[:200]}")
            return
        fits = np.isfinite(steps) & (steps >= 0) & (steps < (LATEST * NANOSECONDS - self.begin))
        if not fits.all():
            self.warnings.append(f"{path.name}: {int((~fits).sum())} annotations at impossible times left out")
        if fits.any():
            times = self.begin + np.round(steps[fits]).astype(np.int64)
            self.tracks.append(
                EventTrack(channel, times, [event for event, fit in zip(events, fits, strict=True) if fit])
            )


class _Header:
    """A header file, read and judged before the library sees it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = self._lines()
        if not lines:
            self.fail(1, "there is no record line")
        place, first = lines[0]
        record = _RECORD.fullmatch(first)
        if record is None:
            self.fail(place, "is not a record line", "name, number of signals, rate, number of samples")
        if record["name"] != path.stem:
            self.fail(place, f"names the record {record['name'][:40]!r}, not {path.stem[:40]!r}")
        self.rate = self._number(place, record["rate"] or "250", 1e-5, 1e6, "samples per second")
        self.length = int(record["length"] or 0)
        self.time, self.date = record["time"], record["date"]
        self.undated = self.date is None
        count = int(record["signals"])
        self.segments: list[tuple[str, int]] = []
        self.signals: list[re.Match[str]] = []
        if record["segments"]:
            self._read_segments(int(record["segments"]), lines[1:], place)
        else:
            self._read_signals(count, lines[1:], place)

    def _lines(self) -> list[tuple[int, str]]:
        try:
            with self.path.open("rb") as file:
                data = file.read(MAXIMUM_HEADER + 1)
        except OSError as error:
            raise RecordingError(f"cannot be read: {error.strerror}", where=str(self.path)) from None
        if len(data) > MAXIMUM_HEADER:
            self.fail(1, f"is larger than {MAXIMUM_HEADER:,} bytes")
        lines = []
        for place, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            if len(line) > MAXIMUM_LINE:
                self.fail(place, f"is longer than {MAXIMUM_LINE} characters")
            if line.strip() and not line.lstrip().startswith("#"):
                lines.append((place, line.strip()))
        return lines

    def _read_segments(self, count: int, lines: list[tuple[int, str]], place: int) -> None:
        if not 0 < count <= MAXIMUM_SEGMENTS or len(lines) < count:
            self.fail(place, f"claims {count:,} segments and lists {len(lines):,}")
        for at, line in lines[:count]:
            parts = line.split()
            if (
                len(parts) < 2
                or not parts[1].isdigit()
                or len(parts[1]) > 15
                or not re.fullmatch(r"~|[-\w]{1,200}", parts[0])
            ):
                self.fail(at, "is not a segment", "name and number of samples")
            self.segments.append((parts[0], int(parts[1])))
        total = sum(length for _, length in self.segments)
        if total / self.rate + self.begin() / NANOSECONDS >= LATEST:
            self.fail(place, "lasts longer than time itself can be counted")

    def _read_signals(self, count: int, lines: list[tuple[int, str]], place: int) -> None:
        if count > MAXIMUM_SIGNALS or len(lines) < count:
            self.fail(place, f"claims {count:,} signals and lists {len(lines):,} (at most {MAXIMUM_SIGNALS})")
        for at, line in lines[:count]:
            match = _SIGNAL.fullmatch(line)
            if match is None:
                self.fail(at, "is not a signal", "file, format, gain ... see the WFDB header format")
            if "/" in match["file"] or "\\" in match["file"] or match["file"].startswith("."):
                self.fail(at, "names a file outside the record's folder")
            if match["format"] not in BYTES and match["format"] not in FLAC:
                self.fail(at, f"names the format {match['format']}, which is not known")
            if not 1 <= int(match["per_frame"] or 1) <= MAXIMUM_PER_FRAME:
                self.fail(at, f"claims {match['per_frame']} samples a frame")
            if int(match["skew"] or 0) > MAXIMUM_SKEW:
                self.fail(at, f"claims a skew of {match['skew']} samples")
            self.signals.append(match)

    def check_files(self) -> int:
        """Samples of all signals; fails where the files cannot hold them."""
        total = 0
        by_file: dict[str, list[re.Match[str]]] = {}
        for match in self.signals:
            by_file.setdefault(match["file"], []).append(match)
        for name, group in by_file.items():
            path = self.path.with_name(name)
            try:
                size = path.stat().st_size if path.is_file() else -1
            except (OSError, ValueError):
                size = -1
            if size < 0:
                self.fail(2, f"names the signal file {name[:80]!r}, which is not there")
            per_frame = sum(int(match["per_frame"] or 1) for match in group)
            offset = int(group[0]["offset"] or 0)
            if offset > size:
                self.fail(2, f"{name[:80]}: begins at byte {offset:,} of {size:,}")
            form = group[0]["format"]
            holds = (size - offset) / BYTES[form] + 8 if form in BYTES else FLAC_RATIO * size + 1e6
            length = self.length or math.ceil(holds / per_frame)
            if length * per_frame > holds:
                self.fail(2, f"{name[:80]} has {size:,} bytes, too few for {length * per_frame:,} samples (cut off?)")
            total += length * per_frame
        if self.length / self.rate + self.begin() / NANOSECONDS >= LATEST:
            self.fail(1, "lasts longer than time itself can be counted")
        return total

    def begin(self) -> int:
        """When the record begins, ns since the epoch; times without a zone are taken as UTC."""
        day = UNDATED
        try:
            if self.date:
                day_of_month, month, year = (int(part) for part in self.date.split("/"))
                day = datetime.datetime(year, month, day_of_month, tzinfo=datetime.UTC)
            seconds = 0.0
            for part in (self.time or "0").split(":"):
                seconds = seconds * 60 + float(part)
        except ValueError:
            self.fail(1, f"{self.date} {self.time} is not a date and time")
        begin = round((day.timestamp() + seconds) * 1000) * 1_000_000
        if not 0 <= begin < LATEST * NANOSECONDS:
            self.fail(1, f"{self.date} is before 1970 or after 2223")
        return begin

    def _number(self, place: int, text: str, low: float, high: float, what: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            self.fail(place, f"{text[:30]!r} {what} cannot be")
        return value

    def fail(self, place: int, message: str, mend: str = "") -> Any:
        raise RecordingError(message, where=f"{self.path}:{place}", mend=mend)


def _steps(count: int, rate: float) -> np.ndarray:
    return np.round(np.arange(count) / rate * NANOSECONDS).astype(np.int64)


def _clean(name: str | None) -> str:
    """A signal's name as a channel: ``ABP Mean`` -> ``ABP_Mean``."""
    text = "".join(character if character.isprintable() else " " for character in (name or "")[:100])
    return "_".join(text.split()) or "unnamed"
