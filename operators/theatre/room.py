"""What the camera sees outside the patient: drapes, skin, a gloved blur, lamps; and the trocar on the way there."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from operators.theatre.physiology import generator
from operators.theatre.world import noise

Array = np.ndarray[Any, np.dtype[Any]]

SCENE = 720
"""Side of the painted room, points."""


class Room:
    """The room, painted once and looked about in: near things are out of the scope's focus."""

    def __init__(self, size: tuple[int, int], seed: int) -> None:
        self.size, self.seed = size, seed
        self.scene = _paint(generator(seed, 160))
        random = generator(seed, 161)
        self.rates, self.phases = random.uniform(0.05, 0.4, (3, 3)), random.uniform(0, 2 * np.pi, (3, 3))
        width, height = size
        x, y = np.meshgrid(
            np.arange(width, dtype=np.float32) - (width - 1) / 2, np.arange(height, dtype=np.float32) - (height - 1) / 2
        )
        self.radius = np.sqrt(x * x + y * y) / (height / 2)
        self.angle = np.arctan2(y, x)
        stop = np.clip((1.16 - self.radius) / 0.028, 0, 1)
        self.stop = (stop * stop * (3 - 2 * stop))[..., None]
        self.grain = random.standard_normal((height, width, 3)).astype(np.float32)

    def picture(self, seconds: float) -> Array:
        """(h, w, 3) uint8."""
        light = self._view(seconds) * self.stop
        shift = round(seconds * 997) % self.size[1]
        picture = 255 * np.sqrt(light) + 2.2 * np.roll(self.grain, shift, 0)
        return np.clip(picture, 0, 255).astype(np.uint8)

    def passage(self, inside: Array, seconds: float, share: float) -> Array:
        """On the way through the trocar: ``share`` 0 inside the patient, 1 outside. (h, w, 3) uint8."""
        # Drawn back into the sheath, the view of the abdomen shrinks to the end of a steel tube, then the room opens.
        hole = float(np.interp(share, [0, 0.55, 0.75, 1.0], [1.25, 0.28, 0.3, 1.4]))
        width, height = self.size
        zoom = max(hole / 1.25, 0.2)
        matrix = np.array([[zoom, 0, (1 - zoom) * width / 2], [0, zoom, (1 - zoom) * height / 2]])
        far = (inside.astype(np.float32) / 255) ** 2 if share < 0.65 else self._view(seconds)
        far = cv2.warpAffine(far, matrix, self.size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
        wall = (
            0.34
            * np.clip(self.radius - hole * 0.9, 0, 1) ** 1.5
            * (0.7 + 0.3 * np.sin(3 * self.angle + 2) + 0.10 * np.sin(26 * self.radius))
        )
        ring = 0.5 * np.exp(-(((self.radius - hole) / 0.035) ** 2))
        tube = (wall + ring)[..., None] * np.array([0.95, 1.0, 1.05], np.float32)
        through = np.clip((hole - self.radius) / 0.04, 0, 1)[..., None]
        light = (far * through + tube * (1 - through)) * self.stop
        return np.clip(255 * np.sqrt(np.maximum(light, 0)), 0, 255).astype(np.uint8)

    def _view(self, seconds: float) -> Array:
        width, height = self.size
        sway = (np.sin(2 * np.pi * self.rates * seconds + self.phases) * np.array([[0.20], [0.16], [0.12]])).sum(1)
        scale = (1.0 + 0.25 * sway[2]) * SCENE * 0.5 / height
        cx, cy = SCENE * (0.5 + 0.35 * sway[0]), SCENE * (0.5 + 0.35 * sway[1])
        turn = 0.5 * sway[2] + 0.2
        cos, sin = scale * np.cos(turn), scale * np.sin(turn)
        matrix = np.array(
            [[cos, -sin, cx - cos * width / 2 + sin * height / 2], [sin, cos, cy - sin * width / 2 - cos * height / 2]]
        )
        view = cv2.warpAffine(
            self.scene, matrix, self.size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
        )
        result: Array = cv2.GaussianBlur(view, (0, 0), 1.6 * height / 240)
        return result


def _paint(random: np.random.Generator) -> Array:
    """The room, (SCENE, SCENE, 3) float32 light."""
    axis = np.arange(SCENE, dtype=np.float32) / SCENE
    x, y = np.meshgrid(axis, axis)
    folds = noise(random, SCENE, 150, 4, 0.55)
    bend = 0.06 * folds
    slope = 40 * cv2.Sobel(cv2.GaussianBlur(folds, (0, 0), 6), cv2.CV_32F, 1, 0, scale=1 / 8)
    weave = 0.02 * np.sin(x * 900) * np.sin(y * 900)
    drape = np.clip(0.42 + 0.12 * folds + 0.30 * np.clip(slope, -1, 1.6) + weave, 0.04, 1.1)[..., None]
    scene = drape * np.array([0.055, 0.30, 0.27], np.float32)
    # The window in the drapes: skin painted with antiseptic, a trocar in it.
    edge = np.maximum(np.abs(x - 0.55 + bend), np.abs(y - 0.52 - bend)) - 0.20
    skin = np.clip(-edge / 0.008, 0, 1)[..., None]
    tone = (0.62 + 0.12 * noise(random, SCENE, 90, 5, 0.6) + 0.25 * np.exp(-((x - 0.5) ** 2 + (y - 0.45) ** 2) / 0.02))[
        ..., None
    ]
    scene = scene * (1 - skin) + skin * tone * np.array([0.62, 0.33, 0.16], np.float32)
    scene *= (1 - 0.65 * np.exp(-((edge / 0.022) ** 2)) * (edge > 0))[..., None]
    for cx, cy, radius in ((0.50, 0.47, 0.045), (0.66, 0.60, 0.028)):
        away = np.hypot(x - cx, y - cy) / radius
        steel = (
            0.35 + 0.35 * np.sin(2 * np.arctan2(y - cy, x - cx) + 0.6) + 0.4 * np.exp(-(((away - 0.75) / 0.12) ** 2))
        )[..., None]
        inside = np.clip((1 - away) / 0.06, 0, 1)[..., None]
        scene = scene * (1 - inside) + inside * steel * np.array([0.9, 0.95, 1.0], np.float32)
        bore = np.clip((0.45 - away) / 0.06, 0, 1)[..., None]
        scene = scene * (1 - bore) + bore * 0.01
    # A gloved hand and a gown, far out of focus.
    blur = np.zeros_like(scene)
    cover = np.zeros((SCENE, SCENE), np.float32)
    for cx, cy, rx, ry, tint in (
        (0.14, 0.72, 0.20, 0.10, (0.75, 0.72, 0.62)), (0.24, 0.64, 0.10, 0.035, (0.78, 0.75, 0.66)),
        (0.26, 0.70, 0.11, 0.032, (0.76, 0.73, 0.64)), (0.90, 0.16, 0.26, 0.22, (0.10, 0.22, 0.48)),
    ):  # fmt: skip
        shape = np.clip((1 - np.hypot((x - cx) / rx, (y - cy) / ry)) / 0.12, 0, 1)
        light = (0.55 + 0.35 * (cy - y) / ry)[..., None] * np.array(tint, np.float32)
        blur = blur * (1 - shape[..., None]) + light * shape[..., None]
        cover = np.maximum(cover, shape)
    cover, blur = cv2.GaussianBlur(cover, (0, 0), 7)[..., None], cv2.GaussianBlur(blur, (0, 0), 7)
    scene = scene * (1 - cover) + blur
    for cx, cy in ((0.30, 0.08), (0.42, 0.05), (0.36, 0.15)):
        scene += (
            1.6
            * np.exp(-((((x - cx) ** 2 + (y - cy) ** 2) / 0.0016) ** 2))[..., None]
            * np.array([1.0, 0.98, 0.92], np.float32)
        )
        scene += 0.16 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 0.03)[..., None]
    result: Array = np.clip(scene, 0, 1.2).astype(np.float32)
    return result
