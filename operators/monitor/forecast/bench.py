"""Figures of the forecast. All on simulated patients but the last rows, which are one real one and prove nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

from operators.monitor.forecast import evaluate
from operators.monitor.forecast.features import HORIZONS
from operators.monitor.forecast.forecast import HypotensionForecast
from operators.monitor.forecast.model import Forecaster, load
from operators.monitor.forecast.patients import LIMIT, STEP, Information, Patient, patients
from operators.monitor.forecast.train import MARGIN, SETS, fitted
from operators.recordings import shared_data
from pipeline.alerts.score import lead, raw_figures
from pipeline.alerts.statistics import brier, calibration_error, interval
from pipeline.bench import BenchOptions, Row
from pipeline.message import NANOSECONDS, Message, Numeric, Waveform
from pipeline.operator import each

MEASURE = 5000
"""Added to the seed for the patients that are measured: none of them was fitted to or chose a threshold."""
FREE, ONSET = 440.0, 609.0
"""Seconds between which or_case1 is free of hypotension (SOURCES.md). Less two minutes at either end, as the analysis
has it, nothing is left to warn in: this patient can only be looked at."""
SPLIT = "by patient; other patients for fitting, threshold and measuring"


def rows(options: BenchOptions) -> list[Row]:
    """Discrimination, alarms, calibration and speed, each beside present mean pressure and the straight line."""
    import torch

    torch.set_num_threads(1)
    number = 24 if options.quick else 200
    found: list[Row] = []
    for kind in ("planted", "none"):
        options.progress(f"forecast: a model of its own for patients with {kind} planted")
        model = fitted(kind, 30 if options.quick else 200, 0)
        found += _discrimination(model, kind, number, options, own=True)
    shipped = load()
    options.progress("forecast: the shipped model on mixed patients, and where there is nothing to know")
    found += _discrimination(shipped, "mixed", number, options, own=False)
    found += _discrimination(shipped, "none", number, options, own=False)
    found += _alarms(shipped, number, options)
    found.append(_speed(shipped, options))
    found += _real(shipped, options)
    return found


def _named(kind: Information) -> str:
    return {"planted": "with more than mean pressure knows", "none": "without", "mixed": "mixed"}[kind]


def _discrimination(
    model: Forecaster, kind: Information, number: int, options: BenchOptions, *, own: bool
) -> list[Row]:
    some = patients(number, kind, MEASURE + options.seed)
    points = evaluate.points(some)
    data = f"{number} simulated patients, {_named(kind)}"
    made = "a model fitted to such patients" if own else "the shipped model"
    whose = _named(kind) + ("" if own else ", shipped model")
    found = []
    for horizon, minutes in enumerate(HORIZONS):
        scores = evaluate.values(points, model, horizon)
        areas = evaluate.discrimination(points, scores, horizon, samples=100 if options.quick else 400)
        for other in ("mean pressure", "straight line"):
            value, low, high = areas["model"]
            base = areas[other][0]
            found.append(Row(f"forecast AUROC at {minutes} min, {whose}", value, "", other, base,
                             value / base if base else None, data=data, split=f"{SPLIT}; {made}",
                             interval=(low, high)))  # fmt: skip
        value, low, high = areas["model - mean pressure"]
        if not own:
            goal, met = "", None
        elif kind == "planted":
            goal, met = f">= {MARGIN:g} and interval above 0", value >= MARGIN and low > 0
        else:
            goal, met = "interval does not lie above 0", low <= 0
        found.append(Row(f"forecast AUROC above mean pressure's at {minutes} min, {whose}", value, "",
                         goal=goal, met=None if options.quick else met, data=data, split=SPLIT,
                         interval=(low, high)))  # fmt: skip
    return found


def _alarms(model: Forecaster, number: int, options: BenchOptions) -> list[Row]:
    """At thresholds that other patients chose, the same way for all three."""
    last = len(HORIZONS) - 1
    others = patients(max(number // 2, 20), "mixed", SETS["threshold"])
    frozen = evaluate.points(others)
    some = patients(number, "mixed", MEASURE + options.seed)
    points = evaluate.points(some)
    chosen = {
        name: evaluate.threshold(frozen, value, others)
        for name, value in evaluate.values(frozen, model, last).items()
    }  # fmt: skip
    chosen["model"] = float(model.metadata["threshold"])
    shown = evaluate.values(points, model, last)
    scores = {name: evaluate.alarms(points, value, some, chosen[name]) for name, value in shown.items()}
    data = f"{number} simulated patients, mixed"
    found = []
    figures: tuple[tuple[str, str, Any], ...] = (
        ("event recall", "", lambda drawn: raw_figures(drawn).sensitivity),
        ("PPV of alarms", "", lambda drawn: raw_figures(drawn).ppv),
        ("false alarms", "/h", lambda drawn: raw_figures(drawn).false_alarms_per_hour),
        ("median lead", "min", _lead_minutes),
    )
    for name, unit, statistic in figures:
        measured = {who: statistic(of) for who, of in scores.items()}
        between = interval(scores["model"], statistic, samples=100 if options.quick else 500, seed=options.seed)
        for other in ("mean pressure", "straight line"):
            value, base = measured["model"], measured[other]
            found.append(Row(f"forecast {name}", math.nan if value is None else value, unit, other, base,
                             value / base if value is not None and base else None, data=data,
                             split=f"{SPLIT}; thresholds frozen at {evaluate.BUDGET:g} false alarms/h",
                             interval=between))  # fmt: skip
    known = points.labels[:, last] >= 0
    chance, happened = shown["model"][known], points.labels[known, last]
    found.append(Row("forecast Brier score at 15 min", brier(chance, happened), "", "always the base rate",
                     float(happened.mean() * (1 - happened.mean())), data=data, split=SPLIT))  # fmt: skip
    found.append(Row("forecast calibration error at 15 min", calibration_error(chance, happened), "", data=data,
                     split=SPLIT))  # fmt: skip
    return found


def _lead_minutes(scores: Any) -> float | None:
    seconds = lead(scores)
    return None if seconds is None else seconds / 60


# ------------------------------------------------------------------------------------- speed and one patient


def messages(patient: Patient, zero: int = 1_700_000_000 * NANOSECONDS) -> Iterable[Message[Any]]:
    """What a monitor would send of a simulated patient: numerics every two seconds, no waveform."""
    names = (("ABP_MEAN", "mm[Hg]"), ("ABP_SYS", "mm[Hg]"), ("ABP_DIA", "mm[Hg]"), ("ECG_HR", "/min"))
    for step in range(patient.values.shape[1]):
        for row, (name, unit) in enumerate(names):
            numeric = Numeric(f"Simulated/{name}", "", unit, float(patient.values[row, step]))
            at = zero + round(step * STEP * NANOSECONDS)
            yield Message(f"monitor.numerics/Simulated/{name}", at, step, numeric, "simulated")


def _speed(model: Forecaster, options: BenchOptions) -> Row:
    hours = 0.2 if options.quick else 2.0
    sent = list(messages(patients(1, "mixed", MEASURE, hours)[0]))
    operator = HypotensionForecast(publish="model")
    operator.setup()
    began = time.perf_counter()
    for message in sent:
        list(each(operator.on_numerics(message)))
    spent = time.perf_counter() - began
    return Row("forecast speed, numerics alone", hours * 3600 / spent, "x real time",
               data=f"{hours:g} h of one simulated patient")  # fmt: skip


def _real(model: Forecaster, options: BenchOptions) -> list[Row]:
    folder = shared_data()
    path = None if folder is None else folder / "or_intellivue" / "or_case1.vital"
    if path is None or not path.is_file():
        options.progress("forecast: the real recording is not here; its rows are left out")
        return []
    from operators.monitor.vital import VitalReader

    reader = VitalReader(path)
    zero = min(info.start for info in reader.streams())
    operator = HypotensionForecast(publish="model")
    operator.setup()
    heard = [m for m in reader.messages() if isinstance(m.payload, Numeric | Waveform)]
    shown: dict[str, list[tuple[float, float]]] = {}
    began = time.perf_counter()
    for message in heard:
        handler = operator.on_waveforms if isinstance(message.payload, Waveform) else operator.on_numerics
        for said in each(handler(message)):
            numeric = said.payload
            shown.setdefault(numeric.channel, []).append(((said.time - zero) / NANOSECONDS, numeric.value))
    spent = time.perf_counter() - began
    data = "or_case1.vital: one real patient, who proves nothing"
    lasted = (heard[-1].time - heard[0].time) / NANOSECONDS
    found = [Row("forecast speed, numerics and waveforms", lasted / spent, "x real time", data=data)]
    leads: list[float | None] = []
    for channel, warns in (
        ("HYPOTENSION_15MIN", lambda value: value >= float(model.metadata["threshold"])),
        ("MAP", lambda value: value < float(model.metadata["mean_pressure_below"])),
        ("MAP_EXTRAPOLATED_15MIN", lambda value: value < LIMIT),
    ):
        told = [second for second, value in shown[f"Vigil/{channel}"] if FREE <= second < ONSET and warns(value)]
        leads.append((ONSET - told[0]) / 60 if told else None)
    names = ("mean pressure at its frozen threshold", "straight line below 65 mmHg")
    for name, base in zip(names, leads[1:], strict=True):
        found.append(
            Row(
                "forecast at its threshold so long before the second real episode",
                math.nan if leads[0] is None else leads[0],
                "min",
                name,
                base,
                data=data,
            )
        )
    return found
