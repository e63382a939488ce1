"""Repair of broken clocks: whatever a camera's timestamps do, event time goes forward.

Cameras restart (time jumps to zero), encoders drop and repeat (time stands or goes backwards), counters wrap (33 bits
at 90 kHz in MPEG-TS: every 26.5 hours; 32 bits in RTP: every 13.3 hours), and clocks are set in the middle of a case.
Five of a peer's issue threads ask for this stage (``cards/streaming_peers.md`` section 3, row 7).
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any

import pydantic

from pipeline.message import NANOSECONDS, Event, Message, VideoFrame
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Operator, Output, Outputs

WRAPS = (2**33 * NANOSECONDS // 90_000, 2**32 * NANOSECONDS // 90_000)
"""Nanoseconds after which the counters of MPEG-TS and RTP start again."""
WRAP_SLACK = 2 * NANOSECONDS
"""A backward jump this close to a counter's length is its wrap."""
START_SLACK = NANOSECONDS
"""A backward jump to within this of the first time seen is a restart."""
USUAL = 40_000_000
"""Nanoseconds between frames until the stream has shown its own rate (25 frames a second)."""
REMEMBERED = 15
"""Intervals whose median is the stream's rate."""


@dataclasses.dataclass
class Timeline:
    """Turns the times of one stream into strictly increasing ones, from those times alone.

    A jump moves the offset so that time goes on by one usual interval; a wrap by exactly the counter's length. Where
    the times come back to where they were before a jump (one frame with a wild stamp), so does the offset.
    """

    largest_gap: int = 1800 * NANOSECONDS
    """A forward step longer than this is a clock that was set, not time that passed, ns."""
    offset: int = 0
    last_in: int | None = None
    last_out: int = 0
    first_in: int = 0
    before: tuple[int, int] | None = None
    """Offset and last time before the latest jump, while going back to them is still possible."""
    since_jump: int = 0
    intervals: deque[int] = dataclasses.field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def fix(self, time: int) -> tuple[int, str]:
        """The repaired time, and what was wrong: ``""``, ``wrap``, ``restart``, ``repeated``, ``backward``,
        ``forward`` or ``return``.
        """
        if self.last_in is None:
            self.first_in = time
            self.last_in, self.last_out = time, time + self.offset
            return self.last_out, ""
        step, fault = time - self.last_in, ""
        if self._returns(time):
            assert self.before is not None
            self.offset, fault = self.before[0], "return"
            self.before = None
        elif not 0 < step <= self.largest_gap:
            fault = self._jump(time, step)
        else:
            self.intervals.append(step)
        out = max(time + self.offset, self.last_out + 1)
        self.last_in, self.last_out = time, out
        self.since_jump = 0 if fault else self.since_jump + 1
        if self.since_jump > REMEMBERED:
            self.before = None
        return out, fault

    def interval(self) -> int:
        """Nanoseconds between frames, as the stream has shown them."""
        return sorted(self.intervals)[len(self.intervals) // 2] if self.intervals else USUAL

    def _returns(self, time: int) -> bool:
        if self.before is None or self.last_in is None:
            return False
        offset, last = self.before
        usual = self.interval()
        goes_on = 0 < time - last <= (self.since_jump + 3) * usual and time + offset > self.last_out - usual
        return goes_on and not 0 < time - self.last_in <= 2 * usual

    def _jump(self, time: int, step: int) -> str:
        assert self.last_in is not None
        usual = self.interval()
        wrap = next((length for length in WRAPS if abs(step + length) <= WRAP_SLACK and step + length > 0), 0)
        if wrap:
            self.offset += wrap
            self.before = None
            return "wrap"
        if self.before is None:
            self.before = (self.offset, self.last_in)
        self.offset = self.last_out + usual - time
        if step > 0:
            return "forward"
        if step == 0:
            return "repeated"
        if abs(time - self.first_in) <= START_SLACK and -step > 2 * START_SLACK:
            self.first_in = time
            return "restart"
        return "backward"

    def state(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**dataclasses.asdict(self), "intervals": list(self.intervals)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Timeline:
        """What ``state`` gave."""
        before = state["before"]
        intervals = deque(state["intervals"], maxlen=REMEMBERED)
        return cls(**{**state, "before": None if before is None else (before[0], before[1]), "intervals": intervals})


class TimestampRepair(Operator):
    """Hands every frame on with an event time that goes forward; counts and reports what it mended."""

    class Config(BaseConfig):
        largest_gap_seconds: float = pydantic.Field(default=1800.0, gt=0)
        """A forward step longer than this many seconds is a clock that was set: the gap is closed. A shorter one is
        time in which there was no picture, and stays."""

    input: Input[VideoFrame]
    output: Output[VideoFrame]
    repairs: Output[Event]

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self._lines: dict[str, Timeline] = {}
        self.counts: dict[str, int] = {}
        """Repairs so far by what was wrong."""

    def process(self, message: Message[VideoFrame]) -> Outputs:
        """The frame at its repaired time; before it a ``video_time_repaired`` event where something was wrong."""
        line = self._lines.get(message.stream)
        if line is None:
            line = self._lines[message.stream] = Timeline(round(self.config.largest_gap_seconds * NANOSECONDS))
        time, fault = line.fix(message.time)
        channel = message.stream.partition("/")[2]
        frame = self.output.emit(message.payload, message, time=time, channel=channel)
        if not fault:
            return frame
        self.counts[fault] = self.counts.get(fault, 0) + 1
        data = {
            "stream": message.stream,
            "frame": frame.sequence,
            "fault": fault,
            "given": message.time,
            "repaired": time,
        }
        text = f"{message.stream}: time {WORDS[fault]} at frame {message.sequence}; mended."
        return [self.repairs.emit(Event("video_time_repaired", text, data), message, time=time, channel=channel), frame]

    def state(self) -> dict[str, Any]:
        return {"lines": {name: line.state() for name, line in self._lines.items()}, "counts": dict(self.counts)}

    def load_state(self, state: dict[str, Any]) -> None:
        self._lines = {name: Timeline.from_state(line) for name, line in state.get("lines", {}).items()}
        self.counts = dict(state.get("counts", {}))


WORDS = {
    "wrap": "counter wrapped", "restart": "started again", "repeated": "stood still", "backward": "went backwards",
    "forward": "jumped ahead", "return": "came back after a jump",
}  # fmt: skip
"""Faults in words."""
