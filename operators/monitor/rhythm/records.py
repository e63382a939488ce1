"""Simulated alarms by mechanism, true and false, in the layout of the CinC Challenge 2015: 250 Hz, two ECG leads, the
oximeter's wave and often an arterial pressure; the monitor's alarm falls at the record's end.

Simulated, and nothing else: what is measured on these records shows that rules, timing and plumbing do what they are
meant to. Sensitivity to *real* lethal arrhythmia is NOT shown by them; no recording of one is within reach.

``DEVELOPMENT`` is what thresholds were set on. ``HELD_OUT`` has other seeds, wider ranges, more noise, and mechanisms
that development never saw (a pacemaker's spikes, diathermy, flutter of another rate, irregular baseline rhythm).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from operators.monitor.rhythm import simulate
from operators.monitor.rhythm.definitions import KINDS, Kind
from operators.monitor.rhythm.simulate import Heart, Rhythms

Array = np.ndarray[Any, np.dtype[Any]]
RATE = 250.0
AFTER = 8.0
"""Seconds of signal after the alarm, as the challenge's retrospective records have; adjudication never sees them."""


@dataclasses.dataclass(frozen=True)
class Signal:
    """One channel of a record."""

    name: str
    code: str
    unit: str
    values: Array
    """(n,) float32; NaN where there is no sample."""
    rate: float = RATE


@dataclasses.dataclass(frozen=True)
class Record:
    """An alarm and the minutes before it."""

    name: str
    patient: str
    """Records of one patient share it: no split and no bootstrap may part them."""
    kind: Kind
    true: bool
    signals: tuple[Signal, ...]
    alarm: float
    """Seconds after the record's start at which the monitor gave its alarm."""
    mechanism: str = ""
    """What happens to the heart, or what feigns it."""
    artefact: str = ""
    """What disturbs a true alarm's signals besides; empty for none."""
    onset: float = 0.0
    """Seconds after the record's start at which the mechanism sets in."""


@dataclasses.dataclass(frozen=True)
class Ranges:
    """What records are drawn from."""

    name: str
    first_seed: int
    resting: tuple[float, float]
    """Heart rate before, /min."""
    noise: tuple[float, float]
    """Muscle noise on the ECG, mV."""
    size: tuple[float, float]
    """R wave, mV."""
    slow: tuple[float, float]
    """Rate in bradycardia, /min."""
    fast: tuple[float, float]
    ventricular: tuple[float, float]
    """Rate in ventricular tachycardia, /min."""
    fibrillation: tuple[float, float]
    """Hz."""
    irregular: float
    """Share of patients in atrial fibrillation."""
    feigned: dict[Kind, tuple[str, ...]]
    """Mechanisms of false alarms."""
    disturbed: tuple[str, ...]
    """Artefacts in true alarms."""


DEVELOPMENT = Ranges(
    "development", 10_000, (55, 100), (0.005, 0.03), (0.6, 1.6), (22, 35), (150, 190), (130, 200), (4.0, 6.5), 0.1,
    {
        "asystole": ("lead_off", "low_amplitude", "baseline_jump"),
        "extreme_bradycardia": ("low_amplitude", "lead_off", "baseline_jump"),
        "extreme_tachycardia": ("motion", "tall_t_wave", "muscle"),
        "ventricular_tachycardia": ("motion", "bundle_branch_block", "baseline_jump"),
        "ventricular_fibrillation": ("motion", "tremor", "lead_off"),
    },
    ("", "pleth_motion", "pressure_clipped", "lead_noise", "lead_off"),
)  # fmt: skip
HELD_OUT = Ranges(
    "held-out", 900_000, (45, 115), (0.005, 0.05), (0.4, 2.0), (15, 36), (145, 210), (115, 230), (3.2, 7.5), 0.2,
    {
        "asystole": (*DEVELOPMENT.feigned["asystole"], "diathermy", "pressure_clipped"),
        "extreme_bradycardia": (*DEVELOPMENT.feigned["extreme_bradycardia"], "diathermy"),
        "extreme_tachycardia": (*DEVELOPMENT.feigned["extreme_tachycardia"], "diathermy", "pacer"),
        "ventricular_tachycardia": (*DEVELOPMENT.feigned["ventricular_tachycardia"], "diathermy", "pacer"),
        "ventricular_fibrillation": (*DEVELOPMENT.feigned["ventricular_fibrillation"], "diathermy"),
    },
    (*DEVELOPMENT.disturbed, "pacer", "wander", "flush", "both_motion"),
)  # fmt: skip


def records(ranges: Ranges, count: int, *, true: bool, seed: int = 0) -> list[Record]:
    """``count`` records, the five kinds and their mechanisms in turn; of the true ones every second has an artefact."""
    return [record(ranges, index, true=true, seed=seed) for index in range(count)]


