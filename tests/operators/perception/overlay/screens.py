"""Streams of drawn overlays, one picture a second, over the simulated theatre's pictures."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from operators.perception.overlay.drawn import Style, draw, put
from operators.theatre.case import Case
from operators.theatre.renderer import Renderer
from operators.video.colour import from_rgb
from pipeline.message import Array, Message, PixelFormat, VideoFrame

SECOND = 1_000_000_000
BLACK = np.zeros((360, 640, 3), np.uint8)
ROOM = np.full((360, 640, 3), (150, 150, 160), np.uint8)
"""Outside the body: grey."""


@functools.cache
def body(index: int = 0) -> Array:
    """(360, 640, 3): the inside of the simulated body."""
    return Renderer(Case(theatre=1, duration=60), 1, (640, 360)).picture(1.0 + index).rgb


def stream(
    pictures: Sequence[Array], *, form: PixelFormat = "yuv420p", every: float = 1.0, start: int = 0
) -> list[Message[VideoFrame]]:
    """Pictures as a simulated camera's messages, one every ``every`` seconds."""
    return [
        Message("camera.video/scope", start + round(index * every * SECOND), index, from_rgb(image, form), "simulated")
        for index, image in enumerate(pictures)
    ]


def pictures(
    pressures: Sequence[int | None], flow: float = 1.2, message: Sequence[str] | str = "", ground: Array = BLACK,
    style: Style = Style(),  # noqa: B008 - frozen
) -> list[Array]:  # fmt: skip
    """One overlay for each pressure; None draws no overlay at all."""
    texts = [message] * len(pressures) if isinstance(message, str) else message
    drawn = []
    for pressure, text in zip(pressures, texts, strict=True):
        drawn.append(draw(ground, style, pressure, None if pressure is None else flow, text))
    return drawn


def number(text: str, font: str) -> Array:
    """(40, w) uint8: a text drawn in white on black with letters about 22 pixels high, with room around it."""
    style = Style(font=font, tall=30, colour=(255, 255, 255), outline=False, corner=(0.05, 0.3), words=("", text),
                  size=(400, 120))  # fmt: skip
    image = np.zeros((120, 400, 3), np.uint8)
    put(image, text, (20, 40), (255, 255, 255), style, 30)
    inked = np.flatnonzero((image.max(axis=2) > 20).any(axis=0))
    rows = np.flatnonzero((image.max(axis=2) > 20).any(axis=1))
    middle = int(rows[0] + rows[-1]) // 2
    return image[middle - 20 : middle + 20, inked[0] - 6 : inked[-1] + 7, 0]
