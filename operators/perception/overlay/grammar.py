"""What on-screen text may mean: labels, numbers with units, and messages of devices. What does not fit is refused.

The text is data, never an instruction: only what is named in this file leaves the overlay, in this file's own words.
Spellings were taken from the Karl Storz overlay of ``shared/data/laparoscopy_intermountain`` ("Actual gas flow 0.9
l/min", "Patient pressure 17 mmHg", "Pressure (mm Hg)", "Insufflator: Gas Off"); "Lost Device" is the issue's.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Kind = Literal["patient_pressure", "set_pressure", "gas_flow"]
MessageKind = Literal["gas_off", "gas_on", "lost_device"]


class Quantity(NamedTuple):
    """One number that an insufflator shows."""

    channel: str
    """Last part of the channel's name."""
    unit: str
    """UCUM. None of the quantities has a code in ISO/IEEE 11073-10101 that was checked, so none is given."""
    low: float
    high: float
    """What such a device can show; anything else is a misreading. Insufflators give 50 l/min at most."""
    decimals: int
    """Digits that may follow the point."""


QUANTITIES: dict[Kind, Quantity] = {
    "patient_pressure": Quantity("PATIENT_PRESSURE", "mm[Hg]", 0, 50, 0),
    "set_pressure": Quantity("SET_PRESSURE", "mm[Hg]", 1, 30, 0),
    "gas_flow": Quantity("GAS_FLOW", "L/min", 0, 50, 1),
}

MESSAGES: dict[MessageKind, str] = {
    "gas_off": "Gas Off", "gas_on": "Gas On", "lost_device": "Lost Device",
}  # fmt: skip
"""Messages by kind, as they are said onwards."""

_LABELS: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("set_pressure", ("setpressure", "targetpressure", "nominalpressure", "pressuremmhg")),
    ("patient_pressure", ("patientpressure", "actualpressure", "abdominalpressure")),
    ("gas_flow", ("actualgasflow", "gasflow", "actualflow", "co2flow")),
)
_SPOKEN: tuple[tuple[MessageKind, tuple[str, ...]], ...] = (
    ("lost_device", ("lostdevice", "devicelost")),
    ("gas_off", ("gasoff",)),
    ("gas_on", ("gason",)),
)
LONGEST = 48
"""Characters beyond which a line of text is prose and no message of a device."""

_MMHG = re.compile(r"mm[\s.]?[HhWN]{1,2}[gq9]")
_PER_MINUTE = re.compile(r"(?:[lI1|L!i]\s?|\s)[/|]\s?m[il1]n")
"""The letter before the slash belongs to the unit, whatever it was taken for: ``21/min`` is 2 l/min before it is 21.
Where a space stands before the slash the letter was lost."""
_NUMBER = re.compile(r"(?<![\d.,])(\d{1,2})(?:[.,](\d))?$")
_WORDS = re.compile(r"[^a-z0-9]+")


def squeeze(text: str) -> str:
    """Small letters and digits only: what labels and messages are compared by."""
    return _WORDS.sub("", text.lower())


def label_of(text: str) -> Kind | None:
    """The quantity that a line of text names, with or without its value; None for any other text."""
    words = squeeze(re.split(r"\s\d|:\s*\d", text)[0])
    for kind, spellings in _LABELS:
        for spelling in spellings:
            if words == spelling or (len(words) >= len(spelling) and near(words[: len(spelling)], spelling)):
                return kind
    return None


def message_of(text: str) -> MessageKind | None:
    """The message that a line of text is; None for any other text."""
    if len(text) > LONGEST:
        return None
    words = squeeze(text).replace("0", "o")
    for kind, spellings in _SPOKEN:
        for spelling in spellings:
            at = words.find(spelling)
            # "Gas on" is short enough to hide in other words: it must end the line.
            if at >= 0 and (kind != "gas_on" or words.endswith(spelling)):
                return kind
    # "Lost Device" is long enough that one wrong letter leaves no doubt.
    for spelling in ("lostdevice", "devicelost"):
        size = len(spelling)
        if any(near(words[at : at + size], spelling) for at in range(len(words) - size + 1)):
            return "lost_device"
    return None


def near(one: str, other: str) -> bool:
    """Same length and at most one letter different, in words of at least eight."""
    return len(one) == len(other) >= 8 and sum(a != b for a, b in zip(one, other, strict=True)) <= 1


class Parsed(NamedTuple):
    """A number as it stands in a line: ``text`` spans ``line[start:end]`` and has its point as ``.``."""

    text: str
    start: int
    end: int
    doubt: Literal["", "unit", "gap"] = ""
    """``unit``: what stands between number and slash is not clear, the number may have lost a digit to it or taken
    one. ``gap``: there is a gap and no point where a point may be. The ink has to tell."""


def number_before_unit(line: str, kind: Kind) -> Parsed | None:
    """The number between label and unit of a line such as ``pressure 17 mmHg``; None where the unit is not there."""
    unit = (_PER_MINUTE if kind == "gas_flow" else _MMHG).search(line)
    if unit is None:
        return None
    before = line[: unit.start()].rstrip()
    # Without a space before the unit "21/min" may be 2 l/min, or 21 l/min with both strokes taken for one.
    close = kind == "gas_flow" and (unit.group()[0].isspace() or line[: unit.start()] == before)
    doubt: Literal["", "unit", "gap"] = "unit" if close else ""
    if kind == "gas_flow" and before.endswith((".", ",")):  # "0 l/min" taken for "0.l/min"
        before, doubt = before[:-1].rstrip(), "unit"
    found = _NUMBER.search(before)
    if found is None:
        return None
    text = found.group().replace(",", ".")
    start = found.start()
    left = re.search(r"(?<![\d.,])(\d{1,2})\s+$", before[:start])
    if left is not None:  # "4 8 l/min" has lost its point
        if QUANTITIES[kind].decimals == 0 or len(text) > 1 or doubt:
            return None
        text, start, doubt = f"{left.group(1)}.{text}", left.start(), "gap"
    elif re.search(r"[\d.,]\s*$", before[:start]):
        return None
    # All labels end in "pressure" or "flow": any other letter there may be a digit that was taken for one.
    head = before[:start].rstrip(" :")
    return Parsed(text, start, found.end(), doubt) if not head or head[-1] in "eEwW" else None


def number_alone(line: str) -> str | None:
    """A line that is one number and nothing else, as ``17`` or ``0.9``."""
    text = line.strip().replace(",", ".").replace("O", "0").replace("o", "0")
    return text if re.fullmatch(r"\d{1,2}(\.\d)?", text) else None


def value_of(text: str, kind: Kind) -> float | None:
    """The number as a value of that quantity; None where no such device would write or show it so."""
    quantity = QUANTITIES[kind]
    whole, _, rest = text.partition(".")
    if len(rest) > quantity.decimals or (len(whole) > 1 and whole[0] == "0"):
        return None
    value = float(text)
    return value if quantity.low <= value <= quantity.high else None
