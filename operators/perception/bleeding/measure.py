"""What one picture measures for the bleeding rule, and how two pictures lie over each other.

Everything is done at 160 pixels a line or fewer. Colours are compared as light, not as code values: the square undoes
the display's curve well enough, and a ratio of two lights does not change with distance, shadow or exposure.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np

from operators.video.colour import rgb
from pipeline.message import Array, VideoFrame

WIDTH = 160
"""Longest line that is worked on, pixels."""
LIT = 44
"""Code value of the brightest colour from which a pixel has colour worth trusting."""
GLARE = 0.42
"""Light of the weakest colour above which a pixel shows the lamp and not the tissue."""
GREY = 0.75
"""Green over red above which a pixel is steel, gauze or drape rather than tissue."""
CLEAR = 0.004
"""``veil`` of a clear view."""
DARK_OFFSET = 0.004
"""Added to both lights of a ratio: what is too dark to tell is taken as not blood."""
_LIGHT = ((np.arange(256) / 255.0) ** 2).astype(np.float32)


@dataclasses.dataclass
class Look:
    """One picture at working size."""

    time: int
    sequence: int
    grey: Array
    """(h, w) uint8, green: where tissue has most texture."""
    red: Array
    """(h, w) float32 light."""
    ratio: Array
    """(h, w) float32: green over red light, about 0.05 for blood and 0.2 for liver."""
    valid: Array
    """(h, w) bool: lit tissue or blood, neither glare nor grey."""
    field: int
    """Pixels that are lit at all."""
    veil: float
    """Light of the weakest colour that nearly every lit pixel has: smoke or fog lifts it."""
    foreign: float
    """Share of lit pixels that are greener than red: drapes, not the inside of a body."""
    sharp: float
    """Mean step of the Laplacian over valid pixels, grey levels: what fouls the lens lowers it at once."""
    blood: Array | None = None
    """(h, w) float32 0..1, how much each pixel is blood; set by the rule."""


def shrink(image: Array) -> Array:
    """(h, w, 3) uint8 at working size."""
    height, width = image.shape[:2]
    scale = min(1.0, WIDTH / max(width, 1))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return image if size == (width, height) else cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def look(frame: VideoFrame, time: int, sequence: int) -> Look:
    """Measure a picture."""
    image = shrink(rgb(frame))
    light = _LIGHT[image]
    lit = image.max(-1) >= LIT
    field = int(lit.sum())
    weakest = light.min(-1)
    veil = float(np.partition(weakest[lit], field // 50)[field // 50]) if field else 0.0
    # A veil adds grey light everywhere; at least what it adds everywhere can be taken off.
    light = np.maximum(light - 0.9 * max(0.0, veil - CLEAR), 0)
    red, green = np.ascontiguousarray(light[..., 0]), light[..., 1]
    ratio = (green + DARK_OFFSET) / (red + DARK_OFFSET)
    valid = lit & (weakest - veil < GLARE) & (ratio < GREY) & (red >= _LIGHT[LIT])
    foreign = float((green[lit] > red[lit] * 1.15).mean()) if field else 0.0
    grey = np.ascontiguousarray(image[..., 1])
    edges = np.abs(cv2.Laplacian(grey, cv2.CV_16S))[valid]
    sharp = float(edges.mean()) if edges.size else 0.0
    return Look(time, sequence, grey, red, ratio, valid, field, veil, foreign, sharp)


def register(before: Look, now: Look) -> Array | None:
    """(2, 3) float64 affine that takes points of ``before`` to ``now``; None where they cannot be laid over each other.

    Corners are followed by pyramidal Lucas-Kanade flow and outvoted by RANSAC; where there are too few of them the
    shift with the highest phase correlation is taken, if it stands out.
    """
    if before.grey.shape != now.grey.shape:
        return None
    mask = cv2.erode(before.valid.astype(np.uint8), np.ones((5, 5), np.uint8))
    corners = cv2.goodFeaturesToTrack(before.grey, 90, 0.02, 5, mask=mask)
    if corners is not None and len(corners) >= 12:
        moved, found, _ = cv2.calcOpticalFlowPyrLK(before.grey, now.grey, corners, None, winSize=(13, 13), maxLevel=3)
        kept = found.ravel() == 1
        if kept.sum() >= 10:
            cv2.setRNGSeed(1)
            matrix, inliers = cv2.estimateAffine2D(
                corners[kept], moved[kept], method=cv2.RANSAC, ransacReprojThreshold=1.2, maxIters=300
            )
            if matrix is not None and inliers.sum() >= max(8, 0.35 * kept.sum()) and _plausible(matrix):
                return np.asarray(matrix, np.float64)
    (dx, dy), response = cv2.phaseCorrelate(
        before.grey.astype(np.float32), now.grey.astype(np.float32), _window(before.grey.shape)
    )
    if response > 0.25 and np.hypot(dx, dy) < 0.2 * before.grey.shape[1]:
        return np.array([[1, 0, dx], [0, 1, dy]], np.float64)
    return None


def _plausible(matrix: Any) -> bool:
    """A fifth of a second of camera work neither doubles, mirrors nor shears the view."""
    stretch = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(np.linalg.det(matrix[:, :2]) > 0 and stretch[1] > 0.7 and stretch[0] < 1.4)


_WINDOWS: dict[tuple[int, ...], Array] = {}


def _window(shape: tuple[int, ...]) -> Array:
    if shape not in _WINDOWS:
        _WINDOWS[shape] = cv2.createHanningWindow((max(shape[1], 2), max(shape[0], 2)), cv2.CV_32F)
    return _WINDOWS[shape]


def laid_over(plane: Array, matrix: Array, border: float = 0.0) -> Array:
    """A plane of the earlier picture, (h, w) float32, where the later one has it."""
    height, width = plane.shape
    return cv2.warpAffine(
        np.ascontiguousarray(plane, np.float32), matrix, (width, height), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=border,
    )  # fmt: skip


def motion(matrix: Array, shape: tuple[int, ...]) -> float:
    """How far an affine moves the corners of a picture of that shape on average, pixels."""
    height, width = shape[:2]
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64)
    return float(np.hypot(*(corners @ matrix.T - corners[:, :2]).T).mean())


def followed_by(first: Array, second: Array) -> Array:
    """The affine that does ``first``, then ``second``."""
    return np.vstack([second, [0, 0, 1]])[:2] @ np.vstack([first, [0, 0, 1]])
