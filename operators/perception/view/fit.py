"""Fits the view model: weighted multinomial logistic regression in float64, the same numbers every time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from operators.perception.view.data import Sample
from operators.perception.view.features import NAMES
from operators.perception.view.model import Model
from operators.perception.view.view import LEARNT
from pipeline.message import Array

SPECIFICITY = 0.99
"""Share of the real training frames that the threshold for colour faults must leave alone."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What a fold chooses."""

    penalty: float = 0.002
    """Of the squared weights, beside the mean cross-entropy."""
    theatre: float = 1.0
    """Weight of all simulated frames together against all real ones."""


GRID = tuple(Options(penalty, theatre) for penalty in (0.0005, 0.002, 0.008, 0.03) for theatre in (0.3, 1.0))
"""What a fold may choose from."""


def fit(samples: Sequence[Sample], options: Options) -> Model:
    """A model of labelled frames. Deterministic: the problem is convex and nothing in it is drawn."""
    measured = np.stack([one.measured for one in samples])
    empty = np.zeros((len(LEARNT), len(NAMES) + 1))
    model = Model(measured.mean(axis=0), np.maximum(measured.std(axis=0), 1e-3), empty, empty[:1])
    view = head(model, samples, [one.view for one in samples], len(LEARNT), options)
    fault = head(model, samples, [one.colour_fault for one in samples], 2, options)
    fault = fault[1:] - fault[:1]
    sound = [one.measured for one in samples if one.kind == "real" and one.view < len(LEARNT)]
    fault[0, -1] -= max(np.quantile(model.standard(np.stack(sound)) @ fault[0], SPECIFICITY), 0.0) if sound else 0.0
    return dataclasses.replace(model, view=view, colour_fault=fault)


def head(model: Model, samples: Sequence[Sample], labels: Sequence[int], classes: int, options: Options) -> Array:
    """Weights (classes, 23) for labels 0 to ``classes`` - 1; frames with any other label are left out."""
    numbers = np.array(labels)
    known = (numbers >= 0) & (numbers < classes)
    theatre = np.array([one.group.startswith("theatre") for one in samples])
    z = model.standard(np.stack([one.measured for one in samples]))
    weight = _weights(numbers[known], theatre[known], options.theatre)
    return _logistic(z[known], numbers[known], weight, classes, options.penalty)


def _weights(labels: Array, theatre: Array, share: float) -> Array:
    """Square-root balance of the classes, within the real frames and within the simulated ones."""
    weight = np.zeros(len(labels))
    for where, total in ((~theatre, 1.0), (theatre, share)):
        for label in np.unique(labels[where]):
            here = where & (labels == label)
            weight[here] = here.sum() ** -0.5
        if where.any():
            weight[where] *= total / weight[where].sum()
    return weight / weight.sum()


def _logistic(z: Array, labels: Array, weight: Array, classes: int, penalty: float) -> Array:
    """Weights (classes, 23) of the multinomial logistic regression, by L-BFGS in float64."""
    import torch

    x, y, w = torch.from_numpy(z), torch.from_numpy(labels), torch.from_numpy(weight)
    theta = torch.zeros((classes, z.shape[1]), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([theta], max_iter=200, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimiser.zero_grad()
        loss = (w * torch.nn.functional.cross_entropy(x @ theta.T, y, reduction="none")).sum()
        loss = loss + penalty * theta[:, :-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return theta.detach().numpy().copy()
