"""The laparoscope's picture of the world, with what a camera cannot give: exact depth, pose and masks.

A ray for each pixel is marched through the height map; where it lands, the maps of ``world`` are looked up and lit
by the scope's own light, which sits beside the lens and falls off with the square of the distance. What goes over
that (instruments, blood, smoke, a fouled lens) lives in ``instruments.py`` and ``effects.py``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np

from operators.theatre import camera, effects, instruments, optics, room
from operators.theatre.blood import Pools
from operators.theatre.case import Case
from operators.theatre.physiology import Patient
from operators.theatre.steps import OutOfBody, VideoFault
from operators.theatre.world import CELLS, EXTENT, LEFT, NEAR, TEXELS, World, build

Array = np.ndarray[Any, np.dtype[Any]]

CLASSES = ("background", "instrument", "blood")
"""What the values of a picture's label map mean."""
COARSE_STEPS, FINE_STEPS = 15, 4
"""Steps of the march at half size, and after it at full size."""
LIGHT = 1.45
"""Strength of the scope's light, so that tissue at the usual distance fills the range of the sensor."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture and its truth."""

    rgb: Array
    """(h, w, 3) uint8."""
    depth: Array
    """(h, w) float32: distance along the optical axis, mm; NaN where no abdomen is seen, as beyond the field stop."""
    labels: Array
    """(h, w) uint8: index into ``CLASSES``."""
    pose: Array
    """(4, 4) float64 camera-to-world; x right, y down, z along the view; mm."""
    intrinsics: Array
    """(3, 3) float64."""
    smoke: Array
    """(h, w) float32: opacity of the smoke before each pixel, 0..1; 0 where no abdomen is seen."""


