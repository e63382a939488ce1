"""Simulated patients, features and the analysis of forecasts; and the detector of leaks, shown to detect one."""

from __future__ import annotations

import numpy as np
import pytest

from operators.monitor.forecast import evaluate, patients
from operators.monitor.forecast.features import HORIZONS, NAMES, WINDOW, History, cleaned, contour, current, features
from operators.monitor.forecast.features import extrapolated as line
from operators.monitor.forecast.model import Forecaster, fit
from operators.monitor.forecast.patients import CHANNELS, HUMP, STEEP, STEP, Patient, episodes
from operators.monitor.forecast.train import better, fitted
from operators.theatre.pulse import SYSTOLE, pressure_wave
from pipeline.alerts.score import raw_figures


def window(**rows: np.ndarray | float) -> np.ndarray:
    """(1, 6, 300) of a steady patient, rows replaced."""
    usual = {"mean": 80.0, "systolic": 110.0, "diastolic": 65.0, "rate": 70.0, "upstroke": 900.0, "area": 8.0}
    return np.stack(
        [np.broadcast_to(np.asarray(rows.get(name, usual[name]), np.float32), WINDOW) for name in CHANNELS]
    )[None]


# ------------------------------------------------------------------------------------------- features


def test_features_by_hand() -> None:
    minutes = (np.arange(WINDOW) - WINDOW + 1) * STEP / 60
    found = dict(zip(NAMES, features(cleaned(window(mean=80 + 0.5 * minutes)))[0], strict=True))
    assert found["slope of mean, 5 min"] == pytest.approx(0.5, abs=1e-3)
    assert found["mean, 20 s"] == pytest.approx(80 - 0.5 * 9 / 60, abs=1e-3)
    assert found["pulse pressure, 1 min"] == pytest.approx(np.log(45), abs=1e-4)
    assert found["pulse pressure against before"] == pytest.approx(0, abs=1e-6)
    smaller = features(window(systolic=np.where(np.arange(WINDOW) < 200, 110.0, 95.0)))[0]
    assert dict(zip(NAMES, smaller, strict=True))["pulse pressure against before"] == pytest.approx(np.log(30 / 45))


def test_a_straight_line_leads_where_it_leads() -> None:
    minutes = (np.arange(WINDOW) - WINDOW + 1) * STEP / 60
    mean = (80 - 2 * minutes)[None]
    assert line(mean, 5)[0] == pytest.approx(70)
    assert np.isnan(line(np.where(np.arange(WINDOW) < WINDOW - 50, np.nan, mean), 5)[0]), "less than two minutes"
    assert np.isnan(current(np.full((1, WINDOW), np.nan))[0])


def test_features_do_not_look_ahead_and_say_what_is_missing() -> None:
    gone = features(cleaned(window(systolic=np.nan, diastolic=np.nan, upstroke=np.nan, area=np.nan)))[0]
    assert np.isfinite(gone[:8]).all()
    assert np.isnan(gone[8:12]).all()
    zeroed = cleaned(window(mean=0.0, systolic=0.0, diastolic=0.0))
    assert np.isnan(features(zeroed)[0, :8]).all()
    one = patients.patients(1, "mixed", 3, hours=0.5)[0]
    later = Patient(one.values.copy(), one.true_mean, one.episodes)
    later.values[:, 500:] = 60.0
    early = [evaluate.points([p]).features[:49] for p in (one, later)]
    assert np.array_equal(early[0], early[1], equal_nan=True), "what comes later changes nothing"


def test_the_operators_window_is_the_training_window() -> None:
    one = patients.patients(1, "planted", 4, hours=0.5)[0]
    history = History()
    for step in range(400):
        for row, channel in enumerate(CHANNELS):
            if np.isfinite(one.values[row, step]):
                history.add(channel, 1000 + step, float(one.values[row, step]))
    assert np.array_equal(
        features(history.until(1400)), evaluate.points([one]).features[39:40], equal_nan=True
    )  # fmt: skip


@pytest.mark.parametrize(("rate", "pulse", "beats"), [(125, 45.0, 70.0), (125, 25.0, 110.0), (500, 60.0, 50.0)])
def test_the_contour_of_a_drawn_wave_is_what_the_simulator_takes_it_for(rate: int, pulse: float, beats: float) -> None:
    period = 60 / beats
    time = np.arange(round(4 * rate)) / rate
    full = [np.array(v) for v in (period, 60.0, pulse, 60.0)]
    upstroke, area = contour(pressure_wave(time % period, *full).astype(np.float32), rate)
    systole = SYSTOLE * np.sqrt(period / 0.857)
    assert upstroke == pytest.approx(STEEP * pulse / systole, rel=0.15)
    assert area == pytest.approx(HUMP * pulse * systole, rel=0.15)
    assert all(np.isnan(contour(np.full(4 * rate, 80.0, np.float32), rate)))


# ------------------------------------------------------------------------------------------- patients


def test_patients_are_the_same_again_and_different_with_another_seed() -> None:
    one, same, other = (patients.patients(3, "mixed", seed, hours=0.3) for seed in (1, 1, 2))
    assert np.array_equal(one[2].values, same[2].values, equal_nan=True)
    assert not np.array_equal(one[2].values, other[2].values, equal_nan=True)


def test_episodes_by_hand() -> None:
    mean = np.full(300, 80.0)
    mean[50:90] = 60  # 80 s
    mean[100:110] = 60  # 20 s after 20 s: still the same
    mean[200:225] = 60  # 50 s: too short
    assert episodes(mean) == ((100.0, 220.0),)


