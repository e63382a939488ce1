"""Burned-in text: found by standing still, read to find what may stay, filled where it is not known to be a device's.

Found without reading: strokes (steps of brightness) that are there in nearly all of the last pictures while the scene
behind them moves, close enough together to be characters (static region and character density, card 11.2). At the start
every text-like region counts until movement shows that it is none: too much is filled for the first seconds, not too
little. What comes later is found once it has stood still for ``samples`` looks; the guard's delay takes off as much.

Reading (RapidOCR's recogniser on single lines, about 20 ms a line) can only ever free a region: one whose whole text is
words and values of devices (``allow``). Without RapidOCR, or where it reads anything else, the region stays filled.

Not found: text whose letters are fainter than ``STROKE``, text without gaps such as a logo, and text that moves.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import cv2
import numpy as np
import pydantic

from operators.video.colour import luma, rgb
from operators.video.privacy.blank import CHANNELS
from pipeline.message import NANOSECONDS, Array, VideoFrame
from pipeline.operator import Config as BaseConfig

log = logging.getLogger("vigil.privacy")

Box = tuple[int, int, int, int]
"""x, y, width, height, pixels of the frame."""

WIDTH = 1280
"""Widest picture that is looked at; wider ones are shrunk to it. Overlays of 720p have letters 8 pixels high."""
STROKE = 48
"""Grey levels by which a stroke stands out from one pixel to the next."""
MOST = 300
"""More regions than this are not text on a picture: everything is filled."""
WORDS = (
    "actual", "set", "target", "patient", "gas", "flow", "pressure", "volume", "total", "temperature", "insufflator",
    "insufflation", "mm", "hg", "kpa", "bar", "l", "min", "co2", "spies", "chroma", "clara", "image1", "white",
    "balance", "light", "source", "zoom", "iris", "gain", "cut", "coag", "watt", "w", "off", "on", "high", "low",
)  # fmt: skip
"""Words that devices write over a picture, small letters."""


class TextConfig(BaseConfig):
    """What is done about text in the picture."""

    redact: Literal["unknown", "all", "none"] = "unknown"
    """`unknown`: fill what is not read as words and values of devices; `all`: fill all text; `none`: leave text."""
    allow: tuple[str, ...] = WORDS
    """Words of devices. A line may stay where it is made of these and of numbers of up to three digits before the point
    and two after, and has at least one of these of two letters or more."""
    sample_seconds: float = pydantic.Field(default=0.25, gt=0)
    """Seconds of event time between looks."""
    samples: int = pydantic.Field(default=6, ge=2, le=60)
    """Looks through all of which, but one, a stroke must stand to be text."""
    read_seconds: float = pydantic.Field(default=30.0, gt=0)
    """Seconds for which a reading holds, unless more than half of the strokes change before."""
    reads: int = pydantic.Field(default=1, ge=0, le=100)
    """Regions read in one look, at most; the others wait, filled. A reading holds the video up for as long as it takes:
    place the guard in a thread where that matters."""
    confidence: float = pydantic.Field(default=0.8, ge=0, le=1)
    """Confidence of the reader below which a reading frees nothing."""
    margin: int = pydantic.Field(default=4, ge=0, le=100)
    """Pixels filled round a region."""


class TextRedactor:
    """The text of one stream.

    Args:
        config: see there.
        keep_seconds: how long frames may be held between ``look`` and ``hide``.
    """

    def __init__(self, config: TextConfig, keep_seconds: float = 10.0) -> None:
        self.config = config
        self._keep = round((keep_seconds + 2 * config.sample_seconds) * NANOSECONDS)
        self._every = round(config.sample_seconds * NANOSECONDS)
        self._read_ns = round(config.read_seconds * NANOSECONDS)
        self._strokes: deque[Array] = deque(maxlen=config.samples)
        self._count: Array | None = None
        """(h, w) uint8: in how many of them each pixel has a stroke."""
        self._next: int | None = None
        self.seen: dict[Box, int] = {}
        """Regions to be filled and the event time at which each was last found."""
        self.readings: dict[Box, tuple[int, bool, Array]] = {}
        """Regions that were read: when, whether they may stay, and the strokes that were there."""
        self._allowed = allowed(config.allow)
        self._silent = False

    def look(self, frame: VideoFrame, time: int) -> None:
        """Look for text, where it is time to. Frames come in time order; a step back starts anew."""
        if self._next is not None and time < self._next - 2 * self._every:
            self._strokes.clear()
            self._count = None
        elif self._next is not None and time < self._next:
            return
        self._next = time + self._every
        scale = min(1.0, WIDTH / frame.width)
        lasting = self._lasting(frame, scale)
        found = [self._grown(box, scale, frame) for box in regions(lasting)]
        if len(found) > MOST:
            found = [(0, 0, frame.width, frame.height)]
        now = [box for box in self.seen if self.seen[box] > time - 2 * self._every]
        for box in found:
            if self._may_stay(box, frame, time, lasting, scale, now):
                continue
            self.seen[box] = time
            # Letters over bright tissue come and go: while a good part of a region is found, it is all there.
            for old in now:
                if contains(old, box) and box[2] * box[3] >= 0.4 * old[2] * old[3]:
                    self.seen[old] = time
        self.seen = {box: last for box, last in self.seen.items() if last >= time - self._keep}

    def boxes(self, time: int) -> list[Box]:
        """Regions to be filled in the frame at ``time``: found since, or in the look just before."""
        return [box for box, last in self.seen.items() if last > time - 2 * self._every]

    def hide(self, frame: VideoFrame, time: int) -> VideoFrame:
        """The frame with text filled in black; the frame itself where there is none."""
        boxes = self.boxes(time)
        return filled(frame, boxes) if boxes else frame

    # ------------------------------------------------------------------------------------ private

    def _lasting(self, frame: VideoFrame, scale: float) -> Array:
        """(h, w) uint8, 255 where strokes stand in all looks so far, but one of three or more."""
        narrow = frame.format in ("yuv420p", "nv12") and not frame.full_range  # luma of 16..235: lower steps
        picture = luma(frame) if frame.format == "rgb24" else frame.planes[0]
        if scale < 1:
            size = (WIDTH, max(1, round(frame.height * scale)))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        found = strokes(picture, round(STROKE * 219 / 255) if narrow else STROKE)
        if self._count is None:
            self._count = np.zeros_like(found)
        if len(self._strokes) == self.config.samples:
            self._count -= self._strokes[0]
        self._strokes.append(found)
        self._count += found
        return cv2.threshold(self._count, max(1, len(self._strokes) - 1) - 1, 255, cv2.THRESH_BINARY)[1]

    def _grown(self, box: Box, scale: float, frame: VideoFrame) -> Box:
        x, y, width, height = box
        margin = self.config.margin
        left, top = max(0, int(x / scale) - margin), max(0, int(y / scale) - margin)
        right = min(frame.width, int(np.ceil((x + width) / scale)) + margin)
        bottom = min(frame.height, int(np.ceil((y + height) / scale)) + margin)
        return left, top, right - left, bottom - top

    def _may_stay(self, box: Box, frame: VideoFrame, time: int, lasting: Array, scale: float, known: list[Box]) -> bool:
        """Whether the region was read as a device's and is what it was then. Reads it where it is worth reading.

        ``lasting`` are the strokes that stand now, ``scale`` their pixels to one of the frame, ``known`` the regions
        that the last look found: only what is still there is read, and only once movement has shown what is text.
        """
        config = self.config
        if config.redact != "unknown" or len(self._strokes) < config.samples:
            return False
        self.readings = {b: r for b, r in self.readings.items() if time - self._read_ns < r[0] <= time}
        for other, (_, free, before) in self.readings.items():
            if contains(other, box):
                return free and alike(before, cut(lasting, other, scale))
        lines = box[2] >= 2 * box[3] and any(contains(old, box) for old in known)
        if not lines or sum(reading[0] == time for reading in self.readings.values()) >= config.reads:
            return False
        x, y, width, height = box
        text, confidence = self._said(np.ascontiguousarray(rgb(frame)[y : y + height, x : x + width]))
        free = confidence >= config.confidence and self._allowed(text)
        self.readings[box] = (time, free, cut(lasting, box, scale))
        return free

    def _said(self, image: Array) -> tuple[str, float]:
        """What a line says, and how sure that is; nothing where there is no reader or it fails: nothing is freed."""
        try:
            return reader()(image)
        except Exception as error:
            if not self._silent:
                self._silent = True
                log.warning("text in the picture cannot be read, all of it is filled: %s", type(error).__name__)
            return "", 0.0


def strokes(picture: Array, step: int = STROKE) -> Array:
    """(h, w) uint8, 1 where brightness differs by ``step`` from the next pixel to the right or below."""
    found = np.zeros(picture.shape, np.uint8)
    if picture.shape[1] > 1:
        found[:, :-1] = cv2.absdiff(picture[:, 1:], picture[:, :-1]) >= step
    if picture.shape[0] > 1:
        found[:-1] |= cv2.absdiff(picture[1:], picture[:-1]) >= step
    return found


def regions(mask: Array) -> list[Box]:
    """Where strokes stand as close together as characters of a line do; ``mask`` is (h, w) uint8, 0 for none."""
    joined = cv2.morphologyEx(
        cv2.threshold(mask, 0, 255, cv2.THRESH_BINARY)[1], cv2.MORPH_CLOSE, np.ones((3, 17), np.uint8)
    )
    rows, columns = mask.shape[0] + mask.shape[0] % 2, mask.shape[1] + mask.shape[1] % 2
    even = cv2.copyMakeBorder(joined, 0, rows - mask.shape[0], 0, columns - mask.shape[1], cv2.BORDER_REPLICATE)
    # At half size, where any of four pixels counts: finding what hangs together is most of the cost.
    half = cv2.resize(even, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    _, _, stats, _ = cv2.connectedComponentsWithStats(half, connectivity=8)
    found = []
    for x, y, width, height in (2 * stats[1:, :4]).tolist():
        width, height = min(width, mask.shape[1] - x), min(height, mask.shape[0] - y)
        if not (width >= 6 and 5 <= height <= mask.shape[0] // 4 and width >= 0.4 * height):
            continue
        part = mask[y : y + height, x : x + width] > 0
        crossings = np.count_nonzero(part[:, 1:] & ~part[:, :-1]) / height
        if part.mean() >= 0.08 and crossings * height >= 0.5 * width:
            found.append((x, y, width, height))
    return found


def filled(frame: VideoFrame, boxes: list[Box]) -> VideoFrame:
    """A copy of the frame with the boxes in black."""
    planes = []
    for index, plane in enumerate(frame.planes):
        plane = plane.copy()
        step = 2 if index and frame.format in ("yuv420p", "nv12") else 1
        black = 128 if step == 2 else 16 if len(CHANNELS[frame.format]) > 1 and not frame.full_range else 0
        for x, y, width, height in boxes:
            plane[y // step : -(-(y + height) // step), x // step : -(-(x + width) // step)] = black
        planes.append(plane)
    return VideoFrame(frame.width, frame.height, frame.format, tuple(planes), frame.full_range, frame.corrupt)


def contains(outer: Box, inner: Box, slack: int = 3) -> bool:
    """Whether a box lies in another, give or take ``slack`` pixels."""
    return (
        inner[0] >= outer[0] - slack and inner[1] >= outer[1] - slack
        and inner[0] + inner[2] <= outer[0] + outer[2] + slack and inner[1] + inner[3] <= outer[1] + outer[3] + slack
    )  # fmt: skip


def cut(mask: Array, box: Box, scale: float) -> Array:
    """The part of a mask under a box of the frame, where a pixel of the frame is ``scale`` pixels of the mask."""
    x, y, width, height = box
    return mask[int(y * scale) : int((y + height) * scale), int(x * scale) : int((x + width) * scale)] > 0


def alike(one: Array, other: Array) -> bool:
    """Whether two masks share at least half of what either has: digits change, labels do not."""
    either = np.count_nonzero(one | other)
    return either > 0 and np.count_nonzero(one & other) >= 0.5 * either


def allowed(words: tuple[str, ...]) -> Callable[[str], bool]:
    """A test whether a line is made of ``words`` and short numbers only, with a word of two letters or more."""
    names = "|".join(re.escape(word) for word in sorted((w.lower() for w in words), key=len, reverse=True)) or r"(?!)"
    number = r"(?<![\d.,])\d{1,3}(?:[.,]\d{1,2})?(?![\d.,]*\d)"
    whole = re.compile(rf"(?:{names}|{number}|[\s:%/+\-()])+")
    word = re.compile("|".join(re.escape(w.lower()) for w in words if len(w) >= 2) or r"(?!)")

    def test(line: str) -> bool:
        line = line.lower().strip()
        # A date is numbers between slashes or dashes; a slash only stands between letters (l/min).
        dated = re.search(r"\d\s*[/\-]\s*\d", line) is not None
        return bool(line) and not dated and whole.fullmatch(line) is not None and word.search(line) is not None

    return test


@cache
def reader() -> Callable[[Array], tuple[str, float]]:
    """RapidOCR's recogniser: (h, w, 3) uint8 RGB of one line to its text and confidence. Raises ``ImportError``."""
    from rapidocr import RapidOCR

    engine: Any = RapidOCR(params={"Global.log_level": "error"})
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)

    def read(image: Array) -> tuple[str, float]:
        larger = cv2.resize(image[:, :, ::-1], None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
        answer = engine(larger, use_det=False, use_cls=False, use_rec=True)
        texts, scores = answer.txts or (), answer.scores or ()
        return " ".join(texts), float(min(scores, default=0.0))

    return read
