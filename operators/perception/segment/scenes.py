"""Theatre pictures with exact masks, for training and for measuring: random scripts in worlds of their own.

Split: a world (seed) belongs to one part only, so that no organ's outline, vessel or grain is seen in two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from operators.theatre.case import Case
from operators.theatre.renderer import Picture, Renderer
from pipeline.message import Array

TRAINING = tuple(range(4000, 4018))
"""Worlds to learn from."""
DEVELOPMENT = tuple(range(4100, 4104))
"""Worlds on which temperature and abstention are set."""
HELD_OUT = tuple(range(4200, 4208))
"""Worlds on which figures are measured."""
SMOKY = 0.25
"""Opacity above which a pixel counts as smoke."""
HIDDEN = 0.8
"""Opacity above which smoke hides what is behind it: neither instrument nor blood counts there."""
SECONDS = 48.0


class Sample(NamedTuple):
    """One picture at the model's size and its truth."""

    image: Array
    """(size, size, 3) uint8 RGB, the whole frame squeezed to a square as published models want it."""
    masks: Array
    """(3, size, size) bool: instrument, blood, smoke."""


def script(seed: int) -> Case:
    """A random case: every 8 s another view, with instruments, bleedings, smoke, and sometimes a spoilt lens."""
    random = np.random.default_rng([seed, 7])
    views = ["wide", "gallbladder", "liver", "bowel", "close"]
    phases = [
        {"at": at, "name": "a", "view": views[int(random.integers(5))]} for at in np.arange(0, SECONDS, 8).tolist()
    ]
    steps: list[dict[str, object]] = []
    for side in ("left", "right", "below"):
        at = float(random.uniform(0, 12))
        while at < SECONDS - 6:
            lasts = float(random.uniform(5, 20))
            tool = ["grasper", "hook", "scissors", "suction", "clipper"][int(random.integers(5))]
            if side != "below" or random.random() < 0.4:
                steps.append({"at": at, "do": "instrument", "tool": tool, "side": side, "lasts": lasts})
            at += lasts + float(random.uniform(0, 10))
    for number in range(3):
        amount, at = float(random.uniform(0.15, 0.9)), float(random.uniform(1, 9) + 15 * number)
        site = [float(random.uniform(-35, 45)), float(random.uniform(-40, 45))]
        steps.append({"at": at, "do": "bleeding", "amount": amount, "lasts": 9, "washed": 8, "site": site})
    for at in (6, 20, 34):
        if random.random() < 0.5:
            density = float(random.uniform(0.08, 0.8))
            steps.append({"at": at + float(random.uniform(0, 4)), "do": "smoke", "lasts": 5, "density": density})
    for how in ("fog", "droplets", "blood"):
        if random.random() < (0.8 if how == "blood" else 0.5):
            amount, at = float(random.uniform(0.2, 0.8)), float(random.uniform(2, SECONDS - 4))
            steps.append({"at": at, "do": "fouling", "how": how, "lasts": 3, "amount": amount})
    if random.random() < 0.5:
        steps.append({"at": float(random.uniform(5, 40)), "do": "out_of_body", "lasts": 5})
    return Case.model_validate({"theatre": 1, "seed": seed, "duration": SECONDS, "phases": phases, "script": steps})


def truth(picture: Picture) -> Array:
    """(3, h, w) bool: instrument, blood, smoke."""
    visible = picture.smoke <= HIDDEN
    return np.stack([(picture.labels == 1) & visible, (picture.labels == 2) & visible, picture.smoke > SMOKY])


def fit(image: Array, size: int) -> Array:
    """(size, size, 3) uint8 of (h, w, 3): the whole frame, its shape not kept. Also takes one plane (h, w)."""
    shrinks = image.shape[0] >= size and image.shape[1] >= size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def pictures(seeds: tuple[int, ...], count: int, size: int = 224) -> Iterator[tuple[int, Sample]]:
    """``count`` pictures of each world, evenly spread over its script, with the world's seed."""
    for seed in seeds:
        case = script(seed)
        renderer = Renderer(case, seed, (320, 240))
        offset = np.random.default_rng([seed, 8]).random()
        for number in range(count):
            picture = renderer.picture(float((number + offset) * SECONDS / count))
            masks = [fit(plane.astype(np.uint8) * 255, size) > 127 for plane in truth(picture)]
            yield seed, Sample(fit(picture.rgb, size), np.stack(masks))