def record(ranges: Ranges, index: int, *, true: bool, seed: int = 0) -> Record:
    """Record ``index`` of a set: depends on its arguments only."""
    key = ranges.first_seed + seed
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence([key, int(true), index])))
    kind, turn = KINDS[index % len(KINDS)], index // len(KINDS)
    duration = float(random.uniform(60, 90))
    rhythms = Rhythms(
        resting=float(random.uniform(*ranges.resting)), irregular=bool(random.random() < ranges.irregular),
        ectopic=float(random.choice([0.0, 0.0, 0.02])), size=float(random.uniform(*ranges.size)),
        noise=float(random.uniform(*ranges.noise)), pressure=bool(random.random() < 0.6),
    )  # fmt: skip
    name = f"{ranges.name}-{'true' if true else 'false'}-{index:04d}"
    if true:
        disturbed = ranges.disturbed[1:]
        artefact = disturbed[turn // 2 % len(disturbed)] if turn % 2 else ""
        onset, mechanism, heart = _true(kind, ranges, rhythms, duration, random)
    else:
        artefact, mechanism = "", ranges.feigned[kind][turn % len(ranges.feigned[kind])]
        heart = simulate.sinus(rhythms, duration + AFTER, random, wide=mechanism == "pacer")
        if mechanism == "bundle_branch_block":
            rhythms = dataclasses.replace(rhythms, resting=float(random.uniform(101, 125)))
            heart = simulate.sinus(rhythms, duration + AFTER, random, wide=True)
        onset = duration - float(random.uniform(7, 10))
    signals = simulate.draw(heart, rhythms, duration + AFTER, random)
    simulate.disturb(signals, artefact or mechanism, kind, true, onset, rhythms, random)
    return Record(
        name, name, kind, true, tuple(_signal(short, values) for short, values in signals.items()),
        duration, mechanism, artefact, onset,
    )  # fmt: skip


def _true(
    kind: Kind, ranges: Ranges, rhythms: Rhythms, duration: float, random: np.random.Generator
) -> tuple[float, str, Heart]:
    """Onset in s, mechanism, and the heart."""
    if kind == "asystole":
        onset = duration - float(random.uniform(4.6, 9.0))
        mechanism = str(random.choice(["standstill", "ventricular standstill with P waves"]))
        return onset, mechanism, simulate.standstill(rhythms, duration + AFTER, onset, random, atria="P" in mechanism)
    if kind == "extreme_bradycardia":
        rate = float(random.uniform(*ranges.slow))
        onset = duration - float(np.clip(4.3 * 60 / rate + random.uniform(0.3, 2), 8, 20))
        mechanism = str(random.choice(["sinus bradycardia", "ventricular escape"]))
        wide = mechanism != "sinus bradycardia"
        return (
            onset,
            mechanism,
            simulate.change(rhythms, duration + AFTER, onset, rate, random, wide=wide, perfusion=1.1),
        )
    if kind == "extreme_tachycardia":
        rate = float(random.uniform(*ranges.fast))
        onset = duration - float(17.5 * 60 / rate + random.uniform(0.5, 2.5))
        mechanism = str(random.choice(["supraventricular tachycardia", "fast atrial fibrillation"]))
        spread = 0.1 if "atrial f" in mechanism else 0.008
        rate = max(rate, 160.0) if spread > 0.05 else rate
        heart = simulate.change(rhythms, duration + AFTER, onset, rate, random, perfusion=0.6, spread=spread)
        return onset, mechanism, heart
    if kind == "ventricular_tachycardia":
        rate = float(random.uniform(*ranges.ventricular))
        onset = duration - float(np.clip(6 * 60 / rate + random.uniform(0.3, 5), 2.5, 9))
        perfusion = float(random.choice([0.0, 0.25, 0.5]))
        mechanism = "pulseless" if perfusion == 0 else f"with {perfusion:.0%} of the pulse"
        return onset, mechanism, simulate.change(
            rhythms, duration + AFTER, onset, rate, random, wide=True, perfusion=perfusion, spread=0.015
        )  # fmt: skip
    onset = duration - float(random.uniform(4.6, 9.5))
    frequency = float(random.uniform(*ranges.fibrillation))
    mechanism = str(random.choice(["fibrillation", "flutter"]))
    return onset, mechanism, simulate.fibrillation(
        rhythms, duration + AFTER, onset, frequency, random, flutter=mechanism == "flutter"
    )  # fmt: skip


_CODES = {
    "II": ("MDC_ECG_ELEC_POTL_II", "mV"), "V": ("MDC_ECG_ELEC_POTL_V", "mV"),
    "ABP": ("MDC_PRESS_BLD_ART_ABP", "mm[Hg]"), "PLETH": ("MDC_PULS_OXIM_PLETH", "1"),
}  # fmt: skip


def _signal(short: str, values: Array) -> Signal:
    return Signal(f"Simulated/{short}", *_CODES[short], values.astype(np.float32))
