"""The shape of a beat against the patient's own usual one: is this the same source, and is it wide?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from operators.monitor.quality.channel import Array, Role
from operators.monitor.quality.judge import USABLE

POINTS = 64
"""Points that a usual shape is kept in, so that it survives a change of rate and a restart."""
FIRST = 5
"""Beats that the first usual shape is the mean of."""
ALIKE = 0.85
"""Correlation from which on a beat is of the usual shape and teaches it."""
UNLIKE = 0.80
"""Correlation below which a wide beat is called ventricular."""
WIDER = 1.3
"""Times the usual slowness from which on a beat is wide."""
ADOPT = 90
"""Beats in a row of another shape after which that is the usual one: a new lead, a new rhythm that is there to stay."""


class Shapes:
    """Keeps the usual shape of one channel's beats, 64 points, and its slowness."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.usual: Array | None = None
        """(64,) float64, zero mean, unit norm; None until five beats were seen."""
        self.slowness = math.nan
        self._first: list[Array] = []
        self._slow: list[float] = []
        self._other: Array | None = None
        self._others = 0

    def add(self, wide: Array, room: int, rate: float, quality: float) -> tuple[float, float, bool]:
        """Judge a beat and learn from it where it is a usual one.

        Args:
            wide: samples around the mark, with ``room`` more at either end, within which the best fit is looked for.
            room: samples.
            rate: samples per second.
            quality: index of the second it lies in; a beat of an unusable one teaches nothing.

        Returns:
            Correlation with the usual shape (NaN while unknown), slowness in s, and whether it is ventricular.
        """
        slowness = _slowness(wide[room : len(wide) - room], rate) if self.role == "ecg" else 0.0
        shifts = _shifts(wide, room)
        if self.usual is None:
            if quality >= USABLE:
                self._learn(shifts[len(shifts) // 2], slowness)
            return math.nan, slowness, False  # a bundle branch block is wide for good: wide alone says nothing
        fits = shifts @ self.usual
        best = int(fits.argmax())
        similarity = float(fits[best])
        if quality >= USABLE:
            self._follow(shifts[best], similarity, slowness)
        ventricular = self.role == "ecg" and similarity < UNLIKE and slowness > WIDER * self.slowness
        return similarity, slowness, ventricular

    def _learn(self, shape: Array, slowness: float) -> None:
        self._first.append(shape)
        self._slow.append(slowness)
        if len(self._first) >= FIRST:
            self.usual = _unit(np.median(self._first, axis=0))
            self.slowness = float(np.median(self._slow))
            self._first, self._slow = [], []

    def _follow(self, shape: Array, similarity: float, slowness: float) -> None:
        assert self.usual is not None
        if similarity >= ALIKE:
            self.usual = _unit(0.95 * self.usual + 0.05 * shape)
            self.slowness += 0.05 * (slowness - self.slowness)
            self._others = 0
            return
        if self._other is not None and float(self._other @ shape) >= ALIKE:
            self._other = _unit(0.9 * self._other + 0.1 * shape)
            self._others += 1
            if self._others >= ADOPT:
                self.usual, self.slowness, self._others = self._other, slowness, 0
        else:
            self._other, self._others = shape, 0

    def state(self) -> dict[str, Any]:
        usual = None if self.usual is None else [float(value) for value in self.usual]
        return {"usual": usual, "slowness": None if math.isnan(self.slowness) else self.slowness}

    def load_state(self, state: dict[str, Any]) -> None:
        usual, slowness = state.get("usual"), state.get("slowness")
        self.usual = None if usual is None else np.array(usual)
        self.slowness = math.nan if slowness is None else slowness


def _shifts(wide: Array, room: int) -> Array:
    """(2 * room + 1, 64): the shape at every shift, resampled, zero mean, unit norm."""
    length = len(wide) - 2 * room
    places = np.linspace(0, length - 1, POINTS)[None, :] + np.arange(2 * room + 1)[:, None]
    shapes = np.interp(places.ravel(), np.arange(len(wide)), wide).reshape(places.shape)
    shapes -= shapes.mean(axis=1, keepdims=True)
    norms = np.sqrt((shapes**2).sum(axis=1, keepdims=True))
    result: Array = shapes / np.maximum(norms, 1e-12)
    return result


def _unit(shape: Array) -> Array:
    shape = shape - shape.mean()
    result: Array = shape / max(float(np.sqrt((shape**2).sum())), 1e-12)
    return result


def _slowness(shape: Array, rate: float) -> float:
    """Root mean square over that of the derivative, of the middle 0.2 s smoothed over 20 ms, in s."""
    width = max(1, round(0.02 * rate))
    part = np.convolve(shape, np.full(width, 1 / width), "valid")
    step = np.diff(part) * rate
    part = part - part.mean()
    lively = math.sqrt(float(np.mean(step**2))) if len(step) else 0.0
    return math.sqrt(float(np.mean(part**2))) / lively if lively > 0 else 0.0
