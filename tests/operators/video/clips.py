"""Synthetic video whose pictures say their own number, so that order and completeness are read from content."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from operators.video.colour import luma, rgb
from pipeline.message import Array, Message, VideoFrame

WIDTH, HEIGHT = 96, 64


def numbered(index: int) -> Array:
    """(64, 96, 3) uint8 RGB: twelve bits of ``index`` as bright and dark squares over a moving background."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:, :, 0] = 90 + (np.arange(WIDTH) * 2 + index * 5) % 40
    image[:, :, 1] = 80
    for bit in range(12):
        row, column = divmod(bit, 6)
        image[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = 230 if index >> bit & 1 else 20
    return image


def number(frame: VideoFrame) -> int:
    """The index that ``numbered`` wrote."""
    picture = luma(frame)
    places = [(divmod(bit, 6)) for bit in range(12)]
    return sum(int(picture[r * 16 + 4 : r * 16 + 12, c * 16 + 4 : c * 16 + 12].mean() > 128) << bit
               for bit, (r, c) in enumerate(places))  # fmt: skip


def encode(path: Path, count: int = 20, *, milliseconds: Sequence[int] | None = None, images: list[Array] | None = None,
           rate: int = 25, options: dict[str, str] | None = None) -> Path:  # fmt: skip
    """Write H.264 with B-frames; ``milliseconds`` are the pictures' times, evenly spaced where not given."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        images = images if images is not None else [numbered(index) for index in range(count)]
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = 10
        stream.options = {"preset": "ultrafast", "bf": "2", "crf": "12", "threads": "1", **(options or {})}
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = milliseconds[index] if milliseconds is not None else index * 1000 // rate
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def pictures_of(
    frames: list[VideoFrame], *, rate: int = 25, stream: str = "camera.video/video"
) -> list[Message[VideoFrame]]:
    """Frames as a recorded stream's messages, evenly spaced from time 0."""
    step = 1_000_000_000 // rate
    return [Message(stream, index * step, index, frame, "recorded") for index, frame in enumerate(frames)]


__all__ = ["HEIGHT", "WIDTH", "encode", "number", "numbered", "pictures_of", "rgb"]
