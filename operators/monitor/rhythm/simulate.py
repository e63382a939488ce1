"""Hearts that fail and signals that lie: what ``records`` is made with. Simulated.

A heart is a table of beats, a P wave now and then, and maybe a stretch of fibrillation. ECG, arterial pressure and
oximeter are drawn from the same table, so that a pulse is lost where the heart gives none. The ECG is a sum of
Gaussians (McSharry et al., IEEE Trans Biomed Eng 2003); pressure is ``operators.theatre.pulse``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from operators.theatre.pulse import TRANSIT, form_factor, pressure_wave

Array = np.ndarray[Any, np.dtype[Any]]
RATE = 250.0


@dataclasses.dataclass(frozen=True)
class Rhythms:
    """The patient at rest."""

    resting: float
    """/min."""
    irregular: bool
    ectopic: float
    """Share of premature ventricular beats."""
    size: float
    """R wave, mV."""
    noise: float
    """mV."""
    pressure: bool
    """Has an arterial line."""


@dataclasses.dataclass
class Heart:
    """What the heart does. ``time`` (n,) s of the R waves, ``wide`` (n,) bool, ``perfusion`` (n,) share of a pulse."""

    time: Array
    wide: Array
    perfusion: Array
    atria: Array
    """Times of P waves, s."""
    fibrillation: tuple[float, float, bool] | None = None
    """Onset in s, Hz, and whether it is flutter."""
    stops: float = np.inf
    """From here on there is no output: pressure runs down."""


def sinus(rhythms: Rhythms, duration: float, random: np.random.Generator, *, wide: bool = False) -> Heart:
    """The patient's usual rhythm throughout."""
    return change(rhythms, duration, duration + 5, rhythms.resting, random, always_wide=wide)


def change(
    rhythms: Rhythms, duration: float, onset: float, rate: float, random: np.random.Generator, *,
    wide: bool = False, perfusion: float = 1.0, spread: float = 0.02, always_wide: bool = False,
) -> Heart:  # fmt: skip
    """Usual rhythm until ``onset``, then beats at ``rate``, wide or narrow, each giving that share of a pulse."""
    times, broad, output = [], [], []
    at, phase = 0.2, random.uniform(0, 6)
    while at < duration + 2:
        late = at >= onset
        premature = not late and random.random() < rhythms.ectopic
        times.append(at)
        broad.append((late and wide) or premature or always_wide)
        output.append(perfusion if late else 0.5 if premature else 1.0)
        period = 60 / (rate if late else rhythms.resting)
        width = spread if late else 0.12 if rhythms.irregular else 0.012
        step = period * (1 + 0.02 * np.sin(1.5 * at + phase) * (not late) + random.normal(0, width))
        step = max(step * (1.4 if premature else 1.0), 0.24)
        if not late and at + step > onset:
            step = max(onset - at, 0.3 if wide else 0.45) if wide or rate > rhythms.resting else 60 / rate
        at += step
    time = np.array(times)
    return Heart(time, np.array(broad), np.array(output), time - 0.16 if not wide else time[time < onset] - 0.16)


def standstill(
    rhythms: Rhythms, duration: float, onset: float, random: np.random.Generator, *, atria: bool
) -> Heart:  # fmt: skip
    """No beat after ``onset``; P waves go on where the block lies below the atria."""
    heart = sinus(rhythms, duration, random)
    kept = heart.time < onset
    return Heart(
        heart.time[kept], heart.wide[kept], heart.perfusion[kept], heart.atria if atria else heart.atria[kept],
        stops=onset,
    )  # fmt: skip


def fibrillation(
    rhythms: Rhythms, duration: float, onset: float, frequency: float, random: np.random.Generator, *, flutter: bool
) -> Heart:
    """Fibrillation from ``onset`` on, without any output."""
    heart = standstill(rhythms, duration, onset, random, atria=False)
    heart.fibrillation = (onset, frequency, flutter)
    return heart


# ------------------------------------------------------------------------------------------------ signals


