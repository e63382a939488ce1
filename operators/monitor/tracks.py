"""A recording in memory as tracks, and their messages in the total order. All file readers stand on this.

Times are computed once with numpy; a message then costs one slice and two structs. Merging goes window by window, so
the first message of a day-long case comes at once and memory stays small.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.message import NANOSECONDS, Event, Message, Numeric, Origin, Waveform
from pipeline.reader import StreamInfo
from pipeline.time import NEVER

WINDOW = 30 * NANOSECONDS
"""How much event time is merged at once to begin with, ns; sparse recordings widen it."""
SPARSE, DENSE = 1_000, 50_000
"""Fewer messages in a window than the first double the next window, more than the second halve it."""

LATEST = 8_000_000_000
"""Seconds since the epoch that still fit in int64 nanoseconds (year 2223)."""


class Track:
    """One channel: ``times`` (n,) int64 ns, rising; ``make(i)`` builds the payload of message ``i``."""

    payload = ""
    rate = 0.0

    def __init__(self, stream: str, times: np.ndarray, code: str, unit: str) -> None:
        self.stream, self.times, self.code, self.unit = stream, times, code, unit

    def make(self) -> Callable[[int], Any]:
        """The function that builds a payload from its index."""
        raise NotImplementedError

    def end(self) -> int:
        """Event time at which the last message ends, ns."""
        return int(self.times[-1])

    def info(self) -> StreamInfo:
        return StreamInfo(
            self.stream, self.payload, len(self.times), int(self.times[0]), self.end(), self.code, self.unit, self.rate
        )


class NumericTrack(Track):
    """Values with their times; sorted here, equal times keep their order."""

    payload = "Numeric"

    def __init__(self, channel: str, times: np.ndarray, values: np.ndarray, code: str, unit: str) -> None:
        order = np.argsort(times, kind="stable")
        super().__init__(f"numerics/{channel}", times[order], code, unit)
        values = np.asarray(values, np.float64)[order]
        values[~np.isfinite(values)] = np.nan
        self.channel, self.values = channel, values.tolist()

    def make(self) -> Callable[[int], Numeric]:
        channel, code, unit, values = self.channel, self.code, self.unit, self.values
        return lambda i: Numeric(channel, code, unit, values[i])


class EventTrack(Track):
    """Texts with their times."""

    payload = "Event"

    def __init__(self, channel: str, times: np.ndarray, events: Sequence[Event]) -> None:
        order = np.argsort(times, kind="stable")
        super().__init__(f"events/{channel}", times[order], "", "")
        self.events = [events[i] for i in order.tolist()]

    def make(self) -> Callable[[int], Event]:
        return self.events.__getitem__


class WaveformTrack(Track):
    """Runs of evenly spaced samples, cut into chunks. A chunk never spans a gap, and a chunk of NaN only is no chunk.

    Args:
        runs: (start in ns, values (n,) float32) in time order. A run that begins before the one before it ended
            loses the overlapping samples.
        rate: samples per second.
        chunk_seconds: wished length of a chunk; chunks hold a whole number of samples, at least one.
    """

    payload = "Waveform"

    def __init__(
        self,
        channel: str,
        runs: Iterable[tuple[int, np.ndarray]],
        rate: float,
        chunk_seconds: float,
        code: str,
        unit: str,
    ) -> None:
        self.channel, self.rate = channel, rate
        self.size = max(1, round(rate * chunk_seconds))
        times, starts, stops, values = [], [], [], []
        offset, reached = 0, None
        for start, samples in runs:
            if reached is not None and start < reached:
                lost = min(len(samples), int(np.ceil((reached - start) * rate / NANOSECONDS)))
                start, samples = start + round(lost / rate * NANOSECONDS), samples[lost:]
            if len(samples) == 0:
                continue
            samples = np.asarray(samples, np.float32)
            first = np.arange(0, len(samples), self.size)
            last = np.minimum(first + self.size, len(samples))
            filled = np.logical_or.reduceat(np.isfinite(samples), first)
            times.append(start + np.round(first[filled] / rate * NANOSECONDS).astype(np.int64))
            starts.append(first[filled] + offset)
            stops.append(last[filled] + offset)
            values.append(samples)
            offset += len(samples)
            reached = start + round(len(samples) / rate * NANOSECONDS)
        empty = np.empty(0, np.int64)
        super().__init__(f"waveforms/{channel}", np.concatenate(times) if times else empty, code, unit)
        self.values = np.concatenate(values) if values else np.empty(0, np.float32)
        self.values[~np.isfinite(self.values)] = np.nan
        self.values.flags.writeable = False
        self.starts = np.concatenate(starts).tolist() if starts else []
        self.stops = np.concatenate(stops).tolist() if stops else []

    def make(self) -> Callable[[int], Waveform]:
        channel, code, unit, rate = self.channel, self.code, self.unit, self.rate
        values, starts, stops = self.values, self.starts, self.stops
        return lambda i: Waveform(channel, code, unit, rate, values[starts[i] : stops[i]])

    def end(self) -> int:
        return int(self.times[-1]) + round((self.stops[-1] - self.starts[-1]) / self.rate * NANOSECONDS)


def join_records(records: Sequence[tuple[int, np.ndarray]], rate: float) -> list[tuple[int, np.ndarray]]:
    """Records that follow each other without a gap, joined into runs.

    A record continues a run when it begins within two samples or 20 ms of where the run ends (recorders stamp packets
    with jitter); otherwise it begins a new one. Records are put in time order first. A time stamp that says that a
    record begins *before* the run's end by more than that also begins a new run; ``WaveformTrack`` cuts the overlap.
    """
    tolerance = max(2 / rate, 0.020) * NANOSECONDS
    runs: list[tuple[int, list[np.ndarray]]] = []
    expected = 0.0
    for start, samples in sorted(records, key=lambda record: record[0]):
        if runs and abs(start - expected) <= tolerance:
            runs[-1][1].append(samples)
        else:
            runs.append((start, [samples]))
            expected = float(start)
        expected += len(samples) / rate * NANOSECONDS
    return [(start, np.concatenate(parts)) for start, parts in runs]


def wanted(channel: str, patterns: Sequence[str]) -> bool:
    """True where a channel matches one of the shell patterns."""
    return any(fnmatch.fnmatchcase(channel, pattern) for pattern in patterns)


def merged(tracks: Sequence[Track], start: int | None, end: int | None, origin: Origin) -> Iterator[Message[Any]]:
    """Messages of all tracks with ``start <= time < end``, by (time, stream, sequence). Sequences count from the
    track's beginning, also where ``start`` cuts it."""
    tracks = sorted((track for track in tracks if len(track.times)), key=lambda track: track.stream)
    streams = [track.stream for track in tracks]
    makers = [track.make() for track in tracks]
    at = [0 if start is None else int(np.searchsorted(track.times, start)) for track in tracks]
    stop = [len(track.times) if end is None else int(np.searchsorted(track.times, end)) for track in tracks]
    window = WINDOW
    while True:
        nexts = [int(track.times[i]) for track, i, s in zip(tracks, at, stop, strict=True) if i < s]
        if not nexts:
            return
        limit = min(min(nexts) + window, NEVER)
        pieces = []
        for which, track in enumerate(tracks):
            upto = min(stop[which], int(np.searchsorted(track.times, limit)))
            if upto > at[which]:
                index = np.arange(at[which], upto)
                pieces.append((track.times[at[which] : upto], np.full(len(index), which), index))
                at[which] = upto
        times, which, index = (np.concatenate(column) for column in zip(*pieces, strict=True))
        order = np.lexsort((index, which, times))
        rows = zip(times[order].tolist(), which[order].tolist(), index[order].tolist(), strict=True)
        for time, k, i in rows:
            yield Message(streams[k], time, i, makers[k](i), origin)
        window = min(window * 2, NEVER) if len(order) < SPARSE else window // 2 if len(order) > DENSE else window


class TrackReader:
    """What the file readers share: see ``pipeline.reader.Reader``."""

    origin: Origin = "recorded"

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self.warnings: list[str] = []

    def streams(self) -> list[StreamInfo]:
        """All streams, in name order; streams without a message are left out."""
        return [track.info() for track in sorted(self.tracks, key=lambda track: track.stream) if len(track.times)]

    def messages(
        self, start: int | None = None, end: int | None = None, *, streams: tuple[str, ...] = ("*",)
    ) -> Iterator[Message[Any]]:
        """Messages with ``start <= time < end`` in the total order. May be called again."""
        return merged([track for track in self.tracks if wanted(track.stream, streams)], start, end, self.origin)

    def close(self) -> None:
        """Forget the tracks."""
        self.tracks = []
