"""Where the overlay stands: found once in the whole picture, then kept.

A field is a label with a number and a unit, in one line ("Patient pressure 17 mmHg") or in boxes side by side, or a
label that has the unit in brackets and its number to the right ("Pressure (mm Hg)  15"). A spot is where a message of
a device stands or may stand. Nothing is assumed of fonts, colours or places; only the line of messages of the Karl
Storz overlay, bottom centre beside its two numbers, is known beforehand because it is empty most of the time.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from operators.perception.overlay import grammar
from operators.perception.overlay.grammar import Kind, MessageKind
from operators.perception.overlay.models import Finder, Found
from operators.perception.overlay.strokes import ink, strokes
from pipeline.message import Array

HALF = 640
"""Longest side of the first, cheap search."""
SURE = 0.8
"""Mean score that a message's text must reach."""

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels of the picture."""


@dataclasses.dataclass
class Field:
    """One number of the overlay."""

    kind: Kind
    label: Box
    line: Box
    """What is read: the end of the label, the number, the unit and room for a longer number."""
    height: int
    """Height of the line of text as it was found, for scale."""
    unit_in_line: bool = True
    template: Array | None = None
    """(h, w) float32 strokes of the label as found: the number counts only while the label is still there."""


@dataclasses.dataclass
class Spot:
    """A place where a message stands, or may stand (``standing``: it stays a spot while it is empty)."""

    box: Box
    before: str = ""
    """Text that belongs before what is read there: ``Gas`` of the menu's line ``Gas  Off``."""
    standing: bool = False


@dataclasses.dataclass
class Layout:
    """Everything that was found in one picture of ``width`` by ``height``."""

    width: int
    height: int
    fields: list[Field]
    spots: list[Spot]

    def field(self, kind: Kind) -> Field | None:
        """The field of that quantity, if it was found."""
        return next((field for field in self.fields if field.kind == kind), None)


@dataclasses.dataclass
class Seen:
    """A message as it was found."""

    kind: MessageKind
    score: float
    box: Box


def search(luma: Array, finder: Finder, *, thorough: bool = True) -> tuple[Layout, list[Seen]]:
    """Look for an overlay in a whole picture, (h, w) uint8: at 640 pixels, and in full where that shows no number.

    Args:
        luma: the picture.
        finder: the models.
        thorough: False leaves the second look out, for sweeps in which only a message may be new.
    """
    layout, seen = assemble(luma, finder.find(luma, HALF))
    if thorough and not layout.fields and max(luma.shape) > HALF:
        layout, seen = assemble(luma, finder.find(luma))
    return layout, seen


def assemble(luma: Array, found: list[Found]) -> tuple[Layout, list[Seen]]:
    """Fields, spots and messages among the lines of text that were found in a picture."""
    height, width = luma.shape
    layout = Layout(width, height, [], [])
    seen: list[Seen] = []
    for one in found:
        kind = grammar.label_of(one.text.text)
        field = _field(kind, tight(one, luma), found, luma) if kind is not None else None
        if field is not None and layout.field(field.kind) is None:
            field.template = strokes(cut(luma, field.label))
            layout.fields.append(field)
        message = grammar.message_of(one.text.text)
        if message is not None and one.text.mean >= SURE:
            seen.append(Seen(message, one.text.mean, one.box))
            layout.spots.append(Spot(grow(one.box, 0.2, width, height)))
        elif grammar.squeeze(one.text.text) == "gas":
            beside = _beside(one.box, found)
            state = grammar.message_of(f"Gas {beside[0].text.text}") if beside else None
            if state is not None and beside[0].text.mean >= SURE:
                seen.append(Seen(state, beside[0].text.mean, beside[0].box))
                layout.spots.append(Spot(grow(beside[0].box, 0.2, width, height), "Gas "))
    layout.fields.sort(key=lambda field: field.kind)
    strip = message_line(layout)
    if strip is not None:
        layout.spots.append(strip)
    return layout, seen


def message_line(layout: Layout) -> Spot | None:
    """Bottom centre beside the two numbers at the bottom left: where the Karl Storz overlay writes its messages."""
    pressure, flow = layout.field("patient_pressure"), layout.field("gas_flow")
    if pressure is None or flow is None:
        return None
    top, bottom = flow.label[1], pressure.label[1] + pressure.label[3]
    if not (layout.height * 0.8 < top < pressure.label[1] and pressure.label[0] < layout.width * 0.15):
        return None
    middle, half = (top + bottom) // 2, round(0.9 * pressure.height)
    x = round(layout.width * 0.3)
    return Spot((x, middle - half, layout.width - 2 * x, 2 * half), standing=True)


def _field(kind: Kind, one: Found, found: list[Found], luma: Array) -> Field | None:
    text = one.text.text
    number = grammar.number_before_unit(text, kind)
    if number is not None:
        return _inline(kind, one, number.start, luma)
    bracketed = "(" in text and not any(letter.isdigit() for letter in text.partition(")")[2])
    digits = [at for at, letter in enumerate(text) if letter.isdigit() and at > 3]  # not the 2 of CO2
    if digits and not bracketed:
        return _inline(kind, one, digits[0], luma)
    return _row(kind, one, _beside(one.box, found), bracketed, luma)


