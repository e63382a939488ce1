"""The case script: one YAML file that says everything that happens in a simulated operation.

    theatre: 1                       # what tells a case from any other YAML
    name: eventful
    seed: 7
    start: 2026-01-05T08:00:00Z      # event time of second 0
    duration: 75
    video: {rate: 15, size: [320, 240]}
    patient: {heart_rate: 72, mean_pressure: 82}
    phases:
      - {at: 0, name: dissection, view: gallbladder}
    script:
      - {at: 5, do: hypotension, lasts: 70, to: 52}
      - {at: 20, do: bleeding, lasts: 12, amount: 0.6}

All times are seconds from ``start``. What ``do`` may say, and with which options, are the classes of ``steps``.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from operators.theatre.steps import LONGEST, STEPS, AnyStep, Part, Seconds, Step, describe
from operators.theatre.truth import Expectation, Planted
from pipeline.document import Table, parse, read
from pipeline.errors import RecordingError, nearest
from pipeline.message import NANOSECONDS

SHIPPED = Path(__file__).parent / "cases"
"""Where the cases that come with Vigil are."""
MAXIMUM_STEPS = 2_000

Width = Annotated[int, Field(ge=32, le=1920, multiple_of=2)]
Height = Annotated[int, Field(ge=32, le=1080, multiple_of=2)]
View = Literal["wide", "gallbladder", "liver", "bowel", "close"]


class Burst(Part):
    """A stretch of a sparsely filmed case that is filmed at another rate."""

    at: Seconds
    """When it begins, s."""
    lasts: Annotated[float, Field(gt=0, le=LONGEST, allow_inf_nan=False)]
    """How long, s."""
    rate: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)]
    """Frames/s meanwhile."""


class Filming(Part):
    """How the case is filmed."""

    rate: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 15.0
    """Frames/s."""
    size: tuple[Width, Height] = (320, 240)
    """Width and height, pixels; both even."""
    bursts: tuple[Burst, ...] = Field(default=(), max_length=200)
    """Stretches at another rate."""


class Patient(Part):
    """The patient under anaesthesia before anything happens."""

    heart_rate: Annotated[float, Field(ge=30, le=200)] = 70.0
    """/min."""
    mean_pressure: Annotated[float, Field(ge=40, le=150)] = 84.0
    """Mean arterial pressure, mmHg."""
    pulse_pressure: Annotated[float, Field(ge=10, le=120)] = 48.0
    """Systolic minus diastolic arterial pressure, mmHg."""
    saturation: Annotated[float, Field(ge=60, le=100)] = 98.5
    """Peripheral oxygen saturation, %."""
    breathing_rate: Annotated[float, Field(ge=6, le=30)] = 12.0
    """Set rate of the ventilator, /min."""
    end_tidal_co2: Annotated[float, Field(ge=10, le=80)] = 36.0
    """mmHg."""
    temperature: Annotated[float, Field(ge=30, le=41)] = 36.4
    """Celsius."""
    ectopic: Annotated[float, Field(ge=0, le=0.2)] = 0.004
    """Chance that a beat is a premature ventricular one."""


class Phase(Part):
    """A phase of the procedure; lasts until the next one."""

    at: Seconds
    name: str = Field(min_length=1, max_length=80)
    view: View = "wide"
    """Where the camera looks during it."""


class Case(Part):
    """A whole script. ``load`` reads one."""

    theatre: Literal[1]
    """Version of this format; also what tells a case from any other YAML."""
    name: str = Field(default="case", min_length=1, max_length=80)
    description: str = Field(default="", max_length=2000)
    procedure: str = Field(default="laparoscopic cholecystectomy", max_length=200)
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Everything random follows from it."""
    start: pydantic.AwareDatetime = datetime.datetime(2026, 1, 5, 8, tzinfo=datetime.UTC)
    """Event time of second 0, with its zone."""
    duration: Annotated[float, Field(gt=0, le=LONGEST, allow_inf_nan=False)]
    """s."""
    video: Filming = Filming()
    patient: Patient = Patient()
    phases: tuple[Phase, ...] = Field(default=(), max_length=200)
    script: tuple[AnyStep, ...] = Field(default=(), max_length=MAXIMUM_STEPS)

    @property
    def origin_ns(self) -> int:
        """Event time of second 0, ns since the Unix epoch."""
        since = self.start - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        return ((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds) * 1000

    @property
    def end_ns(self) -> int:
        """Event time at which it is over, ns."""
        return self.ns(self.duration)

    def ns(self, seconds: float) -> int:
        """Event time of a second of the case, ns."""
        return self.origin_ns + round(seconds * NANOSECONDS)

    def steps(self, *kinds: type[Step]) -> list[Any]:
        """The steps of these kinds, in the order of their times."""
        return sorted((step for step in self.script if isinstance(step, kinds)), key=lambda step: step.at)

    def truth(self) -> list[Planted]:
        """What was planted and which alerts it ought to raise, in time order. Steps that raise none are in it too."""
        return [
            Planted(
                kind=step.do,
                onset=self.ns(step.at),
                end=min(self.ns(step.end), self.end_ns),
                expect=step.expected(),
                allow=step.allowed(),
                text=describe(step),
            )
            for step in self.steps(Step)
            if step.planted
        ]


# ------------------------------------------------------------------------------------------------- reading


def load(case: Path | str) -> Case:
    """Read a case script, by path or by the name of a shipped one.

    Raises:
        RecordingError: for anything that is not a case; names file, line and the nearest spelling.
    """
    path = Path(case)
    if path.suffix == "" and not path.exists():
        shipped = sorted(file.stem for file in SHIPPED.glob("*.yaml"))
        if str(case) not in shipped:
            raise RecordingError(f"there is no case {str(case)!r}", mend=nearest(str(case), shipped))
        path = SHIPPED / f"{case}.yaml"
    return loads(read(path, RecordingError), str(path))


def loads(content: bytes | str, where: str = "<case>") -> Case:
    """``load`` from text; ``where`` is what errors call it."""
    document = parse(content, where, RecordingError)
    if not isinstance(document, Table) or "theatre" not in document:
        if isinstance(document, Table) and "operators" in document:
            mend = "this is a topology: `vigil launch` runs it"
            raise RecordingError("is not a theatre case", where=where, mend=mend)
        raise RecordingError("is not a theatre case", where=where, mend="a case begins with `theatre: 1`")
    try:
        case = Case.model_validate(document)
    except pydantic.ValidationError as error:
        raise _explain(error, document, where) from None
    for section, items in (("script", case.script), ("phases", case.phases)):
        for index, item in enumerate(items):
            if item.at >= case.duration:
                line = _line(document, (section, index, "at"))
                raise RecordingError(
                    f"happens at {item.at:g} s, after the case has ended at {case.duration:g} s",
                    where=f"{where}:{line}",
                )
    return case


def _line(document: Any, location: tuple[Any, ...]) -> int:
    line, here = getattr(document, "line", 1), document
    for key in location:
        if isinstance(here, Table) and str(key) in here:
            line, here = here.lines[str(key)], here[str(key)]
        elif isinstance(here, list) and isinstance(key, int) and key < len(here):
            here = here[key]
            line = getattr(here, "line", 0) or line
    return line


def _explain(error: pydantic.ValidationError, document: Table, where: str) -> RecordingError:
    """The first fault, with its line and the nearest spelling of what could stand there."""
    faults = error.errors(include_url=False)
    # A misspelt entry is also a missing one: the spelling says more.
    first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    location, kind = first["loc"], first["type"]
    place = f"{where}:{_line(document, location)}"
    # pydantic puts the discriminator's value into the location; people think in `script[3].to`.
    name = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in location if part not in STEPS
    ).lstrip(".")
    if kind == "extra_forbidden":
        word = str(location[-1])
        return RecordingError(f"there is no entry {word!r}", where=place, mend=nearest(word, _known(location[:-1])))
    if kind == "union_tag_invalid":
        word = str(first.get("ctx", {}).get("tag", ""))
        return RecordingError(f"nothing is called {word!r}", where=place, mend=nearest(word, STEPS))
    if kind == "missing":
        return RecordingError(f"{name} is missing", where=place)
    if kind == "union_tag_not_found":
        return RecordingError("a step needs `do:`", where=place, mend="known: " + ", ".join(sorted(STEPS)))
    if kind == "literal_error":
        known = [word.strip(" '") for word in str(first["ctx"]["expected"]).replace(" or ", ",").split(",")]
        mend = nearest(str(first["input"])[:80], known)
        return RecordingError(f"{name} cannot be {str(first['input'])[:80]!r}", where=place, mend=mend)
    message = str(first["msg"]).replace("Input should", "should")
    return RecordingError(f"{name}: {message}, not {str(first['input'])[:80]!r}", where=place)


def _known(location: tuple[Any, ...]) -> list[str]:
    model: Any = Case
    sections = {
        "video": Filming,
        "patient": Patient,
        "phases": Phase,
        "bursts": Burst,
        "expect": Expectation,
        "allow": Expectation,
    }
    for part in location:
        model = STEPS.get(part) or sections.get(part) or model if isinstance(part, str) else model
    return list(model.model_fields)
