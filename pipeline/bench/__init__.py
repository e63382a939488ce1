"""Benches: what `vigil bench NAME` runs. One shape for every figure, always beside a named baseline of the same run."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One figure. ``ratio`` is value / baseline; ``goal`` is a sentence such as ``ratio >= 4``; ``met`` its verdict."""

    name: str
    value: float
    unit: str
    baseline_name: str = ""
    baseline: float | None = None
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None
    data: str = ""
    """What it was measured on, where that is data: recordings and their kind (real, simulated, composed)."""
    split: str = ""
    """How data for making and for measuring were kept apart."""
    interval: tuple[float, float] | None = None
    """95 % bootstrap interval of ``value``, over operations or patients, never over frames."""


class BenchOptions(msgspec.Struct, frozen=True):
    """What the command line hands to a bench, whose signature is ``run(options: BenchOptions) -> list[Row]``."""

    quick: bool = False
    """Seconds rather than minutes, for the test suite: same code, smaller numbers."""
    seed: int = 0
    hours: float = 8.0
    """Simulated hours, where the bench plays a case."""
    progress: Callable[[str], None] = lambda line: None
    """Takes one line about what is going on now."""


def compare(
    name: str, value: float, unit: str, baseline_name: str, baseline: float, *,
    at_least: float | None = None, at_most: float | None = None,
) -> Row:  # fmt: skip
    """A row with its ratio and the verdict on it: ``at_least`` or ``at_most`` times the baseline."""
    ratio = value / baseline if baseline else float("inf")
    if at_least is not None:
        return Row(name, value, unit, baseline_name, baseline, ratio, f"ratio >= {at_least:g}", ratio >= at_least)
    if at_most is not None:
        return Row(name, value, unit, baseline_name, baseline, ratio, f"ratio <= {at_most:g}", ratio <= at_most)
    return Row(name, value, unit, baseline_name, baseline, ratio)


def limit(name: str, value: float, unit: str, *, at_least: float | None = None, at_most: float | None = None) -> Row:
    """A row whose goal is an absolute figure."""
    if at_least is not None:
        return Row(name, value, unit, goal=f">= {at_least:g} {unit}", met=value >= at_least)
    if at_most is not None:
        return Row(name, value, unit, goal=f"<= {at_most:g} {unit}", met=value <= at_most)
    return Row(name, value, unit)
