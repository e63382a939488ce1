"""Where the camera is: a scope turned about its trocar by a hand that is never quite still."""

from __future__ import annotations

from typing import Any

import numpy as np

from operators.theatre.case import Case
from operators.theatre.physiology import generator

Array = np.ndarray[Any, np.dtype[Any]]

TROCAR = np.array([14.0, -118.0, 138.0])
"""Where the scope passes the abdominal wall, mm."""
VIEWS = {
    "wide": ((0.0, 8.0, 14.0), 112.0),
    "gallbladder": ((4.0, 10.0, 16.0), 90.0),
    "liver": ((34.0, 24.0, 24.0), 96.0),
    "bowel": ((-34.0, -26.0, 8.0), 104.0),
    "close": ((12.0, -8.0, 10.0), 68.0),
}
"""Named views: the point looked at, mm, and the distance from it, mm."""
MOVE = 3.0
"""Seconds that the assistant takes from one view to the next."""


class Path:
    """The camera's pose at every moment."""

    def __init__(self, case: Case, seed: int) -> None:
        phases = sorted(case.phases, key=lambda phase: phase.at)
        self.times = np.array([phase.at for phase in phases] or [0.0])
        views = [VIEWS[phase.view] for phase in phases] or [VIEWS["wide"]]
        self.goals = np.array([(*point, distance) for point, distance in views])
        random = generator(seed, 110)
        self.rates = random.uniform(0.05, 0.45, (5, 5))
        self.phases = random.uniform(0, 2 * np.pi, (5, 5))
        # Point looked at in x, y, z (mm), distance (mm) and roll (radians); slow sway weighs more than tremor.
        self.sizes = np.array([5.0, 4.0, 1.5, 4.0, 0.035])[:, None] * (0.06 / self.rates) ** 0.7

    def pose(self, seconds: float) -> Array:
        """(4, 4) float64 camera-to-world: x right, y down, z along the view; mm."""
        index = max(0, int(np.searchsorted(self.times, seconds, "right")) - 1)
        share = 1.0 if index == 0 else float(np.clip((seconds - self.times[index]) / MOVE, 0, 1))
        share = share**3 * (10 - 15 * share + 6 * share * share)
        goal = self.goals[index] * share + self.goals[max(index - 1, 0)] * (1 - share)
        sway = (self.sizes * np.sin(2 * np.pi * self.rates * seconds + self.phases)).sum(1)
        target, distance = goal[:3] + sway[:3], goal[3] + sway[3]
        forward = target - TROCAR
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        roll = sway[4]
        pose = np.eye(4)
        pose[:3, 0] = np.cos(roll) * right + np.sin(roll) * down
        pose[:3, 1] = np.cos(roll) * down - np.sin(roll) * right
        pose[:3, 2] = forward
        pose[:3, 3] = target - distance * forward
        return pose
