"""The scope and its camera: field stop, light cone, bloom, sensor; and what fouls the lens."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from operators.theatre.case import Case
from operators.theatre.physiology import generator
from operators.theatre.steps import Fouling
from operators.theatre.world import noise

Array = np.ndarray[Any, np.dtype[Any]]


class Lens:
    """Turns light into a picture. ``spot`` (h, w) float32 is the share of the scope's light in each direction."""

    def __init__(self, size: tuple[int, int], seed: int) -> None:
        self.size, self.seed = size, seed
        width, height = size
        x, y = np.meshgrid(
            np.arange(width, dtype=np.float32) - (width - 1) / 2, np.arange(height, dtype=np.float32) - (height - 1) / 2
        )
        radius = np.sqrt(x * x + y * y) / (height / 2)
        self.spot = np.exp(-((radius / 1.25) ** 2) * 0.9).astype(np.float32)
        # The field stop: a circle wider than the picture is high, with the notch that shows which way is up.
        edge = 1.16 - radius + 0.004 * np.sin(5 * np.arctan2(y, x))
        side = 1.16 * height / 2
        notch = np.hypot(x + side * np.cos(0.35), y + side * np.sin(0.35)) / (height / 2)
        stop = np.clip(np.minimum(edge, notch - 0.045) / 0.028, 0, 1)
        self.stop = (stop * stop * (3 - 2 * stop)).astype(np.float32)[..., None]
        random = generator(seed, 120)
        self.grain = (random.standard_normal((height + 64, width + 64, 3)) * 0.9).astype(np.float32)
        self.droplets = _droplets(generator(seed, 121), size)
        self.smear = np.clip(0.5 + 0.45 * noise(generator(seed, 122), max(size), max(size) / 3, 4), 0, 1)[
            :height, :width
        ]

    def develop(self, case: Case, light: Array, seconds: float) -> Array:
        """The picture, (h, w, 3) uint8, of light (h, w, 3) float32 on the lens."""
        for step in case.steps(Fouling):
            if step.at <= seconds < step.end:
                amount = step.amount * min(1.0, (seconds - step.at) / 0.8)
                light = self._foul(step.how, amount, light)
        small = cv2.resize(light, (self.size[0] // 4, self.size[1] // 4), interpolation=cv2.INTER_AREA)
        bloom = cv2.GaussianBlur(np.maximum(small - 0.75, 0), (0, 0), 2.5)
        light = light + 0.35 * cv2.resize(bloom, self.size, interpolation=cv2.INTER_LINEAR)
        light *= self.stop
        # A shoulder keeps highlights from clipping hard; the root is the display's curve.
        picture = np.sqrt(light / (1 + 0.28 * light)) * np.float32(255 * 1.13)
        picture += self._grain(seconds) * (0.35 + self.stop)
        blurred = cv2.GaussianBlur(picture, (0, 0), 1.1)
        picture = cv2.addWeighted(picture, 1.45, blurred, -0.45, 0)
        return cv2.convertScaleAbs(np.maximum(picture, 0))

    def _grain(self, seconds: float) -> Array:
        # Shifted rather than drawn again: as good to the eye, and a pure function of the time.
        key = (round(seconds * 1000) * 2654435761 + self.seed * 40503) & 0xFFFFFFFF
        row, column = key & 63, (key >> 8) & 63
        width, height = self.size
        return self.grain[row : row + height, column : column + width]

    def _foul(self, how: str, amount: float, light: Array) -> Array:
        width, height = self.size
        if how == "fog":
            quarter = cv2.resize(light, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
            blurred = cv2.resize(
                cv2.GaussianBlur(quarter, (0, 0), 1 + 3 * amount), self.size, interpolation=cv2.INTER_LINEAR
            )
            milky = blurred.mean((0, 1)) * np.array([0.95, 1.0, 1.05], np.float32) + 0.05
            cover = (amount * (0.75 + 0.25 * self.smear))[..., None]
            return light * (1 - cover) + cover * (0.55 * blurred + 0.55 * milky)
        if how == "blood":
            blurred = cv2.GaussianBlur(light, (0, 0), 5)
            cover = np.clip((self.smear - (1 - 0.75 * amount)) / 0.18, 0, 1)[..., None]
            tint = np.array([0.55, 0.05, 0.04], np.float32)
            return light * (1 - cover) + cover * (blurred * tint + 0.02 * tint)
        shift, edge, inside = self.droplets
        bent = cv2.remap(light, shift[..., 0], shift[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        bent = cv2.GaussianBlur(bent, (0, 0), 1.8)
        cover = np.clip(inside * 1.2 - (1 - amount), 0, 1)[..., None] * amount
        rest = cv2.GaussianBlur(light, (0, 0), 0.4 + 1.6 * amount)
        return (rest * (1 - cover) + cover * bent) * (1 - 0.45 * amount * edge[..., None]) + 0.05 * (
            cover * edge[..., None]
        )


def _droplets(random: np.random.Generator, size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Where droplets bend the light to (h, w, 2), their rims (h, w), and how far inside one is (h, w)."""
    width, height = size
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    shift, edge, inside = (
        np.stack([x, y], -1),
        np.zeros((height, width), np.float32),
        np.zeros((height, width), np.float32),
    )
    for _ in range(26):
        radius = height * random.gamma(2.2, 0.022) + 3
        cx, cy = random.uniform(0.1, 0.9) * width, random.uniform(0, 1) * height
        squeeze, tilt = random.uniform(0.75, 1.0), random.uniform(0, np.pi)
        dx, dy = (x - cx) * np.cos(tilt) + (y - cy) * np.sin(tilt), (y - cy) * np.cos(tilt) - (x - cx) * np.sin(tilt)
        away = np.sqrt(dx * dx + (dy / squeeze) ** 2) / radius
        within = away < 1
        # A drop is a strong lens: it shows a wide part of the scene, small and upside down.
        shift[within] = np.stack([cx - 2.6 * (x - cx), cy - 2.6 * (y - cy)], -1)[within]
        edge = np.maximum(edge, np.exp(-(((away - 0.96) / 0.10) ** 2)))
        inside = np.maximum(inside, np.clip((1 - away) * radius / 3, 0, 1))
    return shift.astype(np.float32), edge.astype(np.float32), inside.astype(np.float32)
