"""What the script of a case may say: a class for each word that ``do`` knows, with its options.

All times are seconds from the start of the case.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field

from operators.theatre.truth import Expectation

LONGEST = 24 * 3600.0
"""The longest case, s."""

Seconds = Annotated[float, Field(ge=0, le=LONGEST, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Sensor = Literal["arterial", "oximeter", "ecg", "capnograph", "temperature"]


class Part(pydantic.BaseModel):
    """Base of everything in a script: unknown names are errors, values are frozen."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Step(Part):
    """Something that happens at ``at`` and, unless it is a moment, goes on for ``lasts`` seconds."""

    planted: ClassVar[bool] = True
    """Whether it is announced on the truth port."""
    usual: ClassVar[tuple[Expectation, ...]] = ()
    """The alerts that it ought to raise, unless the script says otherwise."""
    natural: ClassVar[tuple[str, ...]] = ()
    """Codes of alerts that are true while it lasts but need not come: from rules that not every topology has."""

    at: Seconds
    """When it begins, s."""
    lasts: Annotated[float, Field(gt=0, le=LONGEST, allow_inf_nan=False)] = LONGEST
    """How long it goes on, s; to the end of the case unless given."""
    expect: tuple[Expectation, ...] | None = Field(default=None, max_length=20)
    """The alerts that this must raise. Unless given, what its kind usually raises."""
    allow: tuple[Expectation, ...] = Field(default=(), max_length=20)
    """Alerts that are true while this lasts but need not come."""

    @property
    def end(self) -> float:
        """When it is over, s."""
        return self.at + self.lasts

    def expected(self) -> tuple[Expectation, ...]:
        """The alerts that must come."""
        return self.usual if self.expect is None else self.expect

    def allowed(self) -> tuple[Expectation, ...]:
        """The alerts that may come besides."""
        return (*self.allow, *(Expectation(code=code) for code in self.natural))


# ------------------------------------------------------------------------------------------ in the picture


class Instrument(Step):
    """An instrument comes in through a trocar, works, and goes out again."""

    do: Literal["instrument"]
    tool: Literal["grasper", "hook", "scissors", "suction", "clipper"] = "grasper"
    side: Literal["left", "right", "below"] = "right"
    """Which trocar it comes through."""


class Bleeding(Step):
    """A vessel bleeds: a pool spreads for ``lasts`` seconds and stays until it is washed away."""

    natural = ("bleeding", "bleeding_*")
    do: Literal["bleeding"]
    amount: Fraction = 0.5
    """How far the pool spreads: 1 covers most of the floor."""
    site: tuple[Annotated[float, Field(ge=-60, le=60)], Annotated[float, Field(ge=-60, le=80)]] = (4.0, -6.0)
    """Where it comes from, mm to the right of and beyond the middle of the field."""
    washed: Seconds = 20.0
    """Seconds after it has stopped until suction has cleared it."""


class Smoke(Step):
    """Diathermy smoke fills the abdomen."""

    natural = ("view_smoke",)
    do: Literal["smoke"]
    density: Fraction = 0.6


class Fouling(Step):
    """The lens is fouled until it is wiped."""

    natural = ("view_smoke", "view_obstructed")
    do: Literal["fouling"]
    how: Literal["fog", "droplets", "blood"] = "droplets"
    amount: Fraction = 0.7


class OutOfBody(Step):
    """The camera is pulled out of its trocar and sees the room."""

    natural = ("privacy_blanked", "view_obstructed", "instrument_goes_in_unseen")
    do: Literal["out_of_body"]


class VideoFault(Step):
    """The picture fails: ``lost`` stops the frames altogether, the others send worthless ones."""

    do: Literal["video_fault"]
    how: Literal["black", "blue", "frozen", "noise", "lost"]

    def expected(self) -> tuple[Expectation, ...]:
        return (Expectation(code=VIDEO_CODES[self.how]),) if self.expect is None else self.expect


class SpongeCount(Step):
    """The scrub nurse counts sponges; told on the events port."""

    planted: ClassVar[bool] = False
    do: Literal["sponge_count"]
    given: Annotated[int, Field(ge=0, le=500)]
    """Sponges handed in so far."""
    counted: Annotated[int, Field(ge=0, le=500)]
    """Sponges accounted for outside."""


