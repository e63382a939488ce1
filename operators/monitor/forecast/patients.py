"""Simulated anaesthetised patients for the hypotension forecast. Everything made with this is simulated and says so.

Mean arterial pressure wanders (Ornstein-Uhlenbeck process about 82 mmHg, the start of each patient being random) and
falls at times, more often the lower it is; somebody treats the fall after some minutes. Beside it there are pulse
pressure, heart rate and two measures of the pressure contour. A switch says what they know:

* ``none``: falls are sudden, and everything else is a function of the present mean pressure with noise of its own.
  Nothing at least two minutes before a fall says more than mean pressure does. Who forecasts better than mean pressure
  here has looked into the future: this is the leak detector.
* ``planted``: stroke volume shrinks for 6 to 14 minutes before each fall while mean pressure is held, so pulse pressure
  and contour tell of what is to come.
* ``mixed``: what we hold for likely - a dip after induction, bleeding that draws pressure down over minutes, falls with
  and without a forewarning, forewarnings without a fall, vasopressors given in time, boluses for no visible reason.
  Nobody knows the shares of real patients: hazard, wander and the share of inductions were changed once, after first
  fits, to bring mean pressure alone near what cohorts report; how often treatment helps, once more after the real case.

In all three the arterial line is flushed, zeroed and damped at times.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from operators.theatre.pulse import _HUMP, _PHASE, SYSTOLE, form_factor

Array = np.ndarray[Any, np.dtype[Any]]
Information = Literal["none", "planted", "mixed"]

STEP = 2.0
"""Seconds between two values."""
CHANNELS = ("mean", "systolic", "diastolic", "rate", "upstroke", "area")
"""Rows of ``Patient.values``: pressures mmHg, heart rate /min, steepest rise mmHg/s, systolic area mmHg s."""
LIMIT = 65.0
"""Hypotension is mean pressure below this, mmHg ..."""
SHORTEST = 60.0
"""... for at least so many seconds; ones that are less than this apart are one."""

USUAL, SPREAD, RETURN = 82.0, 9.0, 120 * 60.0
"""Mean pressure wanders about the first, by a standard deviation of the second (mmHg), within the third (s)."""
STEEP_BELOW, STEEPNESS = 73.0, 4.0
"""Falls per hour are 1 at the first (mmHg) and e times more with each of the second below that, up to 12. Chosen, with
the wandering, so that present mean pressure alone forecasts about as well as it does in real cohorts (AUROC near 0.9)
where nothing is planted. Figures of the forecast had been seen by then, though they were not what was tuned."""
HUMP = float(((_HUMP[1:] + _HUMP[:-1]) / 2 * np.diff(_PHASE)).sum())
"""Mean height of the systolic part of a pressure wave, in pulse pressures."""
STEEP = float(np.max(np.diff(_HUMP) / np.diff(_PHASE)))
"""Its steepest rise, in pulse pressures per systole."""

STABLE, WARNED, FALLING, LOW, RISING = range(5)


@dataclasses.dataclass(frozen=True)
class Patient:
    """One simulated operation."""

    values: Array
    """(6, n) float32, rows as ``CHANNELS``, every two seconds; NaN where the monitor gives none."""
    true_mean: Array
    """(n,) float32: mean pressure without noise and artefacts, mmHg."""
    episodes: tuple[tuple[float, float], ...]
    """Onset and end of each hypotension, s from the beginning."""


def patients(count: int, information: Information, seed: int, hours: float = 2.5) -> list[Patient]:
    """So many patients. Equal arguments give equal patients; different seeds share none."""
    names = ("none", "planted", "mixed")
    random = np.random.default_rng([seed, names.index(information)])
    steps = round(hours * 3600 / STEP)
    mean, stroke, bolus = _haemodynamics(count, steps, information, random)
    pressure = mean + bolus
    values = _measured(pressure, stroke, random)
    return [Patient(values[i], pressure[i].astype(np.float32), episodes(pressure[i])) for i in range(count)]


def episodes(mean: Array, limit: float = LIMIT) -> tuple[tuple[float, float], ...]:
    """Onset and end (s) of each stretch of at least 60 s below the limit, of (n,) values two seconds apart."""
    low = np.concatenate([[False], mean < limit, [False]])
    edges = np.flatnonzero(np.diff(low.astype(np.int8)))
    found: list[list[float]] = []
    for begin, end in zip(edges[::2] * STEP, edges[1::2] * STEP, strict=True):
        if found and begin - found[-1][1] < SHORTEST:
            found[-1][1] = end
        else:
            found.append([begin, end])
    return tuple((begin, end) for begin, end in found if end - begin >= SHORTEST)


@dataclasses.dataclass
class _State:
    """Where each of (count,) patients stands."""

    mean: Array
    stroke: Array
    """Stroke volume against usual."""
    phase: Array
    left: Array
    """Seconds left of the phase."""
    slope: Array
    """mmHg/s of a fall or a rise."""
    depth: Array
    """mmHg to which it falls."""
    fading: Array
    """Change of stroke volume per second."""
    decoy: Array
    """Whether the forewarning is one of nothing."""
    slow: Array
    """Whether the fall will be drawn out, as of bleeding."""


def _haemodynamics(
    count: int, steps: int, information: Information, random: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Mean pressure, stroke volume and the effect of boluses, (count, steps) each. All patients step together."""
    zeros = np.zeros(count)
    state = _State(
        random.normal(USUAL, SPREAD, count).clip(68, 110), np.ones(count), np.full(count, STABLE), zeros.copy(),
        zeros.copy(), zeros.copy(), zeros.copy(), zeros.astype(bool), zeros.astype(bool),
    )  # fmt: skip
    induction = np.where(random.random(count) < 0.35, random.uniform(240, 540, count), np.inf)
    mean, stroke, bolus = (np.empty((count, steps)) for _ in range(3))
    effect, rising = zeros.copy(), zeros.copy()
    for step in range(steps):
        if information == "mixed":
            _surprise(state, induction, step * STEP, random)
            given = (random.random(count) < 0.3 * STEP / 3600) | (
                (state.phase == FALLING) & state.slow & (state.mean < 70) & (random.random(count) < STEP / 480)
            )
            state.phase[given & (state.phase == FALLING)] = STABLE
            state.fading[given] = 0.002
            rising[given] = 45.0
        effect += np.where(rising > 0, 15 / 45 * STEP, -effect * STEP / 300)
        rising = np.maximum(rising - STEP, 0)
        _advance(state, information, random)
        mean[:, step], stroke[:, step], bolus[:, step] = state.mean, state.stroke, effect
    return mean, stroke, bolus


