"""What is said about blanking: one condition while it lasts, never one for each flicker."""

from __future__ import annotations

import dataclasses
from typing import Literal

from pipeline.message import Priority

Reason = Literal["", "opening", "out_of_body", "time", "size", "corrupt", "malformed", "late", "error"]
"""Why a frame is not shown; empty where nothing speaks against it."""

TEXTS: dict[str, str] = {
    "opening": "waiting for enough pictures from inside the body",
    "out_of_body": "it does not show the inside of the body",
    "time": "its times jumped or it stood still",
    "size": "its size changed",
    "corrupt": "the decoder concealed damage in it",
    "malformed": "it is not a whole picture",
    "late": "what decides on it took too long",
    "error": "what decides on it failed",
}
"""Reasons in words."""
WEIGHT = {reason: index for index, reason in enumerate(("", *TEXTS))}
"""What is worse comes later: a condition that is present only ever changes to a worse reason."""
USUAL = ("opening", "out_of_body", "time", "size")
"""Reasons that belong to an operation: information. The others are faults: low priority."""


def priority(reason: str) -> Priority:
    """Of the condition."""
    return "info" if reason in USUAL else "low"


@dataclasses.dataclass
class Report:
    """Hysteresis in event time: told once blanking has lasted, ended once the picture has been open. Times in ns."""

    tell_ns: int
    clear_ns: int
    since: int = -1
    """When the blanking began that goes on now; -1 while the picture is open."""
    frame: int = 0
    """Sequence of its first frame."""
    reason: str = ""
    """The worst so far."""
    gone: int = -1
    """When the picture opened again after a blanking that was told; -1 while it has not."""
    present: bool = False
    told: str = ""
    """The reason that was told."""

    def step(self, time: int, blank: bool, reason: str, first: tuple[int, int]) -> Literal["", "begin", "worse", "end"]:
        """Take in how things stand at ``time``; what is to be said.

        Args:
            time: event time of the latest frame.
            blank: whether the picture is blanked now.
            reason: why, if it is.
            first: time and sequence of the first frame that this blanking took, frames before its cause included.
        """
        if blank:
            if self.since < 0:
                self.since, self.frame = first
                self.reason = ""
            self.gone = -1
            self.reason = max(self.reason, reason, key=WEIGHT.__getitem__)
            if not self.present and time - self.since >= self.tell_ns:
                self.present, self.told = True, self.reason
                return "begin"
            if self.present and WEIGHT[self.reason] > WEIGHT[self.told]:
                # What was told as information and is a fault now is told again; so is a reason that has become known.
                self.told = self.reason
                return "worse"
            return ""
        if not self.present:
            self.since = -1
            return ""
        self.gone = time if self.gone < 0 else self.gone
        return "end" if time - self.gone >= self.clear_ns else ""

    def over(self) -> None:
        """The end was told."""
        self.since, self.gone, self.present, self.reason, self.told = -1, -1, False, "", ""
