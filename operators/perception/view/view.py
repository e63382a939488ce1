"""The answer about one frame, and the part that needs no model: no picture, and what looks like none."""

from __future__ import annotations

import msgspec

from operators.perception.view.features import NAMES, FloatArray

LEARNT = ("in_body", "out_of_body", "trocar", "obstructed")
"""The views that a model tells apart."""
CLASSES = (*LEARNT, "black", "no_signal")
"""The views that one frame can show, noise aside."""
BLACK, BLUE, NOISE = 0.98, 0.85, 0.6
"""Shares of dark and of blue pixels and the roughness from which there is no picture: ``operators.video.signal``'s."""
INDEX = {name: index for index, name in enumerate(NAMES)}
"""Place of a measure in ``features``."""


class View(msgspec.Struct, frozen=True):
    """What one frame shows."""

    view: str
    """One of ``CLASSES``, or ``noise``."""
    scores: dict[str, float]
    """0..1 for each view, 1 together."""
    smoke: float = 0.0
    """0..1: smoke or fog veils the view; from 0.5 it is said. 0 outside the body."""
    colour_fault: float = 0.0
    """0..1: the camera's colour is wrong; from 0.5 it is said."""


def no_picture(measured: FloatArray) -> View | None:
    """Black, no signal or noise, by fixed limits; None where there is a picture."""
    for name, place, limit in (("black", "dark", BLACK), ("no_signal", "blue", BLUE), ("noise", "roughness", NOISE)):
        if measured[INDEX[place]] >= limit:
            return View(name, {name: 1.0})
    return None
