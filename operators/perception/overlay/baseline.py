"""The trivial baseline: read the whole picture, take the number nearest to each label. No second look, no check."""

from __future__ import annotations

import re

from operators.perception.overlay.grammar import Kind, label_of
from operators.perception.overlay.layout import Box
from operators.perception.overlay.models import Found

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def nearest(found: list[Found]) -> dict[Kind, tuple[float, Box]]:
    """For each label the first number in its own line of text, else that of the line whose centre is nearest."""
    values: dict[Kind, tuple[float, Box]] = {}
    for one in found:
        kind = label_of(one.text.text)
        if kind is None or kind in values:
            continue
        own = _NUMBER.search(one.text.text)
        if own is not None:
            values[kind] = (float(own.group()), one.box)
            continue
        others = [(abs(_x(other) - _x(one)) + abs(_y(other) - _y(one)), other) for other in found if other is not one]
        for _, other in sorted(others, key=lambda pair: pair[0]):
            number = _NUMBER.search(other.text.text)
            if number is not None:
                values[kind] = (float(number.group()), other.box)
                break
    return values


def _x(found: Found) -> float:
    return found.box[0] + found.box[2] / 2


def _y(found: Found) -> float:
    return found.box[1] + found.box[3] / 2
