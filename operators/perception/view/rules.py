"""The view by three rules of hue and brightness: what a learnt model has to beat.

1. Dark all over: black. 2. Blue all over: no signal (both with the limits of ``operators.video.signal``).
3. At least half of what is lit is of a warm hue: inside the body; else outside.

They know neither trocar nor covered lens. Smoke has a rule of its own (little colour, and the darkest of the three
colours nearly as bright as the brightest), and so has a colour fault (green all over, or no colour at all). The limits
of the three rules are round numbers, written down after a look at the real frames but before any was measured, and not
moved since. The rules for smoke and colour were composed after a table of the measures of those frames had been read.
"""

from __future__ import annotations

import math

from operators.perception.view.features import FloatArray, features
from operators.perception.view.view import INDEX, View, no_picture
from pipeline.message import VideoFrame

WARM, SMOOTH = 0.5, 0.15
"""Share of warm pixels among the lit that is inside the body, and half the width of the slope to either side."""
VEIL, STEEP = 0.5, 12.0
"""Limit of ``veil`` for smoke, and how steeply the score rises there."""
FAULT = 0.5
"""Share of green, or of grey twice over, that is a colour fault."""


def evidence(measured: FloatArray) -> float:
    """0..1: how much the measures of a picture (``features``) speak for the inside of the body; 0.5 is the limit.

    0 for black, blue, noise and pictures without colour: there nothing speaks for it, and privacy fails closed.
    """
    if no_picture(measured) is not None:
        return 0.0
    return float(min(max(0.5 + (measured[INDEX["warm"]] - WARM) / (2 * SMOOTH), 0.0), 1.0))


def in_body(frame: VideoFrame) -> float:
    """``evidence`` of a frame. Raises ``ValueError`` where it is not whole."""
    return evidence(features(frame))


def veil(measured: FloatArray) -> float:
    """0..1: dark channel of the lit pixels, times how little colour the palest fifth of them has."""
    return float(measured[INDEX["dark_channel"]] * (1 - min(measured[INDEX["saturation_low"]], 1.0)))


def smoke(measured: FloatArray) -> float:
    """0..1: smoke or fog veils the view; 0.5 at ``VEIL``."""
    return 1 / (1 + math.exp(-STEEP * (veil(measured) - VEIL)))


def colour_fault(measured: FloatArray) -> float:
    """0..1: half of what is lit is green, or none of it has a colour."""
    fault = max(float(measured[INDEX["green"]]), float(measured[INDEX["grey"]]) / 2)
    return min(fault / (2 * FAULT), 1.0)


def judge(measured: FloatArray) -> View:
    """The view by the rules, of what ``features`` measured."""
    found = no_picture(measured)
    if found is not None:
        return found
    inside = evidence(measured)
    name = "in_body" if measured[INDEX["warm"]] >= WARM else "out_of_body"
    scores = {"in_body": inside, "out_of_body": 1 - inside}
    return View(name, scores, smoke(measured) if name == "in_body" else 0.0, colour_fault(measured))


def classify(frame: VideoFrame) -> View:
    """``judge`` of a frame. Raises ``ValueError`` where it is not whole."""
    return judge(features(frame))
