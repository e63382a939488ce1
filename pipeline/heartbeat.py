"""The subscriber's end of the heartbeat: a room that falls silent is an alarm of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.message import NANOSECONDS, Status
from pipeline.time import stamp

MISSED = 3
"""Heartbeats in a row that may fail to come before a room counts as silent."""


class Heartbeats:
    """Follows the heartbeats of rooms.

    Args:
        tell: is given one sentence when a room falls silent, comes back, or has ended.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.newest: dict[str, Status] = {}
        self.silent: set[str] = set()
        self._heard: dict[str, int] = {}

    def hear(self, status: Status | None) -> None:
        """A heartbeat came, or what was there already; one that is known changes nothing."""
        if status is None:
            return
        room, known = status.room, self.newest.get(status.room)
        if known is not None and status.at <= known.at:
            return
        self.newest[room] = status
        # By our own clock from the second one on: the sender's may be wrong.
        age = 0 if known is not None else max(0, time.time_ns() - status.at)
        self._heard[room] = stamp() - age
        if status.state == "stopped":
            if known is not None and known.state == "running":
                self.tell(f"{room}: Vigil has ended there; nobody watches")
            self.silent.discard(room)
        elif room in self.silent and not self._overdue(status):
            self.silent.discard(room)
            self.tell(f"{room}: heard again")

    def check(self) -> None:
        """Tell of rooms that have fallen silent. To be called about once a second."""
        for room, status in self.newest.items():
            if room not in self.silent and status.state == "running" and self._overdue(status):
                self.silent.add(room)
                self.tell(
                    f"{room}: no heartbeat for {self._age(room):.0f} s: Vigil, its box or the network is down; "
                    "alerts of that room do not arrive"
                )

    def _age(self, room: str) -> float:
        return (stamp() - self._heard[room]) / NANOSECONDS

    def _overdue(self, status: Status) -> bool:
        return self._age(status.room) > MISSED * status.next_seconds
