"""When a reading or a message becomes a condition: seen twice, for long enough, and over only when that is seen too."""

from __future__ import annotations

import dataclasses

from pipeline.message import NANOSECONDS


@dataclasses.dataclass
class Watch:
    """One condition in event time, ns; -1 for never. It knows nothing of what it watches."""

    present: bool = False
    onset: int = -1
    """When the condition, or its candidate, was first seen."""
    seen: int = -1
    """When it was last seen to be true."""
    gone: int = -1
    """When it was first seen to be over."""
    times: int = 0
    """How often it was seen true since ``onset``."""
    frame: int = 0
    worst: float = 0.0
    refused: bool = False
    """True once this candidate was said to be suppressed, so that it is said once."""

    def step(self, time: int, inside: bool, delay: float, clear: float) -> str:
        """Take one look. Gives ``begin``, ``end``, ``drop`` (a candidate that came to nothing) or an empty string.

        ``begin`` needs two looks at least, however short the delay: one reading alone alerts nobody.
        """
        if inside:
            self.gone = -1
            if self.onset < 0:
                self.onset, self.times = time, 0
            self.times += 1
            self.seen = time
            if not self.present and self.times >= 2 and time - self.onset >= delay * NANOSECONDS:
                self.present = True
                return "begin"
            return ""
        if self.onset < 0:
            return ""
        if not self.present:
            return "drop"
        self.gone = time if self.gone < 0 else self.gone
        # Two looks here as well: one misreading ends nothing.
        return "end" if time > self.gone and time - self.gone >= clear * NANOSECONDS else ""

    def reset(self) -> None:
        """Forget the episode."""
        self.present, self.onset, self.seen, self.gone, self.times = False, -1, -1, -1, 0
        self.worst, self.refused = 0.0, False
