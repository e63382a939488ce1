"""Frames that show nothing: the same size, format and range as the frame they stand for, and none of its pixels."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from pipeline.message import Array, PixelFormat, VideoFrame

Fill = Literal["black", "grey", "mean"]
"""``black`` tells nothing; ``grey`` neither, and is no black picture to rules that look for one; ``mean`` is the mean
colour of the frame, as in OoBNet (Lavanchy et al. 2023): one colour for the whole picture."""

LARGEST = 16_384
"""Longest side of a picture, pixels."""
LARGEST_UNSOUND = 1_920
"""Longest side of what stands for a frame that is not whole: its word for its size may be nonsense."""
CHANNELS: dict[str, tuple[int, ...]] = {"yuv420p": (1, 1, 1), "nv12": (1, 2), "rgb24": (3,), "gray": (1,)}
"""Channels of each plane."""


def shapes(width: int, height: int, form: PixelFormat) -> tuple[tuple[int, ...], ...]:
    """Shapes of the planes of a picture."""
    half = (height + 1) // 2, (width + 1) // 2
    return {
        "yuv420p": ((height, width), half, half), "nv12": ((height, width), (*half, 2)),
        "rgb24": ((height, width, 3),), "gray": ((height, width),),
    }[form]  # fmt: skip


def sound(frame: VideoFrame) -> bool:
    """Whether planes have the shapes and type that the frame says."""
    if frame.format not in CHANNELS or not (0 < frame.width <= LARGEST and 0 < frame.height <= LARGEST):
        return False
    found = tuple(plane.shape if isinstance(plane, np.ndarray) else () for plane in frame.planes)
    return found == shapes(frame.width, frame.height, frame.format) and all(p.dtype == np.uint8 for p in frame.planes)


def blanked(frame: VideoFrame, fill: Fill = "black") -> VideoFrame:
    """A frame of one colour in place of ``frame``; shares no memory with it.

    A frame that is not ``sound`` is answered in black, in yuv420p where its format is unknown, its size cut to what
    can be.
    """
    whole = sound(frame)
    form: PixelFormat = frame.format if frame.format in CHANNELS else "yuv420p"
    width, height = (
        max(1, min(int(side), LARGEST if whole else LARGEST_UNSOUND)) for side in (frame.width, frame.height)
    )
    full = bool(frame.full_range)
    values = mean(frame) if whole and fill == "mean" else _neutral(form, full, fill == "grey")
    return VideoFrame(width, height, form, _planes(width, height, form, values), full)


def mean(frame: VideoFrame) -> tuple[tuple[int, ...], ...]:
    """The mean of each channel of each plane, rounded."""
    return tuple(
        tuple(round(float(v)) for v in np.atleast_1d(plane.reshape(-1, channels).mean(axis=0)))
        for plane, channels in zip(frame.planes, CHANNELS[frame.format], strict=True)
    )


def uniform(frame: VideoFrame) -> bool:
    """Whether the picture is of one colour to the last bit, as blanked frames are and camera's pictures are not.

    For what stands behind the guard and has to tell a blanked frame; looks at 16 lines first.
    """
    for plane in frame.planes:
        first = plane[0, 0]
        if (plane[:: max(1, plane.shape[0] // 16)] != first).any() or (plane != first).any():
            return False
    return True


def _neutral(form: PixelFormat, full: bool, grey: bool) -> tuple[tuple[int, ...], ...]:
    level = 96 if grey else 0
    if form == "rgb24":
        return ((level, level, level),)
    if form == "gray":
        return ((level,),)
    luma = level if full else 16 + round(level * 219 / 255)
    return ((luma,), (128,), (128,)) if form == "yuv420p" else ((luma,), (128, 128))


@lru_cache(maxsize=8)
def _planes(width: int, height: int, form: PixelFormat, values: tuple[tuple[int, ...], ...]) -> tuple[Array, ...]:
    """Made once for all frames that are blanked alike: read-only."""
    made = []
    for shape, value in zip(shapes(width, height, form), values, strict=True):
        plane = np.empty(shape, np.uint8)
        plane[...] = value[0] if len(value) == 1 else value
        plane.flags.writeable = False
        made.append(plane)
    return tuple(made)
