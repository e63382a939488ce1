"""Reads one number twice, independently, and gives it only where both readings and the spacing of its ink agree.

1. The line from the end of its label to its unit, as it is: the unit must be there.
2. The number alone, its strokes dark on white, at another scale: where the first reading says that it stands.
3. No model: the digits' distances must fit a number with, or without, a point (``strokes.spacing``).

Where the first two disagree, the line is read once more, tighter; then two of three must agree and the spacing must
be seen to fit. All limits were set on operations 00001, 00003, 00010 and 00027 of
``shared/data/laparoscopy_intermountain`` and on drawn overlays; the other four operations were not used for that.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import NamedTuple

import cv2
import numpy as np

from operators.perception.overlay import grammar
from operators.perception.overlay.layout import Field, Spot, cut
from operators.perception.overlay.models import Reader, Text
from operators.perception.overlay.strokes import FAINT, alike, glyphs, ink, spacing, strokes, upright
from pipeline.message import Array

UNSURE, SURE = 0.35, 0.7
"""Probability that the least certain digit must reach in each reading, and where the spacing cannot be told."""
SAME_LABEL = 0.5
"""Correlation of the label's strokes with those that were found, below which it is not that label."""
LIKE_A_SPACE = 0.6
"""A gap between two digits that is at least so much of the space before the unit holds a point that cannot be seen:
digits without one stand four times as close as that space is wide, whatever the font."""
SAME_INK = 3
"""Pixels of ink that may differ in a crop that counts as unchanged; a digit that turns into another changes more."""


class Reading(NamedTuple):
    """A value as it was read."""

    value: float
    text: str
    confidence: float
    """Probability of the least certain digit in the better of the two readings that agree."""
    reused: bool = False
    """True where the crop had not changed since it was last read."""


@dataclasses.dataclass
class Memory:
    """What a field looked like when it was last read. Not kept over a restart: it is read anew."""

    mask: Array | None = None
    reading: Reading | None = None
    times: int = 0
    """How often this value was read one after another."""


def read(bright: Array, field: Field, reader: Reader, memory: Memory) -> Reading | None:
    """The field's value in a picture, (h, w) uint8; None where it cannot be read for certain."""
    line = cut(bright, field.line)
    raised = strokes(line, field.height)
    there = min(line.shape) >= 6 and float(raised.max(initial=0)) >= FAINT
    if not there or not (_labelled(bright, field, level=False) or _labelled(bright, field, level=True)):
        memory.mask, memory.reading, memory.times = None, None, 0
        return None
    mask = ink(raised)
    if _unchanged(mask, memory) and memory.reading is not None and memory.times >= 2:
        return memory.reading._replace(reused=True)
    inked = np.flatnonzero(mask.any(axis=0))
    end = int(inked[-1]) + field.height // 2 if len(inked) else 0  # the room that is empty need not be read
    line, first = line[:, :end], reader.read(line[:, :end])
    reading = _twice(line, raised[:, :end], first, field, reader)
    if reading is None and first.text:
        reading = _twice(line, strokes(line, field.height, level=True), first, field, reader)
    same = reading is not None and memory.reading is not None and memory.reading.value == reading.value
    memory.mask, memory.times, memory.reading = mask, memory.times + 1 if same else 1, reading
    return reading


def read_spot(luma: Array, spot: Spot, reader: Reader) -> tuple[grammar.MessageKind, float] | None:
    """The message that stands in a spot, and its score; None for none."""
    crop = cut(luma, spot.box)
    if spot.standing:
        crop = _centred(crop)
    if min(crop.shape) < 6 or float(strokes(crop).max()) < FAINT:
        return None
    text = reader.read(crop)
    kind = grammar.message_of(spot.before + text.text)
    return None if kind is None else (kind, text.mean)


# ---------------------------------------------------------------------------------------- private


def _labelled(bright: Array, field: Field, *, level: bool) -> bool:
    if field.template is None:
        return True
    return alike(strokes(cut(bright, field.label), level=level), field.template) >= SAME_LABEL


def _unchanged(mask: Array, memory: Memory) -> bool:
    before = memory.mask
    return before is not None and before.shape == mask.shape and int(np.count_nonzero(before != mask)) <= SAME_INK


def _twice(line: Array, raised: Array, first: Text, field: Field, reader: Reader) -> Reading | None:
    found = _parse(first, field)
    if found is None or grammar.value_of(found.text, field.kind) is None:
        return None
    start, end = _extent(found, first, raised, field)
    number, sure = found.text, min(first.scores[found.start : found.end])
    fits = spacing(number, ink(raised[:, start:end]), field.height) if start < end else False
    if fits is False or (found.doubt and not (fits and _settled(found, first, raised, start, field))):
        return None
    second = reader.read(_alone(line, raised, start, end))
    agree, digits = grammar.number_alone(second.text) == number, number.replace(".", "")
    if not agree and fits and "." in number and second.text.replace(" ", "") in (number, digits):
        # The second reading lost the point; the ink must then say that without it the digits stand too far apart.
        agree = found.doubt == "gap" or spacing(digits, ink(raised[:, start:end]), field.height) is False
    if agree and min(sure, second.score) >= UNSURE:
        best = max(sure, second.score)
        # A point that was lost leaves two digits: only their distance can then tell.
        lost = grammar.QUANTITIES[field.kind].decimals > 0 and len(number) == 2
        return _reading(number, field, best) if fits or (best >= SURE and not lost) else None
    # The two do not agree: once more, tighter. Then the spacing must be seen to fit.
    return _tighter(line, number, sure, field, reader) if fits and not found.doubt else None


