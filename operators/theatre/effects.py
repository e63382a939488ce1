"""What hangs in the air between lens and tissue: diathermy smoke."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from operators.theatre.case import Case
from operators.theatre.physiology import generator
from operators.theatre.steps import Smoke
from operators.theatre.world import noise

Array = np.ndarray[Any, np.dtype[Any]]

TILE = 512
FADE = 6.0
"""Seconds in which the insufflator clears smoke once it is no longer made."""


class Air:
    """Smoke: two sheets of drifting haze, denser with distance, lit by the scope and therefore bright near it."""

    def __init__(self, size: tuple[int, int], seed: int) -> None:
        self.size = size
        tile = np.clip(0.55 + 0.38 * noise(generator(seed, 130), TILE, 170, 5, 0.55), 0, 1.3).astype(np.float32)
        self.tile = np.hstack([tile, tile[:, ::-1]])
        self.tile = np.vstack([self.tile, self.tile[::-1]])
        self.haze = np.array([0.50, 0.50, 0.52], np.float32)

    def density(self, case: Case, seconds: float) -> float:
        """How thick the smoke is, 0 to 1."""
        thick = 0.0
        for step in case.steps(Smoke):
            if seconds >= step.at:
                rise = min(1.0, (seconds - step.at) / 2.0)
                fall = np.exp(-max(0.0, seconds - step.end) / FADE)
                thick = max(thick, float(step.density * rise * fall))
        return thick if thick > 0.01 else 0.0

    def smoke(self, case: Case, light: Array, depth: Array, seconds: float) -> tuple[Array, Array]:
        """Light (h, w, 3) float32 with the smoke before it, and the share of it that is smoke, (h, w) float32 0..1.

        ``depth`` (h, w) in mm.
        """
        thick = self.density(case, seconds)
        if not thick:
            return light, np.zeros(depth.shape, np.float32)
        sheets = sum(self._sheet(seconds, *sheet) for sheet in ((11, 5, 0.9, 0.0), (-7, 9, 1.7, 300.0)))
        cover = 1 - np.exp(-thick * 1.5 * sheets * np.clip(depth / 80, 0.2, 1.7))
        opacity = np.clip(cover, 0, 0.97).astype(np.float32)
        cover = opacity[..., None]
        return light * (1 - cover) + cover * self.haze, opacity

    def _sheet(self, seconds: float, across: float, down: float, zoom: float, offset: float) -> Array:
        width = self.size[0]
        scale = zoom * 320 / width
        wrap = 2.0 * TILE
        matrix = np.array(
            [[scale, 0, (offset + across * seconds) % wrap], [0, scale, (offset + down * seconds) % wrap]], np.float32
        )
        return cv2.warpAffine(
            self.tile, matrix, self.size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_WRAP
        )
