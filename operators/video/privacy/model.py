"""The guard's own classifier: inside the body or not, by logistic regression on the 22 measures of ``perception.view``.

The view model tells six views apart and makes as few mistakes as it can; the guard has one question, and a frame from
outside that is shown costs more than one from inside that is not. So it has a head of its own, with its limit set
towards blanking. 23 numbers; ``MODEL.md`` is the card, ``train`` makes the weights.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from operators.perception.view.features import NAMES, FloatArray, features
from operators.runtime import weights
from pipeline.errors import VigilError
from pipeline.message import VideoFrame

WEIGHTS = Path(__file__).parent / "in_body.safetensors"
"""The shipped weights."""
REACH = 4.0
"""Measures farther than this many standard deviations from the training's mean are taken as being that far."""
SHAPES = {"mean": (len(NAMES),), "scale": (len(NAMES),), "weight": (len(NAMES) + 1,)}


@dataclasses.dataclass(frozen=True)
class InBody:
    """The weights, float64."""

    mean: FloatArray
    """(22,)"""
    scale: FloatArray
    """(22,)"""
    weight: FloatArray
    """(23,), bias last: the limit of the training is in it, so that 0.5 is the limit."""

    def judge(self, measured: FloatArray) -> float:
        """0..1: evidence of the inside of the body, from what ``features`` measured."""
        z = np.append(np.clip((measured - self.mean) / self.scale, -REACH, REACH), 1.0)
        return 1 / (1 + math.exp(-min(max(float(self.weight @ z), -50.0), 50.0)))

    def __call__(self, frame: VideoFrame) -> float:
        """``judge`` of a frame. Raises ``ValueError`` where it is not whole."""
        return self.judge(features(frame))

    def tensors(self) -> dict[str, Any]:
        """Name to float64 tensor, for ``weights.save``."""
        import torch

        return {name: torch.from_numpy(getattr(self, name)) for name in SHAPES}


@cache
def load(path: Path = WEIGHTS) -> InBody:
    """The classifier in a weights file, read once.

    Raises:
        VigilError: where the file is missing, damaged or for other measures.
    """
    arrays, metadata = weights.arrays(path)
    found = {name: array.shape for name, array in arrays.items()}
    if found != SHAPES or metadata.get("measures") != " ".join(NAMES):
        raise VigilError("is not the guard's classifier", where=str(path), mend="make it with video.privacy.train")
    return InBody(**{name: array.astype(np.float64) for name, array in arrays.items()})
