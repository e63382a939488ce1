"""Makes the shipped weights, freezes their threshold, and decides whether they may be the default.

    python -m operators.monitor.forecast.train

Fitting, threshold and measuring use three sets of simulated patients that share none. The model is the default only

1. where on the mixed patients its AUROC is above that of present mean pressure and of the straight line at every
   horizon, by at least 0.02 and with intervals that leave 0 out (fixed before the first fit), and
2. where real patients have shown that it is no worse than they are (``SHOWN_ON_REAL_PATIENTS``; added, in the direction
   of caution, after a look at the only real recording there is, see ``MODEL.md``).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from operators.monitor.forecast import evaluate
from operators.monitor.forecast.features import HORIZONS, NAMES
from operators.monitor.forecast.model import SHIPPED, Forecaster, fit
from operators.monitor.forecast.patients import Information, patients
from operators.runtime import weights
from pipeline.alerts.score import lead, raw_figures

SETS = {"fit": 11, "threshold": 12, "measure": 13}
"""Seeds of the patients."""
MARGIN = 0.02
"""AUROC by which the model must be better."""
SHOWN_ON_REAL_PATIENTS = False
"""To be changed by whoever has measured it on enough of them, and says where."""


def fitted(information: Information, count: int, seed: int) -> Forecaster:
    """A model of its own for one kind of patients."""
    found = evaluate.points(patients(count, information, SETS["fit"] + 100 * seed))
    used = (found.labels >= 0).any(axis=1)
    tensors = fit(found.features[used], found.labels[used], found.patient[used], seed)
    return Forecaster({name: tensor.numpy() for name, tensor in tensors.items()}, {})


def better(differences: list[tuple[float, float, float]]) -> bool:
    """The decision: every difference (value, low, high) is at least ``MARGIN`` and its interval above 0."""
    return all(value >= MARGIN and low > 0 for value, low, _ in differences)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = fitted("mixed", options.patients, options.seed)
    others = patients(options.patients // 3, "mixed", SETS["threshold"])
    frozen = evaluate.points(others)
    last = len(HORIZONS) - 1
    thresholds = {
        name: evaluate.threshold(frozen, value, others)
        for name, value in evaluate.values(frozen, model, last).items()
    }  # fmt: skip
    measured = patients(options.patients // 2, "mixed", SETS["measure"])
    test = evaluate.points(measured)
    differences: list[tuple[float, float, float]] = []
    for horizon, minutes in enumerate(HORIZONS):
        found = evaluate.discrimination(test, evaluate.values(test, model, horizon), horizon)
        for name, (value, low, high) in found.items():
            print(f"AUROC at {minutes} min, {name}: {value:.3f} [{low:.3f}, {high:.3f}]")
            if " - " in name:
                differences.append((value, low, high))
    for name, value in evaluate.values(test, model, last).items():
        print(f"{name}, threshold {thresholds[name]:.4f}: {described(test, value, measured, thresholds[name])}")
    simulated = better(differences)
    print(f"clearly better on these patients: {simulated}; shown on real ones: {SHOWN_ON_REAL_PATIENTS}")

    tensors: dict[str, Any] = {name: torch.from_numpy(array.copy()) for name, array in model.tensors.items()}
    weights.save(
        options.out, tensors,
        command=f"python -m operators.monitor.forecast.train --patients {options.patients} --seed {options.seed}",
        seed=options.seed, data=f"{options.patients} simulated patients (patients.py, mixed, seed {SETS['fit']})",
        features="; ".join(NAMES), threshold=f"{thresholds['model']:.6f}",
        mean_pressure_below=f"{evaluate.pressure(thresholds['mean pressure']):.2f}",
        better_on_simulated=str(simulated).lower(), default=str(simulated and SHOWN_ON_REAL_PATIENTS).lower(),
    )  # fmt: skip


def described(points: evaluate.Points, value: Any, of: Any, threshold: float) -> str:
    """Event recall, false alarms and lead of the alarms of one value, in words."""
    scores = evaluate.alarms(points, value, of, threshold)
    found = raw_figures(scores)
    median = lead(scores)
    early = "none" if median is None else f"{median / 60:.1f} min"
    return (
        f"{found.found} of {found.events} events, {found.false_alarms_per_hour or 0:.2f} false alarms an hour, "
        f"PPV {found.ppv or 0:.2f}, median lead {early}"
    )


if __name__ == "__main__":
    main()