def draw(heart: Heart, rhythms: Rhythms, duration: float, random: np.random.Generator) -> dict[str, Array]:
    """Waves of all channels, (n,) float64: II, V, PLETH and, where there is a line, ABP."""
    times = np.arange(round(duration * RATE)) / RATE
    breath = 2 * np.pi * float(random.uniform(0.18, 0.3)) * times
    signals = {}
    for lead, (scale, sharp) in {"II": (1.0, 1.0), "V": (random.uniform(0.5, 1.1), random.uniform(0.9, 1.2))}.items():
        signals[lead] = _electrocardiogram(heart, rhythms, times, float(scale), float(sharp), random)
        signals[lead] += 0.05 * np.sin(breath) + random.normal(0, rhythms.noise, times.shape)
        signals[lead] += 0.06 * np.sin(2 * np.pi * 0.05 * times + random.uniform(0, 6))
    signals["PLETH"] = _pleth(heart, times, random) + 0.02 * np.sin(breath) + random.normal(0, 0.003, times.shape)
    if rhythms.pressure:
        signals["ABP"] = _pressure(heart, times, random) + random.normal(0, 0.3, times.shape)
    return signals


def _add(signal: Array, at: Array, sizes: Array, parts: tuple[tuple[float, float, float], ...]) -> None:
    """Add Gaussians (height, place, width in s) at each time."""
    for time, size in zip(at, sizes, strict=True):
        first, last = max(0, int((time - 0.4) * RATE)), min(len(signal), int((time + 0.8) * RATE))
        if first < last:
            since = np.arange(first, last) / RATE - time
            for height, place, width in parts:
                signal[first:last] += size * height * np.exp(-(((since - place) / width) ** 2) / 2)


def _electrocardiogram(
    heart: Heart, rhythms: Rhythms, times: Array, scale: float, sharp: float, random: np.random.Generator
) -> Array:
    signal = np.zeros(times.shape)
    size = rhythms.size * scale
    fast = float(np.clip(np.median(np.diff(heart.time)) if len(heart.time) > 2 else 0.8, 0.35, 1.0)) ** 0.5
    tall, deep = random.uniform(0.15, 0.35), random.uniform(0.1, 0.4)
    narrow = (
        (1.0, 0.0, 0.011 * sharp), (-0.12, -0.028, 0.009), (-deep, 0.028, 0.010 * sharp), (tall, 0.3 * fast, 0.045),
    )  # fmt: skip
    turn = random.choice([-1.0, 1.0])
    broad = ((1.2 * turn, 0.03, 0.034), (-0.5 * turn, 0.13, 0.04), (-0.4 * turn, 0.30 * fast, 0.06))
    jitter = 1 + random.normal(0, 0.03, len(heart.time))
    _add(signal, heart.time[~heart.wide], size * jitter[~heart.wide], narrow)
    _add(signal, heart.time[heart.wide], size * jitter[heart.wide], broad)
    _add(signal, heart.atria, np.full(len(heart.atria), size), ((0.11, 0.0, 0.022),))
    if heart.fibrillation is not None:
        onset, frequency, flutter = heart.fibrillation
        begun = np.clip((times - onset) / 0.3, 0, 1)
        strength = random.uniform(0.5, 1.2) if flutter else random.uniform(0.2, 0.6)
        signal += begun * _oscillation(times, frequency, 0.02 if flutter else 0.15, random) * max(0.18, strength * size)
    return signal


def _oscillation(times: Array, frequency: float, wander: float, random: np.random.Generator) -> Array:
    """An oscillation of wandering frequency and size."""
    knots = np.arange(0, times[-1] + 1, 0.25)
    speed = np.interp(times, knots, frequency * (1 + wander * random.normal(0, 1, knots.shape)))
    size = np.interp(times, knots, np.clip(1 + 2.5 * wander * random.normal(0, 1, knots.shape), 0.4, 1.7))
    phase = 2 * np.pi * np.cumsum(speed) / RATE
    result: Array = size * (np.sin(phase) + 0.25 * np.sin(2 * phase + random.uniform(0, 6)))
    return result


def _feet(heart: Heart, delay: float) -> tuple[Array, Array]:
    """Times and strengths of the pulses that there are; a beat that follows at once ejects less."""
    there = heart.perfusion > 0.02
    return heart.time[there] + delay, heart.perfusion[there]


