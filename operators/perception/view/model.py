"""The learnt view: multinomial logistic regression on the 22 measures of ``features``, and a head for colour faults.

Few real frames show anything but the inside of a body (8 outside, 5 trocar, 6 covered lens), so the model is as small
as can be: 22 numbers in, 4 + 1 out. Black, no signal and noise stay with the fixed limits of ``view.no_picture``, and
smoke with the rule: a learnt head for it was no better on operations that it had not seen (``MODEL.md``).
"""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from operators.perception.view import rules
from operators.perception.view.features import NAMES, FloatArray, features
from operators.perception.view.view import LEARNT, View, no_picture
from operators.runtime import weights
from pipeline.errors import VigilError
from pipeline.message import VideoFrame

WEIGHTS = Path(__file__).parent / "view.safetensors"
"""The shipped weights; ``MODEL.md`` is their card."""
REACH = 4.0
"""Measures farther than this many standard deviations from the training's mean are taken as being that far."""


@dataclasses.dataclass(frozen=True)
class Model:
    """The weights. All float64 arrays."""

    mean: FloatArray
    """(22,)"""
    scale: FloatArray
    """(22,)"""
    view: FloatArray
    """(4, 23): a row for each of ``LEARNT``, bias last."""
    colour_fault: FloatArray
    """(1, 23)"""

    def standard(self, measured: FloatArray) -> FloatArray:
        """Measures (..., 22) as the heads want them, (..., 23): centred, scaled, limited, and a 1."""
        z = np.clip((measured - self.mean) / self.scale, -REACH, REACH)
        return np.concatenate([z, np.ones((*z.shape[:-1], 1))], axis=-1)

    def judge(self, measured: FloatArray) -> View:
        """The view of what ``features`` measured."""
        found = no_picture(measured)
        if found is not None:
            return found
        z = self.standard(measured)
        scores = np.exp((logits := self.view @ z) - logits.max())
        scores /= scores.sum()
        name = LEARNT[int(scores.argmax())]
        smoke = rules.smoke(measured) if name == "in_body" else 0.0
        return View(
            name, dict(zip(LEARNT, scores.tolist(), strict=True)), smoke, sigmoid(float(self.colour_fault[0] @ z))
        )

    def classify(self, frame: VideoFrame) -> View:
        """``judge`` of a frame. Raises ``ValueError`` where it is not whole."""
        return self.judge(features(frame))

    def tensors(self) -> dict[str, Any]:
        """Name to float64 tensor, for ``weights.save``."""
        import torch

        return {field.name: torch.from_numpy(getattr(self, field.name)) for field in dataclasses.fields(self)}


@cache
def load(path: Path = WEIGHTS) -> Model:
    """The model in a weights file, read once.

    Raises:
        VigilError: where the file is missing, damaged or for other measures.
    """
    arrays, metadata = weights.arrays(path)
    shapes = {"mean": (22,), "scale": (22,), "view": (len(LEARNT), 23), "colour_fault": (1, 23)}
    found = {name: array.shape for name, array in arrays.items()}
    if found != shapes or metadata.get("measures") != " ".join(NAMES):
        raise VigilError("is not a view model for these measures", where=str(path), mend="make it with view.train")
    return Model(**{name: array.astype(np.float64) for name, array in arrays.items()})


def sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)), without overflow."""
    return 1 / (1 + math.exp(-min(max(value, -50.0), 50.0)))


def in_body(frame: VideoFrame) -> float:
    """0..1: the shipped model's evidence that the frame is inside the body; 0 for no picture and for no colour.

    Raises:
        ValueError: where the frame is not whole.
        VigilError: as ``load``; ``rules.in_body`` needs no weights.
    """
    if frame.format == "gray":
        return 0.0
    return load().classify(frame).scores.get("in_body", 0.0)
