"""Several recordings played as one: a film and a monitor that never met, side by side.

What comes of it never happened, so every message says ``composed``, whatever its recording says of itself.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pipeline.errors import RecordingError
from pipeline.message import Message, Origin
from pipeline.reader import Reader, StreamInfo


class Composition:
    """Recordings side by side, each moved so that all begin with the longest. A ``pipeline.reader.Reader``.

    Args:
        readers: two or more opened recordings; closed with this.
        repeat: shorter recordings begin again until the longest ends; their sequences go on counting.

    Raises:
        RecordingError: where a recording is empty, or two have a stream of the same name.
    """

    origin: Origin = "composed"

    def __init__(self, readers: Sequence[Reader], *, repeat: bool = False) -> None:
        self.readers, self.repeat = list(readers), repeat
        self.path = Path("+".join(reader.path.stem for reader in readers))
        self.warnings = [f"{reader.path.name}: {warning}" for reader in readers for warning in reader.warnings]
        self._infos = [reader.streams() for reader in readers]
        for reader, infos in zip(readers, self._infos, strict=True):
            if not infos:
                raise RecordingError("has nothing in it to be composed with", where=str(reader.path))
        names = Counter(info.stream for infos in self._infos for info in infos)
        twice = sorted(name for name, count in names.items() if count > 1)
        if twice:
            where = " and ".join(
                reader.path.name
                for reader, infos in zip(readers, self._infos, strict=True)
                if twice[0] in {info.stream for info in infos}
            )
            raise RecordingError(f"both have a stream {twice[0]!r}", where=where, mend="compose different devices")
        self._starts = [min(info.start for info in infos) for infos in self._infos]
        self._spans = [
            max(info.end for info in infos) - start for infos, start in zip(self._infos, self._starts, strict=True)
        ]
        self.longest = self._spans.index(max(self._spans))
        self.start, self.span = self._starts[self.longest], self._spans[self.longest]

    def streams(self) -> list[StreamInfo]:
        """All streams in name order, at the times they have here. ``count`` is -1 for what is repeated."""
        found = []
        for index, infos in enumerate(self._infos):
            shift = self.start - self._starts[index]
            again = self._repeats(index)
            for info in infos:
                end = self.start + self.span if again else info.end + shift
                count = -1 if again else info.count
                found.append(msgspec.structs.replace(info, start=info.start + shift, end=end, count=count))
        return sorted(found, key=lambda info: info.stream)

    def messages(
        self, start: int | None = None, end: int | None = None, *, streams: tuple[str, ...] = ("*",)
    ) -> Iterator[Message[Any]]:
        """All messages in the total order; see ``Reader.messages``."""
        tracks = [self._track(index, start, end, streams) for index in range(len(self.readers))]
        return heapq.merge(*tracks, key=lambda message: message.order)

    def _track(
        self, index: int, start: int | None, end: int | None, streams: tuple[str, ...]
    ) -> Iterator[Message[Any]]:
        reader, span = self.readers[index], self._spans[index]
        again = self._repeats(index)
        if again:
            end = self.start + self.span if end is None else min(end, self.start + self.span)
        # A stream whose length nobody knows leaves room for more pictures than any film has.
        counts = {info.stream: info.count if info.count >= 0 else 1 << 32 for info in self._infos[index]}
        for number in itertools.count() if again else range(1):
            moved = self.start - self._starts[index] + number * span
            begin = self._starts[index] + moved
            if number and end is not None and begin >= end:
                return
            if number and start is not None and begin + span <= start:
                continue
            interval = (None if moment is None else moment - moved for moment in (start, end))
            for message in reader.messages(*interval, streams=streams):
                sequence = message.sequence + number * counts[message.stream]
                yield Message(message.stream, message.time + moved, sequence, message.payload, self.origin)

    def _repeats(self, index: int) -> bool:
        return self.repeat and 0 < self._spans[index] < self.span

    def close(self) -> None:
        for reader in self.readers:
            reader.close()