def _surprise(state: _State, induction: Array, second: float, random: np.random.Generator) -> None:
    """What happens only to mixed patients: the dip after induction, and forewarnings of nothing."""
    count = state.mean.size
    dips = (second <= induction) & (induction < second + STEP) & (state.phase == STABLE)
    _fall(state, dips, random.uniform(180, 360, count), random)
    decoys = (state.phase == STABLE) & (random.random(count) < 0.3 * STEP / 3600)
    _warn(state, decoys, 0.1, 0.3, random)
    state.decoy |= decoys


def _advance(state: _State, information: Information, random: np.random.Generator) -> None:
    """Two seconds of everybody."""
    count = state.mean.size
    noise = random.normal(0, SPREAD * np.sqrt(2 * STEP / RETURN), count)
    wandering = (state.phase == STABLE) | (state.phase == WARNED)
    drift = -(state.mean - USUAL) * STEP / RETURN + noise
    state.mean += np.where(wandering, drift, state.slope * STEP + np.where(state.phase == LOW, 0.3 * noise, 0))
    state.stroke = np.clip(state.stroke + state.fading * STEP, 0.3, 1.0)
    state.left -= STEP

    hazard = np.minimum(np.exp((STEEP_BELOW - state.mean) / STEEPNESS), 12.0) * STEP / 3600
    struck = (state.phase == STABLE) & (random.random(count) < hazard)
    kind = random.random(count)
    if information == "none":
        _fall(state, struck, random.uniform(50, 100, count), random)
    elif information == "planted":
        _warn(state, struck, 0.2, 0.4, random)
    else:
        _fall(state, struck & (kind < 0.3), random.uniform(50, 100, count), random)
        _warn(state, struck & (kind >= 0.3), 0.1, 0.3, random)
        bleeding = struck & (kind >= 0.55)
        state.slow |= bleeding
        state.left[bleeding] *= 0.45  # bleeding shows for 3 to 6 minutes before pressure gives way

    over = state.left <= 0
    nothing = over & (state.phase == WARNED) & state.decoy
    state.phase[nothing], state.fading[nothing] = STABLE, 0.002
    state.decoy &= ~nothing
    warned = over & (state.phase == WARNED)
    seconds = np.where(state.slow, random.uniform(360, 1200, count), random.uniform(50, 100, count))
    _fall(state, warned, seconds, random)

    arrived = (state.phase == FALLING) & (state.mean <= state.depth)
    # Pressure that has wandered below the limit by itself is treated as well, and sooner or later.
    drifted = (state.phase == STABLE) & (state.mean < LIMIT - 1)
    state.phase[arrived | drifted], state.slope[arrived | drifted] = LOW, 0.0
    state.fading[arrived | drifted] = 0.0
    wait = 90 + random.exponential(180, count)
    state.left = np.where(arrived | drifted, wait, state.left)
    treated = (state.phase == LOW) & (state.left <= 0)
    target = random.normal(78, 8, count).clip(66, 105)  # treatment often helps only half
    lasting = random.uniform(50, 90, count)
    state.slope = np.where(treated, (target - state.mean) / lasting, state.slope)
    state.left = np.where(treated, lasting, state.left)
    state.phase[treated], state.fading[treated] = RISING, 0.006
    done = (state.phase == RISING) & (state.left <= 0)
    state.phase[done], state.slow[done] = STABLE, False


