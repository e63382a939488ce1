"""The small network: features in, probability of hypotension within 5, 10 and 15 minutes out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from operators.monitor.forecast.features import GROUPS, HORIZONS, NAMES
from operators.runtime import weights
from pipeline.errors import VigilError

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, np.dtype[Any]]

HIDDEN = 24
SHIPPED = Path(__file__).parent / "forecast.safetensors"


def with_gaps(features: Array, mean: Array, spread: Array) -> Array:
    """(n, 17 + 3) float32: standardised features, 0 for missing ones, and for each group whether it is missing."""
    scaled = (features - mean) / spread
    gone = np.stack([~np.isfinite(features[:, list(columns)]).all(axis=1) for columns in GROUPS.values()], axis=1)
    scaled = np.where(np.isfinite(scaled), np.clip(scaled, -6, 6), 0)
    return np.concatenate([scaled, gone], axis=1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Forecaster:
    """A fitted network, run in numpy: a forecast costs some microseconds and needs no torch.

    One hidden layer gives the hazard of each stretch of time (0-5, 5-10, 10-15 min), so that the probability within 10
    minutes is never below the one within 5.
    """

    tensors: dict[str, Array]
    """``mean, spread`` (17,), ``w1`` (24, 20), ``b1`` (24,), ``w2`` (3, 24), ``b2`` (3,), all float32."""
    metadata: dict[str, str]
    """Where it came from, its frozen threshold, and whether it may be the default; see ``train``."""
    digest: str = ""

    def probabilities(self, features: Array) -> Array:
        """(n, 3) probabilities for ``HORIZONS`` from (n, 17) features; NaN where there is no present mean pressure."""
        t = self.tensors
        hidden = np.tanh(with_gaps(features, t["mean"], t["spread"]) @ t["w1"].T + t["b1"])
        hazard = np.logaddexp(0, hidden @ t["w2"].T + t["b2"])
        found = 1 - np.exp(-np.cumsum(hazard, axis=1))
        return np.where(np.isfinite(features[:, :1]), found, np.nan)


def load(path: Path = SHIPPED) -> Forecaster:
    """Weights from a file.

    Raises:
        VigilError: where it is missing, damaged, or made for other features.
    """
    arrays, metadata = weights.arrays(path)
    count, wide = len(NAMES), len(NAMES) + len(GROUPS)
    shapes = {"mean": (count,), "spread": (count,), "w1": (HIDDEN, wide), "b1": (HIDDEN,),
              "w2": (len(HORIZONS), HIDDEN), "b2": (len(HORIZONS),)}  # fmt: skip
    found = {name: array.shape for name, array in arrays.items()}
    if found != shapes:
        wrong = sorted(name for name in shapes | found if shapes.get(name) != found.get(name))
        raise VigilError(f"does not fit the forecast: {', '.join(wrong)}", where=str(path))
    if metadata.get("features") != "; ".join(NAMES):
        raise VigilError("was made for other features", where=str(path), mend="fit it again: forecast.train")
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    if not all(np.isfinite(array).all() for array in arrays.values()) or not (arrays["spread"] > 0).all():
        raise VigilError("holds values that are no numbers", where=str(path))
    return Forecaster(arrays, metadata, weights.digest(path))


def fit(features: Array, labels: Array, patient: Array, seed: int, *, passes: int = 8) -> dict[str, torch.Tensor]:
    """Fit the network to points of many patients.

    Args:
        features: (n, 17), NaN where missing.
        labels: (n, 3), 1 where hypotension begins within the horizon, 0 where not, -1 where nobody can tell.
        patient: (n,) int, whose point it is: contour and pulse are withheld from some patients as a whole, so that the
            network also knows the monitor that does not give them.
        seed: of weights, order and withholding.
    """
    import torch

    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    features = features.copy()
    count = int(patient.max()) + 1
    for name, share in (("contour", 0.35), ("pressures", 0.1)):
        chosen = (random.random(count) < share)[patient]
        columns = GROUPS[name] + (GROUPS["contour"] if name == "pressures" else ())
        features[np.ix_(chosen, columns)] = np.nan
    mean, spread = _moments(features)
    inputs = torch.from_numpy(with_gaps(features, mean, spread))
    known, wanted = torch.from_numpy(labels >= 0), torch.from_numpy((labels == 1).astype(np.float32))
    network = torch.nn.Sequential(
        torch.nn.Linear(inputs.shape[1], HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, len(HORIZONS))
    )
    with torch.no_grad():
        network[2].bias.fill_(-4.0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-3)
    batch = 2048
    steps = passes * (len(inputs) // batch + 1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(passes):
        for part in torch.randperm(len(inputs)).split(batch):
            hazard = torch.nn.functional.softplus(network(inputs[part])).cumsum(dim=1)
            # log(1 - exp(-h)) where it happened, -h where it did not.
            loss = torch.where(wanted[part] > 0, -torch.log(-torch.expm1(-hazard) + 1e-7), hazard)
            optimiser.zero_grad()
            (loss * known[part]).sum().div(known[part].sum().clamp(min=1)).backward()
            optimiser.step()
            schedule.step()
    first, last = network[0], network[2]
    tensors = {"w1": first.weight, "b1": first.bias, "w2": last.weight, "b2": last.bias}
    arrays = {"mean": torch.from_numpy(mean), "spread": torch.from_numpy(spread)}
    return arrays | {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _moments(features: Array) -> tuple[Array, Array]:
    there = np.isfinite(features)
    count = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, features, 0).sum(axis=0, dtype=np.float64) / count
    spread = np.sqrt((np.where(there, features - mean, 0) ** 2).sum(axis=0) / count)
    return mean.astype(np.float32), np.maximum(spread, 1e-3).astype(np.float32)