def _tighter(line: Array, number: str, sure: float, field: Field, reader: Reader) -> Reading | None:
    margin = round(0.1 * line.shape[0])
    third = reader.read(line[margin : line.shape[0] - margin])
    again = _parse(third, field)
    if again is None or again.text != number or again.doubt:
        return None
    best = max(sure, min(third.scores[again.start : again.end]))
    return _reading(number, field, best) if best >= SURE else None


def _reading(number: str, field: Field, confidence: float) -> Reading | None:
    value = grammar.value_of(number, field.kind)
    return None if value is None else Reading(value, number, round(confidence, 4))


def _parse(text: Text, field: Field) -> grammar.Parsed | None:
    if field.unit_in_line:
        return grammar.number_before_unit(text.text, field.kind)
    number = grammar.number_alone(text.text)
    if number is None:
        return None
    start = len(text.text) - len(text.text.lstrip())
    return grammar.Parsed(number, start, start + len(number))


def _settled(found: grammar.Parsed, text: Text, raised: Array, start: int, field: Field) -> bool:
    """Does the ink clear the doubt: one letter between number and slash, or a gap as wide as a space for the point?"""
    slash = next((at for at, letter in enumerate(text.text) if at >= found.end and letter in "/|"), None)
    if slash is None:
        return False
    digits = len(found.text.replace(".", ""))
    tall = upright(ink(raised[:, start : round(text.places[slash] * raised.shape[1])]), field.height)
    if tall is None or not digits + 1 <= len(tall) <= digits + 2:  # the slash itself may be cut
        return False
    gaps = [right.start - left.end for left, right in itertools.pairwise(tall)]
    space, within = gaps[digits - 1], gaps[: digits - 1]
    if found.doubt == "unit":
        # A narrow letter after a space, and no digit between it and the slash: what follows it stands close.
        letter = tall[digits]
        narrow = letter.end - letter.start <= 0.4 * letter.tall
        return narrow and (len(tall) == digits + 1 or gaps[digits] < space)
    return bool(within) and within[found.text.index(".") - 1] >= LIKE_A_SPACE * space


def _extent(found: grammar.Parsed, text: Text, raised: Array, field: Field) -> tuple[int, int]:
    """Columns in which the number stands: cut in the widest gap of ink before it and in the one after it."""
    width = raised.shape[1]
    first, last = text.places[found.start] * width, text.places[found.end - 1] * width
    letters = [at for at, letter in enumerate(text.text) if letter.strip()]
    before = [text.places[at] * width for at in letters if at < found.start]
    after = [text.places[at] * width for at in letters if at >= found.end]
    reach = 0.6 * field.height
    left = max(before[-1] if before else 0.0, first - 1.5 * reach)
    right = min(after[0] if after else width, last + 1.5 * reach)
    columns = ink(raised).sum(axis=0)
    return _gap(columns, left, first), _gap(columns, last, right)


def _gap(columns: Array, low: float, high: float) -> int:
    """Middle of the widest run of the emptiest columns between two places."""
    begin, end = max(int(low), 0), min(int(np.ceil(high)) + 1, len(columns))
    if end - begin < 2:
        return begin
    window = columns[begin:end]
    empty = np.concatenate([[0], (window == window.min()).astype(np.int8), [0]])
    runs = np.flatnonzero(np.diff(empty)).reshape(-1, 2)
    widest = runs[int(np.argmax(runs[:, 1] - runs[:, 0]))]
    return begin + int(widest[0] + widest[1]) // 2


def _alone(line: Array, raised: Array, start: int, end: int) -> Array:
    """The number alone, dark strokes on white, twice as large, with a white margin of a third of its height."""
    part = raised[:, start:end]
    peak = float(np.percentile(part, 99)) or 1.0
    dark = (255 - np.clip(part * (255 / peak), 0, 255)).astype(np.uint8)
    dark = cv2.resize(dark, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    margin = line.shape[0] // 3
    return cv2.copyMakeBorder(dark, 0, 0, margin, margin, cv2.BORDER_CONSTANT, value=255)


def _centred(crop: Array) -> Array:
    """The part of a line of messages that holds one centred text; nothing where the ink is not like text."""
    mask = ink(strokes(crop)) & (crop > 150)
    found = glyphs(mask, crop.shape[0])
    high = 0.3 * crop.shape[0]
    tall = [glyph for glyph in found if high <= glyph.tall and glyph.end - glyph.start <= 3 * high]
    if len(tall) < 4:
        return crop[:0]
    begin, end = tall[0].start, tall[-1].end
    margin = round(high)
    return crop[:, max(begin - margin, 0) : end + margin]
