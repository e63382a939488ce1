"""Strokes of letters without any model: what is brighter than all around it, and how far digits stand apart.

Brightness is that of a pixel's brightest primary, not its luma: overlays write in pure colours, and pure green is
darker in luma than grey skin, but as bright in its green as white.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from operators.video.colour import chroma, luma, matrix_of, to_rgb_matrix
from pipeline.message import Array, VideoFrame

FAINT = 32.0
"""Grey levels that strokes must stand out by; less is no text."""
SHARE = 0.45
"""Of the brightest strokes: what is at least so bright is ink."""
GROUND = 1.6
"""Side of the surroundings whose median is the ground, in line heights: letters fill less than half of it."""
CLOSE, WIDE = 1.10, 1.00
"""Centres of neighbouring digits stand at most ``CLOSE`` text heights apart without a point between them, and at least
``WIDE`` with one. Advance widths of DejaVu, Arial, Hershey and condensed and bold forms of them: 0.78 to 0.95 of a
digit's height, and 1.16 to 1.65 with a point."""


def brightest(frame: VideoFrame) -> Array:
    """(h, w) uint8: the largest of red, green and blue of each pixel, 0..255 whatever the picture's range."""
    if frame.format == "gray":
        return np.ascontiguousarray(luma(frame))
    if frame.format == "rgb24":
        image = frame.planes[0]
        return np.ascontiguousarray(np.maximum(np.maximum(image[:, :, 0], image[:, :, 1]), image[:, :, 2]))
    bright = np.ascontiguousarray(luma(frame))
    cb, cr = (np.ascontiguousarray(plane).astype(np.float32) - 128 for plane in chroma(frame))
    matrix = to_rgb_matrix(matrix_of(frame.height), frame.full_range)
    # Each primary is luma and its share of both colours: the largest share is added, at the colours' own resolution.
    shares = [cb * np.float32(matrix[primary, 1]) + cr * np.float32(matrix[primary, 2]) for primary in range(3)]
    most = np.rint(np.maximum(np.maximum(shares[0], shares[1]), shares[2])).astype(np.int16)
    most = cv2.resize(most, (most.shape[1] * 2, most.shape[0] * 2), interpolation=cv2.INTER_NEAREST)
    return cv2.add(bright, most[: frame.height, : frame.width], dtype=cv2.CV_8U)


def strokes(bright: Array, height: int | None = None, *, level: bool = False) -> Array:
    """(h, w) float32: by how many grey levels each pixel is brighter than what is wider than a stroke.

    A white top-hat (Serra 1982) with a square of a third of the line's height, which is that of the crop if not given.
    With ``level``, no more than the pixel is above the median of its surroundings: between letters with a dark outline
    a bright even ground is narrow, too, but no brighter than elsewhere. On a busy ground the median says less.
    """
    if min(bright.shape) < 3:
        return np.zeros(bright.shape, np.float32)
    bright, high = np.ascontiguousarray(bright), height or bright.shape[0]
    size = max(3, round(0.35 * high) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (size, size))
    raised = cv2.morphologyEx(bright, cv2.MORPH_TOPHAT, kernel)
    if level:
        ground = cv2.medianBlur(bright, min(max(5, round(GROUND * high) | 1), 255))
        raised = cv2.min(raised, cv2.subtract(bright, ground))
    return raised.astype(np.float32)


def ink(raised: Array) -> Array:
    """(h, w) bool of what ``strokes`` gave: the pixels of letters; none at all where nothing stands out."""
    peak = float(np.percentile(raised, 99)) if raised.size else 0.0
    return raised > SHARE * peak if peak >= FAINT else np.zeros(raised.shape, bool)


def alike(one: Array, other: Array) -> float:
    """Correlation -1..1 of two pieces of strokes of the same size; 0 where the sizes differ or one is empty."""
    if one.shape != other.shape or one.size == 0:
        return 0.0
    a, b = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


class Glyph(NamedTuple):
    """A connected run of columns with ink: x from ``start`` to before ``end``, and its height in pixels."""

    start: int
    end: int
    tall: int


def glyphs(mask: Array, height: int) -> list[Glyph]:
    """Runs of inked columns from left to right; a column counts from a twentieth of the line's height on."""
    columns = mask.sum(axis=0) >= max(1, round(0.08 * height))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], columns.astype(np.int8), [0]])))
    runs = []
    for start, end in edges.reshape(-1, 2):
        rows = np.flatnonzero(mask[:, start:end].any(axis=1))
        runs.append(Glyph(int(start), int(end), int(rows[-1] - rows[0] + 1) if len(rows) else 0))
    return runs


def upright(mask: Array, height: int) -> list[Glyph] | None:
    """The letters and digits in the ink, without points; None where something that is no letter shows through."""
    tall = [glyph for glyph in glyphs(mask, height) if glyph.tall >= 0.33 * height]
    if not tall:
        return None
    high = float(np.median([glyph.tall for glyph in tall]))
    clean = all(glyph.end - glyph.start <= 0.95 * high and 0.75 * high <= glyph.tall <= 1.33 * high for glyph in tall)
    return tall if clean else None


def spacing(number: str, mask: Array, height: int) -> bool | None:
    """Do the digits of ``number`` stand in the ink as they should, close together but for the point?

    Args:
        number: digits with at most one point, as read.
        mask: (h, w) bool ink of a crop that holds that number alone.
        height: of the line of text, pixels.

    Returns:
        True where they do, False where the ink contradicts the number (a point lost or invented, a digit too many),
        None where the ink is unclear because something else shows through.
    """
    digits = number.replace(".", "")
    tall = upright(mask, height)
    if tall is None:
        return None
    if len(tall) != len(digits):
        return False
    high = float(np.median([glyph.tall for glyph in tall]))
    centres = [(glyph.start + glyph.end) / 2 for glyph in tall]
    for at in range(1, len(digits)):
        apart = (centres[at] - centres[at - 1]) / high
        pointed = number.find(".") == at
        if (pointed and apart < WIDE) or (not pointed and apart > CLOSE):
            return False
    return True
