"""Figures of the privacy guard: what leaks, what is blanked without need, and what it costs.

Simulated cases have exact truth for every frame, the passage through the trocar included. Real operations have 20
stills each, so there frames are judged one by one, without delay and without opening time. The learnt classifier is
judged on operations that it was not fitted on (leave-one-operation-out, ``train.leave_one_out``).
"""

from __future__ import annotations

import importlib
import time as clock
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from operators.recordings import shared_data
from operators.theatre.case import Case
from operators.theatre.signals import Monitor
from operators.theatre.steps import OutOfBody
from operators.theatre.tracks import Studio
from operators.video.colour import from_rgb
from operators.video.file import VideoReader
from operators.video.privacy import classify
from operators.video.privacy.evaluate import (
    Score,
    bootstrap,
    decide,
    recall_and_specificity,
    recall_at,
    score,
    total,
)
from operators.video.privacy.gate import Gate
from operators.video.privacy.guard import PrivacyGuard
from operators.video.privacy.text import TextRedactor
from pipeline.bench import BenchOptions, Row
from pipeline.message import Array, VideoFrame
from pipeline.operator import Context
from pipeline.time import ReplayClock

HELD_OUT = tuple(range(3000, 3006))
"""Theatre seeds that nothing was fitted on or set by."""
OUTSIDE_VIEWS = ("out_of_body", "trocar", "black", "no_signal")
"""Views of the real labels that must be blanked. ``obstructed`` is neither: the lens is covered, inside or out."""


def rows(options: BenchOptions) -> list[Row]:
    """All rows; those on real recordings only where these are."""
    found = simulated(options)
    folder = shared_data()
    if folder is None:
        options.progress("privacy: the real recordings are not here, their rows are left out")
        return [*found, *cost(None, options)]
    return [*found, *operations(folder, options), *clip(folder, options), *cost(folder, options)]


# ------------------------------------------------------------------------------------------ simulated


def script(seed: int, seconds: float = 48.0, rate: float = 15.0) -> Case:
    """A case that begins outside, goes in, comes out twice, with smoke, fog, blood and instruments between."""
    draw = np.random.default_rng([seed, 77])
    views = draw.permutation(["wide", "gallbladder", "liver", "bowel", "close"])
    parts = seconds / 4
    steps: list[dict[str, Any]] = [
        {"at": 0, "do": "out_of_body", "lasts": float(draw.uniform(2.5, 4.5))},
        {"at": parts, "do": "out_of_body", "lasts": float(draw.uniform(3.3, 7))},
        {"at": 3 * parts, "do": "out_of_body", "lasts": float(draw.uniform(3.3, 7))},
        {"at": 6, "do": "instrument", "tool": str(draw.choice(["hook", "grasper", "scissors"]))},
        {"at": 2 * parts - 2, "do": "smoke", "lasts": 3, "density": float(draw.uniform(0.2, 0.6))},
        {"at": 2 * parts + 4, "do": "bleeding", "lasts": 6, "amount": float(draw.uniform(0.3, 0.8))},
        {"at": 2.5 * parts + 3, "do": "fouling", "how": str(draw.choice(["fog", "droplets", "blood"])), "lasts": 2,
         "amount": float(draw.uniform(0.3, 0.8))},
    ]  # fmt: skip
    phases = [{"at": i * parts, "name": f"view {i}", "view": str(view)} for i, view in enumerate(views[:4])]
    video = {"rate": rate, "size": [320, 240]}
    return Case.model_validate(
        {"theatre": 1, "seed": seed, "duration": seconds, "video": video, "phases": phases, "script": steps}
    )


def outside(case: Case, seconds: float) -> bool:
    """Whether the camera is outside the body or in the trocar, by the script."""
    return any(step.at <= seconds < step.end for step in case.steps(OutOfBody))


def gate(config: Any) -> Gate[int]:
    """The gate of a guard with these options."""
    return Gate(
        config.frames_to_open, config.open_seconds, config.delay_frames, config.delay_seconds, config.gap_seconds
    )


def simulated(options: BenchOptions) -> list[Row]:
    """The whole rule on held-out simulated cases, for each classifier, with and without delay."""
    seeds, seconds, rate = (HELD_OUT[:1], 24.0, 10.0) if options.quick else (HELD_OUT, 48.0, 15.0)
    names: tuple[classify.Named, ...] = ("learnt", "view", "rules", "redness")
    classifiers = {name: classify.load(name) for name in names}
    config = PrivacyGuard.Config()
    bare = Gate[int](1, 0.0, 0, 0.0, config.gap_seconds)
    scores: dict[str, list[Score]] = {}
    for seed in seeds:
        options.progress(f"privacy: simulated case {seed}")
        case = script(seed, seconds, rate)
        studio = Studio(case, seed, Monitor(case, seed))
        times = studio.times.tolist()
        truth = [outside(case, float(at)) for at in studio.seconds]
        evidence: dict[str, list[float]] = {name: [] for name in names}
        for index in range(len(times)):
            frame = studio.frame(index)
            for name, judge in classifiers.items():
                evidence[name].append(0.0 if classify.nothing(frame) else judge(frame))
        for name in names:
            for kind, line in (("guard", gate(config)), ("bare", bare)):
                line.shut()
                line.last = None
                shown = decide(times, evidence[name], config.threshold, line)
                scores.setdefault(f"{name} {kind}", []).append(score(times, truth, shown))
    return _simulated_rows(scores, len(seeds), f"{seconds:g} s at {rate:g} frames/s")


