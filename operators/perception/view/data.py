"""What the view model is made and measured from: real frames with labels, theatre frames with exact truth.

Real: ``shared/data/laparoscopy_intermountain``, labels by eye. Simulated: theatre cases that ``script`` draws from a
seed. Composed: colour faults and a lens pressed against tissue are not in the real frames, so they are made from them.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from operators.perception.view.features import FloatArray, features, small
from operators.perception.view.view import CLASSES
from operators.theatre.case import Case
from operators.theatre.effects import Air
from operators.theatre.renderer import Renderer
from operators.theatre.steps import Fouling, OutOfBody, VideoFault
from operators.video.colour import from_rgb
from pipeline.message import Array

UNKNOWN = -1
"""A label that is not given: the frame then counts for nothing where it would be needed."""
TRAIN_SEEDS, HELD_OUT_SEEDS = tuple(range(100, 112)), tuple(range(930, 936))
"""Theatre seeds (world, script and camera follow from them): for training, and never seen in training."""
_REAL_VIEWS = {"blue_no_input": "no_signal"}


@dataclasses.dataclass(frozen=True)
class Sample:
    """One frame, measured, with its labels."""

    measured: FloatArray
    """(22,) float64: ``features``."""
    picture: Array
    """(48, 64, 3) uint8: ``small``."""
    view: int
    """Index into ``CLASSES``, or ``UNKNOWN``."""
    smoke: int
    """1 where smoke or fog veils the view, 0 where not, or ``UNKNOWN``."""
    colour_fault: int
    """1, 0 or ``UNKNOWN``."""
    group: str
    """The operation, or ``theatre-<seed>``."""
    kind: str
    """real, simulated or composed."""
    name: str


def sample(image: Array, view: int, smoke: int, fault: int, group: str, kind: str, name: str) -> Sample:
    """Measure an (h, w, 3) uint8 RGB image as the frame that a camera would send."""
    frame = from_rgb(image)
    return Sample(features(frame), small(frame), view, smoke, fault, group, kind, name)


# ----------------------------------------------------------------------------------------------- real


def real_images(folder: Path) -> Iterator[tuple[Array, dict[str, str]]]:
    """RGB images of the labelled operations with their rows of ``labels.csv``; ``folder`` is ``shared/data``."""
    place = folder / "laparoscopy_intermountain"
    with (place / "labels.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            image = cv2.imread(str(place / "images" / row["file"]))
            if image is None:
                raise FileNotFoundError(f"{place / 'images' / row['file']} is not an image")
            yield np.ascontiguousarray(image[:, :, ::-1]), row


def real(folder: Path, copies: int = 0, seed: int = 0) -> list[Sample]:
    """The 159 real frames, each followed by ``copies`` altered ones (``alter``) and, inside the body, a colour fault.

    Altered frames are for training only: their ``kind`` is ``composed``.
    """
    found = []
    for index, (image, row) in enumerate(real_images(folder)):
        view = CLASSES.index(_REAL_VIEWS.get(row["view"], row["view"]))
        inside = row["view"] == "in_body"
        smoke = int(row["smoke_or_fog"]) if inside else UNKNOWN
        labels = (view, smoke, int(row["colour_fault"]))
        found.append(sample(image, *labels, row["case"], "real", row["file"]))
        random = _generator(seed, 1, index)
        for copy in range(copies if view < CLASSES.index("black") else 0):
            found.append(sample(alter(image, random), *labels, row["case"], "composed", f"{row['file']} {copy}"))
        if inside:
            fault = break_colour(image, _generator(seed, 2, index))
            found.append(sample(fault, UNKNOWN, UNKNOWN, 1, row["case"], "composed", f"{row['file']} fault"))
    return found


# ------------------------------------------------------------------------------------------ simulated


def script(seed: int) -> Case:
    """A two-minute case in which everything that changes the view happens, drawn from a seed."""
    random = _generator(seed, 3)
    views = random.permutation(["wide", "gallbladder", "liver", "bowel", "close"])
    steps: list[dict[str, Any]] = [
        {"at": 0, "do": "instrument", "tool": str(random.choice(["grasper", "suction"])), "side": "left"},
        {"at": 6, "do": "instrument", "tool": str(random.choice(["hook", "scissors", "clipper"])), "lasts": 60},
        {"at": 84, "do": "bleeding", "amount": float(random.uniform(0.3, 0.9)), "lasts": 36},
    ]
    at = 12.0
    for what in random.permutation(["smoke", "smoke", "fog", "fog", "fog", "droplets", "blood", "out", "out", "out"]):
        amount = float(random.uniform(0.25, 1.0))
        if what == "smoke":
            steps.append({"at": at, "do": "smoke", "lasts": 4, "density": amount})
        elif what == "out":
            steps.append({"at": at, "do": "out_of_body", "lasts": 6})
        else:
            steps.append({"at": at, "do": "fouling", "how": str(what), "lasts": 5, "amount": amount})
        at += float(random.uniform(8, 11))
    phases = [{"at": 24.0 * i, "name": f"view {i}", "view": str(view)} for i, view in enumerate(views)]
    patient = {"heart_rate": float(random.uniform(55, 95))}
    return Case.model_validate(
        {"theatre": 1, "seed": seed, "duration": 124, "patient": patient, "phases": phases, "script": steps}
    )


def truth(case: Case, air: Air, seconds: float) -> tuple[int, int]:
    """View and smoke at a second of a case, from its script alone; ``UNKNOWN`` where it is neither one nor the other.

    A lens fogged by 0.8 or more is obstructed, by 0.3 to 0.7 veiled (as the real label "smoke or fog" has it). In
    the passage through the trocar it is the trocar from a quarter of the way to four fifths.
    """
    for fault in case.steps(VideoFault):
        if fault.at <= seconds < fault.end:
            return {"black": CLASSES.index("black"), "blue": CLASSES.index("no_signal")}.get(
                fault.how, UNKNOWN
            ), UNKNOWN
    for step in case.steps(OutOfBody):
        if step.at <= seconds < step.end:
            share = min((seconds - step.at) / 1.6, (step.end - seconds) / 1.6, 1.0)
            name = "out_of_body" if share >= 1 else "trocar" if 0.25 <= share <= 0.8 else ""
            return CLASSES.index(name) if name else UNKNOWN, UNKNOWN
    density = air.density(case, seconds)
    smoke = 1 if density >= 0.25 else 0 if density <= 0.03 else UNKNOWN
    for step in case.steps(Fouling):
        if step.at <= seconds < step.end:
            amount = step.amount * min(1.0, (seconds - step.at) / 0.8)
            if step.how == "fog":
                if amount >= 0.8:
                    return CLASSES.index("obstructed"), UNKNOWN
                return (0 if amount <= 0.7 else UNKNOWN), (1 if 0.3 <= amount <= 0.7 else UNKNOWN)
            return (0 if amount <= 0.8 else UNKNOWN), UNKNOWN
    return 0, smoke


def theatre(
    seed: int, size: tuple[int, int] = (320, 240), every: float = 1.6, *, altered: bool = False
) -> list[Sample]:
    """Frames of ``script(seed)`` about every 1.6 s and through every passage, with faults composed from them."""
    case = script(seed)
    renderer, random = Renderer(case, seed, size), _generator(seed, 4)
    times = np.arange(0.5, case.duration, every) + random.uniform(
        0, every / 2, len(np.arange(0.5, case.duration, every))
    )
    passages = [step.at + after for step in case.steps(OutOfBody) for after in (0.5, 0.8, 1.1, 4.9, 5.2, 5.5)]
    found = []
    for seconds in (*times, *passages):
        view, smoke = truth(case, renderer.air, float(seconds))
        image = renderer.picture(float(seconds)).rgb
        name = f"{seed} at {seconds:.2f} s"
        kind, group = "simulated", f"theatre-{seed}"
        shown = alter(image, random) if altered else image
        found.append(sample(shown, view, smoke, 0, group, kind, name))
        if view == 0 and random.random() < 0.4:
            found.append(sample(break_colour(shown, random), UNKNOWN, UNKNOWN, 1, group, "composed", f"{name} fault"))
        if view == 0 and random.random() < 0.25:
            pressed = press(image, random)
            found.append(sample(pressed, CLASSES.index("obstructed"), UNKNOWN, 0, group, "composed", f"{name} pressed"))
    for fault in ("black", "no_signal"):
        colour = (0, 0, 0) if fault == "black" else (16, 32, 200)
        image = np.full((size[1], size[0], 3), colour, np.uint8)
        found.append(sample(image, CLASSES.index(fault), UNKNOWN, 0, group, "simulated", f"{seed} {fault}"))
    return found


# ------------------------------------------------------------------------------------------- composed


def alter(image: Array, random: np.random.Generator) -> Array:
    """The same view by another camera: exposure, white balance, saturation, field of view, mirrored. uint8 RGB."""
    if image.shape[1] > 640:
        image = cv2.resize(image, (640, 360), interpolation=cv2.INTER_AREA)
    height, width = image.shape[:2]
    zoom, dx, dy = random.uniform(0.75, 1.25), random.uniform(-0.12, 0.12) * width, random.uniform(-0.06, 0.06) * height
    sign = -1.0 if random.random() < 0.5 else 1.0
    matrix = np.array([[sign * zoom, 0, width / 2 * (1 - sign * zoom) + dx], [0, zoom, height / 2 * (1 - zoom) + dy]])
    border = image[0, 0] if image[0, 0].max() < 24 else None
    mode = cv2.BORDER_CONSTANT if border is not None else cv2.BORDER_REFLECT
    value = tuple(int(v) for v in border) if border is not None else (0, 0, 0)
    image = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_AREA, borderMode=mode, borderValue=value)
    light = image.astype(np.float32) * (random.uniform(0.75, 1.25) * random.uniform(0.93, 1.07, 3)).astype(np.float32)
    grey = light.mean(axis=2, keepdims=True)
    light = grey + (light - grey) * np.float32(random.uniform(0.75, 1.25))
    return cv2.convertScaleAbs(np.maximum(light, 0))


def break_colour(image: Array, random: np.random.Generator) -> Array:
    """A fault of the camera's colour: channels exchanged, one lost, no colour at all, or one far too strong."""
    if image.shape[1] > 640:
        image = cv2.resize(image, (640, 360), interpolation=cv2.INTER_AREA)
    how = int(random.integers(4))
    if how == 0:
        return np.ascontiguousarray(image[:, :, [(1, 0, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)][int(random.integers(4))]])
    if how == 1:
        lost = image.copy()
        lost[:, :, 0] //= 16
        return lost
    if how == 2:
        grey = image.mean(axis=2, keepdims=True)
        return np.repeat(grey.astype(np.uint8), 3, axis=2)
    gains = np.full(3, 0.45, np.float32)
    gains[1 + int(random.integers(2))] = 1.3
    return cv2.convertScaleAbs(image.astype(np.float32) * gains)


def press(image: Array, random: np.random.Generator) -> Array:
    """The lens pressed against what is in the middle of the picture: a small part of it, large and without detail."""
    height, width = image.shape[:2]
    side = int(height * random.uniform(0.08, 0.3))
    y, x = (
        int(random.integers(height // 5, height * 4 // 5 - side)),
        int(random.integers(width // 4, width * 3 // 4 - side)),
    )
    near = cv2.GaussianBlur(image[y : y + side, x : x + side], (0, 0), max(side / 8, 1.0))
    near = cv2.resize(near, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    field = (
        (image.max(axis=2) >= 24).astype(np.float32) if random.random() < 0.8 else np.ones((height, width), np.float32)
    )
    field = cv2.GaussianBlur(cv2.morphologyEx(field, cv2.MORPH_CLOSE, np.ones((31, 31))), (0, 0), 1.0)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    far = np.hypot(columns - width * random.uniform(0.3, 0.7), rows - height * random.uniform(0.3, 0.7)) / height
    light = near * (field * np.clip(1.25 - far * random.uniform(0.3, 1.1), 0.1, 1.3))[..., None]
    return cv2.convertScaleAbs(light + random.normal(0, 1.0, light.shape).astype(np.float32))


def _generator(*seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
