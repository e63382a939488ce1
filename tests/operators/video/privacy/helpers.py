"""Guards that decide by a number in the picture, and frames that carry it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from operators.video.privacy import PrivacyGuard, uniform
from operators.video.privacy.classify import Classifier
from operators.video.privacy.text import TextConfig
from pipeline.message import Message, VideoFrame

MS = 1_000_000
SECOND = 1_000_000_000
INSIDE, OUTSIDE, RAISES, NAN, SLOW = 240, 60, 101, 102, 241
"""Brightness of the first pixel, and what the classifier does about it."""


def by_number(frame: VideoFrame) -> float:
    value = int(frame.planes[0][0, 0])
    if value == RAISES:
        raise RuntimeError("patient Smith, John: no answer")
    if value == NAN:
        return float("nan")
    if value == SLOW:
        time.sleep(0.02)
    return value / 255


class NumberGuard(PrivacyGuard):
    """The guard with a classifier that the tests can steer."""

    def load_classifier(self) -> Classifier:
        return by_number


def picture(value: int, size: tuple[int, int] = (32, 24), form: str = "yuv420p", **fields: Any) -> VideoFrame:
    """A frame that the classifier takes for ``value`` and that is not of one colour."""
    width, height = size
    luma = np.full((height, width), 200, np.uint8)
    luma[:, ::4] = 180
    luma[0, 0] = value
    half = ((height + 1) // 2, (width + 1) // 2)
    planes = (luma, np.full(half, 110, np.uint8), np.full(half, 160, np.uint8))
    return VideoFrame(width, height, form, planes, **fields)  # type: ignore[arg-type]


def stream(
    values: Sequence[int], *, step: int = 40 * MS, start: int = 0, origin: Any = "recorded", first: int = 0
) -> list[Message[VideoFrame]]:
    """Frames of these values, evenly spaced."""
    return [
        Message("scope.video", start + i * step, first + i, picture(value), origin) for i, value in enumerate(values)
    ]


def guard(**options: Any) -> NumberGuard:
    """A guard with short times and without text, to be set by frames alone."""
    given = {
        "frames_to_open": 3, "open_seconds": 0.0, "delay_frames": 2, "delay_seconds": 0.0, "gap_seconds": 1.0,
        "text": TextConfig(redact="none"), **options,
    }  # fmt: skip
    return NumberGuard(name="privacy", **given)


def videos(messages: list[Message[Any]]) -> list[Message[VideoFrame]]:
    return [m for m in messages if m.stream.startswith("privacy.video")]


def shown(messages: list[Message[Any]]) -> list[int]:
    """Sequences of the frames that show something."""
    return [m.sequence for m in videos(messages) if not uniform(m.payload)]
