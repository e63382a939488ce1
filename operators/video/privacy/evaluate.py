"""How well pictures from outside the body are kept back, and at what price.

All functions take one stream's frames in order. Card 11.1: frame-level recall at fixed specificity, leaked frames per
transition, longest leaked run, needless blanking per hour. *Outside* is the truth, *shown* what the guard did.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from operators.video.privacy.gate import Gate
from pipeline.message import NANOSECONDS, Array


@dataclasses.dataclass(frozen=True)
class Score:
    """Of one stream, or of several added up."""

    frames: int
    outside: int
    """Frames from outside the body."""
    leaked: int
    """Frames from outside that were shown."""
    transitions: int
    """Changes from inside to outside or back."""
    longest_leak: float
    """Longest time for which leaked frames were on show without a break, s."""
    needless: float
    """Time for which frames from inside were blanked, s."""
    duration: float
    """s."""

    @property
    def leaked_per_transition(self) -> float:
        """Frames; NaN without a transition."""
        return self.leaked / self.transitions if self.transitions else float("nan")

    @property
    def needless_per_hour(self) -> float:
        """Minutes of needless blanking in an hour of video; NaN without video."""
        return self.needless / 60 / (self.duration / 3600) if self.duration else float("nan")


def score(times: Sequence[int], outside: Sequence[bool], shown: Sequence[bool]) -> Score:
    """Score one stream. A frame is on show until the next one comes, the last one for the median step.

    Args:
        times: event times, ns, increasing.
        outside: the truth.
        shown: whether the guard showed the frame.

    Raises:
        ValueError: where the three differ in length.
    """
    if not len(times) == len(outside) == len(shown):
        raise ValueError(f"{len(times)} times, {len(outside)} truths and {len(shown)} decisions do not belong together")
    if not len(times):
        return Score(0, 0, 0, 0, 0.0, 0.0, 0.0)
    steps = np.diff(np.asarray(times, np.int64)) / NANOSECONDS
    on_show = np.append(steps, np.median(steps) if len(steps) else 0.0)
    out, seen = np.asarray(outside, bool), np.asarray(shown, bool)
    leak = out & seen
    longest = run = 0.0
    for is_leak, lasts in zip(leak, on_show, strict=True):
        run = run + float(lasts) if is_leak else 0.0
        longest = max(longest, run)
    return Score(
        len(out), int(out.sum()), int(leak.sum()), int(np.count_nonzero(out[1:] != out[:-1])), longest,
        float(on_show[~out & ~seen].sum()), float(on_show.sum()),
    )  # fmt: skip


def total(scores: Sequence[Score]) -> Score:
    """Several streams as one: sums, and the longest of the longest leaks."""
    return Score(
        sum(s.frames for s in scores), sum(s.outside for s in scores), sum(s.leaked for s in scores),
        sum(s.transitions for s in scores), max((s.longest_leak for s in scores), default=0.0),
        sum(s.needless for s in scores), sum(s.duration for s in scores),
    )  # fmt: skip


def decide(times: Sequence[int], evidence: Sequence[float], threshold: float, gate: Gate[int]) -> list[bool]:
    """What a gate shows, given each frame's evidence for the inside of the body."""
    shown = [False] * len(times)
    for index, (time, value) in enumerate(zip(times, evidence, strict=True)):
        for decided, visible in gate.add(time, index, value >= threshold):
            shown[decided] = visible
    return shown


def recall_and_specificity(evidence: Array, outside: Array, threshold: float) -> tuple[float, float]:
    """Share of outside frames below the threshold, and of inside frames at or above it; NaN where there are none."""
    out = np.asarray(outside, bool)
    flagged = np.asarray(evidence, np.float64) < threshold
    recall = float(flagged[out].mean()) if out.any() else float("nan")
    return recall, float((~flagged[~out]).mean()) if (~out).any() else float("nan")


def recall_at(evidence: Array, outside: Array, specificity: float) -> float:
    """The best recall of any threshold whose specificity is at least ``specificity``; NaN where a class is missing."""
    values = np.asarray(evidence, np.float64)
    out = np.asarray(outside, bool)
    if out.all() or not out.any():
        return float("nan")
    best = 0.0
    for threshold in np.append(np.unique(values), np.inf):
        recall, specific = recall_and_specificity(values, out, float(threshold))
        if specific >= specificity:
            best = max(best, recall)
    return best


def bootstrap(
    measure: Callable[[Array], float], groups: Sequence[str], seed: int = 0, draws: int = 1000
) -> tuple[float, float]:
    """95 % interval of ``measure(indices)`` over operations drawn with replacement; draws without an answer are left
    out. (NaN, NaN) where none has one."""
    names = sorted(set(groups))
    members = [np.flatnonzero(np.asarray(groups) == name) for name in names]
    random = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        drawn = np.concatenate([members[i] for i in random.integers(0, len(names), len(names))])
        value = measure(drawn)
        if not np.isnan(value):
            found.append(value)
    if not found:
        return float("nan"), float("nan")
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))
