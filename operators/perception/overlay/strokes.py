"""Strokes of letters without any model: what is brighter than all around it, and how far digits stand apart."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from pipeline.message import Array

FAINT = 32.0
"""Grey levels that strokes must stand out by; less is no text."""
SHARE = 0.45
"""Of the brightest strokes: what is at least so bright is ink."""
CLOSE, WIDE = 1.10, 1.00
"""Centres of neighbouring digits stand at most ``CLOSE`` text heights apart without a point between them, and at least
``WIDE`` with one. Advance widths of DejaVu, Arial, Hershey and condensed and bold forms of them: 0.78 to 0.95 of a
digit's height, and 1.16 to 1.65 with a point."""


def strokes(luma: Array, height: int | None = None) -> Array:
    """(h, w) float32: by how many grey levels each pixel is brighter than what is wider than a stroke.

    A white top-hat (Serra 1982) with a square of a third of the line's height. ``height`` is that of the line, the
    crop's own if not given.
    """
    if min(luma.shape) < 3:
        return np.zeros(luma.shape, np.float32)
    size = max(3, round(0.35 * (height or luma.shape[0])) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (size, size))
    return cv2.morphologyEx(np.ascontiguousarray(luma), cv2.MORPH_TOPHAT, kernel).astype(np.float32)


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
