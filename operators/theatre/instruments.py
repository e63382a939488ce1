"""Instruments: shafts, joints and jaws as tapering cylinders that rays are met with exactly, steel or black sheath."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np

from operators.theatre.case import Case
from operators.theatre.physiology import generator
from operators.theatre.steps import Instrument

Array = np.ndarray[Any, np.dtype[Any]]

TROCARS = {"left": (-118.0, 4.0, 112.0), "right": (124.0, -24.0, 104.0), "below": (78.0, -112.0, 84.0)}
"""Where each instrument passes the abdominal wall, mm."""
WORK = {"left": (-5.0, 38.0, 45.0), "right": (13.0, -2.0, 26.0), "below": (16.0, -20.0, 15.0)}
"""Where each works, mm."""
SLIDE = 1.4
"""Seconds that an instrument takes to come in or go out."""
STEEL, SHEATH, TIP = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Rod:
    """A tapering cylinder from ``a`` to ``b`` (mm, world), with its radius at both ends and its finish."""

    a: Array
    b: Array
    radius_a: float
    radius_b: float
    finish: int
    shades: bool = False
    """Whether it is big enough to cast a shadow worth drawing."""


def present(case: Case, seconds: float, seed: int, pose: Array) -> list[Rod]:
    """All parts of all instruments in the field at a moment."""
    rods: list[Rod] = []
    for number, step in enumerate(case.steps(Instrument)):
        if step.at <= seconds < step.end:
            inside = min(1.0, (seconds - step.at) / SLIDE, (step.end - seconds) / SLIDE)
            rods += _tool(step, seconds, generator(seed, 150, number), inside * inside * (3 - 2 * inside), pose)
    return rods


def _tool(step: Instrument, seconds: float, random: np.random.Generator, inside: float, pose: Array) -> list[Rod]:
    rates, phases = random.uniform(0.06, 0.6, (4, 4)), random.uniform(0, 2 * np.pi, (4, 4))
    work = (
        np.array([5.0, 5.0, 2.2, 0.9])[:, None] * (0.1 / rates) ** 0.6 * np.sin(2 * np.pi * rates * seconds + phases)
    ).sum(1)
    trocar, goal = np.array(TROCARS[step.side]), np.array(WORK[step.side]) + work[:3]
    along = goal - trocar
    length = float(np.linalg.norm(along))
    along /= length
    tip = goal - along * (1 - inside) * 95
    side = np.cross(along, [np.sin(work[3]), np.cos(work[3]), 0.6])
    side /= np.linalg.norm(side)
    opening = 0.5 + 0.5 * np.sin(2 * np.pi * 0.35 * seconds + phases[0, 0])

    def back(distance: float) -> Array:
        result: Array = tip - along * distance
        return result

    sheath = STEEL if step.tool == "suction" else SHEATH
    if step.tool == "suction":
        return [Rod(back(150), back(0), 2.4, 2.4, STEEL, True)]
    if step.tool == "hook":
        bend = tip + side * 3.4 + along * 0.6
        return [
            Rod(back(150), back(13), 2.5, 2.5, sheath, True), Rod(back(13), back(11), 2.1, 1.5, STEEL),
            Rod(back(11), tip, 0.85, 0.75, STEEL, True), Rod(tip, bend, 0.8, 0.65, TIP),
        ]  # fmt: skip
    spread = {"scissors": 0.42, "grasper": 0.30, "clipper": 0.22}[step.tool] * opening
    reach = {"scissors": 13.0, "grasper": 17.0, "clipper": 12.0}[step.tool]
    thick = {"scissors": 1.0, "grasper": 1.45, "clipper": 1.7}[step.tool]
    joint = back(reach)
    jaws = []
    for sign in (-1, 1):
        aim = along + sign * spread * side
        knee = joint + aim * reach * 0.55
        jaws += [
            Rod(joint, knee, thick * 1.15, thick, STEEL, sign > 0),
            Rod(knee, knee + (along + 0.35 * sign * spread * side) * reach * 0.45, thick, thick * 0.55, TIP),
        ]
    return [
        Rod(back(150), back(reach + 7), 2.5, 2.5, sheath, True),
        Rod(back(reach + 7), joint, 2.65, 2.2, STEEL, True),
        *jaws,
    ]


def shadow(rods: list[Rod], point: tuple[Array, Array, Array], light: Array) -> Array:
    """Share of the light that reaches each point (h, w) float32: rods that stand in its way dim it."""
    shape = point[0].shape
    casting = [rod for rod in rods if rod.shades]
    if not casting:
        return np.ones(shape, np.float32)
    step = 2
    ray = [point[axis][::step, ::step] - light[axis] for axis in range(3)]
    lit = np.ones(ray[0].shape, np.float32)
    for rod in casting:
        start = (rod.a - light).astype(np.float32)
        unit = rod.b - rod.a
        length = float(np.linalg.norm(unit))
        unit = (unit / length).astype(np.float32)
        away, _, at, where = _closest(ray, start, unit)
        radius = rod.radius_a + (rod.radius_b - rod.radius_a) * np.clip(at / length, 0, 1)
        between = (
            np.clip((0.985 - where) / 0.03, 0, 1) * (where > 0) * np.clip(at + 1, 0, 1) * np.clip(length + 1 - at, 0, 1)
        )
        # The fibres round the lens make the light a small disc: the further the ground behind, the softer the edge.
        soft = 0.5 + 1.4 * (1 - where).clip(0, 1)
        lit = np.minimum(lit, 1 - 0.82 * between * np.clip((radius - away) / soft + 0.5, 0, 1))
    result: Array = cv2.resize(lit.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return result


def draw(
    rods: list[Rod], light: Array, depth: Array, labels: Array, rays: Array, pose: Array, intrinsics: Array
) -> tuple[Array, Array, Array]:
    """Light, depth and labels with the rods in front of what was there. Nearer rods hide further ones."""
    if not rods:
        return light, depth, labels
    rotation, position = pose[:3, :3], pose[:3, 3]
    for rod in rods:
        _draw(rod, light, depth, labels, rays, (rod.a - position) @ rotation, (rod.b - position) @ rotation, intrinsics)
    return light, depth, labels


NEAREST = 9.0
"""Nothing nearer to the lens than this is drawn, mm."""


def _draw(
    rod: Rod, light: Array, depth: Array, labels: Array, rays: Array, a: Array, b: Array, intrinsics: Array
) -> None:
    if min(a[2], b[2]) < NEAREST:
        if max(a[2], b[2]) <= NEAREST:
            return
        share = (NEAREST - a[2]) / (b[2] - a[2])
        cut = a + share * (b - a)
        a, b = (cut, b) if a[2] < NEAREST else (a, cut)
    window = _window(a, b, max(rod.radius_a, rod.radius_b), intrinsics, depth.shape)
    if window is None:
        return
    ray = rays[window]
    unit = b - a
    length = float(np.linalg.norm(unit))
    unit = (unit / length).astype(np.float32)
    start = a.astype(np.float32)
    axes = [ray[..., axis] for axis in range(3)]
    away, sine, at, where = _closest(axes, start, unit)
    radius = rod.radius_a + (rod.radius_b - rod.radius_a) * np.clip(at / length, 0, 1)
    chord = np.sqrt(np.maximum(radius * radius - away * away, 0)) / np.maximum(sine, 1e-4)
    hit = where - chord
    pixel = hit / np.float32(intrinsics[0, 0])
    cover = np.clip((radius - away) / np.maximum(pixel, 1e-3) + 0.5, 0, 1)
    along = (ray * hit[..., None] - start) @ unit
    cover *= np.clip(along / np.maximum(pixel, 1e-3) + 0.5, 0, 1) * np.clip(
        (length - along) / np.maximum(pixel, 1e-3) + 0.5, 0, 1
    )
    cover *= (hit > NEAREST * 0.8) & (hit < depth[window])
    if not cover.any():
        return
    normal = (ray * hit[..., None] - start - along[..., None] * unit) / np.maximum(radius, 0.1)[..., None]
    shade = _finish(rod.finish, normal, ray, hit, along)
    cover3 = cover[..., None]
    light[window] = light[window] * (1 - cover3) + shade * cover3
    solid = cover > 0.5
    depth[window] = np.where(solid, hit, depth[window])
    labels[window] = np.where(solid, np.uint8(1), labels[window])


def _closest(ray: list[Array], start: Array, unit: Array) -> tuple[Array, Array, Array, Array]:
    """Between each ray from the origin and the line start + t unit: distance, |ray x unit|, t, and ray parameter."""
    nx = ray[1] * unit[2] - ray[2] * unit[1]
    ny = ray[2] * unit[0] - ray[0] * unit[2]
    nz = ray[0] * unit[1] - ray[1] * unit[0]
    square = np.maximum(nx * nx + ny * ny + nz * nz, 1e-9)
    sine = np.sqrt(square)
    away = np.abs(start[0] * nx + start[1] * ny + start[2] * nz) / sine
    mx, my, mz = (
        start[1] * unit[2] - start[2] * unit[1],
        start[2] * unit[0] - start[0] * unit[2],
        start[0] * unit[1] - start[1] * unit[0],
    )
    where = (mx * nx + my * ny + mz * nz) / square
    at = where * (ray[0] * unit[0] + ray[1] * unit[1] + ray[2] * unit[2]) - float(start @ unit)
    return away, sine, at, where


def _window(a: Array, b: Array, radius: float, intrinsics: Array, shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    focal, cx, cy = intrinsics[0, 0], intrinsics[0, 2], intrinsics[1, 2]
    columns, rows = [], []
    for end in (a, b):
        margin = (radius + 0.5) * focal / end[2] * 1.3 + 2
        columns += [cx + focal * end[0] / end[2] - margin, cx + focal * end[0] / end[2] + margin]
        rows += [cy + focal * end[1] / end[2] - margin, cy + focal * end[1] / end[2] + margin]
    x0, x1 = int(max(min(columns), 0)), int(min(max(columns) + 1, shape[1]))
    y0, y1 = int(max(min(rows), 0)), int(min(max(rows) + 1, shape[0]))
    return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None


def _finish(finish: int, normal: Array, ray: Array, hit: Array, along: Array) -> Array:
    """Light that a rod gives back, (h, w, 3) float32."""
    eye = -ray / np.sqrt((ray * ray).sum(-1))[..., None]
    facing = np.clip((normal * eye).sum(-1), 0, 1)
    power = np.minimum(70 * 70 / np.maximum(hit * hit, 400), 3.0)
    mirrored = 2 * facing[..., None] * normal - eye  # where the eye's ray goes on to
    # What steel mirrors: the scope's light straight back, wet red tissue ahead of it, darkness to the sides.
    ahead = np.clip(mirrored[..., 2], 0, 1)
    sky = np.clip(0.5 - 0.8 * mirrored[..., 1], 0, 1)
    streak = 0.5 + 0.5 * np.sin(along * 2.1) * np.sin(along * 0.37 + 1.0)
    if finish == SHEATH:
        grey = 0.018 + 0.05 * facing**2 + 0.55 * np.exp(-160 * (1 - facing)) + 0.02 * sky
        tissue = 0.05 * (1 - facing) ** 2
    else:
        polish = 90 if finish == STEEL else 45
        grey = (
            0.05
            + 0.20 * facing
            + 0.95 * np.exp(-polish * (1 - facing))
            + 0.12 * sky * (1 - facing)
            + 0.025 * streak * facing
        )
        tissue = 0.30 * ahead + 0.14 * (1 - facing) ** 2
        if finish == TIP:
            grey = grey * (0.72 + 0.28 * (np.sin(along * 5.0) > 0))
    colour: Array = grey[..., None] * np.array([0.98, 1.0, 1.03], np.float32) + tissue[..., None] * np.array(
        [0.62, 0.15, 0.11], np.float32
    )
    return (colour * power[..., None]).astype(np.float32)