def _simulated_rows(scores: dict[str, list[Score]], count: int, what: str) -> list[Row]:
    whole = {name: total(found) for name, found in scores.items()}
    data = f"simulated theatre, {count} cases of {what}, {whole['learnt guard'].transitions} changes"
    split = f"held-out seeds {HELD_OUT[0]}..{HELD_OUT[count - 1]}; the classifier was fitted on other seeds"
    without = "same classifier, no delay and no opening time"
    guard, bare = whole["learnt guard"], whole["learnt bare"]

    def row(name: str, measure: Callable[[Score], float], unit: str, goal: float | None = None) -> Row:
        value, baseline = measure(guard), measure(bare)
        each = [measure(one) for one in scores["learnt guard"]]
        low, high = _spread(each)
        return Row(
            name, value, unit, without, baseline, value / baseline if baseline else None,
            f"= {goal:g} {unit}" if goal is not None else "", value == goal if goal is not None else None,
            data, split, (low, high),
        )  # fmt: skip

    answer = [
        row("privacy: leaked frames per transition", lambda s: s.leaked_per_transition, "frames", 0),
        row("privacy: longest leaked run", lambda s: s.longest_leak, "s", 0),
        row("privacy: needless blanking", lambda s: s.needless_per_hour, "min/h"),
    ]
    for name in ("view", "rules", "redness"):
        one = whole[f"{name} guard"]
        answer.append(
            Row(f"privacy: leaked frames per transition, classifier {name}", one.leaked_per_transition, "frames",
                "without delay and opening time", whole[f"{name} bare"].leaked_per_transition, data=data, split=split)
        )  # fmt: skip
    return answer


