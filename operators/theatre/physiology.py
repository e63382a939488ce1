"""The patient: vital signs as functions of time, and the beats and breaths that follow from them.

Everything here is computed once for a case, on a grid of ten points a second, and is a pure function of the
script and its seed. The waveforms (``signals.py``) are drawn from the tables of beats and breaths, so any moment
can be had without running through those before it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from operators.theatre.case import Case
from operators.theatre.pulse import SYSTOLE, TRANSIT, decay, form_factor
from operators.theatre.steps import Asystole, Bradycardia, Desaturation, Hypertension, Hypotension, Tachycardia

Array = np.ndarray[Any, np.dtype[Any]]

GRID = 10
"""Grid points a second."""
LEAD_IN = 20.0
"""Seconds simulated before second 0, so that averages and filters are settled when the case begins."""


def generator(seed: int, *key: int) -> np.random.Generator:
    """Random numbers that depend on the seed and a key only, never on what was drawn before."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *key])))


@dataclasses.dataclass(frozen=True)
class Beats:
    """One row a heart beat. Times are seconds of the case; pressures mmHg."""

    time: Array
    """Of the R wave, (n,) float64."""
    ectopic: Array
    """True for premature ventricular beats, (n,) bool."""
    diastolic: Array
    """Pressure at the foot of the beat's wave, (n,) float64."""
    pulse: Array
    """Height of the beat's wave above that, (n,) float64."""
    perfusion: Array
    """Height of the beat's wave at the finger, 1 being usual, (n,) float64."""


@dataclasses.dataclass(frozen=True)
class Breaths:
    """One row a breath of the ventilator."""

    time: Array
    """Start of inspiration, s, (n,) float64."""
    period: float
    """s."""
    carbon_dioxide: Array
    """Partial pressure at the end of the breath, mmHg, (n,) float64."""


class Patient:
    """What the script does to the patient.

    ``time`` (n,) s is the grid; ``rate`` /min, ``mean`` mmHg, ``pulse`` mmHg, ``saturation`` %, ``carbon_dioxide``
    mmHg and ``temperature`` Celsius are (n,) float64 on it.
    """

    def __init__(self, case: Case, seed: int) -> None:
        self.case, self.seed = case, seed
        baseline = case.patient
        count = int((case.duration + LEAD_IN + 2) * GRID) + 1
        self.time = np.arange(count) / GRID - LEAD_IN
        self.breathing = self.time * baseline.breathing_rate / 60
        breath = np.sin(2 * np.pi * self.breathing)
        mayer = np.sin(2 * np.pi * 0.095 * self.time + _wander(self, 1, 30.0))

        low = self._effect(Hypotension, baseline.mean_pressure)
        high = self._effect(Hypertension, baseline.mean_pressure)
        slow, fast = self._effect(Bradycardia, baseline.heart_rate), self._effect(Tachycardia, baseline.heart_rate)
        standstill = self._present(Asystole)

        # Baroreflex: the heart answers a fall in pressure by about 0.45 beats/min for each mmHg.
        reflex = -0.45 * np.clip(low + high, -30, 25)
        rate = baseline.heart_rate + reflex * (1 - np.clip(np.abs(fast + slow) / 20, 0, 1)) + slow + fast
        rate = rate * (1 + 0.018 * _wander(self, 2, 45.0) + 0.012 * breath + 0.008 * mayer)
        self.rate = np.where(standstill, 0.0, np.maximum(rate, 12.0))

        # Beyond about 120/min the ventricle has no time to fill, and stroke volume falls.
        filling = np.clip(1 - (self.rate - 110) / 220, 0.45, 1.1)
        filling = np.where(self.rate < baseline.heart_rate, 1 + 0.25 * (1 - self.rate / baseline.heart_rate), filling)
        self.mean = baseline.mean_pressure + low + high + 1.6 * _wander(self, 3, 60.0) + 0.9 * mayer
        self.mean = self.mean - 9 * np.clip(1 - filling, 0, 1) - 8 * np.clip(-slow / 35, 0, 1)
        strength = np.clip(self.mean / baseline.mean_pressure, 0.3, 1.4)
        self.pulse = (
            baseline.pulse_pressure * strength**0.8 * filling * (1 + 0.05 * breath + 0.02 * _wander(self, 4, 20.0))
        )
        self.perfusion = np.clip(strength**1.2 * (0.5 + 0.5 * filling), 0.08, 1.5) * (1 + 0.06 * breath)

        self.saturation = baseline.saturation + self._effect(Desaturation, baseline.saturation)
        self.saturation = np.clip(self.saturation + 0.35 * _wander(self, 5, 40.0), 0, 100)
        flow = _lag(np.where(standstill, 0.12, np.clip(strength, 0.3, 1.1) ** 0.4), 7.0)
        self.carbon_dioxide = (baseline.end_tidal_co2 + 0.6 * _wander(self, 6, 90.0)) * (
            0.35 + 0.65 * np.minimum(flow, 1)
        )
        self.temperature = (
            baseline.temperature - 0.15 * np.clip(self.time / 3600, 0, 4) + 0.02 * _wander(self, 7, 300.0)
        )

        self.beats = self._beats(standstill)
        self.breaths = self._breaths()

    def at(self, signal: Array, times: Array) -> Array:
        """A grid signal at other times, by linear interpolation."""
        return np.interp(times, self.time, signal)

    # -- effects of the script

    def _effect(self, kind: type[Any], baseline: float) -> Array:
        """Sum of the changes that the script orders from ``baseline``, each with smooth ramps at both ends."""
        total = np.zeros_like(self.time)
        for step in self.case.steps(kind):
            total += (step.to - baseline) * envelope(self.time, step.at, step.end, step.ramp)
        return total

    def _present(self, kind: type[Any]) -> Array:
        present = np.zeros(self.time.shape, bool)
        for step in self.case.steps(kind):
            present |= (self.time >= step.at) & (self.time < step.end)
        return present

    # -- beats and breaths

    def _beats(self, standstill: Array) -> Beats:
        random = generator(self.seed, 10)
        phase = np.cumsum(self.rate / 60 / GRID)
        whole = np.arange(1, int(phase[-1]))
        # A standstill leaves the phase flat: interpolation would put the next beat at its beginning or end alike.
        rising = np.concatenate([[True], np.diff(phase) > 0])
        time = np.interp(whole, phase[rising], self.time[rising])
        time = time + random.normal(0, 0.006, time.shape)
        still = np.interp(time, self.time, standstill.astype(float)) > 0.5
        time = time[~still]
        ectopic = random.random(time.shape) < self.case.patient.ectopic
        ectopic[1:] &= ~ectopic[:-1]
        interval = np.diff(time, prepend=time[:1] - 1)
        time = np.where(ectopic & (interval < 1.6), time - 0.32 * interval, time)
        time = np.maximum.accumulate(time + np.arange(time.size) * 1e-9)

        foot = time + TRANSIT
        period = np.clip(np.diff(time, append=time[-1:] + 1), 0.25, None)
        pulse = self.at(self.pulse, foot) * (1 + random.normal(0, 0.012, time.shape))
        # An early beat ejects little, the one after the pause more.
        pulse = np.where(ectopic, pulse * 0.45, pulse)
        pulse[1:] = np.where(ectopic[:-1], pulse[1:] * 1.18, pulse[1:])
        diastolic = self.at(self.mean, foot) - pulse * form_factor(period)
        pulse, diastolic = _start_again(foot, pulse, diastolic)
        perfusion = self.at(self.perfusion, foot) * (pulse / np.maximum(self.at(self.pulse, foot), 1))
        return Beats(time, ectopic, diastolic, pulse, perfusion)

    def _breaths(self) -> Breaths:
        period = 60 / self.case.patient.breathing_rate
        time = np.arange(-LEAD_IN, self.case.duration + 2 * period, period)
        return Breaths(time, period, self.at(self.carbon_dioxide, time))


