"""Figures of the privacy guard: what leaks, what is blanked without need, and what it costs.

Simulated cases have exact truth for every frame, the passage through the trocar included. Real operations have 20
stills each, so there frames are judged one by one, without delay and without opening time. The learnt classifier is
judged on operations that it was not fitted on (leave-one-operation-out, ``operators.perception.view.evaluate``).
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import time as clock
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from operators.recordings import shared_data
from operators.theatre.case import Case
from operators.theatre.signals import Monitor
from operators.theatre.steps import OutOfBody
from operators.theatre.tracks import Studio
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
OUTSIDE_VIEWS = ("out_of_body", "trocar", "black", "blue_no_input")
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


def script(seed: int, seconds: float = 48.0) -> Case:
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
    video = {"rate": 15, "size": [320, 240]}
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
    seeds, seconds = (HELD_OUT[:1], 24.0) if options.quick else (HELD_OUT, 48.0)
    names: tuple[classify.Named, ...] = ("view", "rules", "redness")
    classifiers = {name: classify.load(name) for name in names}
    config = PrivacyGuard.Config()
    bare = Gate[int](1, 0.0, 0, 0.0, config.gap_seconds)
    scores: dict[str, list[Score]] = {}
    for seed in seeds:
        options.progress(f"privacy: simulated case {seed}")
        case = script(seed, seconds)
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
    return _simulated_rows(scores, len(seeds), seconds)


def _simulated_rows(scores: dict[str, list[Score]], count: int, seconds: float) -> list[Row]:
    whole = {name: total(found) for name, found in scores.items()}
    data = (
        f"simulated theatre, {count} cases of {seconds:g} s at 15 frames/s, {whole['view guard'].transitions} changes"
    )
    split = f"held-out seeds {HELD_OUT[0]}..{HELD_OUT[count - 1]}; the classifier was fitted on other seeds"
    without = "same classifier, no delay and no opening time"
    guard, bare = whole["view guard"], whole["view bare"]

    def row(name: str, measure: Callable[[Score], float], unit: str, goal: float | None = None) -> Row:
        value, baseline = measure(guard), measure(bare)
        each = [measure(one) for one in scores["view guard"]]
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
    for name in ("rules", "redness"):
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
    measures: dict[str, tuple[Callable[[Array, Array], float], str]] = {
        "recall of frames outside": (lambda e, o: recall_and_specificity(e, o, threshold)[0], ">= 0.995"),
        "specificity": (lambda e, o: recall_and_specificity(e, o, threshold)[1], ">= 0.95"),
        "best recall at specificity 0.95": (lambda e, o: recall_at(e, o, 0.95), ">= 0.995"),
    }
    answer = []
    for name, (measure, goal) in measures.items():
        value = measure(learnt, out)
        limits = bootstrap(lambda i, m=measure: m(learnt[i], out[i]), groups, options.seed)  # type: ignore[misc]
        answer.append(
            Row(f"privacy: {name}, no delay", value, "", "three rules of hue", measure(ruled, out), goal=goal,
                met=value >= float(goal[3:]), data=data, split=split, interval=limits)
        )  # fmt: skip
        answer.append(
            Row(f"privacy: {name}, no delay, rules", measure(ruled, out), "", "redness", measure(red, out), data=data,
                split="nothing fitted; limits written down before",
                interval=bootstrap(lambda i, m=measure: m(ruled[i], out[i]), groups, options.seed))  # type: ignore[misc]
        )  # fmt: skip
    return answer


def judged(folder: Path, options: BenchOptions) -> list[tuple[str, str, float, float, float]]:
    """View, operation, and evidence by the held-out learnt model, the rules and redness, of each labelled frame."""
    data = importlib.import_module("operators.perception.view.data")
    train = importlib.import_module("operators.perception.view.train")
    evaluate = importlib.import_module("operators.perception.view.evaluate")
    rules = importlib.import_module("operators.perception.view.rules")
    fitting = importlib.import_module("operators.perception.view.fit")
    real, theatre = (data.real(folder), []) if options.quick else train.samples(folder)
    judgements = evaluate.leave_one_out(real, theatre, _shipped(fitting))
    learnt = {one.sample.name: one.learnt.scores.get("in_body", 0.0) for one in judgements if one.sample.kind == "real"}
    found = []
    for image, row in data.real_images(folder):
        if row["view"] == "obstructed":
            continue
        frame = VideoFrame(image.shape[1], image.shape[0], "rgb24", (image,), True)
        none = classify.nothing(frame)
        evidence = [0.0 if none else value for value in
                    (learnt[row["file"]], rules.in_body(frame), classify.redness(frame))]  # fmt: skip
        found.append((row["view"], row["case"], *evidence))
    return found  # type: ignore[return-value]


def _shipped(fitting: Any) -> Any:
    """The options that the shipped weights were fitted with."""
    from operators.runtime import weights

    model = importlib.import_module("operators.perception.view.model")
    said = json.loads(weights.load(model.WEIGHTS)[1].get("options", "{}"))
    names = {field.name for field in dataclasses.fields(fitting.Options)}
    return fitting.Options(**{name: value for name, value in said.items() if name in names})


def clip(folder: Path, options: BenchOptions) -> list[Row]:
    """Ten seconds inside a real abdomen: all blanking after the opening time is needless, and so is all filling."""
    options.progress("privacy: the real clip")
    config = PrivacyGuard.Config()
    judge, text = classify.load("view"), TextRedactor(config.text)
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
    from operators.video.colour import from_rgb
    from pipeline.message import Message

    random = np.random.default_rng(0)
    image = (random.random((720, 1280, 3)) * np.array([160, 80, 70])).astype(np.uint8)
    return [
        Message("scope.video", i * 40_000_000, i, from_rgb(np.roll(image, i, 1)), "simulated") for i in range(count)
    ]
