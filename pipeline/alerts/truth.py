"""The truth file: what happened in a recording, for alerts to be judged by. YAML or JSON::

    truth: 1                             # what tells it from any other file
    start: 2020-01-01T08:00:00Z          # what second 0 is; the recording's first message where not given
    codes: [hypotension]                 # alerts that this truth speaks of; others are not judged. All where not given
    events:
      - {code: hypotension, onset: 1, end: 430, early: 15, late: 0}
      - {code: "end_tidal*", subject: "*/ETCO2", onset: 50, end: 70, required: false}
    monitored: [[0, 1974]]               # when the sensor was valid; the whole recording where not given
    refractory_seconds: 120

Moments are seconds from ``start`` or ISO 8601 times with a zone, durations seconds. ``code`` and ``subject`` are shell
patterns. An alert answers an event where it begins from ``early`` before ``onset`` to ``late`` after ``end``.
"""

from __future__ import annotations

import datetime
import fnmatch
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from pipeline.alerts.score import REFRACTORY_SECONDS, Episode, Score, Span, TrueEvent, score
from pipeline.document import Table, parse, read
from pipeline.errors import RecordingError, nearest
from pipeline.message import NANOSECONDS

LONGEST = 31 * 86400
"""Seconds that a recording may last, at most."""


def _no_switch(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("should be a moment")
    return value


Seconds = Annotated[
    float, pydantic.BeforeValidator(_no_switch), Field(ge=-LONGEST, le=LONGEST, allow_inf_nan=False)
]  # fmt: skip
Moment = Seconds | pydantic.AwareDatetime
Pattern = Annotated[str, Field(min_length=1, max_length=200)]


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class EventEntry(_Part):
    """One event of a truth file."""

    code: Pattern
    """Shell pattern over the codes of alerts that answer it."""
    onset: Moment
    end: Moment | None = None
    """The onset where not given: something that has no length."""
    subject: Pattern = "*"
    """Shell pattern over the subjects of alerts."""
    early: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 0.0
    """Seconds before `onset` from which an alert may begin."""
    late: Annotated[float, Field(ge=-86400, le=86400, allow_inf_nan=False)] = 0.0
    """Seconds after `end` until which it may; below zero where the last moments before the end are too late."""
    required: bool = True
    """False for what may be told but need not be."""
    name: str = Field(default="", max_length=200)


class Truth(_Part):
    """A truth file. ``load`` reads one."""

    truth: Literal[1]
    """Version of this format."""
    start: pydantic.AwareDatetime | None = None
    codes: tuple[Pattern, ...] = Field(default=("*",), min_length=1, max_length=100)
    events: tuple[EventEntry, ...] = Field(default=(), max_length=100_000)
    monitored: tuple[tuple[Moment, Moment], ...] | None = Field(default=None, min_length=1, max_length=100_000)
    refractory_seconds: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = REFRACTORY_SECONDS

    @property
    def relative(self) -> bool:
        """Whether it counts seconds from a start that it does not give."""
        moments = [moment for event in self.events for moment in (event.onset, event.end)]
        moments += [moment for span in self.monitored or () for moment in span]
        return self.start is None and any(isinstance(moment, float | int) for moment in moments)

    def resolve(self, start: int, end: int) -> ResolvedTruth:
        """Seconds to event times, for a recording that lasts from ``start`` to ``end`` (ns).

        Raises:
            RecordingError: where an end that mixes both ways of giving a moment turns out to be before its beginning.
        """
        zero = start if self.start is None else _nanoseconds(self.start)

        def at(moment: Moment) -> int:
            return _nanoseconds(moment) if isinstance(moment, datetime.datetime) else zero + _ns(moment)

        events = tuple(
            TrueEvent(
                event.code, at(event.onset), at(event.onset if event.end is None else event.end), event.subject,
                _ns(event.early), _ns(event.late), event.required, event.name,
            )
            for event in self.events
        )  # fmt: skip
        spans = ((start, end),) if self.monitored is None else tuple((at(a), at(b)) for a, b in self.monitored)
        reversed_ones = [f"events[{i}]" for i, event in enumerate(events) if event.end < event.onset]
        reversed_ones += [f"monitored[{i}]" for i, (begin, ended) in enumerate(spans) if ended < begin]
        if reversed_ones:
            raise RecordingError(f"{reversed_ones[0]} ends before its beginning", where="truth")
        return ResolvedTruth(events, spans, self.codes, self.refractory_seconds)


class ResolvedTruth:
    """The truth about one run in event time. A reader of a simulated case gives one by its ``truth`` method."""

    def __init__(
        self, events: Iterable[TrueEvent], monitored: Sequence[Span], codes: Sequence[str] = ("*",),
        refractory_seconds: float = REFRACTORY_SECONDS,
    ) -> None:  # fmt: skip
        self.events, self.monitored, self.codes = tuple(events), tuple(monitored), tuple(codes)
        self.refractory_seconds = refractory_seconds

    def score(self, episodes: Iterable[Episode]) -> Score:
        """Judge a run's alerts; those of codes that it does not speak of are left out."""
        judged = [e for e in episodes if any(fnmatch.fnmatchcase(e.code, code) for code in self.codes)]
        return score(self.events, judged, self.monitored, refractory_seconds=self.refractory_seconds)


# -------------------------------------------------------------------------------------------- reading


def load(path: Path | str) -> Truth:
    """Read a truth file.

    Raises:
        RecordingError: for anything that is not one; names file, line and entry.
    """
    path = Path(path)
    return loads(read(path, RecordingError), str(path))


def loads(content: bytes | str, where: str = "<truth>") -> Truth:
    """``load`` from text; ``where`` is what errors call it."""
    document = parse(content, where, RecordingError)
    if not isinstance(document, Table) or "truth" not in document:
        raise RecordingError("is not a truth file", where=where, mend="it begins with `truth: 1`")
    try:
        found = Truth.model_validate(document)
    except pydantic.ValidationError as error:
        raise _explain(error, document, where) from None
    _check_order(found, document, where)
    return found


def _check_order(truth: Truth, document: Table, where: str) -> None:
    """Spans must not end before they begin."""
    spans: list[tuple[tuple[Any, ...], Moment, Moment]] = [
        (("events", i, "end"), event.onset, event.end) for i, event in enumerate(truth.events) if event.end is not None
    ]
    spans += [(("monitored", i), begin, end) for i, (begin, end) in enumerate(truth.monitored or ())]
    resolved = truth.start is not None
    for location, begin, end in spans:
        kinds = {isinstance(begin, datetime.datetime), isinstance(end, datetime.datetime)}
        if len(kinds) == 2 and not resolved:
            continue  # only the recording's start will tell
        zero = 0 if truth.start is None else _nanoseconds(truth.start)
        first, last = (
            _nanoseconds(moment) if isinstance(moment, datetime.datetime) else zero + _ns(moment)
            for moment in (begin, end)
        )
        if last < first:
            raise RecordingError(
                f"{_name(location)} is before its beginning", where=f"{where}:{_line(document, location)}"
            )


def _explain(error: pydantic.ValidationError, document: Table, where: str) -> RecordingError:
    """The first fault, with its line and, for a misspelt entry, the nearest spelling."""
    faults = error.errors(include_url=False)
    first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    location = first["loc"]
    place = f"{where}:{_line(document, location)}"
    if first["type"] == "extra_forbidden":
        known = EventEntry if location[0] == "events" else Truth
        return RecordingError(
            f"there is no entry {location[-1]!r}", where=place, mend=nearest(str(location[-1]), known.model_fields)
        )
    if first["type"] == "missing":
        return RecordingError(f"{_name(location)} is missing", where=place)
    message = str(first["msg"]).replace("Input should", "should")
    return RecordingError(f"{_name(location)}: {message}, not {str(first['input'])[:80]!r}", where=place)


def _name(location: Sequence[Any]) -> str:
    # pydantic ends the location of a moment with the kind that it tried.
    parts = [part for part in location if not (isinstance(part, str) and ("float" in part or part == "datetime"))]
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")


def _line(document: Any, location: Sequence[Any]) -> int:
    line, here = getattr(document, "line", 1), document
    for key in location:
        if isinstance(here, Table) and str(key) in here:
            line, here = here.lines[str(key)], here[str(key)]
        elif isinstance(here, list) and isinstance(key, int) and key < len(here):
            here = here[key]
            line = getattr(here, "line", 0) or line
    return int(line)


def _ns(seconds: float) -> int:
    return round(seconds * NANOSECONDS)


def _nanoseconds(moment: datetime.datetime) -> int:
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return ((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds) * 1000