def _start_again(foot: Array, pulse: Array, diastolic: Array) -> tuple[Array, Array]:
    """After a standstill pressure has run down; the next beats build it up from there."""
    for index in np.nonzero(np.diff(foot) > 2.2)[0] + 1:
        low = decay(diastolic[index - 1] + pulse[index - 1] * 0.55, foot[index] - foot[index - 1] - SYSTOLE)
        for step in range(8):
            if index + step >= foot.size:
                break
            share = 0.5**step
            diastolic[index + step] = (1 - share) * diastolic[index + step] + share * low
    return pulse, diastolic


def envelope(time: Array, start: float, end: float, ramp: float) -> Array:
    """0 before ``start``, 1 from ``start + ramp`` to ``end``, 0 after ``end + ramp``, smooth between."""
    rise = np.clip((time - start) / ramp, 0, 1)
    fall = np.clip((time - end) / ramp, 0, 1)
    result: Array = rise * rise * (3 - 2 * rise) * (1 - fall * fall * (3 - 2 * fall))
    return result


def _wander(patient: Patient, key: int, seconds: float) -> Array:
    """Slow noise of unit size: random points ``seconds`` apart, joined smoothly, bounded to +-2."""
    knots = int(patient.time.size / GRID / seconds) + 4
    values = np.clip(generator(patient.seed, key).normal(0, 1, knots), -2, 2)
    position = (patient.time + LEAD_IN) / seconds
    index = position.astype(int)
    share = position - index
    share = share * share * (3 - 2 * share)
    result: Array = values[index] * (1 - share) + values[index + 1] * share
    return result


def _lag(signal: Array, seconds: float) -> Array:
    """First-order lag of a grid signal."""
    from scipy.signal import lfilter

    keep = np.exp(-1 / (GRID * seconds))
    result: Array = lfilter([1 - keep], [1, -keep], signal, zi=[keep * signal[0]])[0]
    return result
