"""Clocks. The engine asks one clock what time it is and waits on it; replay swaps it for a virtual one."""

from __future__ import annotations

import time
from typing import Protocol

NEVER = 2**63 - 1
"""An event time after every other."""
ALWAYS = -(2**63)
"""An event time before every other."""

stamp = time.monotonic_ns
"""The clock of traces and latencies: monotonic, the same in every process of the machine."""


class Clock(Protocol):
    """Event time as a run sees it."""

    def now(self) -> int:
        """Event time, nanoseconds since the Unix epoch."""
        ...

    def delay(self, event_time: int) -> float:
        """Seconds of real time until ``event_time``; 0 or less where it has passed."""
        ...


class WallClock:
    """Event time is the machine's own UTC time."""

    def now(self) -> int:
        return time.time_ns()

    def delay(self, event_time: int) -> float:
        return (event_time - time.time_ns()) / 1e9


class ReplayClock:
    """Event time runs from ``start`` at ``speed`` times real time; ``speed=inf`` never waits.

    Under ``inf`` the present is whatever event time was reached last (``reach``).
    """

    def __init__(self, start: int, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be positive, not {speed}")
        self.start, self.speed = start, speed
        self.reached = start
        self._origin = time.monotonic_ns()

    def begin(self, start: int) -> None:
        """Event time is ``start`` now: called when the first message of a run is known."""
        self.start = self.reached = start
        self._origin = time.monotonic_ns()

    def now(self) -> int:
        if self.speed == float("inf"):
            return self.reached
        return self.start + int((time.monotonic_ns() - self._origin) * self.speed)

    def delay(self, event_time: int) -> float:
        if self.speed == float("inf"):
            return 0.0
        due = self._origin + (event_time - self.start) / self.speed
        return (due - time.monotonic_ns()) / 1e9

    def reach(self, event_time: int) -> None:
        """Note that the run has come to ``event_time``."""
        self.reached = max(self.reached, event_time)


def wall_from_stamp(monotonic: int) -> int:
    """The UTC nanoseconds at which ``stamp()`` read ``monotonic``."""
    return time.time_ns() - (time.monotonic_ns() - monotonic)
