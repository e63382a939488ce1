"""Figures of the small segmentation model on theatre worlds that it was neither trained nor tuned on."""

from __future__ import annotations

import time
from functools import partial

import numpy as np

from operators.perception.segment import evaluate, prompts, scenes
from operators.perception.segment.segment import Segment
from operators.video.colour import from_rgb
from pipeline.bench import BenchOptions, Row
from pipeline.message import Array, Message

DATA = "simulated theatre: instruments, blood, smoke, fouled lens, out of body"
SPLIT = "trained on worlds 4000..4017, tuned on 4100..4103, measured on worlds from 4200"


def rows(options: BenchOptions) -> list[Row]:
    """Dice, calibration and uncertainty by class beside thresholds on colour; samples compared; pictures a second."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _speed(options) + _quality(options)
    finally:
        torch.set_num_threads(threads)


def _asker(samples: int) -> evaluate.Predict:
    segment = Segment(name="segment", samples=samples, threads=0)
    segment.setup()

    def ask(image: Array) -> tuple[Array, Array]:
        probability, entropy, _ = segment._ask(image, 0)
        return probability, entropy

    return ask


def _quality(options: BenchOptions) -> list[Row]:
    seeds = scenes.HELD_OUT[:1] if options.quick else scenes.HELD_OUT
    count = 8 if options.quick else 24
    predictors = {"model": _asker(2), "one pass": _asker(0), "colour": lambda i: (evaluate.colours(i),) * 2}
    tallies: dict[str, list[evaluate.Tally]] = {name: [] for name in predictors}
    for seed in seeds:
        options.progress(f"segmentation: world {seed}")
        pictures = [sample for _, sample in scenes.pictures((seed,), count)]
        for name, ask in predictors.items():
            tallies[name].append(evaluate.tally([(*ask(p.image), p.masks) for p in pictures]))
    found = []
    data = f"{DATA}; {len(seeds)} worlds, {len(seeds) * count} pictures; prompts {prompts.digest()}"
    ours, single, colour = tallies["model"], tallies["one pass"], tallies["colour"]
    for index, name in enumerate(prompts.CLASSES[1:]):
        dice = partial(evaluate.dice_of, index=index)
        value, base = dice(ours), dice(colour)
        found.append(Row(f"segmentation: {name}, Dice", value, "", "thresholds on colour", base,
                         value / base if base else None, "> baseline", value > base, data, SPLIT,
                         evaluate.bootstrap(ours, dice)))  # fmt: skip
        for what, part, goal in (
            ("calibration error", 2, "<= 0.03"),
            ("entropy points at errors, AUROC", 3, ">= 0.93"),
        ):

            def mean(worlds: list[evaluate.Tally], part: int = part, index: int = index) -> float:
                return float(np.nanmean([world[part][index] for world in worlds]))

            value = mean(ours)
            met = value <= 0.03 if part == 2 else value >= 0.93
            found.append(Row(f"segmentation: {name}, {what}", value, "", "one pass without sampling", mean(single),
                             value / mean(single), goal, met, data, SPLIT, evaluate.bootstrap(ours, mean)))  # fmt: skip
    return found


def _speed(options: BenchOptions) -> list[Row]:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (240, 320, 3), np.uint8)
    found = []
    for samples in (2, 4):
        segment = Segment(name="segment", samples=samples, every=0, threads=1)
        segment.setup()
        taken = []
        for index in range(6 if options.quick else 30):
            message = Message("v", index * 1_000_000, index, from_rgb(image), "simulated")
            begin = time.perf_counter()
            segment.process(message)
            taken.append(time.perf_counter() - begin)
        rate = 1 / float(np.median(taken))
        found.append(Row(f"segmentation: pictures at 224x224, {samples} samples, one core", rate, "frames/s",
                         goal=">= 10 frames/s", met=rate >= 10))  # fmt: skip
    return found
