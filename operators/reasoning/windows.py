"""The values of one signal in a window that ends now, kept so that each value costs a constant amount of work.

Sums are exact integers (millionths, nanoseconds), so what a window says never depends on what it held before.
"""

from __future__ import annotations

import fractions
from collections import deque
from typing import Any

from operators.reasoning.signals import MICRO, Kept, Track

MAXIMUM_SAMPLES = 65_536
"""Values that a window holds at most; a denser signal loses the oldest, and the window says that it is not covered."""
MINUTE = 60_000_000_000


class Window(Kept):
    """Base: the values with times in ``(now - length, now]``, and whether the signal was heard all that time."""

    kept = ("lost",)

    def __init__(self, track: Track, length: int) -> None:
        self.track, self.length = track, length
        self.samples: deque[tuple[int, int]] = deque()
        """(time, millionths), oldest first."""
        self.lost = -1
        """Time of the newest value that was dropped for want of room."""
        track.windows.append(self)

    def add(self, time: int, micro: int) -> None:
        self.samples.append((time, micro))
        if len(self.samples) > MAXIMUM_SAMPLES:
            self.lost = self.drop()[0]

    def clear(self) -> None:
        self.samples.clear()

    def drop(self) -> tuple[int, int]:
        return self.samples.popleft()

    def expire(self, time: int) -> None:
        oldest = time - self.length
        while self.samples and self.samples[0][0] <= oldest:
            self.drop()

    def covered(self, time: int) -> bool:
        """Whether the signal was heard during the whole window, without a gap longer than its hold."""
        begin = time - self.length
        return self.track.fresh(time) and self.track.run <= begin and self.lost < begin

    def due(self, time: int) -> int | None:
        """When it says something else if nothing more comes."""
        track = self.track
        times = [track.end(time), track.run + self.length if track.time is not None else None]
        if self.samples:
            times.append(self.samples[0][0] + self.length)
        return min((moment for moment in times if moment is not None and moment > time), default=None)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "samples": [list(sample) for sample in self.samples]}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.clear()
        for time, micro in state["samples"]:
            self.add(time, micro)


class Sums(Window):
    """Mean and least-squares slope."""

    def __init__(self, track: Track, length: int) -> None:
        super().__init__(track, length)
        self.base = 0
        self.clear()

    def clear(self) -> None:
        super().clear()
        self.sum = self.time_sum = self.time_square = self.product = 0

    def add(self, time: int, micro: int) -> None:
        if not self.samples:
            self.base, self.sum, self.time_sum, self.time_square, self.product = time, 0, 0, 0, 0
        since = time - self.base
        self.sum += micro
        self.time_sum += since
        self.time_square += since * since
        self.product += since * micro
        super().add(time, micro)

    def drop(self) -> tuple[int, int]:
        time, micro = super().drop()
        since = time - self.base
        self.sum -= micro
        self.time_sum -= since
        self.time_square -= since * since
        self.product -= since * micro
        return time, micro

    def mean(self) -> float | None:
        count = len(self.samples)
        return float(fractions.Fraction(self.sum, count * MICRO)) if count else None

    def slope(self) -> float | None:
        """Change a minute; None for fewer than three values or values of one moment only."""
        count = len(self.samples)
        below = count * self.time_square - self.time_sum * self.time_sum
        if count < 3 or below == 0:
            return None
        above = count * self.product - self.time_sum * self.sum
        return float(fractions.Fraction(above * MINUTE, below * MICRO))


class Extreme(Window):
    """The least or the greatest value: a queue in which only values wait that can still become it."""

    def __init__(self, track: Track, length: int, sign: int) -> None:
        self.sign = sign
        """1 for the greatest, -1 for the least."""
        super().__init__(track, length)

    def add(self, time: int, micro: int) -> None:
        samples, signed = self.samples, self.sign * micro
        while samples and self.sign * samples[-1][1] <= signed:
            samples.pop()
        super().add(time, micro)

    def extreme(self) -> int | None:
        """In millionths."""
        return self.samples[0][1] if self.samples else None