def _fall(state: _State, who: Array, seconds: Array, random: np.random.Generator) -> None:
    depth = random.uniform(48, 60, who.size)
    state.depth = np.where(who, np.minimum(depth, state.mean - 3), state.depth)
    state.slope = np.where(who, (state.depth - state.mean) / seconds, state.slope)
    state.left = np.where(who, np.inf, state.left)
    state.phase[who] = FALLING


def _warn(state: _State, who: Array, least: float, most: float, random: np.random.Generator) -> None:
    lasting = random.uniform(360, 840, who.size)
    loss = random.uniform(least, most, who.size)
    state.left = np.where(who, lasting, state.left)
    state.fading = np.where(who, -loss / lasting, state.fading)
    state.phase[who] = WARNED


# ------------------------------------------------------------------------------------ what is measured


def _measured(pressure: Array, stroke: Array, random: np.random.Generator) -> Array:
    """(count, 6, n) float32 as a monitor gives them, artefacts and all."""
    count, steps = pressure.shape
    seconds = np.arange(steps) * STEP
    usual = np.exp(random.normal(np.log(45), 0.2, (count, 1)))
    base = random.normal(70, 9, (count, 1))
    pulse = usual * (pressure / USUAL) ** 0.8 * stroke * np.exp(_wander(count, steps, 0.06, 600, random))
    rate = base - 0.4 * (pressure - USUAL) + 35 * (1 - stroke) + _wander(count, steps, 4.0, 600, random)
    rate = np.clip(rate, 38, 150)
    period = 60 / rate
    systole = SYSTOLE * np.sqrt(period / 0.857)
    mayer = np.sin(2 * np.pi * 0.095 * seconds + random.uniform(0, 6, (count, 1)))
    mean = pressure + mayer + random.normal(0, 0.8, pressure.shape)
    part = form_factor(period)
    damped = _spells(count, steps, 0.3, 60, 180, random)
    shown = pulse * np.where(damped, 0.45, 1.0)
    systolic, diastolic = mean + (1 - part) * shown, mean - part * shown
    upstroke = STEEP * shown / systole * np.exp(random.normal(0, 0.06, pressure.shape))
    area = HUMP * shown * systole * np.exp(random.normal(0, 0.06, pressure.shape))
    values = np.stack([mean, systolic, diastolic, rate, upstroke, area], axis=1).astype(np.float32)
    flushed, zeroed = (_spells(count, steps, 0.4, 6, 25, random) for _ in range(2))
    for who, level in ((flushed, 290.0), (zeroed, 0.0)):
        for row in (0, 1, 2):
            values[:, row][who] = level
        values[:, 4:][np.broadcast_to(who[:, None], (count, 2, steps))] = np.nan
    lost = random.random((count, steps)) < 0.01
    values[np.broadcast_to(lost[:, None], values.shape)] = np.nan
    return values


def _wander(count: int, steps: int, spread: float, seconds: float, random: np.random.Generator) -> Array:
    """Ornstein-Uhlenbeck noise of that standard deviation and time constant, (count, steps)."""
    from scipy.signal import lfilter

    keep = np.exp(-STEP / seconds)
    white = random.normal(0, spread * np.sqrt(1 - keep**2), (count, steps))
    white[:, 0] = random.normal(0, spread, count)
    found: Array = lfilter([1.0], [1.0, -keep], white, axis=1)
    return found


def _spells(
    count: int, steps: int, per_hour: float, shortest: float, longest: float, random: np.random.Generator
) -> Array:
    """(count, steps) bool: stretches of random length (s) that begin at random."""
    found = np.zeros((count, steps), bool)
    for who, begin in zip(*np.nonzero(random.random((count, steps)) < per_hour * STEP / 3600), strict=True):
        found[who, begin : begin + round(random.uniform(shortest, longest) / STEP)] = True
    return found
