"""Which frames may be shown: a delay line that stays shut until there is reason to open it.

The rule, over the evidence of a stream's frames (inside the body or not; no answer counts as not):

- Frame ``i`` is shown only if it is the last of at least ``frames_to_open`` frames in a row that are inside and that
  span ``open_seconds`` of event time, and if the ``delay_frames`` frames after it are inside too, as are all frames
  within ``delay_seconds`` after it.
- Time that stands still, goes back or leaves a gap starts the count again.
- Whatever is not decided when the stream ends, breaks or is not inside any more is not shown.

Card 11.1: opening after about half a second, a delay of 5 to 10 frames. Both are in frames *and* in seconds because
pulling a camera out takes as long at 60 frames a second as at 15. What is not to be shown is decided at once.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from pipeline.message import NANOSECONDS

Item = TypeVar("Item")

MOST_HELD = 256
"""Frames held at most; more than that within the delay is not a camera, and the gate shuts."""


class Gate(Generic[Item]):
    """The gate of one stream. Holds what is not decided yet, and nothing that is."""

    def __init__(
        self, frames_to_open: int, open_seconds: float, delay_frames: int, delay_seconds: float, gap_seconds: float
    ) -> None:
        self.frames_to_open, self.delay_frames = frames_to_open, delay_frames
        self.open_ns, self.delay_ns = round(open_seconds * NANOSECONDS), round(delay_seconds * NANOSECONDS)
        self.gap_ns = round(gap_seconds * NANOSECONDS)
        self.held: deque[tuple[int, Item]] = deque()
        """Frames inside the body that wait for what follows, oldest first, with their times."""
        self.run = 0
        """Frames inside the body in a row, up to the latest."""
        self.began = 0
        """Event time of the first of them."""
        self.last: int | None = None
        """Event time of the latest frame."""

    @property
    def open(self) -> bool:
        """Whether the latest frame may be shown if enough of the same follow."""
        return self.run >= self.frames_to_open and self.last is not None and self.last - self.began >= self.open_ns

    def broken(self, time: int) -> bool:
        """Whether a frame at ``time`` does not go on from the latest one: time did not advance, or leapt."""
        return self.last is not None and not 0 < time - self.last <= self.gap_ns

    def add(self, time: int, item: Item, inside: bool) -> list[tuple[Item, bool]]:
        """Take in a frame. What is decided now, in order, each with whether it may be shown."""
        decided = self.shut() if self.broken(time) or len(self.held) >= MOST_HELD else []
        self.last = time
        if not inside:
            return [*decided, *self.shut(), (item, False)]
        if self.run == 0:
            self.began = time
        self.run += 1
        if not self.open:
            return [*decided, (item, False)]
        self.held.append((time, item))
        while len(self.held) > self.delay_frames and time - self.held[0][0] >= self.delay_ns:
            decided.append((self.held.popleft()[1], True))
        return decided

    def shut(self) -> list[tuple[Item, bool]]:
        """Start again, closed. What was held is decided: not to be shown."""
        decided = [(item, False) for _, item in self.held]
        self.held.clear()
        self.run = 0
        return decided
