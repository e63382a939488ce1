"""What is known of one screen, and how that goes through a restart."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from operators.perception.overlay import layout
from operators.perception.overlay.layout import Layout
from operators.perception.overlay.reader import Memory
from operators.perception.overlay.watch import Watch
from pipeline.message import VideoFrame

SMALLEST, LARGEST = 64, 8192
"""Sides of pictures that are looked at, pixels."""


@dataclasses.dataclass
class Screen:
    """One stream. Times are event time, ns; -1 for never."""

    layout: Layout | None = None
    next_reading: int = -1
    next_search: int = -1
    next_sweep: int = -1
    failures: int = 0
    """Readings one after another in which no number could be read."""
    gas_off: bool = False
    last: dict[str, tuple[int, float]] = dataclasses.field(default_factory=dict)
    """Quantity to the time and value of its latest reading."""
    messages: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Message to how often it was seen one after another and when first."""
    watches: dict[str, Watch] = dataclasses.field(default_factory=dict)
    memories: dict[str, Memory] = dataclasses.field(default_factory=dict)
    """Not kept over a restart: what was read is then read anew."""

    def watch(self, code: str) -> Watch:
        """The watch over a condition."""
        return self.watches.setdefault(code, Watch())

    def forget(self) -> None:
        """The picture has another size: nothing of what was found stands where it stood."""
        self.layout, self.failures, self.next_search = None, 0, -1
        self.memories.clear()

    def to_state(self) -> dict[str, Any]:
        """As plain JSON values."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        return plain | {
            "layout": layout.to_state(self.layout),
            "last": {kind: list(pair) for kind, pair in self.last.items()},
            "messages": {kind: list(pair) for kind, pair in self.messages.items()},
            "watches": {code: dataclasses.asdict(watch) for code, watch in self.watches.items()},
        }


_PLAIN = ("next_reading", "next_search", "next_sweep", "failures", "gas_off")


def from_state(plain: dict[str, Any]) -> Screen:
    """Take back what ``to_state`` gave."""
    return Screen(
        layout.from_state(plain["layout"]), **{name: plain[name] for name in _PLAIN},
        last={kind: (time, value) for kind, (time, value) in plain["last"].items()},
        messages={kind: (times, since) for kind, (times, since) in plain["messages"].items()},
        watches={code: Watch(**watch) for code, watch in plain["watches"].items()},
    )  # fmt: skip


def readable(frame: VideoFrame) -> bool:
    """Is this a whole picture of a size that is looked at? One that the decoder has mended is not read."""
    if frame.corrupt or not frame.planes:
        return False
    plane = frame.planes[0]
    if not isinstance(plane, np.ndarray) or plane.dtype != np.uint8:
        return False
    shape = (frame.height, frame.width, 3) if frame.format == "rgb24" else (frame.height, frame.width)
    sides = (frame.height, frame.width)
    return plane.shape == shape and min(sides) >= SMALLEST and max(sides) <= LARGEST
