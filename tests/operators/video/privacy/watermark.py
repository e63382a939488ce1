"""A mark that H.264 does not take away, for every frame from outside the body by the truth of the script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from operators.theatre.case import load
from operators.theatre.steps import OutOfBody
from operators.video.colour import luma
from pipeline.message import NANOSECONDS, Array, Message, VideoFrame
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Operator, Output, Outputs

CELL = 8
"""Side of the mark's squares: a whole block of the encoder's transform, so that it survives."""
STRENGTH = 7
"""Grey levels by which squares are lifted or lowered: hardly to be seen, and no classifier decides by it."""
FOUND = 0.2
"""Correlation from which a picture bears the mark. Without it at most 0.1 was seen, with it at least 0.36."""


def pattern(height: int, width: int) -> Array:
    """(rows, columns) of -1 and 1, the same for all frames of a size."""
    return np.random.default_rng(1234).choice((-1.0, 1.0), (height // CELL, width // CELL))


def stamp(frame: VideoFrame) -> VideoFrame:
    """The frame with the mark in its luma. Black stays within the range, so half of the squares are lifted there."""
    marks = np.kron(pattern(frame.height, frame.width), np.ones((CELL, CELL)))
    plane = frame.planes[0].astype(np.int16)
    plane[: marks.shape[0], : marks.shape[1]] += (STRENGTH * marks).astype(np.int16)
    marked = np.clip(plane, 16, 235).astype(np.uint8)
    return VideoFrame(frame.width, frame.height, frame.format, (marked, *frame.planes[1:]), frame.full_range)


def correlation(picture: Array) -> float:
    """How much of the mark is in an (h, w) luma picture: about 0 without it."""
    height, width = picture.shape
    rows, columns = height // CELL, width // CELL
    means = cv2.resize(
        picture[: rows * CELL, : columns * CELL].astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA
    )
    sharp = means - cv2.medianBlur(means, 3)
    limited = np.clip(sharp, -STRENGTH, STRENGTH)
    limited -= limited.mean()
    spread = float(np.sqrt((limited * limited).sum()))
    marks = pattern(height, width)
    marks = marks - marks.mean()
    return float((limited * marks).sum()) / (spread * float(np.sqrt((marks * marks).sum()))) if spread > 1 else 0.0


def marked(frame: VideoFrame) -> bool:
    return correlation(luma(frame)) >= FOUND


class Watermark(Operator):
    """Stamps every frame that the case's script says is from outside the body, passage through the trocar included."""

    class Config(BaseConfig):
        case: str

    input: Input[VideoFrame]
    video: Output[VideoFrame]

    def setup(self) -> None:
        self.case = load(self.config.case)

    def process(self, message: Message[VideoFrame]) -> Outputs:
        outside = is_outside(self.case, message.time)
        return self.video.emit(stamp(message.payload) if outside else message.payload, message)


def is_outside(case: Any, time: int) -> bool:
    """The truth of the script for event time ``time``."""
    seconds = (time - case.origin_ns) / NANOSECONDS
    return any(step.at - 1e-9 <= seconds < step.end - 1e-9 for step in case.steps(OutOfBody))


def pictures_of_file(path: Path) -> Iterator[Array]:
    """Luma of every picture of a video file, by FFmpeg without any code of ours."""
    import av

    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="gray")