def _inline(kind: Kind, one: Found, start: int, luma: Array) -> Field | None:
    """Label, number and unit in one line; the number begins at the character ``start``."""
    x, y, w, h = one.box
    places, last = one.text.places, len(one.text.text[:start].rstrip()) - 1
    if last < 3:
        return None
    # From the label's third letter from the end: enough to see that the crop begins where it should.
    begin = x + round(w * (places[last - 2] + places[last - 3]) / 2)
    label = (x, y, round(w * places[last] + 0.2 * h), h)
    return Field(kind, label, _line(begin, y, x + w, h, luma), h)


def _row(kind: Kind, one: Found, beside: list[Found], bracketed: bool, luma: Array) -> Field | None:
    """The number in a box of its own to the right, with its unit there too or in brackets in the label."""
    height, width = luma.shape
    if not beside:
        return None
    right = beside[0].box
    if bracketed:
        alone = grammar.number_alone(beside[0].text.text) is not None
        return Field(kind, one.box, grow(right, 0.35, width, height), right[3], unit_in_line=False) if alone else None
    for parts in (beside[:1], beside[:2]):
        line = " ".join(part.text.text for part in parts)
        if grammar.number_before_unit(line, kind) is not None:
            end, tall = parts[-1].box, max(right[3], parts[-1].box[3])
            return Field(kind, one.box, _line(right[0] - right[3] // 2, right[1], end[0] + end[2], tall, luma), tall)
    return None


def _beside(box: Box, found: list[Found]) -> list[Found]:
    """Lines to the right in the same row, nearest first, not farther than ten line heights from one another."""
    x, y, w, h = box
    row = [
        one for one in found
        if one.box[0] >= x + w - h // 2 and one.box != box
        and min(y + h, one.box[1] + one.box[3]) - max(y, one.box[1]) >= 0.6 * min(h, one.box[3])
    ]  # fmt: skip
    row.sort(key=lambda one: one.box[0])
    kept, end = [], x + w
    for one in row:
        if one.box[0] - end > 10 * h:
            break
        kept.append(one)
        end = one.box[0] + one.box[2]
    return kept


def tight(one: Found, luma: Array) -> Found:
    """The line with its box drawn close about its ink, so that scales do not depend on how well it was found.

    Rows from the top of the tallest letters to the foot of the lowest, a fifth of that added above and below.
    """
    x, y, w, _ = one.box
    rows = ink(strokes(cut(luma, one.box))).sum(axis=1)
    inked = np.flatnonzero(rows >= 0.1 * max(int(rows.max(initial=0)), 1))
    if len(inked) < 4:
        return one
    top, bottom = int(inked[0]), int(inked[-1]) + 1
    margin = round(0.2 * (bottom - top))
    top, bottom = max(y + top - margin, 0), min(y + bottom + margin, luma.shape[0])
    return one._replace(box=(x, top, w, bottom - top))


def _line(begin: int, y: int, end: int, h: int, luma: Array) -> Box:
    """The line to read, a little taller than found, with room for three more characters at its end."""
    height, width = luma.shape
    margin = round(0.25 * h)
    top, bottom = max(y - margin, 0), min(y + h + margin, height)
    begin, end = max(begin, 0), min(end + round(1.3 * h), width)
    return (begin, top, max(end - begin, 0), max(bottom - top, 0))


def grow(box: Box, share: float, width: int, height: int) -> Box:
    """The box with a margin of ``share`` of its height all round, inside the picture."""
    x, y, w, h = box
    by = round(share * h)
    left, top = max(x - by, 0), max(y - by, 0)
    return (left, top, min(x + w + by, width) - left, min(y + h + by, height) - top)


def cut(luma: Array, box: Box) -> Array:
    """The part of a picture inside the box, a view."""
    x, y, w, h = box
    return luma[y : y + h, x : x + w]


def to_state(layout: Layout | None) -> dict[str, Any] | None:
    """The layout as plain JSON values. Templates go as 4-bit steps of a list, since they are small."""
    if layout is None:
        return None
    plain = dataclasses.asdict(layout)
    for field in plain["fields"]:
        template = field["template"]
        field["template"] = None if template is None else np.round(template, 3).tolist()
    return plain


def from_state(plain: dict[str, Any] | None) -> Layout | None:
    """Take back what ``to_state`` gave."""
    if plain is None:
        return None
    fields = []
    for field in plain["fields"]:
        template = field["template"]
        fields.append(Field(
            field["kind"], tuple(field["label"]), tuple(field["line"]), field["height"], field["unit_in_line"],
            None if template is None else np.array(template, np.float32),
        ))  # fmt: skip
    spots = [Spot(tuple(spot["box"]), spot["before"], spot["standing"]) for spot in plain["spots"]]
    return Layout(plain["width"], plain["height"], fields, spots)
