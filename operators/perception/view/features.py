"""What a picture measures, from 48 of its lines: hue, saturation, brightness, detail, and the shape of what is lit.

Only those lines are read and only their average over 64 columns is converted to colour, so that a 720p picture costs
well under a millisecond. Rows are picked, columns are averaged: noise of single pixels stays visible across rows.

Smoke lowers saturation and lifts the darkest of the three colours (Leibetseder et al. 2017; He, Sun and Tang 2009,
dark-channel prior); a fogged or covered lens takes away fine detail first, hence detail at two scales.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from operators.video.colour import chroma, matrix_of, to_rgb_matrix
from operators.video.signal import DARK, Look, look
from pipeline.message import Array, VideoFrame

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

ROWS, COLUMNS = 48, 64
"""Size of the small picture that everything but detail is taken from."""
FINE = 256
"""Columns of the lines that fine detail is taken from."""
SIDE = 16_384
"""Widest and highest picture that is looked at, pixels."""

NAMES = (
    "dark", "blue", "lit", "brightness", "contrast", "warm", "red", "cool", "green", "grey", "saturation",
    "saturation_low", "dark_channel", "glare", "detail_fine", "detail_coarse", "detail_ratio", "even", "corners",
    "centre", "hue_spread", "roughness",
)  # fmt: skip
"""What ``features`` gives, in its order. Shares are of the lit pixels (luma of 32 and more) unless said otherwise:

