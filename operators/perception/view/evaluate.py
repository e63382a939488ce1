"""Judges the view model and the rules on real operations: leave-one-operation-out, nothing tuned on the one judged.

Inside each fold the penalty and the weight of simulated frames are chosen by another leave-one-out over the 7
operations that are left and the training seeds of the theatre. Figures are of the pooled frames, intervals from
resampling operations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from operators.perception.view import metrics, rules
from operators.perception.view.data import UNKNOWN, Sample
from operators.perception.view.fit import GRID, Options, fit, head
from operators.perception.view.model import sigmoid
from operators.perception.view.view import CLASSES, View
from pipeline.message import Array

Figure = Callable[[Array], float]
"""A figure of the frames with these indices."""


@dataclasses.dataclass(frozen=True)
class Judged:
    """A frame of a held-out operation and what was said of it."""

    sample: Sample
    learnt: View
    smoke: float
    """By a learnt head for smoke, which is fitted for this comparison only."""
    rules: View


def leave_one_out(samples: Sequence[Sample], theatre: Sequence[Sample], options: Options | None = None) -> list[Judged]:
    """Every unaltered real frame, and every colour fault made of one, judged by a model that never saw its operation.

    Args:
        samples: real frames and what was composed from them (``data.real``).
        theatre: simulated frames, in the training of every fold.
        options: for all folds alike; None lets each fold choose among ``GRID`` by its own operations.
    """
    answers = []
    for operation in sorted({one.group for one in samples}):
        rest = [one for one in samples if one.group != operation]
        chosen = choose(rest, theatre) if options is None else options
        train = [*rest, *theatre]
        model = fit(train, chosen)
        smoke = head(model, train, [one.smoke for one in train], 2, chosen)
        for one in samples:
            if one.group == operation and (one.kind == "real" or one.colour_fault == 1):
                score = sigmoid(float((smoke[1] - smoke[0]) @ model.standard(one.measured)))
                answers.append(Judged(one, model.judge(one.measured), score, rules.judge(one.measured)))
    return answers


def choose(samples: Sequence[Sample], theatre: Sequence[Sample]) -> Options:
    """The options with the best mean of two macro-F1: on held-out real operations and on held-out theatre seeds.

    Every fold leaves out one operation and its share of the seeds. The first of equals is taken.
    """
    operations, seeds = (sorted({one.group for one in frames}) for frames in (samples, theatre))
    frames = [*samples, *theatre]
    folds = [{operation, *seeds[k :: len(operations)]} for k, operation in enumerate(operations)]
    scores = {}
    for options in GRID:
        pairs: dict[bool, list[tuple[int, View]]] = {True: [], False: []}
        for fold in folds:
            model = fit([one for one in frames if one.group not in fold], options)
            for one in frames:
                simulated = one.group.startswith("theatre")
                if one.group in fold and one.view != UNKNOWN and (simulated or one.kind == "real"):
                    pairs[simulated].append((one.view, model.judge(one.measured)))
        both = [metrics.macro_f1(np.array([t for t, _ in found]), labels_of([v for _, v in found]))
                for found in pairs.values() if found]  # fmt: skip
        scores[options] = round(float(np.mean(both)), 9)
    return max(GRID, key=lambda options: scores[options])


def labels_of(views: Sequence[View]) -> Array:
    """Index into ``CLASSES`` of each view; ``len(CLASSES)`` for noise."""
    return np.array([CLASSES.index(one.view) if one.view in CLASSES else len(CLASSES) for one in views])


def report(judged: Sequence[Judged], seed: int = 0, draws: int = metrics.DRAWS) -> dict[str, Any]:
    """Figures of learnt and rules, each ``[value, [low, high]]``, their difference, and both confusion matrices."""
    return {**_views([one for one in judged if one.sample.kind == "real"], seed, draws),
            **_attributes(judged, seed, draws)}  # fmt: skip


def _views(judged: Sequence[Judged], seed: int, draws: int) -> dict[str, Any]:
    truth = np.array([one.sample.view for one in judged])
    groups = np.array([one.sample.group for one in judged])
    learnt, ruled = labels_of([one.learnt for one in judged]), labels_of([one.rules for one in judged])
    named = [CLASSES.index(name) for name in ("in_body", "out_of_body", "black", "no_signal")]
    figures: dict[str, Callable[[Array, Array], float]] = {
        "macro_f1": metrics.macro_f1, "macro_f1_of_the_views_rules_know": lambda t, s: metrics.macro_f1(t, s, named),
        **{f"recall_{name}": lambda t, s, label=label: metrics.recall(t, s, label)
           for label, name in enumerate(CLASSES)},
    }  # fmt: skip
    answer: dict[str, Any] = {
        name: _both(*(partial(_of, figure, truth, said) for said in (learnt, ruled)), groups, seed, draws)
        for name, figure in figures.items()
    }
    for name, said in (("learnt", learnt), ("rules", ruled)):
        answer[f"confusion_{name}"] = [
            [int(((truth == row) & (said == column)).sum()) for column in range(len(CLASSES))]
            for row in range(len(CLASSES))
        ]
    return answer


def _attributes(judged: Sequence[Judged], seed: int, draws: int) -> dict[str, Any]:
    """Smoke on real frames of the inside; colour faults made of real frames, against all real frames as they are."""
    inside = [one for one in judged if one.sample.smoke != UNKNOWN]
    cases = {
        "smoke": (inside, [one.smoke for one in inside], [rules.smoke(one.sample.measured) for one in inside]),
        "colour_fault": (judged, *([view.colour_fault for view in views] for views in (
            [one.learnt for one in judged], [one.rules for one in judged]))),
    }  # fmt: skip
    answer = {}
    for name, (frames, learnt, ruled) in cases.items():
        truth = np.array([getattr(one.sample, name) for one in frames])
        groups = np.array([one.sample.group for one in frames])
        for what, figure in _TWO_CLASSES.items():
            one, two = (partial(_of, figure, truth, np.array(scores)) for scores in (learnt, ruled))
            answer[f"{name}_{what}"] = _both(one, two, groups, seed, draws)
    return answer


def _of(figure: Callable[[Array, Array], float], truth: Array, scores: Array, frames: Array) -> float:
    return figure(truth[frames], scores[frames])


_TWO_CLASSES: dict[str, Callable[[Array, Array], float]] = {
    "recall": lambda truth, score: metrics.recall(truth, score >= 0.5, 1),
    "specificity": lambda truth, score: metrics.recall(truth, score >= 0.5, 0),
    "balanced_accuracy": lambda truth, score: np.mean([metrics.recall(truth, score >= 0.5, i) for i in (0, 1)]),
    "area_under_roc": metrics.area,
}  # fmt: skip


def _both(learnt: Figure, ruled: Figure, groups: Array, seed: int, draws: int) -> dict[str, Any]:
    whole = np.arange(len(groups))
    figures = {"learnt": learnt, "rules": ruled, "difference": lambda i: learnt(i) - ruled(i)}
    return {
        name: [round(float(figure(whole)), 4), [round(end, 4) for end in metrics.interval(groups, figure, seed, draws)]]
        for name, figure in figures.items()
    }
