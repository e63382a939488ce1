"""Waveforms and numerics as a monitor gives them: ECG, arterial pressure, pleth, capnogram, and values beside them.

The ECG is the sum of Gaussians of McSharry et al. (IEEE Trans. Biomed. Eng. 50:289, 2003) taken along the time from
the R wave, the T wave moving with the square root of the interval (Bazett). Pressure and pleth waves are drawn beat
by beat from ``physiology.Beats``: a systolic hump, a dicrotic notch, and a run-off that meets the next beat.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from operators.monitor.codes import MEANINGS
from operators.theatre.case import Case
from operators.theatre.physiology import Array, Beats, Patient, generator
from operators.theatre.pulse import TRANSIT, pressure_wave
from operators.theatre.steps import Artefact, SensorOff

BLOCK = 64.0
"""Seconds generated at once; noise is seeded by block, so a block never depends on another."""


@dataclasses.dataclass(frozen=True)
class Channel:
    """One signal of the simulated monitor, under the names of a Philips IntelliVue."""

    name: str
    code: str
    unit: str
    rate: float
    """Samples a second."""
    sensor: str
    """What it comes from; silent while that is off."""


def _channel(name: str, rate: float, sensor: str) -> Channel:
    meaning = MEANINGS[name]
    return Channel(f"Intellivue/{name}", meaning.code, meaning.unit, rate, sensor)


WAVEFORMS = (
    _channel("ECG_II", 500.0, "ecg"),
    _channel("ABP", 125.0, "arterial"),
    _channel("PLETH", 125.0, "oximeter"),
    _channel("CO2", 50.0, "capnograph"),
)
NUMERIC_SECONDS = 1.024
"""Time between numerics, as an IntelliVue has it."""
NUMERICS = tuple(
    _channel(name, 1 / NUMERIC_SECONDS, sensor)
    for name, sensor in (
        ("ECG_HR", "ecg"),
        ("ABP_SYS", "arterial"),
        ("ABP_DIA", "arterial"),
        ("ABP_MEAN", "arterial"),
        ("PLETH_SAT_O2", "oximeter"),
        ("PLETH_HR", "oximeter"),
        ("ETCO2", "capnograph"),
        ("RR_CO2", "capnograph"),
        ("TEMP", "temperature"),
    )
)


class Monitor:
    """The monitor at the patient's side. Blocks of waveform and lists of numerics, each a pure function of the case."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case, self.seed = case, seed
        self.patient = Patient(case, seed)
        self._draw: dict[str, Callable[[Array, np.random.Generator], Array]] = {
            "Intellivue/ECG_II": self._electrocardiogram,
            "Intellivue/ABP": self._pressure,
            "Intellivue/PLETH": self._pleth,
            "Intellivue/CO2": self._capnogram,
        }

    def waveform(self, channel: Channel, block: int) -> Array:
        """Samples of one block, (BLOCK * rate,) float32, whatever sensor is off."""
        count = round(BLOCK * channel.rate)
        times = (np.arange(count) + block * count) / channel.rate
        random = generator(self.seed, 20, WAVEFORMS.index(channel), block)
        return self._draw[channel.name](times, random).astype(np.float32)

    def off(self, sensor: str) -> list[tuple[float, float]]:
        """When a sensor gives nothing: start and end, s."""
        return [(step.at, step.end) for step in self.case.steps(SensorOff) if step.sensor == sensor]

    # -- waveforms

    def _electrocardiogram(self, times: Array, random: np.random.Generator) -> Array:
        beats = self.patient.beats
        index, since, until, period = _within(beats, times, 0.0)
        wide = beats.ectopic[index]
        next_wide = beats.ectopic[np.minimum(index + 1, beats.time.size - 1)]
        normal = np.interp(since, _TICKS, _AFTER) + np.interp(
            since / np.sqrt(np.clip(period, 0.3, 1.2)), _TICKS, _T_WAVE
        )
        ectopic = np.interp(since, _TICKS, _ECTOPIC)
        signal = np.where(wide, ectopic, normal)
        ahead = np.interp(until, _TICKS, _BEFORE)
        signal = signal + np.where(next_wide, 0.0, ahead)
        breath = self.patient.at(self.patient.breathing, times)
        signal = signal + 0.04 * np.sin(2 * np.pi * breath) + 0.03 * np.sin(2 * np.pi * 0.07 * times)
        signal = signal + random.normal(0, 0.012, times.shape) + 0.006 * np.sin(2 * np.pi * 50 * times)
        for inside, _ in self._artefacts("diathermy", times):
            bursts = (np.sin(2 * np.pi * 0.8 * times) > -0.4) & inside
            signal = signal + bursts * random.normal(0, 1.6, times.shape)
        return signal

    def _pressure(self, times: Array, random: np.random.Generator) -> Array:
        signal = _wave(self.patient.beats, times, TRANSIT) + random.normal(0, 0.25, times.shape)
        for inside, since in self._artefacts("flush", times):
            # The bag's pressure for a second and a half, then the ringing of the line.
            ringing = 60 * np.exp(-(since - 1.6) / 0.07) * np.cos(2 * np.pi * 14 * (since - 1.6))
            flushed = np.where(
                since < 1.6, 285 * (1 - np.exp(-since / 0.05)), signal + np.where(since < 2.4, ringing, 0)
            )
            signal = np.where(inside, flushed, signal)
        for inside, since in self._artefacts("zeroing", times):
            signal = np.where(inside, signal * np.exp(-since / 0.06) + random.normal(0, 0.15, times.shape), signal)
        return signal

    def _pleth(self, times: Array, random: np.random.Generator) -> Array:
        beats = self.patient.beats
        index, since, _, period = _within(beats, times, TRANSIT + 0.09)
        shape = np.interp(since / np.clip(period, 0.3, 1.1) ** 0.5, _TICKS, _PLETH_WAVE)
        signal = 28 + 42 * beats.perfusion[index] * shape + random.normal(0, 0.25, times.shape)
        signal = signal + 1.5 * np.sin(2 * np.pi * self.patient.at(self.patient.breathing, times))
        for inside, since_start in self._artefacts("motion", times):
            swing = sum(
                np.sin(2 * np.pi * frequency * since_start + phase)
                for frequency, phase in ((1.7, 0.3), (2.6, 1.9), (3.9, 4.0))
            )
            signal = np.where(inside, 0.4 * signal + 30 + 16 * swing + random.normal(0, 2.5, times.shape), signal)
        return np.clip(signal, 0, 100)

    def _capnogram(self, times: Array, random: np.random.Generator) -> Array:
        breaths = self.patient.breaths
        index = np.clip(np.searchsorted(breaths.time, times, "right") - 1, 0, breaths.time.size - 1)
        phase = (times - breaths.time[index]) / breaths.period
        shape = np.interp(phase, [0, 0.03, 0.05, 0.40, 0.44, 0.48, 0.56, 1.0], [1.0, 0.5, 0, 0, 0.25, 0.78, 0.90, 1.0])
        return np.maximum(breaths.carbon_dioxide[index] * shape + random.normal(0, 0.12, times.shape), 0)

    def _artefacts(self, how: str, times: Array) -> list[tuple[Array, Array]]:
        """For each such artefact in reach: a mask over ``times``, and the seconds since it began."""
        found = [step for step in self.case.steps(Artefact) if step.how == how]
        return [
            ((times >= step.at) & (times < step.end), np.maximum(times - step.at, 0.0))
            for step in found
            if step.at <= times[-1] and step.end >= times[0]
        ]

    # -- numerics

    def numerics(self) -> tuple[Array, dict[str, Array]]:
        """Times (n,) s of the numerics of the whole case, and a channel its values (n,) float64, NaN for none."""
        times = np.arange(NUMERIC_SECONDS, self.case.duration, NUMERIC_SECONDS)
        patient, beats = self.patient, self.patient.beats
        systolic, diastolic, mean = self._pressures(times)
        rate = _beats_per_minute(beats.time, times)
        pulse = _beats_per_minute(beats.time + TRANSIT + 0.09, times)
        saturation = patient.at(patient.saturation, times - 3)
        pulseless = pulse <= 0
        values = {
            "Intellivue/ECG_HR": np.round(rate),
            "Intellivue/ABP_SYS": np.round(systolic),
            "Intellivue/ABP_DIA": np.round(diastolic),
            "Intellivue/ABP_MEAN": np.round(mean),
            "Intellivue/PLETH_SAT_O2": np.where(pulseless, np.nan, np.round(saturation)),
            "Intellivue/PLETH_HR": np.where(pulseless, np.nan, np.round(pulse)),
            "Intellivue/ETCO2": np.round(patient.at(patient.carbon_dioxide, times)),
            "Intellivue/RR_CO2": np.full(times.shape, np.round(self.case.patient.breathing_rate)),
            "Intellivue/TEMP": np.round(patient.at(patient.temperature, times), 1),
        }
        for step in self.case.steps(Artefact):
            inside = (times >= step.at + 1) & (times < step.end + 3)
            if step.how == "diathermy":  # the rhythm cannot be counted: the monitor gives no rate
                values["Intellivue/ECG_HR"] = np.where(inside, np.nan, values["Intellivue/ECG_HR"])
            elif step.how == "motion":  # nor can the pulse
                for name in ("Intellivue/PLETH_SAT_O2", "Intellivue/PLETH_HR"):
                    values[name] = np.where(inside, np.nan, values[name])
        return times, values

    def _pressures(self, times: Array) -> tuple[Array, Array, Array]:
        """Systolic, diastolic, mean over the last four seconds of the pressure wave, as the monitor sees it."""
        rate = 25.0
        grid = np.arange(-8.0, self.case.duration + 1, 1 / rate)
        mean, low, high = [], [], []
        for part in np.array_split(grid, max(1, grid.size // 100_000)):
            wave = self._pressure(part, generator(self.seed, 30, int(part[0] * rate) + 1_000))
            mean.append(wave)
        wave = np.concatenate(mean)
        from scipy.ndimage import maximum_filter1d, minimum_filter1d, uniform_filter1d

        window = int(4 * rate)
        origin = window // 2 - 1  # looks back only
        high = maximum_filter1d(wave, int(1.6 * rate), origin=int(0.8 * rate) - 1)
        low = minimum_filter1d(wave, int(1.6 * rate), origin=int(0.8 * rate) - 1)
        parts = [uniform_filter1d(signal, window, origin=origin) for signal in (high, low, wave)]
        return tuple(np.interp(times, grid, part) for part in parts)  # type: ignore[return-value]


def _within(beats: Beats, times: Array, delay: float) -> tuple[Array, Array, Array, Array]:
    """For each time: index of the last beat (delayed by ``delay``), s since it, s until the next, s between the two."""
    feet = beats.time + delay
    index = np.clip(np.searchsorted(feet, times, "right") - 1, 0, feet.size - 1)
    following = np.append(feet[1:], feet[-1] + 1e3)[index]
    return index, times - feet[index], following - times, following - feet[index]


def _wave(beats: Beats, times: Array, delay: float) -> Array:
    """Arterial pressure, mmHg."""
    index, since, _, period = _within(beats, times, delay)
    following = np.append(beats.diastolic[1:], beats.diastolic[-1])[index]
    return pressure_wave(since, period, beats.diastolic[index], beats.pulse[index], following)


def _beats_per_minute(beats: Array, times: Array) -> Array:
    """Rate over the last six intervals; 0 where no beat was seen for four seconds (the monitor's asystole)."""
    index = np.searchsorted(beats, times, "right") - 1
    first = np.clip(index - 6, 0, None)
    span = np.maximum(beats[np.clip(index, 0, None)] - beats[first], 1e-3)
    rate = 60 * np.maximum(index - first, 1) / span
    # A rate cannot be higher than the time since the last beat allows.
    since = times - beats[np.clip(index, 0, None)]
    rate = np.minimum(rate, 60 / np.maximum(since - 0.25, 0.25))
    result: Array = np.where((since > 4.0) | (index < 1), 0.0, rate)
    return result


def _gaussians(ticks: Array, parts: tuple[tuple[float, float, float], ...]) -> Array:
    return sum(
        (height * np.exp(-(((ticks - at) / width) ** 2) / 2) for height, at, width in parts), np.zeros_like(ticks)
    )


# Look-up tables over the seconds since (or until) a beat; everything is zero beyond the last tick.
_TICKS = np.arange(0, 1.2, 0.001)
_TAPER = np.clip((1.15 - _TICKS) / 0.1, 0, 1)
_R, _Q, _S = (1.05, 0.0, 0.011), (-0.12, -0.028, 0.009), (-0.26, 0.028, 0.010)
_AFTER = _gaussians(_TICKS, (_R, _S, (0.015, 0.10, 0.05))) * _TAPER
_BEFORE = _gaussians(-_TICKS, (_R, _Q, (0.14, -0.165, 0.022))) * (_TICKS > 0.0005) * _TAPER
_T_WAVE = _gaussians(_TICKS, ((0.24, 0.30, 0.048), (0.09, 0.25, 0.05))) * _TAPER
_ECTOPIC = _gaussians(_TICKS, ((1.35, 0.035, 0.034), (-0.55, 0.13, 0.04), (-0.38, 0.32, 0.07))) * _TAPER
_PLETH_WAVE = (
    _gaussians(_TICKS, ((1.0, 0.17, 0.075), (0.42, 0.40, 0.11), (0.1, 0.62, 0.14)))
    * _TAPER
    * np.clip(_TICKS / 0.03, 0, 1)
)