class Renderer:
    """Draws any moment of a case, a pure function of case, seed and time: nothing is carried between pictures."""

    def __init__(
        self, case: Case, seed: int, size: tuple[int, int] = (320, 240), patient: Patient | None = None
    ) -> None:
        self.case, self.seed, self.size = case, seed, size
        self.world: World = build(seed)
        self.patient = patient or Patient(case, seed)
        self.path = camera.Path(case, seed)
        self.pools = Pools(case, seed, self.world)
        self.lens = optics.Lens(size, seed)
        self.air = effects.Air(size, seed)
        self.room = room.Room(size, seed)
        width, height = size
        focal = 0.98 * height
        self.intrinsics = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
        self.rays = _rays(width, height, focal)
        self.coarse = _rays(width // 2, height // 2, focal / 2)

    def picture(self, seconds: float) -> Picture:
        """What the camera gives at a second of the case, faults of the video chain included."""
        for fault in self.case.steps(VideoFault):
            if fault.at <= seconds < fault.end:
                if fault.how == "frozen":
                    return self.picture(max(0.0, np.nextafter(fault.at, 0)))
                if fault.how != "lost":
                    return self._worthless(fault.how, seconds)
        for step in self.case.steps(OutOfBody):
            if step.at <= seconds < step.end:
                share = min((seconds - step.at) / 1.6, (step.end - seconds) / 1.6, 1.0)
                if share >= 1:
                    return self._blank(self.room.picture(seconds))
                inside = self._abdomen(seconds)
                return self._blank(self.room.passage(inside.rgb, seconds, share))
        return self._abdomen(seconds)

    # -- inside

    def _abdomen(self, seconds: float) -> Picture:
        breath, beat = self._motion(seconds)
        pose = self.path.pose(seconds)
        rotation, position = pose[:3, :3].astype(np.float32), pose[:3, 3].astype(np.float32)
        height_map = self.world.height + np.float32(breath) * self.world.lift + np.float32(beat) * self.world.pulse
        direction = self.rays @ rotation.T
        distance = self._march(height_map, rotation, position, direction)

        x = position[0] + distance * direction[..., 0]
        y = position[1] + distance * direction[..., 1]
        z = position[2] + distance * direction[..., 2]
        u, v = (x - LEFT) * (TEXELS / EXTENT) - 0.5, (y - NEAR - 2.2 * breath) * (TEXELS / EXTENT) - 0.5
        albedo = cv2.remap(self.world.albedo, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT).astype(np.float32)
        albedo *= 1 / 255
        albedo *= albedo
        slope = cv2.remap(self.world.slope, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        surface = cv2.remap(self.world.surface, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        gloss, openness = surface[..., 0] * np.float32(1 / 255), surface[..., 1] * np.float32(1 / 255)

        blood = self.pools.cover(seconds, u, v)
        if blood is not None:
            albedo, slope, gloss = self.pools.stain(blood, albedo, slope, gloss)

        tools = instruments.present(self.case, seconds, self.seed, pose)
        light = position + rotation @ np.array([2.2, -2.6, 0.0], np.float32)
        colour = self._light(albedo, slope, gloss, openness, (x, y, z), direction, light)
        colour *= instruments.shadow(tools, (x, y, z), light)[..., None]
        labels = np.zeros(distance.shape, np.uint8)
        if blood is not None:
            labels[blood > 0.5] = 2
        axial = distance  # rays have unit length along the axis, so their parameter is depth
        colour, axial, labels = instruments.draw(tools, colour, axial, labels, self.rays, pose, self.intrinsics)

        colour, smoke = self.air.smoke(self.case, colour, axial, seconds)
        rgb = self.lens.develop(self.case, colour, seconds)
        unseen = self.lens.stop[..., 0] < 0.5
        axial[unseen], labels[unseen], smoke[unseen] = np.nan, 0, 0
        return Picture(rgb, axial, labels, pose, self.intrinsics, smoke)

    def _motion(self, seconds: float) -> tuple[float, float]:
        """How far a breath lifts the organs (0..1) and the last heart beat moves them (0..1)."""
        breaths = self.patient.breaths
        phase = ((seconds - breaths.time[0]) / breaths.period) % 1
        breath = np.interp(phase, [0, 0.12, 0.30, 0.40, 0.58, 0.75, 1.0], [0, 0.35, 0.95, 1.0, 0.45, 0.08, 0])
        beats = self.patient.beats.time
        index = int(np.searchsorted(beats, seconds - 0.05)) - 1
        since = seconds - 0.05 - beats[index] if index >= 0 else 9.0
        return float(breath), float(
            np.exp(-(((since - 0.14) / 0.09) ** 2)) - 0.3 * np.exp(-(((since - 0.36) / 0.11) ** 2))
        )

    def _march(self, height_map: Array, rotation: Array, position: Array, direction: Array) -> Array:
        """Distance at which each ray meets the landscape, in units of the ray's length, (h, w) float32."""
        scale = np.float32(CELLS / EXTENT)
        start_x, start_y = (position[0] - LEFT) * scale - 0.5, (position[1] - NEAR) * scale - 0.5

        def above(distance: Array, rays: tuple[Array, Array, Array]) -> Array:
            ground = cv2.remap(
                height_map,
                start_x + distance * rays[0],
                start_y + distance * rays[1],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            return position[2] + distance * rays[2] - ground

        coarse = self.coarse @ rotation.T
        rays = (coarse[..., 0] * scale, coarse[..., 1] * scale, np.ascontiguousarray(coarse[..., 2]))
        distance = np.full(coarse.shape[:2], 22.0, np.float32)
        for _ in range(COARSE_STEPS):
            distance += 0.62 * above(distance, rays)
            np.clip(distance, 8, 330, out=distance)
        distance = cv2.resize(distance, (direction.shape[1], direction.shape[0]), interpolation=cv2.INTER_LINEAR)
        rays = (direction[..., 0] * scale, direction[..., 1] * scale, np.ascontiguousarray(direction[..., 2]))
        for _ in range(FINE_STEPS):
            distance += 0.6 * above(distance, rays)
        return np.clip(distance, 8, 330)

    def _light(
        self,
        albedo: Array,
        slope: Array,
        gloss: Array,
        openness: Array,
        point: tuple[Array, Array, Array],
        ray: Array,
        light: Array,
    ) -> Array:
        """Light that comes back to the lens, (h, w, 3) float32, 1 being full scale."""
        lx, ly, lz = light[0] - point[0], light[1] - point[1], light[2] - point[2]
        far = lx * lx + ly * ly + lz * lz
        near = 1 / np.sqrt(far)
        lx, ly, lz = lx * near, ly * near, lz * near
        gx, gy = slope[..., 0], slope[..., 1]
        normal = 1 / np.sqrt(gx * gx + gy * gy + 1)
        facing = np.maximum((lz - gx * lx - gy * ly) * normal, 0)
        # Half way between light and eye; the two are so close that their mean need hardly be normalised.
        length = 1 / np.sqrt((ray * ray).sum(-1))
        hx, hy, hz = lx - ray[..., 0] * length, ly - ray[..., 1] * length, lz - ray[..., 2] * length
        half = (hz - gx * hx - gy * hy) * normal / np.sqrt(hx * hx + hy * hy + hz * hz)
        spot = self.lens.spot
        power = np.float32(LIGHT * 80 * 80) * spot / np.maximum(far, 900)
        # Tissue lets light in: it turns round edges softly, and redder where it had further to go.
        soft = facing * 0.82 + 0.18 * np.sqrt(facing)
        around = 0.16 * openness
        colour: Array = albedo * (power * (soft * (0.55 + 0.45 * openness) + around))[..., None]
        colour += albedo * albedo * (power * 0.25 * openness)[..., None] * np.array([1.25, 0.75, 0.7], np.float32)
        miss = 1 - half
        shine = (
            gloss * (0.10 * np.exp(-18 * miss) + 1.6 * gloss * gloss * np.exp(-230 * miss)) * (0.35 + 0.65 * openness)
        )
        colour += (power * shine)[..., None]
        return colour

    # -- not the abdomen

    def _blank(self, rgb: Array) -> Picture:
        width, height = self.size
        nothing = np.full((height, width), np.nan, np.float32)
        clear = np.zeros((height, width), np.float32)
        return Picture(rgb, nothing, np.zeros((height, width), np.uint8), np.eye(4), self.intrinsics, clear)

    def _worthless(self, how: str, seconds: float) -> Picture:
        width, height = self.size
        if how == "noise":
            random = np.random.Generator(
                np.random.Philox(np.random.SeedSequence([self.seed, 101, round(seconds * 1e6)]))
            )
            return self._blank(random.integers(0, 256, (height, width, 3), np.uint8))
        colour = (0, 0, 0) if how == "black" else (16, 32, 200)
        return self._blank(np.full((height, width, 3), colour, np.uint8))


def _rays(width: int, height: int, focal: float) -> Array:
    """Directions in the camera's frame with z = 1, (h, w, 3) float32."""
    column = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / focal
    row = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / focal
    x, y = np.meshgrid(column, row)
    return np.stack([x, y, np.ones_like(x)], -1).astype(np.float32)
