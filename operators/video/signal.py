"""Is there a picture at all: black, blue, frozen and noise, with a delay and hysteresis in event time.

Every picture is looked at along 48 of its lines, at full width: 0.36 ms for 1080p on one core. The limits were set by
looking at the 159 labelled laparoscopy frames of ``shared/data/laparoscopy_intermountain`` and at the real clip, so
those frames show that they fit, not that they generalise: of black frames 100 % of the pixels are dark (at most 80 %
of any other), of blue ones 92 % are blue (at most 9 %), the roughness of a living picture is at most 0.13. Neighbouring
pictures of the real clip differ by 4.3 grey levels at least (``change``). Noise and standstill were only seen made
by us: there is no real recording of them. Snow of single pixels has a roughness of 1.16.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import cv2
import numpy as np
import pydantic

from operators.rules import NOT_WATCHED, RuleOperator, seconds
from operators.video.colour import chroma, from_rgb, luma
from pipeline.message import NANOSECONDS, AlertCondition, Array, Evidence, Message, Priority, VideoFrame
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Outputs

LINES = 48
"""Lines of a picture that are looked at."""
BLOCKS = 16
"""Parts of a line whose mean change is compared: a small instrument that moves must move one of them."""
DARK = 32
"""Luma (0..255) below which a pixel is dark."""
BLUE = 160
"""Cb above which, with Cr below 128, a pixel is the blue of an input without signal."""
FLAT = 12.0
"""Standard deviation of luma below which a picture is too even to be called noise."""

Fault = Literal["black", "blue", "noise", "frozen"]


class Limits(BaseConfig):
    """When one fault begins and ends."""

    enter: float
    """Value at which the fault is present; for `frozen`, the change at or below which it is."""
    leave: float
    """Value at which it is no longer; between the two it stays what it was."""
    delay_seconds: float = pydantic.Field(default=2.0, ge=0)
    """Seconds that it must last before it is said."""
    clear_seconds: float = pydantic.Field(default=1.0, ge=0)
    """Seconds that it must be gone before its end is said."""
    priority: Priority = "low"
    """Priority of the alert."""


@dataclasses.dataclass
class Watch:
    """One fault of one stream, as ``perception.view`` keeps them too. Times are event time, ns; -1 for none."""

    inside: bool = False
    since: int = -1
    frame: int = 0
    gone: int = -1
    present: bool = False
    onset: int = -1


@dataclasses.dataclass
class Look:
    """What one picture measures."""

    sample: Array
    """(48, w) uint8 luma."""
    dark: float
    """Share of dark pixels."""
    blue: float
    """Share of blue pixels."""
    roughness: float
    """Mean step between neighbours over the standard deviation of luma: 1.13 for independent normal pixels."""


def look(frame: VideoFrame) -> Look:
    """Measure a picture. Reads 48 lines of each plane and copies nothing else."""
    if frame.format == "rgb24":
        frame = from_rgb(_lines(frame.planes[0]), full_range=True)
    lines = _lines(frame.planes[0])
    sample = np.ascontiguousarray(luma(VideoFrame(frame.width, len(lines), "gray", (lines,), True)))
    if not frame.full_range and frame.format != "gray":
        sample = cv2.convertScaleAbs(cv2.subtract(sample, 16.0), alpha=255 / 219)
    blue = 0.0
    if frame.format != "gray":
        cb, cr = (_lines(plane) for plane in chroma(frame))
        blue = float(np.mean((cb > BLUE) & (cr < 128)))
    spread = float(sample.std())
    step = float(cv2.absdiff(sample[:, 1:], sample[:, :-1]).mean()) if sample.shape[1] > 1 else 0.0
    roughness = step / spread if spread >= FLAT else 0.0
    return Look(sample, float(np.mean(sample < DARK)), blue, roughness)


def change(one: Array, other: Array) -> float:
    """Largest mean change of luma in any of 16 upright strips, in grey levels; 255 where the sizes differ."""
    if one.shape != other.shape:
        return 255.0
    columns = cv2.absdiff(one, other).mean(axis=0)
    edges = np.linspace(0, len(columns), min(BLOCKS, len(columns)) + 1).astype(int)
    return float(np.max(np.add.reduceat(columns, edges[:-1]) / np.diff(edges)))


def _lines(plane: Array) -> Array:
    return plane[np.linspace(0, plane.shape[0] - 1, min(LINES, plane.shape[0])).astype(int)]


TEXTS: dict[Fault, str] = {
    "black": "The picture is black", "blue": "The picture is blue: the input has no signal",
    "noise": "The picture is noise", "frozen": "The picture stands still: it is not live",
}  # fmt: skip


class VideoSignal(RuleOperator):
    """Raises a technical alert while a stream shows black, blue, noise or the same picture, and ends it after.

    The trivial baseline beside it, ``baseline: true``, looks at means and at equality alone, at once and without
    hysteresis: it is what this rule has to beat, see the tests.
    """

    class Config(BaseConfig):
        black: Limits = Limits(enter=0.98, leave=0.95)
        """Share of pixels that are dark."""
        blue: Limits = Limits(enter=0.85, leave=0.75)
        """Share of pixels that are blue."""
        noise: Limits = Limits(enter=0.6, leave=0.45, priority="medium")
        """Roughness: mean step between neighbouring pixels over the standard deviation."""
        frozen: Limits = Limits(enter=1.0, leave=1.5, delay_seconds=5.0, priority="medium")
        """Change against the first picture of the standstill, grey levels. Medium: people act on what they see."""
        baseline: bool = False
        """Decide by the trivial baseline instead."""

    input: Input[VideoFrame]

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self._watches: dict[str, dict[Fault, Watch]] = {}
        self._anchors: dict[str, tuple[Array, int, int]] = {}
        """For each stream the picture that standing still is judged against, its time and its sequence."""

    def process(self, message: Message[VideoFrame]) -> Outputs:
        """Look at one picture; answers only where a condition begins or ends."""
        self.now, self.origin = max(self.now, message.time), message.origin
        watches = self._watches.setdefault(message.stream, {fault: Watch() for fault in TEXTS})
        found = self._baseline(message) if self.config.baseline else self._faults(message, watches)
        said = []
        for fault, (inside, value) in found.items():
            answer = self._step(fault, watches[fault], message, inside, value)
            if answer is not None:
                said.append(answer)
        return said or None

    def finish(self) -> Outputs:
        said = []
        for stream, watches in self._watches.items():
            for fault, watch in watches.items():
                if watch.present:
                    said.append(self._say(fault, watch, stream, max(self.now, watch.onset), 0.0, note=NOT_WATCHED))
        return said

    # ------------------------------------------------------------------------------------ private

    def _faults(self, message: Message[VideoFrame], watches: dict[Fault, Watch]) -> dict[Fault, tuple[bool, float]]:
        seen, config = look(message.payload), self.config
        found: dict[Fault, tuple[bool, float]] = {}
        values: tuple[tuple[Fault, float], ...] = (("black", seen.dark), ("blue", seen.blue), ("noise", seen.roughness))
        for fault, value in values:
            limits: Limits = getattr(config, fault)
            found[fault] = (value >= (limits.leave if watches[fault].inside else limits.enter), value)
        anchor = self._anchors.get(message.stream)
        moved = 255.0 if anchor is None else change(seen.sample, anchor[0])
        still = moved <= (config.frozen.leave if watches["frozen"].inside else config.frozen.enter)
        if not still:
            self._anchors[message.stream] = (seen.sample, message.time, message.sequence)
        # A black or blue picture stands still as well; it is called by its own name only.
        found["frozen"] = (still and not found["black"][0] and not found["blue"][0], moved)
        return found

    def _baseline(self, message: Message[VideoFrame]) -> dict[Fault, tuple[bool, float]]:
        frame = message.payload
        first = np.array(frame.planes[0])
        mean, spread = float(first.mean()), float(first.std())
        blue = float(chroma(frame)[0].mean()) if frame.format in ("yuv420p", "nv12") else 128.0
        before = self._anchors.get(message.stream)
        same = before is not None and np.array_equal(first, before[0])
        self._anchors[message.stream] = (first, message.time, message.sequence)
        return {
            "black": (mean < DARK, mean), "blue": (blue > BLUE, blue), "noise": (spread > 60, spread),
            "frozen": (same, 0.0 if same else 255.0),
        }  # fmt: skip

    def _step(
        self, fault: Fault, watch: Watch, message: Message[VideoFrame], inside: bool, value: float
    ) -> Message[AlertCondition] | None:
        time, limits = message.time, getattr(self.config, fault)
        delay, clear = (0.0, 0.0) if self.config.baseline else (limits.delay_seconds, limits.clear_seconds)
        if inside and not watch.inside:
            watch.since, watch.frame = time, message.sequence
            if fault == "frozen" and not self.config.baseline:
                _, watch.since, watch.frame = self._anchors[message.stream]
        watch.inside = inside
        if inside:
            watch.gone = -1
            if not watch.present and time - watch.since >= delay * NANOSECONDS:
                watch.present, watch.onset = True, watch.since
                return self._say(fault, watch, message.stream, time, value, message)
        elif watch.present:
            watch.gone = time if watch.gone < 0 else watch.gone
            if time - watch.gone >= clear * NANOSECONDS:
                return self._say(fault, watch, message.stream, time, value, message, ended=watch.gone)
        return None

    def _say(
        self, fault: Fault, watch: Watch, stream: str, time: int, value: float,
        cause: Message[VideoFrame] | None = None, *, ended: int | None = None, note: str = "",
    ) -> Message[AlertCondition]:  # fmt: skip
        if note and ended is None:
            ended = time
        limits: Limits = getattr(self.config, fault)
        end = time if ended is None else ended
        text = f"{TEXTS[fault]}, for {seconds(end - watch.onset)}." if ended is None else (
            f"{TEXTS[fault]}: over after {seconds(end - watch.onset)}. {note}".rstrip()
        )  # fmt: skip
        onset, frame = watch.onset, watch.frame
        if ended is not None:
            watch.present, watch.gone, watch.onset = False, -1, -1
        return self.say(
            time, cause, code=f"video_{fault}", subject=stream, present=ended is None,
            priority=limits.priority, kind="technical", text=text, onset=onset, ended=ended, value=round(value, 4),
            limit=limits.enter, evidence=(Evidence(stream, onset, end, frame=frame),),
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        watches = {
            stream: {fault: dataclasses.asdict(watch) for fault, watch in found.items()}
            for stream, found in self._watches.items()
        }
        return {"now": self.now, "watches": watches}

    def load_state(self, state: dict[str, Any]) -> None:
        self.now = state.get("now", 0)
        self._watches = {
            stream: {fault: Watch(**watch) for fault, watch in found.items()}
            for stream, found in state.get("watches", {}).items()
        }