def _pressure(heart: Heart, times: Array, random: np.random.Generator) -> Array:
    feet, strength = _feet(heart, TRANSIT)
    mean, pulse = random.uniform(70, 100), random.uniform(32, 60)
    sizes = pulse * strength
    last = min(heart.stops, times[-1] + 10)
    index = np.clip(np.searchsorted(feet, times, "right") - 1, 0, len(feet) - 1)
    following = np.append(feet[1:], max(last, feet[-1]) + 30)[index]
    level = np.interp(times, feet, mean - 12 * (1 - strength))
    period = np.maximum(following - feet[index], 0.3)
    low = level - sizes[index] * form_factor(np.clip(period, 0.3, 2.0))
    return pressure_wave(np.maximum(times - feet[index], 0), period, low, sizes[index], low)


def _pleth(heart: Heart, times: Array, random: np.random.Generator) -> Array:
    signal = np.full(times.shape, 0.3)
    feet, strength = _feet(heart, TRANSIT + 0.09)
    size = random.uniform(0.25, 0.6)
    _add(signal, feet, size * strength, ((1.0, 0.17, 0.07), (0.4, 0.38, 0.1)))
    return signal


# ---------------------------------------------------------------------------------------------- artefacts


@dataclasses.dataclass
class _Scene:
    """What an artefact works on."""

    signals: dict[str, Array]
    leads: list[str]
    """The ECG leads that it is laid on."""
    times: Array
    inside: Array
    """(n,) bool: where it is present."""
    begin: float
    kind: str
    """The alarm that is true or feigned."""
    rhythms: Rhythms
    random: np.random.Generator

    def draw(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def swing(self, frequency: float, wander: float) -> Array:
        return _oscillation(self.times, frequency, wander, self.random)

    def noise(self, size: float) -> Array:
        return np.asarray(self.random.normal(0, size, self.times.shape))

    def add(self, channel: str, what: Array) -> None:
        self.signals[channel] = self.signals[channel] + self.inside * what

    def put(self, channel: str, what: Array) -> None:
        self.signals[channel] = np.where(self.inside, what, self.signals[channel])


def disturb(
    signals: dict[str, Array], how: str, kind: str, true: bool, onset: float, rhythms: Rhythms,
    random: np.random.Generator,
) -> None:  # fmt: skip
    """Lay an artefact over the signals, from shortly before ``onset`` to the end. In a true alarm it never wipes out
    all leads; in a false one it is what feigns the alarm, on one lead or on both, and in a quarter of these the hand
    with the oximeter moves as well."""
    times = np.arange(len(signals["II"])) / RATE
    begin = onset - (float(random.uniform(0, 3)) if true else 0.0)
    both = not true and random.random() < 0.6
    leads = ["II", "V"] if both else [str(random.choice(["II", "V"]))]
    scene = _Scene(signals, leads, times, times >= begin, begin, kind, rhythms, random)
    if how in _ARTEFACTS:
        _ARTEFACTS[how](scene)
    if not true and random.random() < 0.25:
        _pleth_motion(scene)


def _lead_off(scene: _Scene) -> None:
    for lead in scene.leads:
        off = scene.random.choice([0.0, 4.9, -4.9]) + scene.random.choice([0.0, 0.02]) * np.sin(
            2 * np.pi * 50 * scene.times
        )
        if scene.kind == "ventricular_fibrillation":  # an open input that swings with the cable
            off = off + 0.5 * scene.swing(scene.draw(3, 5), 0.1)
        scene.put(lead, off)


def _low_amplitude(scene: _Scene) -> None:
    """Both leads shrink, for a bradycardia every second beat or so."""
    for lead in ("II", "V"):
        small = scene.draw(0.05, 0.2) * scene.signals[lead]
        if scene.kind == "extreme_bradycardia":
            beat = np.sin(2 * np.pi * scene.times * scene.rhythms.resting / 120) > 0
            small = np.where(beat, small, scene.signals[lead])
        scene.put(lead, small)


def _baseline_jump(scene: _Scene) -> None:
    for lead in scene.leads:
        jumps, at = np.zeros(scene.times.shape), scene.begin
        while at < scene.times[-1]:
            since = scene.times - at
            height = scene.draw(2, 6) * scene.random.choice([-1, 1])
            jumps += np.where(since >= 0, height * np.exp(-np.maximum(since, 0) / 0.8), 0)
            at += scene.draw(0.6, 1.6)
        scene.signals[lead] = np.clip(scene.signals[lead] + jumps, -5, 5)


def _motion(scene: _Scene) -> None:
    frequency = {"ventricular_tachycardia": 2.6, "ventricular_fibrillation": 4.5}.get(scene.kind, 3.0)
    for lead in scene.leads:
        swing = scene.swing(frequency * scene.draw(0.85, 1.15), 0.12)
        scene.add(lead, scene.draw(0.6, 1.6) * scene.rhythms.size * swing)


def _tremor(scene: _Scene) -> None:
    for lead in scene.leads:
        scene.add(lead, scene.draw(0.3, 0.8) * scene.rhythms.size * scene.swing(scene.draw(5, 8), 0.08))


def _muscle(scene: _Scene) -> None:
    for lead in scene.leads:
        scene.add(lead, scene.noise(scene.rhythms.size * scene.draw(0.3, 0.7)))


def _diathermy(scene: _Scene) -> None:
    bursts = np.sin(2 * np.pi * scene.draw(0.3, 0.8) * scene.times) > -0.5
    for lead in ("II", "V"):
        scene.add(lead, bursts * scene.noise(1.6))


def _tall_t_wave(scene: _Scene) -> None:
    """A T wave as high and nearly as steep as the QRS complex: detectors count twice."""
    from scipy.signal import find_peaks

    period = 60 / scene.rhythms.resting
    for lead in scene.leads:
        signal, extra = scene.signals[lead], np.zeros(scene.times.shape)
        height = 0.5 * float(np.percentile(signal, 99.5))
        peaks = find_peaks(signal, height=height, distance=int(0.5 * period * RATE))[0]
        _add(extra, peaks / RATE + 0.45 * period, np.full(len(peaks), scene.rhythms.size), ((1.0, 0.0, 0.018),))
        scene.add(lead, extra)


def _pacer(scene: _Scene) -> None:
    """Spikes of some ms at a fixed rate that has nothing to do with the heart."""
    spikes = (scene.times % (60 / scene.draw(60, 90))) < 1.5 / RATE
    for lead in ("II", "V"):
        scene.add(lead, spikes * scene.draw(1.0, 3.0))


def _lead_noise(scene: _Scene) -> None:
    scene.add(scene.leads[0], scene.noise(scene.draw(0.1, 0.5)))


def _pleth_motion(scene: _Scene) -> None:
    scene.add("PLETH", scene.draw(0.08, 0.4) * scene.swing(scene.draw(1.0, 2.8), 0.15))


def _pressure_clipped(scene: _Scene) -> None:
    """The top of the arterial wave is cut; where an asystole is feigned a lead is off besides."""
    if "ABP" in scene.signals:
        scene.put("ABP", np.minimum(scene.signals["ABP"], 75.0))
    if scene.kind == "asystole" and len(scene.leads) == 2:
        _lead_off(scene)


def _wander(scene: _Scene) -> None:
    for lead in ("II", "V"):
        scene.add(lead, 0.5 * np.sin(2 * np.pi * scene.draw(0.2, 0.6) * scene.times))


def _flush(scene: _Scene) -> None:
    if "ABP" in scene.signals:
        flushed = scene.inside & (scene.times < scene.begin + 3)
        scene.signals["ABP"] = np.where(flushed, 285.0, scene.signals["ABP"])


def _both_motion(scene: _Scene) -> None:
    _pleth_motion(scene)
    scene.add(scene.leads[0], 0.3 * scene.rhythms.size * scene.swing(2.5, 0.2))


_ARTEFACTS: dict[str, Callable[[_Scene], None]] = {
    "lead_off": _lead_off, "low_amplitude": _low_amplitude, "baseline_jump": _baseline_jump, "motion": _motion,
    "tremor": _tremor, "muscle": _muscle, "diathermy": _diathermy, "tall_t_wave": _tall_t_wave, "pacer": _pacer,
    "lead_noise": _lead_noise, "pleth_motion": _pleth_motion, "pressure_clipped": _pressure_clipped,
    "wander": _wander, "flush": _flush, "both_motion": _both_motion,
}  # fmt: skip