def falls(kind: patients.Information) -> tuple[np.ndarray, np.ndarray]:
    """Change of mean pressure and of log pulse pressure over the ten minutes that end 2 min before each onset."""
    found = []
    for patient in patients.patients(60, kind, 5):
        pressure = patient.true_mean
        pulse = np.log(np.clip(patient.values[1] - patient.values[2], 1, None))
        free = -np.inf
        for begin, end in patient.episodes:
            at = int((begin - 120) / STEP)
            if begin - free > 900 and at > 400:
                now, before = slice(at - 30, at), slice(at - 330, at - 270)
                found.append((pressure[now].mean() - pressure[before].mean(),
                              np.nanmedian(pulse[now]) - np.nanmedian(pulse[before])))  # fmt: skip
            free = end
    return np.array(found)[:, 0], np.array(found)[:, 1]


def test_the_switch_plants_a_shrinking_pulse_or_nothing() -> None:
    mean, pulse = falls("planted")
    assert np.median(pulse - 0.8 * mean / 80) < -0.12
    mean, pulse = falls("none")
    assert abs(np.median(pulse - 0.8 * mean / 80)) < 0.06


# --------------------------------------------------------------------------------------------- analysis


def steady(length: int = 900, onset: float = 1000.0, end: float = 1200.0) -> Patient:
    values = np.repeat(window(), 3, axis=2)[0][:, :length]
    return Patient(values, values[0], ((onset, end),))


def test_points_are_labelled_forward_and_left_out_where_they_must() -> None:
    found = evaluate.points([steady()])
    label = dict(zip(found.second.tolist(), found.labels.tolist(), strict=True))
    assert label[100.0] == [-1, -1, -1], "the first two minutes"
    assert label[120.0] == [0, 0, 1]
    assert label[680.0] == [0, 1, 1]
    assert label[700.0] == [1, 1, 1]
    assert label[880.0] == [1, 1, 1]
    assert label[900.0] == [-1, -1, -1], "less than two minutes ahead"
    assert label[1100.0] == [-1, -1, -1], "in the episode"
    assert label[1300.0] == [-1, -1, -1], "just after it"
    assert label[1320.0] == [0, -1, -1], "the recording ends before it is known"


def test_alarms_answer_an_event_once_and_too_late_is_no_answer() -> None:
    patient = steady()
    found = evaluate.points([patient])

    def judged(*on: tuple[float, float]) -> tuple[int, int, int]:
        value = np.zeros(len(found.second))
        for begin, end in on:
            value[(found.second >= begin) & (found.second < end)] = 1.0
        figures = raw_figures(evaluate.alarms(found, value, [patient], 0.5))
        return figures.found, figures.false + figures.repeated, figures.events

    assert judged((400, 500)) == (1, 0, 1)
    assert judged((400, 420), (460, 480)) == (1, 0, 1), "five minutes of silence after an alarm"
    assert judged((200, 220), (600, 620)) == (1, 1, 1)
    assert judged((900, 1000)) == (0, 0, 1), "less than two minutes before"
    assert judged((1400, 1500)) == (0, 1, 1)


def test_the_detector_of_leaks_detects_one() -> None:
    """No fit here: the present pressure leaks nothing, and a score that has seen the next ten minutes is found out."""
    some = patients.patients(50, "none", 21)
    found = evaluate.points(some)
    ahead = np.concatenate(
        [[p.true_mean[int(s / STEP) : int(s / STEP) + 300].min() for s in np.arange(10, 4500, 10) * STEP] for p in some]
    )
    present = -found.mean
    for score, leaks in ((-0.9 * found.mean - 0.1 * ahead, True), (2 * present, False)):
        compared = evaluate.discrimination(found, {"model": score, "mean pressure": present}, 1, samples=100)
        value, low, _ = compared["model - mean pressure"]
        assert (value >= 0.02 and low > 0) is leaks


def test_only_clearly_better_is_better() -> None:
    assert better([(0.05, 0.01, 0.1), (0.02, 0.001, 0.1)])
    assert not better([(0.05, -0.01, 0.1)])
    assert not better([(0.01, 0.005, 0.02)])


def test_a_small_fit_learns_what_is_there_and_probabilities_rise_with_the_horizon() -> None:
    import torch

    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    inputs = random.normal(0, 1, (6000, len(NAMES))).astype(np.float32)
    inputs[::7, 14:] = np.nan
    chance = 1 / (1 + np.exp(2 - 2 * inputs[:, 9]))
    labels = (random.random((6000, 1)) < chance[:, None] * np.array([0.3, 0.6, 1.0])).astype(np.int8)
    labels[:500, 2] = -1
    whose = np.repeat(np.arange(60), 100)
    tensors = fit(inputs, labels, whose, 1, passes=40)
    model = Forecaster({name: tensor.numpy() for name, tensor in tensors.items()}, {})
    found = model.probabilities(inputs)
    assert (np.diff(found, axis=1) >= 0).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert np.corrcoef(found[:, 2], chance)[0, 1] > 0.8
    empty = np.full((1, len(NAMES)), np.nan, np.float32)
    assert np.isnan(model.probabilities(empty)).all()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("kind", "planted"), [("none", False), ("planted", True)])
def test_the_model_beats_mean_pressure_only_where_there_is_more_to_know(
    kind: patients.Information, planted: bool
) -> None:
    import torch

    torch.set_num_threads(1)
    model = fitted(kind, 150, 0)
    test = evaluate.points(patients.patients(120, kind, 999))
    for horizon in range(len(HORIZONS)):
        found = evaluate.discrimination(test, evaluate.values(test, model, horizon), horizon, samples=200)
        value, low, _ = found["model - mean pressure"]
        assert (value >= 0.02 and low > 0) if planted else low <= 0