def _spread(values: list[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over cases."""
    found = np.asarray(values)
    return bootstrap(lambda index: float(found[index].mean()), [str(i) for i in range(len(found))])


# ----------------------------------------------------------------------------------------------- real


def operations(folder: Path, options: BenchOptions) -> list[Row]:
    """Frames of real operations, one by one: learnt against rules and redness."""
    options.progress("privacy: real operations, leave-one-operation-out")
    frames = judged(folder, options)
    out = np.array([view in OUTSIDE_VIEWS for view, *_ in frames])
    groups = [group for _, group, *_ in frames]
    learnt, ruled, red = (np.array([frame[i] for frame in frames]) for i in (2, 3, 4))
    threshold = PrivacyGuard.Config().threshold
    data = f"laparoscopy_intermountain, {len(frames)} stills of 8 real operations ({int(out.sum())} to be blanked)"
    split = "leave-one-operation-out" + (" (quick: fitted without simulated and altered frames)" * options.quick)
    proper = np.array([view in ("out_of_body", "black", "no_signal") for view, *_ in frames])

    def recall(chosen: Array) -> Callable[[Array, Array], float]:
        return lambda e, i: recall_and_specificity(e[i], chosen[i], threshold)[0]

    measures: dict[str, tuple[Callable[[Array, Array], float], str]] = {
        "recall of outside and trocar": (recall(out), ">= 0.995"),
        "recall of outside": (recall(proper), ">= 0.995"),
        "specificity": (lambda e, i: recall_and_specificity(e[i], out[i], threshold)[1], ">= 0.95"),
        "best recall of outside and trocar at specificity 0.95": (lambda e, i: recall_at(e[i], out[i], 0.95), ""),
    }
    whole, answer = np.arange(len(frames)), []
    for name, (measure, goal) in measures.items():
        for kind, one, other, other_name in (("learnt", learnt, ruled, "rules"), ("rules", ruled, red, "redness")):
            value = measure(one, whole)
            limits = bootstrap(lambda i, m=measure, e=one: m(e, i), groups, options.seed)  # type: ignore[misc]
            judged_by_goal = bool(goal) and kind == "learnt"
            answer.append(
                Row(f"privacy: {name}, single stills, {kind}", value, "", other_name, measure(other, whole),
                    goal=goal if judged_by_goal else "", met=value >= float(goal[3:]) if judged_by_goal else None,
                    data=data, split=split if kind == "learnt" else "nothing fitted", interval=limits)
            )  # fmt: skip
    return answer


def judged(folder: Path, options: BenchOptions) -> list[tuple[str, str, float, float, float]]:
    """View, operation, and evidence by the held-out learnt model, the rules and redness, of each labelled frame."""
    train = importlib.import_module("operators.video.privacy.train")
    view_data = importlib.import_module("operators.perception.view.data")
    view_train = importlib.import_module("operators.perception.view.train")
    rules = importlib.import_module("operators.perception.view.rules")
    real, theatre = (_plain(view_data, folder), []) if options.quick else view_train.samples(folder)
    found = []
    for sample, learnt in train.leave_one_out(real, theatre):
        view = view_data.CLASSES[sample.view]
        if view != "obstructed":
            small = VideoFrame(64, 48, "rgb24", (sample.picture,), True)
            red = 0.0 if learnt == 0.0 else classify.redness(small)
            found.append((view, sample.group, learnt, rules.evidence(sample.measured), red))
    return found


def _plain(view_data: Any, folder: Path) -> list[Any]:
    """The real frames as they are, shrunk before they are measured: seconds rather than minutes."""
    names = {"blue_no_input": "no_signal"}
    return [
        view_data.sample(
            cv2.resize(image, (640, 360), interpolation=cv2.INTER_AREA),
            view_data.CLASSES.index(names.get(row["view"], row["view"])), -1, 0, row["case"], "real", row["file"],
        )
        for image, row in view_data.real_images(folder)
    ]  # fmt: skip


def clip(folder: Path, options: BenchOptions) -> list[Row]:
    """Ten seconds inside a real abdomen: all blanking after the opening time is needless, and so is all filling."""
    options.progress("privacy: the real clip")
    config = PrivacyGuard.Config()
    judge, text = classify.load("learnt"), TextRedactor(config.text)
    times, evidence, red, share = [], [], [], []
    for message in VideoReader(folder / "laparoscopy_clip" / "endo.mp4").messages():
        if options.quick and len(times) >= 75:
            break
        frame = message.payload
        times.append(message.time)
        evidence.append(0.0 if classify.nothing(frame) else judge(frame))
        red.append(classify.redness(frame))
        text.look(frame, message.time)
        filled = np.zeros((frame.height, frame.width), bool)
        for x, y, width, height in text.boxes(message.time):
            filled[y : y + height, x : x + width] = True
        share.append(float(filled.mean()))
    line = gate(config)
    shown = np.array(decide(times, evidence, config.threshold, line))
    opening = int(np.searchsorted(times, times[0] + line.open_ns))
    last = len(times) - config.delay_frames - round(config.delay_seconds * 25) - 1
    needless = 60 * float(np.mean(~shown[opening:last]))
    data = f"laparoscopy_clip, {len(times)} frames of one real operation, inside the body by eye"
    seconds = (times[-1] - times[0]) / 1e9
    baseline = 60 * float(np.mean(np.array(red)[opening:last] < config.threshold))
    return [
        Row("privacy: needless blanking, real clip after opening", needless, "min/h", "redness, no delay", baseline,
            data=data, split="not in training"),
        Row("privacy: picture filled as text without any, real clip", 100 * float(np.mean(share[opening * 2 :])), "%",
            "in the first 2 s", 100 * float(np.mean(share[: opening * 2])), data=f"{data}, {seconds:.0f} s"),
    ]  # fmt: skip


# ----------------------------------------------------------------------------------------------- cost


def cost(folder: Path | None, options: BenchOptions) -> list[Row]:
    """Time of the guard for a 720p frame, text included, on one core."""
    options.progress("privacy: cost of a frame")
    frames = _frames(folder, 50 if options.quick else 200)
    answer = []
    spent: dict[str, float] = {}
    for name, given in {"guard": {"text": {"redact": "all"}}, "without text": {"text": {"redact": "none"}}}.items():
        operator = PrivacyGuard(name="privacy", **given)
        operator.context = Context(clock=ReplayClock(0, float("inf")))
        operator.setup()
        taken = []
        for message in frames:
            began = clock.perf_counter_ns()
            operator.process(message)
            taken.append((clock.perf_counter_ns() - began) / 1e6)
        spent[name] = float(np.mean(taken))
        if name == "guard":
            worst = float(np.quantile(taken, 0.99))
    data = f"{len(frames)} frames of 1280x720, " + ("the real clip" if folder is not None else "noise")
    answer.append(Row("privacy: time per 720p frame, mean", spent["guard"], "ms", "without text", spent["without text"],
                      spent["guard"] / spent["without text"], data=data))  # fmt: skip
    answer.append(Row("privacy: time per 720p frame, 99th percentile", worst, "ms", data=data))
    return answer


def _frames(folder: Path | None, count: int) -> list[Any]:
    if folder is not None:
        found = []
        for message in VideoReader(folder / "laparoscopy_clip" / "endo.mp4").messages():
            found.append(message)
            if len(found) >= count:
                break
        return found
    from pipeline.message import Message

    random = np.random.default_rng(0)
    image = (random.random((720, 1280, 3)) * np.array([160, 80, 70])).astype(np.uint8)
    return [
        Message("scope.video", i * 40_000_000, i, from_rgb(np.roll(image, i, 1)), "simulated") for i in range(count)
    ]
