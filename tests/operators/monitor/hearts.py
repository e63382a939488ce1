"""Small hearts for the tests: waves drawn beat by beat, as messages in chunks of any size. Simulated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.message import Array, Message, Waveform

SECOND = 1_000_000_000
START = 1_767_225_600 * SECOND
CODES = {
    "ECG_II": ("MDC_ECG_ELEC_POTL_II", "mV"), "ECG_V": ("MDC_ECG_ELEC_POTL_V", "mV"),
    "ABP": ("MDC_PRESS_BLD_ART_ABP", "mm[Hg]"), "PLETH": ("MDC_PULS_OXIM_PLETH", "1"),
}  # fmt: skip


def electrocardiogram(
    beats: Sequence[float], seconds: float, rate: float = 250.0, *, wide: Sequence[float] = (), noise: float = 0.01
) -> Array:
    """(n,) float32 mV: narrow beats at ``beats``, ventricular ones at ``wide``."""
    times = np.arange(round(seconds * rate)) / rate
    signal = np.random.default_rng(1).normal(0, noise, times.shape) + 0.05 * np.sin(2 * np.pi * 0.25 * times)
    for marks, parts in (
        (beats, ((1.0, 0.0, 0.011), (-0.25, 0.028, 0.01), (0.25, 0.28, 0.045))),
        (wide, ((-1.3, 0.03, 0.034), (0.6, 0.13, 0.04), (0.4, 0.28, 0.06))),
    ):
        for mark in marks:
            for height, place, width in parts:
                signal += height * np.exp(-(((times - mark - place) / width) ** 2) / 2)
    return signal.astype(np.float32)


def pulses(
    beats: Sequence[float], seconds: float, rate: float = 125.0, *, low: float = 0.0, size: float = 1.0
) -> Array:
    """(n,) float32: a pulse 0.2 s after each beat, on top of ``low``."""
    times = np.arange(round(seconds * rate)) / rate
    signal = low + np.random.default_rng(2).normal(0, 0.004 * size, times.shape)
    for beat in beats:
        for height, place, width in ((1.0, 0.37, 0.07), (0.35, 0.6, 0.09)):
            signal += size * height * np.exp(-(((times - beat - place) / width) ** 2) / 2)
    return signal.astype(np.float32)


def regular(begin: float, end: float, per_minute: float) -> list[float]:
    """Times of beats, every second one a hundredth late: no heart is a clock."""
    period = 60 / per_minute
    count = int((end - begin) / period)
    return [begin + period * (index + 0.01 * (index % 2)) for index in range(count)]


def chunks(
    name: str, values: Array, rate: float, sizes: Sequence[int] = (), start: int = START
) -> list[Message[Waveform]]:
    """Messages of one channel, its chunks of the given sizes in turn (half a second where there are none)."""
    code, unit = CODES[name]
    turn, at, found = list(sizes) or [round(rate / 2)], 0, []
    while at < len(values):
        size = turn[len(found) % len(turn)]
        wave = Waveform(f"Test/{name}", code, unit, rate, values[at : at + size])
        when = start + round(at / rate * SECOND)
        found.append(Message(f"monitor.waveforms/Test/{name}", when, len(found), wave, "simulated"))
        at += size
    return found


def together(*channels: list[Message[Waveform]]) -> list[Message[Waveform]]:
    """All messages in the total order."""
    return sorted((message for channel in channels for message in channel), key=lambda message: message.order)
