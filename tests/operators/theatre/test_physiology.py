"""The patient answers to the script, and the monitor shows it as a monitor would."""

from __future__ import annotations

import time

import numpy as np
import pytest

from operators.theatre.case import Case, load, loads
from operators.theatre.physiology import Patient
from operators.theatre.signals import BLOCK, WAVEFORMS, Monitor

ECG, ABP, PLETH, CO2 = WAVEFORMS


def case(*steps: str, duration: float = 64) -> Case:
    return loads(
        f"theatre: 1\nduration: {duration}\nseed: 3\nscript:\n" + "".join(f"  - {step}\n" for step in steps)
        if steps
        else f"theatre: 1\nduration: {duration}\n"
    )


def numerics(script: Case, name: str, start: float, end: float) -> np.ndarray:
    times, values = Monitor(script, 3).numerics()
    return values[f"Intellivue/{name}"][(times >= start) & (times < end)]


def test_baseline_is_what_the_patient_says() -> None:
    script = loads(
        "theatre: 1\nduration: 300\npatient: {heart_rate: 62, mean_pressure: 90, saturation: 97, end_tidal_co2: 40}\n"
    )
    assert numerics(script, "ECG_HR", 0, 300).mean() == pytest.approx(62, abs=3)
    assert numerics(script, "ABP_MEAN", 0, 300).mean() == pytest.approx(90, abs=3)
    assert numerics(script, "PLETH_SAT_O2", 0, 300).mean() == pytest.approx(97, abs=1)
    assert numerics(script, "ETCO2", 0, 300).mean() == pytest.approx(40, abs=2)


def test_hypotension_lowers_pressure_and_quickens_the_heart() -> None:
    script = case("{at: 10, do: hypotension, to: 50, lasts: 40}")
    assert numerics(script, "ABP_MEAN", 20, 50).max() < 58
    assert numerics(script, "ABP_MEAN", 0, 9).min() > 75
    assert numerics(script, "ECG_HR", 25, 50).mean() > numerics(script, "ECG_HR", 0, 9).mean() + 6


def test_numerics_agree_with_the_waveform() -> None:
    script = case("{at: 20, do: hypotension, to: 55, lasts: 40}")
    wave = Monitor(script, 3).waveform(ABP, 0)
    for start in (8, 30, 50):
        seen = numerics(script, "ABP_MEAN", start + 4, start + 5.1)[0]
        assert wave[start * 125 : (start + 4) * 125].mean() == pytest.approx(seen, abs=4)


def test_asystole_is_flat_pulseless_and_runs_down() -> None:
    script = case("{at: 30, do: asystole, lasts: 15}")
    monitor = Monitor(script, 3)
    ecg, abp, pleth = (monitor.waveform(channel, 0) for channel in (ECG, ABP, PLETH))
    assert np.ptp(ecg[32 * 500 : 44 * 500]) < 0.4 < np.ptp(ecg[20 * 500 : 28 * 500])
    assert np.ptp(pleth[36 * 125 : 44 * 125]) < 8 < np.ptp(pleth[20 * 125 : 28 * 125])
    assert abp[44 * 125 : 45 * 125].mean() < 25
    assert numerics(script, "ECG_HR", 38, 45).max() == 0
    assert np.isnan(numerics(script, "PLETH_HR", 38, 45)).all()
    assert numerics(script, "ECG_HR", 56, 64).mean() > 45


def test_tachycardia_and_desaturation_reach_their_goals() -> None:
    script = case("{at: 10, do: tachycardia, to: 150, lasts: 40}", "{at: 10, do: desaturation, to: 80, lasts: 40}")
    assert numerics(script, "ECG_HR", 25, 48).mean() == pytest.approx(150, abs=5)
    assert numerics(script, "PLETH_SAT_O2", 30, 50).mean() == pytest.approx(80, abs=2)


def test_artefacts_leave_the_patient_alone() -> None:
    script = case("{at: 30, do: artefact, how: flush, lasts: 3}", "{at: 40, do: artefact, how: zeroing, lasts: 5}")
    plain = case()
    assert np.array_equal(Patient(script, 3).mean, Patient(plain, 3).mean)
    wave = Monitor(script, 3).waveform(ABP, 0)
    assert wave[30 * 125 : 32 * 125].max() > 250
    assert abs(wave[42 * 125 : 44 * 125]).max() < 3


def test_blocks_do_not_depend_on_each_other() -> None:
    script = case("{at: 100, do: hypotension, to: 50, lasts: 40}", duration=200)
    fresh = Monitor(script, 3).waveform(ECG, 2)
    monitor = Monitor(script, 3)
    for block in range(3):
        last = monitor.waveform(ECG, block)
    assert np.array_equal(fresh, last)
    assert not np.array_equal(fresh, Monitor(script, 4).waveform(ECG, 2))


def test_waveforms_have_no_jumps_between_blocks() -> None:
    monitor = Monitor(case(duration=200), 3)
    for channel, jump in ((ABP, 12), (PLETH, 10), (CO2, 8)):
        first, second = monitor.waveform(channel, 0), monitor.waveform(channel, 1)
        assert first.size == round(BLOCK * channel.rate)
        assert abs(float(second[0]) - float(first[-1])) < jump


def test_an_independent_detector_finds_the_beats() -> None:
    import neurokit2

    monitor = Monitor(case(), 3)
    _, found = neurokit2.ecg_peaks(monitor.waveform(ECG, 0), sampling_rate=500)
    peaks = np.asarray(found["ECG_R_Peaks"]) / 500
    beats = monitor.patient.beats.time
    beats = beats[(beats > 1) & (beats < 63)]
    near = np.abs(beats[:, None] - peaks[None]).min(1)
    assert (near < 0.06).mean() > 0.97


def test_six_hours_are_quick() -> None:
    script = load("long")
    begin = time.perf_counter()
    monitor = Monitor(script, 1)
    monitor.numerics()
    for block in range(10):
        for channel in WAVEFORMS:
            monitor.waveform(channel, block)
    assert time.perf_counter() - begin < 6
