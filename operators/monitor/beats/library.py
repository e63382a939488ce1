"""Library detectors that ours stands beside, and the measure that all are held to. They take a whole recording.

On lead 1 of MIT-BIH 100 and 105 ours is as good as ``xqrs`` (1.000 and 0.991 both); ``rodrigues2021`` is a little
better (1.000 and 0.995). It cannot ship as the default, for it lets its threshold sink to zero and so counts on through
a standstill: it misses every asystole of the development set, and ``neurokit``, ``gqrs``, ``hamilton2002``,
``christov2004`` and ``zong2003`` invent beats there too. None of them works on a stream: they take their thresholds
from the whole recording or from what comes later. The bench of ``operators.monitor.rhythm`` has the figures.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from operators.monitor.beats.detect import Beat, Detector
from operators.monitor.quality.channel import Array, Blocks, Role
from operators.monitor.quality.judge import Judge
from pipeline.message import NANOSECONDS, Waveform

TOLERANCE = 0.075
"""Seconds that a detected beat may be off."""
SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")
"""MIT-BIH annotations that are beats."""
_CODES: dict[Role, str] = {"ecg": "MDC_ECG_ELEC_POTL", "abp": "MDC_PRESS_BLD_ART_ABP", "pleth": "MDC_PULS_OXIM_PLETH"}
_UNITS: dict[Role, str] = {"ecg": "mV", "abp": "mm[Hg]", "pleth": "1"}


class Agreement(NamedTuple):
    """What became of reference beats and of detected ones, each matched once at most, in order of time."""

    found: int
    missed: int
    invented: int

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FN + FP); NaN where there is neither."""
        whole = 2 * self.found + self.missed + self.invented
        return 2 * self.found / whole if whole else float("nan")


def match(reference: Array, detected: Array, tolerance: float = TOLERANCE) -> Agreement:
    """Compare beats, both (n,) s and rising."""
    at = found = 0
    for time in reference.tolist():
        while at < len(detected) and detected[at] < time - tolerance:
            at += 1
        if at < len(detected) and detected[at] <= time + tolerance:
            found, at = found + 1, at + 1
    return Agreement(found, len(reference) - found, len(detected) - found)


def ours(values: Array, rate: float, role: Role = "ecg", chunk: int = 0) -> list[Beat]:
    """The streaming detector over a whole recording, in chunks of so many samples (one second where 0)."""
    blocks, judge, detector = Blocks(), Judge(role), Detector(role)
    size = chunk or round(rate)
    found: list[Beat] = []
    for at in range(0, len(values), size):
        wave = Waveform("lead", _CODES[role], _UNITS[role], rate, values[at : at + size])
        for block in blocks.add(round(at / rate * NANOSECONDS), wave):
            found += detector.add(block, judge.judge(block))
    for block in blocks.finish():
        found += detector.add(block, judge.judge(block))
    return [*found, *detector.finish()]


def ours_times(values: Array, rate: float) -> Array:
    """As ``ours`` for an ECG: times of the beats, (n,) s."""
    return np.array([beat.time / NANOSECONDS for beat in ours(values, rate)])


def _xqrs(values: Array, rate: float) -> Array:
    from wfdb import processing

    detector = processing.XQRS(sig=values, fs=rate)
    detector.detect(verbose=False)
    return np.asarray(detector.qrs_inds, np.float64) / rate


def _gqrs(values: Array, rate: float) -> Array:
    from wfdb import processing

    return np.asarray(processing.gqrs_detect(sig=values, fs=rate), np.float64) / rate


def _neurokit(method: str, cleaned: str = "neurokit") -> Callable[[Array, float], Array]:
    def detect(values: Array, rate: float) -> Array:
        import neurokit2

        clean = neurokit2.ecg_clean(values, sampling_rate=round(rate), method=cleaned)
        _, found = neurokit2.ecg_peaks(clean, sampling_rate=round(rate), method=method)
        peaks = np.asarray(found["ECG_R_Peaks"], np.float64)
        return peaks[np.isfinite(peaks)] / rate

    return detect


LIBRARY: dict[str, Callable[[Array, float], Array]] = {
    "wfdb xqrs": _xqrs,
    "wfdb gqrs": _gqrs,
    "neurokit2 neurokit": _neurokit("neurokit"),
    "neurokit2 rodrigues2021": _neurokit("rodrigues2021"),
    "neurokit2 kalidas2017": _neurokit("kalidas2017"),
    "neurokit2 pantompkins1985": _neurokit("pantompkins1985", "pantompkins1985"),
    "neurokit2 hamilton2002": _neurokit("hamilton2002", "hamilton2002"),
    "neurokit2 engzeemod2012": _neurokit("engzeemod2012", "engzeemod2012"),
}
"""Name to a function of (values (n,) mV, rate) that gives times of beats, (n,) s."""


def run(name: str, values: Array, rate: float) -> Array:
    """Times of the beats by a library detector; empty where it fails, as several do where there is no beat at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return np.sort(LIBRARY[name](np.asarray(values, np.float64), rate))
        except Exception:  # they fail in many ways on signals without beats
            return np.empty(0)
