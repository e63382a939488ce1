"""The abdomen as a landscape: height, slope, colour and gloss over a square of 256 mm, made once from a seed.

Organs are bodies standing on the floor of the field; where two overlap the higher is seen, which gives creases and
occlusion as in a real view from above the field. Lengths are mm: x to the right, y away from the camera, z up.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

EXTENT = 256.0
"""Side of the square, mm."""
LEFT, NEAR = -128.0, -96.0
"""x and y of its corner, mm."""
TEXELS = 1024
"""Points a side of the colour and slope maps."""
CELLS = 512
"""Points a side of the height map that rays are marched through."""

FLOOR, FAT, BOWEL, LIVER, GALLBLADDER, WALL = range(6)

# Colours as seen on a screen (sRGB); from frames of real cholecystectomies.
_COLOUR = {
    FLOOR: (170, 84, 66), FAT: (218, 164, 92), BOWEL: (198, 134, 118), LIVER: (122, 47, 44),
    GALLBLADDER: (212, 184, 138), WALL: (190, 104, 84),
}  # fmt: skip
_GLOSS = {FLOOR: 0.55, FAT: 0.5, BOWEL: 0.75, LIVER: 0.8, GALLBLADDER: 0.95, WALL: 0.45}
_GRAIN = {FLOOR: 0.10, FAT: 0.09, BOWEL: 0.07, LIVER: 0.13, GALLBLADDER: 0.05, WALL: 0.08}
"""Slope of the finest bumps: what breaks a highlight into glints."""


@dataclasses.dataclass(frozen=True)
class World:
    """Maps over the square; first axis is y, second x."""

    height: Array
    """(CELLS, CELLS) float32, mm."""
    lift: Array
    """(CELLS, CELLS) float32: how far each point rises with a breath, mm."""
    pulse: Array
    """(CELLS, CELLS) float32: how far each point rises with a heart beat, mm."""
    albedo: Array
    """(TEXELS, TEXELS, 3) uint8, RGB: square root of the share of light given back."""
    slope: Array
    """(TEXELS, TEXELS, 2) float32: dz/dx and dz/dy, fine bumps included."""
    surface: Array
    """(TEXELS, TEXELS, 2) uint8: gloss, and how open the place is to light from around (0 in a crease)."""
    organ: Array
    """(TEXELS, TEXELS) uint8: FLOOR ... WALL."""


def noise(random: np.random.Generator, size: int, cell: float, octaves: int = 4, gain: float = 0.5) -> Array:
    """Smooth noise of zero mean and about unit size, (size, size) float32; ``cell`` is its coarsest grain in points."""
    total = np.zeros((size, size), np.float32)
    weight, scale = 1.0, 0.0
    for _ in range(octaves):
        knots = max(3, int(np.ceil(size / cell)) + 3)
        coarse = random.standard_normal((knots, knots)).astype(np.float32)
        wide = cv2.resize(coarse, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC) if cell > 1 else coarse
        offset = max(0, int(cell))
        total += weight * wide[offset : offset + size, offset : offset + size]
        scale += weight * weight
        weight *= gain
        cell = max(cell / 2, 1.0)
    result: Array = total / np.float32(np.sqrt(scale))
    return result


@functools.lru_cache(maxsize=2)
def build(seed: int) -> World:
    """The world of a seed: always the same organs, with their own outlines, vessels and grain."""
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 100])))
    axis = (np.arange(TEXELS, dtype=np.float32) + 0.5) * (EXTENT / TEXELS)
    x, y = np.meshgrid(axis + LEFT, axis + NEAR)
    wobble_x, wobble_y = 4 * noise(random, TEXELS, 180, 3), 4 * noise(random, TEXELS, 180, 3)
    x, y = x + wobble_x, y + wobble_y

    height = 2.0 * noise(random, TEXELS, 120, 3)
    organ = np.full((TEXELS, TEXELS), FLOOR, np.uint8)

    def put(kind: int, body: Array) -> None:
        nonlocal height
        organ[body > height] = kind
        height = np.maximum(height, body)

    put(FAT, _lobules(random, x, y))
    put(
        BOWEL,
        _tube([(-100, -52, 4), (-66, -34, 7), (-38, -44, 6), (-20, -62, 4), (10, -72, 3)], [13, 14, 13, 14, 13], x, y),
    )
    put(BOWEL, _tube([(-110, -8, 3), (-80, -6, 5), (-58, -18, 5), (-52, -44, 3)], [12, 13, 12, 11], x, y))
    put(BOWEL, _tube([(120, -44, 2), (86, -36, 6), (60, -46, 6), (44, -66, 4)], [12, 14, 14, 13], x, y))
    liver = [
        (-128, 26),
        (-84, 14),
        (-46, 12),
        (-20, 22),
        (-6, 34),
        (4, 46),
        (12, 40),
        (22, 20),
        (44, 4),
        (84, -4),
        (128, 4),
        (128, 170),
        (-128, 170),
    ]
    put(LIVER, _lobe(liver, 36.0, 44.0, x, y) + 1.5 * noise(random, TEXELS, 220, 2) + 0.05 * np.clip(y - 20, 0, 80))
    right = [(20, 36), (46, 14), (88, 8), (128, 20), (128, 170), (26, 170)]
    put(LIVER, _lobe(right, 46.0, 46.0, x, y))
    put(
        GALLBLADDER,
        _tube([(-12, 66, 34), (-6, 44, 26), (2, 20, 13), (9, 0, 6.5), (15, -13, 5)], [9, 14, 16, 12.5, 6.5], x, y),
    )
    put(GALLBLADDER, _tube([(15, -13, 8), (24, -21, 6), (36, -25, 3)], [6.0, 3.6, 3.0], x, y))
    far = np.clip(y - 74, 0, None) + np.clip(np.abs(x) - 88, 0, None) * 0.9
    put(WALL, 1.25 * far + 3 * noise(random, TEXELS, 200, 3) - 2)

    soft = cv2.GaussianBlur(_lean(height), (0, 0), 2.2)
    height = soft + 0.25 * noise(random, TEXELS, 24, 3)
    step = EXTENT / TEXELS
    slope = (
        np.stack(
            [cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8)], -1
        )
        / step
    )
    slope = np.clip(slope, -2.2, 2.2)
    grain = _table(_GRAIN)[organ].astype(np.float32)[..., None]
    bumps = np.stack([noise(random, TEXELS, 7, 3, 0.8), noise(random, TEXELS, 7, 3, 0.8)], -1)
    slope = (slope + grain * bumps).astype(np.float32)

    openness = np.clip(1 + (height - cv2.GaussianBlur(height, (0, 0), 28)) / 14, 0.12, 1.0)
    openness *= np.clip(1 + (height - cv2.GaussianBlur(height, (0, 0), 7)) / 5, 0.35, 1.0)
    gloss = np.clip(_table(_GLOSS)[organ] * (1 + 0.30 * noise(random, TEXELS, 60, 3)), 0.05, 1)
    surface = np.stack([gloss * 255, openness * 255], -1).astype(np.uint8)
    albedo = _paint(random, organ, height)

    small = (CELLS, CELLS)
    flat = cv2.resize(height, small, interpolation=cv2.INTER_AREA)
    high = np.clip(flat / 40, 0, 1)
    lower = cv2.resize(y, small, interpolation=cv2.INTER_AREA)
    across = cv2.resize(x, small, interpolation=cv2.INTER_AREA)
    lift = (1.0 + 2.5 * high + 1.5 * np.clip(lower / 80, -1, 1)).astype(np.float32)
    pulse = (0.9 * np.exp(-(((across + 18) / 34) ** 2) - ((lower - 6) / 30) ** 2) + 0.12).astype(np.float32)
    return World(flat.astype(np.float32), lift, pulse, albedo, slope, surface, organ)


STEEPEST = 2.3
"""No ground is steeper, mm a mm: what rays are marched through must not be a wall."""


def _lean(height: Array) -> Array:
    """The landscape with its walls cut back to slopes."""
    cell = STEEPEST * EXTENT / TEXELS * 2
    low = cv2.resize(height, (TEXELS // 2, TEXELS // 2), interpolation=cv2.INTER_AREA)
    straight = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    for _ in range(40):
        near = cv2.erode(low, straight) + cell
        low = np.minimum(low, np.minimum(near, cv2.erode(low, np.ones((3, 3), np.uint8)) + 1.414 * cell))
    result: Array = np.minimum(height, cv2.resize(low, (TEXELS, TEXELS), interpolation=cv2.INTER_LINEAR))
    return result


def _table(values: dict[int, float]) -> Array:
    return np.array([values[kind] for kind in sorted(values)], np.float32)


def _tube(path: list[tuple[float, float, float]], radii: list[float], x: Array, y: Array) -> Array:
    """A bent tube: the upper side of balls along a path of (x, y, z of the axis)."""
    top = np.full(x.shape, -50, np.float32)
    knots = np.arange(len(path))
    fine = np.linspace(0, len(path) - 1, 14 * (len(path) - 1) + 1)
    smooth = np.stack(
        [_spline(fine, knots, [point[axis] for point in path]) for axis in range(3)] + [_spline(fine, knots, radii)], 1
    )
    scale = TEXELS / EXTENT
    for cx, cy, cz, radius in smooth:
        reach = radius + 14  # the wobble of x and y moves bodies by up to this
        x0, x1 = np.clip([int((cx - reach - LEFT) * scale), int((cx + reach - LEFT) * scale) + 1], 0, TEXELS)
        y0, y1 = np.clip([int((cy - reach - NEAR) * scale), int((cy + reach - NEAR) * scale) + 1], 0, TEXELS)
        window = np.s_[y0:y1, x0:x1]
        square = radius * radius - (x[window] - cx) ** 2 - (y[window] - cy) ** 2
        top[window] = np.maximum(top[window], np.where(square > 0, cz + np.sqrt(np.maximum(square, 0)), -50))
    return top


def _spline(at: Array, knots: Array, values: list[float]) -> Array:
    from scipy.interpolate import PchipInterpolator

    result: Array = PchipInterpolator(knots, values)(at)
    return result


def _lobe(outline: list[tuple[float, float]], high: float, rounding: float, x: Array, y: Array) -> Array:
    """A flat-topped organ with a rounded border, ``rounding`` mm wide."""
    inside = np.zeros(x.shape, np.uint8)
    scale = TEXELS / EXTENT
    points = (np.array(outline) - (LEFT, NEAR)) * scale
    cv2.fillPoly(inside, [np.round(points).astype(np.int32)], 1)
    map_x, map_y = (x - LEFT) * scale - 0.5, (y - NEAR) * scale - 0.5
    inside = cv2.remap(inside, map_x, map_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    inside = np.pad(inside, 1, mode="edge")
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1] / scale
    # A liver's edge is a blade: steep at first, then a long even rise.
    share = np.clip(depth / rounding, 0, 1)
    body: Array = np.where(depth > 0, high * np.sqrt(1 - (1 - share) ** 2), -50).astype(np.float32)
    return body


def _lobules(random: np.random.Generator, x: Array, y: Array) -> Array:
    """Fat: domes about 9 mm wide, packed."""
    points = np.stack([random.uniform(LEFT, LEFT + EXTENT, 620), random.uniform(NEAR, NEAR + EXTENT, 620)], 1)
    size = random.uniform(5.0, 9.5, len(points))
    top = np.full(x.shape, -50, np.float32)
    scale = TEXELS / EXTENT
    patch = 0.9 * noise(random, TEXELS, 200, 2)
    for (cx, cy), radius in zip(points, size, strict=True):
        reach = radius + 14
        x0, x1 = np.clip([int((cx - reach - LEFT) * scale), int((cx + reach - LEFT) * scale) + 1], 0, TEXELS)
        y0, y1 = np.clip([int((cy - reach - NEAR) * scale), int((cy + reach - NEAR) * scale) + 1], 0, TEXELS)
        window = np.s_[y0:y1, x0:x1]
        square = 1 - ((x[window] - cx) ** 2 + (y[window] - cy) ** 2) / radius**2
        top[window] = np.maximum(
            top[window], np.where(square > 0, 0.55 * radius * np.sqrt(np.maximum(square, 0)) - 0.5, -50)
        )
    result: Array = top + np.where(top > -40, 1.4 * patch + 0.9, 0).astype(np.float32)
    return result


# --------------------------------------------------------------------------------------------- colour


def _paint(random: np.random.Generator, organ: Array, height: Array) -> Array:
    colour = np.array([_COLOUR[kind] for kind in sorted(_COLOUR)], np.float32)[organ]
    colour = cv2.GaussianBlur(colour, (0, 0), 1.6)
    broad, middle, fine = (
        noise(random, TEXELS, 160, 3),
        noise(random, TEXELS, 36, 4, 0.6),
        noise(random, TEXELS, 5, 2, 0.8),
    )
    shade = 1 + 0.07 * broad + 0.06 * middle + 0.035 * fine
    colour = colour * shade[..., None]
    # Blood shines through in patches: redder here, paler there.
    red = np.maximum(0.06 * noise(random, TEXELS, 90, 3) + 0.03 * middle, -0.015)[..., None]
    colour = colour * (1 + red * np.array([0.5, -1.2, -1.0], np.float32))
    speckle = np.clip(noise(random, TEXELS, 3.2, 2, 0.7) - 0.9, 0, 2)[..., None]
    colour += (organ == LIVER)[..., None] * speckle * np.array([16, 9, 8], np.float32)
    bile = (np.clip(0.8 * noise(random, TEXELS, 90, 3) + 0.3, 0, 1) * (organ == GALLBLADDER))[..., None]
    colour = colour * (1 - 0.6 * bile) + 0.6 * bile * np.array([176, 172, 152], np.float32)
    yellow = (np.clip(noise(random, TEXELS, 130, 3) - 0.1, 0, 1) * ((organ == WALL) | (organ == FLOOR)))[..., None]
    colour = colour * (1 - 0.4 * yellow) + 0.4 * yellow * np.array([226, 160, 96], np.float32)
    vessels = {
        GALLBLADDER: (15, (158, 52, 56), 0.6, 1.5), BOWEL: (46, (158, 52, 52), 0.5, 1.4),
        WALL: (60, (132, 40, 44), 0.5, 1.8), FAT: (70, (166, 52, 44), 0.5, 1.3), FLOOR: (40, (132, 36, 38), 0.5, 1.6),
    }  # fmt: skip
    for kind, (count, tint, strength, width) in vessels.items():
        trees = _vessels(random, organ == kind, count, width)[..., None] * strength
        colour = colour * (1 - trees) + trees * np.array(tint, np.float32)
    veins = _vessels(random, organ == GALLBLADDER, 5, 2.4)[..., None] * 0.35
    colour = colour * (1 - veins) + veins * np.array((112, 104, 128), np.float32)
    # The foot of a body is wet and dark with tissue fluid and blood.
    crease = np.clip((cv2.GaussianBlur(height, (0, 0), 5) - height) / 3, 0, 1)[..., None]
    colour = colour * (1 - 0.45 * crease * np.array([0.55, 1.0, 0.95], np.float32))
    result: Array = np.clip(colour, 4, 250).astype(np.uint8)
    return result


def _vessels(random: np.random.Generator, where: Array, count: int, width: float) -> Array:
    """Branching vessels that start in ``where`` and fade outside it, (TEXELS, TEXELS) float32 in 0..1."""
    canvas = np.zeros((TEXELS, TEXELS), np.uint8)
    rows, columns = np.nonzero(where)
    if rows.size == 0:
        return canvas.astype(np.float32)
    stack = []
    for start in random.integers(0, rows.size, count):
        stack.append(
            (
                float(columns[start]),
                float(rows[start]),
                random.uniform(0, 2 * np.pi),
                width * random.uniform(0.6, 1.2),
                0,
            )
        )
    while stack:
        px, py, angle, thick, depth = stack.pop()
        points = [(px, py)]
        bend = random.normal(0, 0.05)
        for _ in range(int(random.uniform(8, 26))):
            bend = 0.8 * bend + random.normal(0, 0.09)
            angle += bend
            px, py = px + 4.2 * np.cos(angle), py + 4.2 * np.sin(angle)
            points.append((px, py))
            if depth < 4 and random.random() < 0.09 and thick > 0.35:
                side = random.choice([-1, 1]) * random.uniform(0.4, 0.9)
                stack.append((px, py, angle + side, thick * 0.66, depth + 1))
        fixed = np.round(np.array(points) * 16).astype(np.int32)
        level = int(np.clip(90 + 110 * thick / width, 60, 220))
        cv2.polylines(canvas, [fixed], False, level, max(1, round(thick)), cv2.LINE_AA, shift=4)
    soft = cv2.GaussianBlur(where.astype(np.float32), (0, 0), 2.0)
    result: Array = cv2.GaussianBlur(canvas, (0, 0), 0.7).astype(np.float32) / 255 * soft
    return result
