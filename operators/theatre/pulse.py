"""The shape of one arterial pressure wave: a systolic hump, a dicrotic notch, and a run-off to the next beat's foot."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

TRANSIT = 0.16
"""Seconds from the R wave to the foot of the pressure wave in the radial artery."""
SYSTOLE = 0.30
"""Seconds from the foot of the pressure wave to the dicrotic notch at 70 beats a minute."""
MEAN_FILLING_PRESSURE = 12.0
"""Pressure that the circulation runs down to when the heart stands still, mmHg."""
RUN_DOWN = 3.2
"""Time constant of that, s."""
STANDSTILL = 2.2
"""An interval longer than this, s, is a pause in which pressure runs down."""
NOTCH = 0.52
"""Height of the dicrotic notch, in pulse pressures."""

_PHASE = np.array([0, 0.06, 0.14, 0.24, 0.34, 0.42, 0.52, 0.64, 0.78, 0.90, 1.0])
_HUMP = np.array([0, 0.10, 0.42, 0.84, 0.99, 1.0, 0.955, 0.87, 0.75, 0.62, NOTCH])


def pressure_wave(since: Array, period: Array, low: Array, pulse: Array, following: Array) -> Array:
    """Pressure ``since`` s after the foot of a beat, mmHg; all arguments (n,) or scalar.

    Args:
        since: seconds since the beat's foot.
        period: seconds from this foot to the next.
        low: pressure at the foot, mmHg.
        pulse: systolic minus diastolic pressure, mmHg.
        following: pressure at the next foot, which the run-off meets, mmHg.
    """
    length = np.clip(period, 0.3, 2.0)
    systole = SYSTOLE * np.sqrt(length / 0.857)
    notch = low + NOTCH * pulse
    rest = np.clip((since - systole) / np.maximum(length - systole, 0.05), 0, 1)
    fall = (np.exp(-1.6 * rest) - np.exp(-1.6)) / (1 - np.exp(-1.6))
    rebound = 0.10 * pulse * np.exp(-(((since - systole * 1.16) / (0.13 * systole)) ** 2))
    running = following + (notch - following) * fall + rebound * np.clip((since - systole) / 0.02, 0, 1)
    diastole = np.where(period > STANDSTILL, decay(notch, since - systole), running)
    result: Array = np.where(since < systole, low + pulse * np.interp(since / systole, _PHASE, _HUMP), diastole)
    return result


def decay(level: Array | float, seconds: Array | float) -> Any:
    """Where pressure has run down to from ``level`` after ``seconds`` without a beat, mmHg."""
    return MEAN_FILLING_PRESSURE + (level - MEAN_FILLING_PRESSURE) * np.exp(-np.maximum(seconds, 0) / RUN_DOWN)


_PERIODS = np.array([0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.7, 2.0])
_MEANS = np.array(
    [
        pressure_wave(
            np.linspace(0, period, 400, endpoint=False), period, np.array(0.0), np.array(1.0), np.array(0.0)
        ).mean()
        for period in _PERIODS
    ]
)


def form_factor(period: Array) -> Array:
    """(mean - diastolic) / pulse pressure of waves ``period`` s apart."""
    result: Array = np.interp(period, _PERIODS, _MEANS)
    return result
