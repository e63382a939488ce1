"""Blood: pools that spread from a bleeding vessel over the lowest ground, and are sucked away again.

For each bleeding the ground is flooded once, from its site outwards, climbing being dear and running downhill cheap
(Dijkstra's shortest paths). A pool at a moment is then the ground that is reached by its volume: a pure function of
time.
"""

from __future__ import annotations

import heapq
from typing import Any

import cv2
import numpy as np

from operators.theatre.case import Case
from operators.theatre.physiology import generator
from operators.theatre.steps import Bleeding
from operators.theatre.world import EXTENT, LEFT, NEAR, TEXELS, World, noise

Array = np.ndarray[Any, np.dtype[Any]]

GROUND = 160
"""Cells a side of the ground that is flooded."""
REACH = 74.0
"""Cost that the largest pool reaches, roughly mm on level ground."""


class Pools:
    """All pools of a case."""

    def __init__(self, case: Case, seed: int, world: World) -> None:
        self.bleedings = case.steps(Bleeding)
        self.seed, self.world = seed, world
        self.floods: dict[tuple[float, float], Array] = {}
        self.ripple = noise(generator(seed, 140), TEXELS, 40, 3).astype(np.float32)

    def cover(self, seconds: float, u: Array, v: Array) -> Array | None:
        """How surely each pixel shows blood, 0..1 (h, w) float32, looked up at texels (u, v); None where is none."""
        total: Array | None = None
        for step in self.bleedings:
            volume = pool(step, seconds)
            if volume <= 0:
                continue
            flood = self._flood(step)
            reached = cv2.remap(flood, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            here = np.clip((volume * REACH - reached) / 1.6, 0, 1)
            total = here if total is None else np.maximum(total, here)
        return total

    def stain(self, blood: Array, albedo: Array, slope: Array, gloss: Array) -> tuple[Array, Array, Array]:
        """Colour, slope and gloss of tissue under blood: dark red, level, and mirror-like."""
        cover = blood[..., None]
        thick = cover * cover
        red = np.array([0.155, 0.0035, 0.006], np.float32)
        albedo = albedo * (1 - cover) + cover * (
            red * (1 - 0.35 * thick) + albedo * np.array([0.22, 0.01, 0.01], np.float32)
        )
        return albedo, slope * (1 - 0.72 * cover), gloss * (1 - blood) + 0.97 * blood

    def _flood(self, step: Bleeding) -> Array:
        if step.site not in self.floods:
            ground = cv2.resize(self.world.height, (GROUND, GROUND), interpolation=cv2.INTER_AREA)
            cost = flood(ground, step.site)
            wide = cv2.resize(cost, (TEXELS, TEXELS), interpolation=cv2.INTER_CUBIC)
            self.floods[step.site] = (cv2.GaussianBlur(wide, (0, 0), 3) + 3.0 * self.ripple).astype(np.float32)
        return self.floods[step.site]


def pool(step: Bleeding, seconds: float) -> float:
    """Size of a pool, 0 (none) to 1 (most of the floor)."""
    if seconds < step.at:
        return 0.0
    grown = step.amount * (1 - np.exp(-(min(seconds, step.end) - step.at) / 6.0)) ** 0.7
    cleared = 0.0 if seconds < step.end else min(1.0, (seconds - step.end) / max(step.washed, 0.1))
    return float(grown * (1 - cleared))


def flood(ground: Array, site: tuple[float, float]) -> Array:
    """Cost of reaching each cell of ``ground`` (n, n) mm from a site in mm, (n, n) float32."""
    side = ground.shape[0]
    cell = EXTENT / side
    column = int(np.clip((site[0] - LEFT) / cell, 0, side - 1))
    row = int(np.clip((site[1] - NEAR) / cell, 0, side - 1))
    levels = ground.tolist()
    cost = [[1e9] * side for _ in range(side)]
    cost[row][column] = 0.0
    queue = [(0.0, row, column)]
    steps = [(dr, dc, cell * (dr * dr + dc * dc) ** 0.5) for dr in (-1, 0, 1) for dc in (-1, 0, 1) if dr or dc]
    while queue:
        spent, r, c = heapq.heappop(queue)
        if spent > cost[r][c] or spent > 3 * REACH:
            continue
        for dr, dc, length in steps:
            nr, nc = r + dr, c + dc
            if 0 <= nr < side and 0 <= nc < side:
                climb = levels[nr][nc] - levels[r][c]
                total = spent + length * (0.7 + 0.3 * (climb > -0.5)) + (7.0 * climb if climb > 0 else 0.15 * climb)
                total = max(total, spent + 0.2 * length)
                if total < cost[nr][nc]:
                    cost[nr][nc] = total
                    heapq.heappush(queue, (total, nr, nc))
    result: Array = np.minimum(np.array(cost, np.float32), 3 * REACH)
    return result
