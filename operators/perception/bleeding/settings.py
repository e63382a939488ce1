"""Options of the bleeding rule, and the sum that it decides by. Defaults were set on development worlds and frozen."""

from __future__ import annotations

import pydantic

from pipeline.message import NANOSECONDS
from pipeline.operator import Config as BaseConfig


class Settings(BaseConfig):
    """Options of the rule. Shares are of the field: the pixels that are lit at all."""

    rate: float = pydantic.Field(default=5.0, gt=0, le=30)
    """Looks a second, in event time."""
    limit: float = pydantic.Field(default=0.015, gt=0, lt=1)
    """Growth, as a share of the field, that is a bleeding."""
    drift: float = pydantic.Field(default=0.0025, ge=0, lt=1)
    """Growth a second that is expected of noise and is taken off."""
    sustained_seconds: float = pydantic.Field(default=1.0, ge=0)
    """Seconds that it must have grown: fouling of the lens is quicker, and then stands still."""
    rinse_seconds: float = pydantic.Field(default=3.0, ge=0)
    """Seconds for which growth is not summed once irrigation was recognised."""
    parallax: float = pydantic.Field(default=0.001, ge=0)
    """Growth that is taken off for each pixel over 2 (of 160 a line) that the camera moves between two looks:
    tissue has depth, and an affine cannot follow all of it."""
    blur: float = pydantic.Field(default=0.65, gt=0, lt=1)
    """Sharpness against a second before at which the lens counts as fouled, until it is as much sharper again."""
    fast: float = pydantic.Field(default=0.09, gt=0)
    """Growth within 2 s, as a share of the field, from which the priority is high."""
    clear_seconds: float = pydantic.Field(default=4.0, gt=0)
    """Seconds without growth after which it is over."""
    ratio: tuple[float, float] = (0.07, 0.125)
    """Green over red light at and below which a pixel is surely blood, and from which it is surely not, at most.
    Lowered to below what the case's own tissue shows."""
    jump: float = pydantic.Field(default=0.3, gt=0)
    """Growth a second, as a share of the field, that no vessel makes: the lens was fouled or wiped."""
    veil: float = pydantic.Field(default=0.06, gt=0, lt=1)
    """Weakest light from which smoke or fog hides too much to judge by colours."""
    overlap: float = pydantic.Field(default=0.45, gt=0, lt=1)
    """Share of the field that two pictures must have in common."""
    mask_seconds: float = pydantic.Field(default=0.4, gt=0)
    """How old a segmentation may be."""
    baseline: bool = False
    """Decide by the trivial baseline instead."""
    baseline_share: float = pydantic.Field(default=0.06, gt=0, lt=1)
    """Share of the field that is red like blood, for the baseline."""


class Cusum:
    """One-sided cumulative sum of increments less a drift, never below 0 and never above a cap."""

    def __init__(self, drift: float, cap: float) -> None:
        self.drift, self.cap = drift, cap
        self.value, self.since = 0.0, -1
        """``since``: event time at which it last left 0, ns; -1 while it is 0."""

    def add(self, increment: float, before: int, now: int) -> float:
        """The sum after an increment that came about between two event times."""
        self.value += increment - self.drift * (now - before) / NANOSECONDS
        if self.value <= 0:
            self.reset()
        elif self.since < 0:
            self.since = before
        self.value = min(self.value, self.cap)
        return self.value

    def reset(self) -> None:
        """Back to 0."""
        self.value, self.since = 0.0, -1
