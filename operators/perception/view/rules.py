"""The view by three rules of hue and brightness: what a learnt model has to beat.

1. Dark all over: black. 2. Blue all over: no signal (both with the limits of ``operators.video.signal``).
3. At least half of what is lit is of a warm hue: inside the body; else outside.

They know neither trocar nor covered lens. Smoke and colour faults have a rule each of their own. All limits are round
numbers, written down before anything was measured with them and not moved since.
"""

from __future__ import annotations

from operators.perception.view.features import NAMES, FloatArray, features
from pipeline.message import VideoFrame

BLACK, BLUE, WARM = 0.98, 0.85, 0.5
"""Limits of the three rules: shares of dark pixels, of blue pixels, and of warm pixels among the lit."""
SMOOTH = 0.15
"""Half-width of the slope that turns the warm share into evidence."""

_INDEX = {name: index for index, name in enumerate(NAMES)}


def evidence(measured: FloatArray) -> float:
    """0..1: how much the measures of a picture (``features``) speak for the inside of the body; 0.5 is the limit.

    0 for black, blue, noise and pictures without colour: there nothing speaks for it, and privacy fails closed.
    """
    value = dict(zip(NAMES, measured, strict=True))
    if value["dark"] >= BLACK or value["blue"] >= BLUE or value["roughness"] >= 0.6:
        return 0.0
    return float(min(max(0.5 + (value["warm"] - WARM) / (2 * SMOOTH), 0.0), 1.0))


def in_body(frame: VideoFrame) -> float:
    """``evidence`` of a frame. Raises ``ValueError`` where it is not whole."""
    return evidence(features(frame))
