"""Recordings side by side: one order, one beginning, and nobody takes it for something that happened."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RecordingError
from pipeline.message import NANOSECONDS, Message, Numeric
from pipeline.reader import Reader, StreamInfo
from pipeline.recording.composition import Composition


class Tape:
    """A recording in memory: a value every ``step`` ns from ``start`` on."""

    origin = "recorded"

    def __init__(self, name: str, start: int, count: int, step: int) -> None:
        self.path, self.warnings, self.closed = Path(name), [f"{name} was cut"], False
        self.stream = f"numerics/{self.path.stem}"
        self.times = [start + i * step for i in range(count)]
        self.step = step

    def streams(self) -> list[StreamInfo]:
        if not self.times:
            return []
        return [StreamInfo(self.stream, "Numeric", len(self.times), self.times[0], self.times[-1] + self.step)]

    def messages(self, start=None, end=None, *, streams=("*",)):  # type: ignore[no-untyped-def]
        if not any(fnmatch.fnmatchcase(self.stream, pattern) for pattern in streams):
            return
        for sequence, time in enumerate(self.times):
            if (start is None or time >= start) and (end is None or time < end):
                yield Message(self.stream, time, sequence, Numeric(self.path.stem, "", "1", float(sequence)))

    def close(self) -> None:
        self.closed = True


def long_and_short(*, repeat: bool) -> Composition:
    return Composition([Tape("film.x", 7_000, 4, 10), Tape("monitor.x", 500, 100, 1)], repeat=repeat)


def test_all_begin_with_the_longest_and_say_composed() -> None:
    found = long_and_short(repeat=False)
    assert isinstance(found, Reader)
    messages = list(found.messages())
    assert len(messages) == 104
    assert [message.order for message in messages] == sorted(message.order for message in messages)
    assert {message.origin for message in messages} == {"composed"}
    assert [m.time for m in messages if m.stream == "numerics/film"] == [500, 510, 520, 530]
    assert found.warnings == ["film.x: film.x was cut", "monitor.x: monitor.x was cut"]
    found.close()
    assert all(reader.closed for reader in found.readers)  # type: ignore[attr-defined]


def test_what_is_shorter_begins_again_and_counts_on() -> None:
    film = [m for m in long_and_short(repeat=True).messages() if m.stream == "numerics/film"]
    assert [m.time for m in film] == list(range(500, 600, 10))
    assert [m.sequence for m in film] == list(range(10))
    assert [m.payload.value for m in film] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert {info.stream: (info.start, info.end, info.count) for info in long_and_short(repeat=True).streams()} == {
        "numerics/film": (500, 600, -1), "numerics/monitor": (500, 600, 100),
    }  # fmt: skip


@given(repeat=st.booleans(), bounds=st.tuples(st.integers(480, 620), st.integers(480, 620)))
def test_an_interval_is_that_part_of_the_whole(repeat: bool, bounds: tuple[int, int]) -> None:
    start, end = sorted(bounds)
    whole = [m for m in long_and_short(repeat=repeat).messages() if start <= m.time < end]
    assert list(long_and_short(repeat=repeat).messages(start, end)) == whole


def test_what_is_not_asked_for_is_not_read() -> None:
    found = long_and_short(repeat=True).messages(streams=("numerics/mon*",))
    assert {message.stream for message in found} == {"numerics/monitor"}


def test_what_cannot_be_composed_is_refused_by_name() -> None:
    with pytest.raises(RecordingError, match=r"a\.x and a\.y.*both have a stream 'numerics/a'"):
        Composition([Tape("a.x", 0, 1, 1), Tape("a.y", 0, 1, 1)])
    with pytest.raises(RecordingError, match=r"empty\.x"):
        Composition([Tape("empty.x", 0, 0, 1), Tape("b.x", 0, 3, NANOSECONDS)])
