"""Writes a case down: every message of a script, in order, to whatever takes messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from operators.theatre.reader import TheatreReader
from pipeline.message import NANOSECONDS, Message


def simulate(
    reader: TheatreReader,
    write: Callable[[Message[Any]], object],
    progress: Callable[[float, float], object] = lambda done, whole: None,
) -> dict[str, int]:
    """Play a whole case into ``write``.

    Args:
        reader: the opened case.
        write: takes each message in the total order, e.g. ``McapWriter.write``.
        progress: called about once a simulated second with the seconds that are done and those of the whole case.

    Returns:
        Messages by stream.
    """
    begin, whole = reader.case.origin_ns, reader.case.duration
    counts: dict[str, int] = {}
    told = 0
    for message in reader.messages():
        write(message)
        counts[message.stream] = counts.get(message.stream, 0) + 1
        second = (message.time - begin) // NANOSECONDS
        if second > told:
            told = second
            progress(float(second), whole)
    progress(whole, whole)
    return counts
