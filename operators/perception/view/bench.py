"""Figures of the view: learnt and rules on operations and theatre seeds they have not seen, and their speed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from operators.perception.view import data, metrics, rules
from operators.perception.view.evaluate import labels_of, leave_one_out, report
from operators.perception.view.features import features
from operators.perception.view.fit import Options
from operators.perception.view.model import load
from operators.perception.view.state import ViewState
from operators.perception.view.train import COPIES
from operators.perception.view.view import CLASSES
from operators.recordings import shared_data
from operators.video.colour import from_rgb
from operators.video.file import VideoReader
from pipeline.bench import BenchOptions, Row
from pipeline.message import NANOSECONDS, Message, VideoFrame

REAL = "laparoscopy_intermountain, 159 real frames of 8 operations, labels by eye"
COMPOSED = "colour faults composed from the in-body frames of laparoscopy_intermountain"
SIMULATED = "simulated theatre"
SPLIT = "leave-one-operation-out; options chosen inside each fold"
QUICK = "leave-one-operation-out; quick: fewer simulated frames, fixed options"
BASELINE = "three rules of hue and brightness"


def rows(options: BenchOptions) -> list[Row]:
    """All rows; those on real recordings only where ``shared/data`` is. Quick: 10 s; full: about 3 minutes."""
    with _one_thread():
        found = _speed(options)
        folder = shared_data()
        if folder is None:
            options.progress("view: the real recordings are not here, so there are no figures on real operations")
        else:
            options.progress("view: leave-one-operation-out")
            found += _real(folder, options) + _clip(folder, options)
        options.progress("view: held-out theatre seeds")
        return found + _simulated(options)


def _speed(options: BenchOptions) -> list[Row]:
    found = []
    for width, height, goal in ((1280, 720, 15.0), (320, 240, 5.0)):
        random = np.random.default_rng(options.seed)
        coarse = random.integers(20, 230, (height // 20, width // 20, 3), np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        frame = from_rgb(image)
        times = 30 if options.quick else 200
        operator = ViewState(name="view")
        operator.setup()
        clock = itertools.count()

        def step(operator: ViewState = operator, frame: VideoFrame = frame, clock: Iterator[int] = clock) -> object:
            index = next(clock)
            return operator.process(Message("camera.video", index * NANOSECONDS // 15, index, frame))

        ours = _milliseconds(step, times)
        plain = _milliseconds(lambda image=image: cv2.cvtColor(image, cv2.COLOR_RGB2HSV), times)
        name = f"view: one {width}x{height} frame through the operator, one core"
        found.append(Row(
            name, ours, "ms", "whole frame RGB to HSV by OpenCV", plain,
            ours / plain, f"<= {goal:g} ms", ours <= goal, data="made-up pictures",
        ))  # fmt: skip
    return found


def _milliseconds(work: Callable[[], object], times: int) -> float:
    """Median of ``times`` runs after a first that does not count."""
    work()
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return float(np.median(spent)) * 1000


def _real(folder: Path, options: BenchOptions) -> list[Row]:
    seeds, every = (data.TRAIN_SEEDS[:1], 6.0) if options.quick else (data.TRAIN_SEEDS, 1.6)
    theatre = [one for seed in seeds for one in data.theatre(seed, every=every, altered=True)]
    samples = data.real(folder, 0 if options.quick else COPIES)
    judged = leave_one_out(samples, theatre, Options() if options.quick else None)
    figures = report(judged, options.seed, 50 if options.quick else metrics.DRAWS)
    split = QUICK if options.quick else SPLIT
    found = []
    for name, figure in figures.items():
        if name.startswith("confusion"):
            continue
        about = f"{COMPOSED}, and {REAL}" if name.startswith("colour_fault") else REAL
        (learnt, own), (ruled, theirs), (gap, ends) = (figure[key] for key in ("learnt", "rules", "difference"))
        words = name.replace("_", " ")
        if name.startswith("smoke"):  # here the rule ships, and what was learnt is beside it
            found.append(_row(f"view: {words}, rule", ruled, learnt, about, split, theirs, "a learnt head"))
            continue
        found.append(_row(f"view: {words}, learnt", learnt, ruled, about, split, own))
        if name in ("macro_f1", "macro_f1_of_the_views_rules_know", "colour_fault_balanced_accuracy"):
            row = Row(f"view: {words}, learnt minus rules", gap, "", data=about, split=split, interval=tuple(ends))
            if name == "macro_f1":
                goal = "whole interval above 0: else the rules ship"
                row = msgspec.structs.replace(row, goal=goal, met=ends[0] > 0)
            found.append(row)
    return found


def _row(
    name: str, value: float, other: float, about: str, split: str, interval: Any = None, beside: str = BASELINE
) -> Row:
    ends = None if interval is None or np.isnan(interval).any() else (float(interval[0]), float(interval[1]))
    ratio = float(value / other) if other else None
    return Row(name, float(value), "", beside, float(other), ratio, data=about, split=split, interval=ends)


def _clip(folder: Path, options: BenchOptions) -> list[Row]:
    path = folder / "laparoscopy_clip" / "endo.mp4"
    judge = load().judge
    frames = [message.payload for message in VideoReader(path).messages()][:: 10 if options.quick else 1]
    measured = [features(frame) for frame in frames]
    learnt, ruled = (
        float(np.mean([which(one).view == "in_body" for one in measured])) for which in (judge, rules.judge)
    )
    split = "a recording that nothing was trained or set on; one recording, so no interval"
    return [
        _row("view: in-body frames called so, learnt", learnt, ruled, f"endo.mp4, {len(frames)} real frames", split),
    ]


def _simulated(options: BenchOptions) -> list[Row]:
    """The shipped model on theatre seeds that it was not made with."""
    seeds, every = (data.HELD_OUT_SEEDS[:1], 6.0) if options.quick else (data.HELD_OUT_SEEDS, 1.6)
    held = [one for seed in seeds for one in data.theatre(seed, every=every)]
    model = load()
    known = [one for one in held if one.view != data.UNKNOWN]
    truth, groups = np.array([one.view for one in known]), np.array([one.group for one in known])
    learnt, ruled = (labels_of([judge(one.measured) for one in known]) for judge in (model.judge, rules.judge))
    split = (
        f"trained on theatre seeds from {data.TRAIN_SEEDS[0]} on and real frames, measured on seeds from {seeds[0]} on"
    )

    def row(name: str, figure: Callable[[Any, Any], float]) -> Row:
        ends = metrics.interval(groups, lambda i: figure(truth[i], learnt[i]), options.seed, 200)
        return _row(f"view, simulated: {name}, learnt", figure(truth, learnt), figure(truth, ruled), SIMULATED, split,
                    ends if len(seeds) > 1 else None)  # fmt: skip

    found = [row("macro f1", metrics.macro_f1)]
    found += [row(f"recall {name}", lambda t, s, label=label: metrics.recall(t, s, label))
              for label, name in enumerate(CLASSES) if (truth == label).any()]  # fmt: skip
    hazy = [one for one in held if one.smoke != data.UNKNOWN]
    smoke = np.array([one.smoke for one in hazy])
    score = np.array([rules.smoke(one.measured) for one in hazy])
    for label, name in ((1, "recall"), (0, "specificity")):
        value = metrics.recall(smoke, score >= 0.5, label)
        found.append(Row(f"view, simulated: smoke {name}, rule", value, "", data=SIMULATED, split=split))
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])
