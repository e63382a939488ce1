"""How much a room is alarmed: alarms per bed-hour over the last two hours, and the limit on those of low priority.

Nurses answer later the more alarms they had in the two hours before (Bonafide et al.: 0-29, 30-79, 80 and more), which
is why the burden is counted and shown, and why alerts of low priority can be held back - those of medium and high
priority never are. Everything is counted in event time.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from pipeline.message import NANOSECONDS

WINDOW_SECONDS = 2 * 3600
BIN_SECONDS = 60
"""Alarms are counted by the minute, so that a storm of them needs no memory."""
SHORTEST_SECONDS = 600
"""A run shorter than this counts as so long: one alarm in the first minute is not sixty an hour."""
HOUR = 3600 * NANOSECONDS

_BIN = BIN_SECONDS * NANOSECONDS
_BINS = WINDOW_SECONDS // BIN_SECONDS


class Burden:
    """Alarms of one room over the last two hours of event time.

    What counts is people being called: a new alert that is signalled, one that got worse, one signalled anew because
    nobody answered.
    """

    def __init__(self) -> None:
        self.began: int | None = None
        """Event time from which somebody counts, ns."""
        self.newest = 0
        """Latest event time known, ns."""
        self._bins: deque[list[int]] = deque(maxlen=_BINS + 1)
        """Minute and alarms in it, oldest first; minutes without alarms are not there."""

    def reach(self, time: int) -> None:
        """Event time has got so far. To be said every few seconds; a step of more than two hours begins anew."""
        if self.began is None or time - self.newest > WINDOW_SECONDS * NANOSECONDS:
            self.began = time  # nobody counted in between: the box slept, or the clock was not set before
        self.newest = max(self.newest, time)

    def add(self, time: int, alarms: int = 1) -> None:
        """So many alarms at ``time``. One that comes late is counted in the minute that is open."""
        self.reach(time)
        minute = self.newest // _BIN
        if self._bins and self._bins[-1][0] == minute:
            self._bins[-1][1] += alarms
        else:
            self._bins.append([minute, alarms])

    @property
    def alarms(self) -> int:
        """Alarms of the last two hours: of this minute and the 119 before it."""
        oldest = self.newest // _BIN - _BINS
        return sum(count for minute, count in self._bins if minute > oldest)

    @property
    def per_hour(self) -> float | None:
        """Alarms per bed-hour; None before anything has been heard."""
        if self.began is None:
            return None
        seconds = (self.newest - self.began) / NANOSECONDS
        return self.alarms / (min(max(seconds, SHORTEST_SECONDS), WINDOW_SECONDS) / 3600)

    def state(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {"began": self.began, "newest": self.newest, "bins": [list(part) for part in self._bins]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self.began, self.newest = state["began"], state["newest"]
        self._bins = deque((list(part) for part in state["bins"]), maxlen=_BINS + 1)


class RateLimit:
    """Lets through so many in any hour of event time.

    Args:
        most: in an hour; 0 lets nothing through.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._passed: deque[int] = deque(maxlen=max(most, 1))

    def passes(self, time: int) -> bool:
        """Whether one at ``time`` is let through; it is counted if so. What is held back does not count."""
        if self.most == 0 or (len(self._passed) == self.most and time - self._passed[0] < HOUR):
            return False
        self._passed.append(time)
        return True

    def state(self) -> list[int]:
        """Everything as plain JSON values."""
        return list(self._passed)

    def load_state(self, state: list[int]) -> None:
        """Take back what ``state`` gave; of a limit that was higher only the newest are kept."""
        self._passed = deque(state, maxlen=max(self.most, 1))
