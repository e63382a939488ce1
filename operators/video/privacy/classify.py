"""Is a picture from inside the body? The classifiers that the guard may use, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Literal

import numpy as np

from operators.video.colour import chroma, luma, matrix_of, to_rgb_matrix
from operators.video.signal import VideoSignal, look
from pipeline.message import Array, VideoFrame

Classifier = Callable[[VideoFrame], float]
"""A frame to the evidence, 0..1, that it shows the inside of the body."""

Named = Literal["learnt", "view", "rules", "redness"]
"""``learnt``: the guard's own model. ``view``: the model of ``operators.perception.view``. ``rules``: its three rules
of hue and brightness, which take skin for the inside of the body. ``redness``: the trivial baseline."""


def load(name: Named) -> Classifier:
    """The classifier of a name, made when it is asked for: a learnt one needs libraries that start slowly.

    Raises:
        ImportError: where what it needs is not installed. The run does not start then; nothing is shown.
        VigilError: where the weights are missing or damaged.
    """
    if name == "redness":
        return redness
    if name == "rules":
        rules: Classifier = importlib.import_module("operators.perception.view.rules").in_body
        return rules
    if name == "learnt":
        own: Classifier = importlib.import_module("operators.video.privacy.model").load()
        return own
    view: Classifier = importlib.import_module("operators.perception.view").in_body
    return view


def nothing(frame: VideoFrame) -> bool:
    """Whether there is no picture: black, blue without signal, or noise, by the limits of ``video.signal``.

    Never inside the body, whatever a classifier says.
    """
    seen, limits = look(frame), VideoSignal.Config()
    return seen.dark >= limits.black.enter or seen.blue >= limits.blue.enter or seen.roughness >= limits.noise.enter


def redness(frame: VideoFrame) -> float:
    """The trivial baseline: mean red over the sum of mean red, green and blue; 1/3 is grey, inside the body about 0.5.

    The evidence is 0 at 1/3, 0.5 at 0.42 (written down before measuring) and 1 at 0.507.
    """
    if frame.format == "gray":
        return 0.0
    red, green, blue = _means(frame)
    share = red / max(red + green + blue, 1.0)
    return float(np.clip((share - 1 / 3) / (2 * (0.42 - 1 / 3)), 0, 1))


def _means(frame: VideoFrame) -> tuple[float, float, float]:
    """Mean red, green and blue of every eighth line, 0..255."""
    if frame.format == "rgb24":
        values: Array = frame.planes[0][::8].reshape(-1, 3).mean(axis=0)
    else:
        cb, cr = chroma(frame)
        y = float(luma(frame)[::8].mean())
        matrix = to_rgb_matrix(matrix_of(frame.height), frame.full_range)
        raw = y if frame.full_range else 16 + y * 219 / 255
        values = matrix @ np.array([raw, float(cb[::8].mean()), float(cr[::8].mean()), 1.0])
    red, green, blue = (float(np.clip(value, 0, 255)) for value in values)
    return red, green, blue