# ---------------------------------------------------------------------------------------------- the patient


class Change(Step):
    """Base of the changes of one vital sign: to ``to`` within ``ramp`` seconds, and back as quickly."""

    ramp: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 4.0
    """Seconds from baseline to ``to``."""


class Hypotension(Change):
    """Mean arterial pressure falls to ``to`` mmHg; the heart answers by beating faster."""

    usual = (Expectation(code="hypotension"),)
    natural = ("shock_index_high", "pressure_falls_fast", "output_falls")
    do: Literal["hypotension"]
    to: Annotated[float, Field(ge=20, le=150)] = 52.0


class Hypertension(Change):
    """Mean arterial pressure rises to ``to`` mmHg."""

    do: Literal["hypertension"]
    to: Annotated[float, Field(ge=60, le=200)] = 125.0


class Desaturation(Change):
    """Oxygen saturation falls to ``to`` %."""

    usual = (Expectation(code="oxygen_saturation_low"),)
    do: Literal["desaturation"]
    to: Annotated[float, Field(ge=40, le=100)] = 82.0
    ramp: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 10.0


class Tachycardia(Change):
    """Heart rate rises to ``to`` a minute; stroke volume falls with the filling time."""

    usual = (Expectation(code="heart_rate_high"),)
    natural = ("extreme_tachycardia", "shock_index_high", "bleeding_then_fast_heart")
    do: Literal["tachycardia"]
    to: Annotated[float, Field(ge=60, le=250)] = 145.0


class Bradycardia(Change):
    """Heart rate falls to ``to`` a minute."""

    usual = (Expectation(code="heart_rate_low"),)
    natural = ("extreme_bradycardia", "bradycardia_with_hypotension")
    do: Literal["bradycardia"]
    to: Annotated[float, Field(ge=15, le=100)] = 32.0


class Asystole(Step):
    """The heart stands still: flat ECG, pressure runs down, no pulse, end-tidal CO2 falls."""

    usual = (Expectation(code="heart_rate_low"),)
    natural = ("asystole", "extreme_bradycardia", "output_falls", "hypotension")
    do: Literal["asystole"]


class Artefact(Step):
    """A measurement is wrong though the patient is not."""

    natural = ("arterial_line_unreliable", "signal_unusable")
    do: Literal["artefact"]
    how: Literal["flush", "zeroing", "motion", "diathermy"]
    """Arterial line flushed; opened to air and zeroed; finger moved; ECG jammed by diathermy."""


class SensorOff(Step):
    """A sensor comes off: its waveforms and numerics fall silent."""

    usual = (Expectation(code="stream_silent"),)
    natural = ("capnogram_lost_alone", "signal_unusable")
    do: Literal["sensor_off"]
    sensor: Sensor


AnyStep = Annotated[
    Instrument | Bleeding | Smoke | Fouling | OutOfBody | VideoFault | SpongeCount | Hypotension | Hypertension
    | Desaturation | Tachycardia | Bradycardia | Asystole | Artefact | SensorOff,
    Field(discriminator="do"),
]  # fmt: skip
STEPS: dict[str, type[Step]] = {
    step.model_fields["do"].annotation.__args__[0]: step  # type: ignore[union-attr]
    for step in (
        Instrument, Bleeding, Smoke, Fouling, OutOfBody, VideoFault, SpongeCount, Hypotension, Hypertension,
        Desaturation, Tachycardia, Bradycardia, Asystole, Artefact, SensorOff,
    )
}  # fmt: skip
"""Every word that ``do`` knows."""
VIDEO_CODES = {
    "black": "video_black", "blue": "video_blue", "frozen": "video_frozen", "noise": "video_noise",
    "lost": "stream_silent",
}  # fmt: skip


def describe(step: Any) -> str:
    """One line about a step: its options beside time and expectation."""
    skip = {"at", "lasts", "do", "expect", "allow"}
    options = ", ".join(f"{name} {value}" for name, value in step.model_dump().items() if name not in skip)
    return f"{step.do.replace('_', ' ')}" + (f": {options}" if options else "")