dark, blue: shares of all pixels, as ``operators.video.signal`` counts them. lit: share of lit pixels of all.
brightness, contrast: mean and standard deviation of luma, 0..1. warm, red, cool, green: shares of pixels with
saturation of 0.12 and more and a hue of 320..50, 330..20, 180..300 and 70..180 degrees. grey: share with a saturation
below 0.12. saturation, saturation_low: mean and 20th percentile, 0..1. dark_channel: mean of the smallest of R, G, B
over the mean of the largest. glare: share with luma of 235 and more. detail_fine, detail_coarse: mean step between
neighbours of 1/256 and 1/64 of the width, over mean luma. detail_ratio: the first over the second. even: share of
neighbours 1/64 apart that differ by less than 3 grey levels. corners: lit share of the four corners, 1/8 by 1/8 each.
centre: mean luma of the middle ninth over that of all, at most 3. hue_spread: circular variance of hue, weighted by
saturation. roughness: as ``operators.video.signal``.
"""


def check(frame: VideoFrame) -> None:
    """Refuse what cannot be looked at.

    Raises:
        ValueError: where planes are missing, empty, huge, not uint8, or do not have the sizes that the frame says.
    """
    width, height = frame.width, frame.height
    if not (0 < width <= SIDE and 0 < height <= SIDE):
        raise ValueError(f"a picture of {width} by {height} cannot be looked at")
    half = ((height + 1) // 2, (width + 1) // 2)
    wanted: dict[str, tuple[tuple[int, ...], ...]] = {
        "yuv420p": ((height, width), half, half), "nv12": ((height, width), (*half, 2)),
        "rgb24": ((height, width, 3),), "gray": ((height, width),),
    }  # fmt: skip
    if frame.format not in wanted:
        raise ValueError(f"pictures in {frame.format!r} are not known")
    planes = frame.planes
    found = tuple(plane.shape if isinstance(plane, np.ndarray) else () for plane in planes)
    if found != wanted[frame.format] or any(plane.dtype != np.uint8 for plane in planes):
        raise ValueError(f"a {frame.format} picture of {width} by {height} cannot have planes of {found}")


def small(frame: VideoFrame) -> Array:
    """The picture as (48, 64, 3) uint8 RGB: 48 of its lines, averaged along the line. ``check`` it first."""
    if frame.format == "rgb24":
        return _narrow(_lines(frame.planes[0]))
    brightness = _narrow(_lines(frame.planes[0]))
    if frame.format == "gray":
        return np.repeat(brightness[:, :, None], 3, axis=2)
    cb, cr = (_narrow(_lines(plane)) for plane in chroma(frame))
    whole = cv2.merge([brightness, cb, cr])
    return cv2.transform(whole, to_rgb_matrix(matrix_of(frame.height), frame.full_range))


def features(frame: VideoFrame) -> FloatArray:
    """(22,) float64, all finite: the measures that ``NAMES`` lists.

    Raises:
        ValueError: where the frame is not whole (``check``).
    """
    check(frame)
    return measure(small(frame), look(frame))


def measure(picture: Array, seen: Look) -> FloatArray:
    """``features`` of a ``small`` picture and of the ``look`` at the same frame."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    hue, saturation = hsv[..., 0] * np.float32(2), hsv[..., 1] * np.float32(1 / 255)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    lit = grey >= DARK
    share = float(lit.mean())
    fine, coarse, even = _detail(seen.sample)
    corners = float(
        np.mean([lit[y, x].mean() for y in (slice(6), slice(-6, None)) for x in (slice(8), slice(-8, None))])
    )
    shape = (seen.dark, seen.blue, share)
    detail = (fine, coarse, min(fine / max(coarse, 1e-3), 4.0), even, corners)
    if share < 0.005:
        return np.array([*shape, *[0.0] * 11, *detail, 0.0, 0.0, seen.roughness])
    h, s, luma = hue[lit], saturation[lit], grey[lit].astype(np.float32) * np.float32(1 / 255)
    colours = picture[lit]
    coloured = s >= 0.12
    hues = (
        _mean(coloured & ((h >= 320) | (h <= 50))), _mean(coloured & ((h >= 330) | (h <= 20))),
        _mean(coloured & (h >= 180) & (h <= 300)), _mean(coloured & (h >= 70) & (h < 180)), _mean(~coloured),
    )  # fmt: skip
    darkest = float(colours.min(axis=1).mean()) / max(float(colours.max(axis=1).mean()), 1.0)
    middle = float(grey[ROWS // 3 : -(ROWS // 3), COLUMNS // 3 : -(COLUMNS // 3)].mean()) / max(float(grey.mean()), 1.0)
    angle, weight = np.deg2rad(h), float(s.sum()) + 1e-6
    spread = max(1 - float(np.hypot((s * np.cos(angle)).sum(), (s * np.sin(angle)).sum())) / weight, 0.0)
    return np.array([
        *shape, float(luma.mean()), float(luma.std()), *hues, float(s.mean()), float(np.quantile(s, 0.2)), darkest,
        _mean(luma >= 235 / 255), *detail, min(middle, 3.0), spread, seen.roughness,
    ], dtype=np.float64)  # fmt: skip


def _detail(sample: Array) -> tuple[float, float, float]:
    """Detail at two scales over the brightness, and the share of even neighbours, where the picture is lit."""
    lines = cv2.resize(sample, (FINE, sample.shape[0]), interpolation=cv2.INTER_AREA)
    broad = cv2.resize(lines, (COLUMNS, sample.shape[0]), interpolation=cv2.INTER_AREA)
    answer = []
    for picture in (lines, broad):
        # Not across the rim of the scope's round field: both neighbours and their own neighbours are lit.
        lit = cv2.erode((picture >= DARK).astype(np.uint8), np.ones((1, 5), np.uint8), borderValue=1)
        where = (lit[:, 1:] & lit[:, :-1]).astype(bool)
        step = cv2.absdiff(picture[:, 1:], picture[:, :-1])[where]
        answer.append((float(step.mean()) / max(float(picture.mean()), 8.0) if step.size else 0.0, step))
    even = _mean(answer[1][1] < 3) if answer[1][1].size else 1.0
    return answer[0][0], answer[1][0], even


def _lines(plane: Array) -> Array:
    return plane[np.linspace(0, plane.shape[0] - 1, ROWS).astype(int)]


def _narrow(lines: Array) -> Array:
    return cv2.resize(lines, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)


def _mean(mask: Array) -> float:
    return float(np.count_nonzero(mask)) / max(mask.size, 1)
