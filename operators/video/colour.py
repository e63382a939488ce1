"""Colour of frames: planes to RGB and back, with the matrix and the range that the picture was made with.

A frame says its range but not its matrix. As every player does, pictures of 720 lines and more are taken as BT.709
and smaller ones as BT.601 (ITU-R BT.709-6 and BT.601-7, section 3 of both: the luma coefficients used here).
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from pipeline.message import Array, PixelFormat, VideoFrame

HIGH_DEFINITION = 720
"""Lines from which a picture is BT.709."""
COEFFICIENTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
"""Share of red and of blue in luma; green has the rest."""


def matrix_of(height: int) -> str:
    """``bt709`` or ``bt601``, for a picture of ``height`` lines."""
    return "bt709" if height >= HIGH_DEFINITION else "bt601"


@lru_cache
def to_rgb_matrix(matrix: str, full_range: bool) -> Array:
    """(3, 4) float64: RGB in 0..255 from Y, Cb, Cr in 0..255 and 1."""
    red, blue = COEFFICIENTS[matrix]
    green = 1 - red - blue
    luma, chroma, black = (1.0, 1.0, 0.0) if full_range else (255 / 219, 255 / 224, 16.0)
    cr_red, cb_blue = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
    cb_green, cr_green = -cb_blue * blue / green, -cr_red * red / green
    gains = np.array([[luma, 0, cr_red], [luma, cb_green, cr_green], [luma, cb_blue, 0]])
    return np.column_stack([gains, -gains @ np.array([black, 128.0, 128.0])])


@lru_cache
def from_rgb_matrix(matrix: str, full_range: bool) -> Array:
    """(3, 4) float64, the inverse of ``to_rgb_matrix``."""
    forward = to_rgb_matrix(matrix, full_range)
    gains = np.linalg.inv(forward[:, :3])
    return np.column_stack([gains, -gains @ forward[:, 3]])


def rgb(frame: VideoFrame) -> Array:
    """The picture as (h, w, 3) uint8 RGB, rounded and clipped; for ``rgb24`` the plane itself, without a copy."""
    if frame.format == "rgb24":
        return frame.planes[0]
    if frame.format == "gray":
        plane = luma(frame)
        return np.repeat(plane[:, :, None], 3, axis=2)
    cb, cr = chroma(frame)
    size = (frame.width, frame.height)
    whole = cv2.merge([np.ascontiguousarray(frame.planes[0]), _double(cb, size), _double(cr, size)])
    return cv2.transform(whole, to_rgb_matrix(matrix_of(frame.height), frame.full_range))


def luma(frame: VideoFrame) -> Array:
    """Brightness as (h, w) uint8, 0 black and 255 white whatever the picture's range."""
    if frame.format == "rgb24":
        full = from_rgb_matrix(matrix_of(frame.height), True)
        return cv2.transform(np.ascontiguousarray(frame.planes[0]), full[:1])
    plane = frame.planes[0]
    return plane if frame.full_range or frame.format == "gray" else _STRETCH[plane]


def chroma(frame: VideoFrame) -> tuple[Array, Array]:
    """Cb and Cr as they are in the frame, (ceil(h/2), ceil(w/2)) uint8, views. Only for yuv420p and nv12."""
    if frame.format == "nv12":
        return frame.planes[1][:, :, 0], frame.planes[1][:, :, 1]
    if frame.format == "yuv420p":
        return frame.planes[1], frame.planes[2]
    raise ValueError(f"a picture in {frame.format} has no planes of chroma")


def from_rgb(image: Array, form: PixelFormat = "yuv420p", *, full_range: bool = False) -> VideoFrame:
    """A frame of (h, w, 3) uint8 RGB, in the asked format. Chroma is the mean of each 2 by 2 pixels."""
    height, width = image.shape[:2]
    image = np.ascontiguousarray(image, np.uint8)
    if form == "rgb24":
        return VideoFrame(width, height, form, (image,), True)
    if form == "gray":
        return VideoFrame(
            width, height, form, (cv2.transform(image, from_rgb_matrix(matrix_of(height), True)[:1]),), True
        )
    whole = cv2.transform(image, from_rgb_matrix(matrix_of(height), full_range))
    even = cv2.copyMakeBorder(whole, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    half = cv2.resize(even, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    brightness = np.ascontiguousarray(whole[:, :, 0])
    if form == "nv12":
        return VideoFrame(width, height, form, (brightness, np.ascontiguousarray(half[:, :, 1:])), full_range)
    planes = (brightness, np.ascontiguousarray(half[:, :, 1]), np.ascontiguousarray(half[:, :, 2]))
    return VideoFrame(width, height, form, planes, full_range)


def _double(plane: Array, size: tuple[int, int]) -> Array:
    """Chroma at the size of luma: repeated, as decoders' fast paths do, then cut to an odd size."""
    whole = cv2.resize(plane, (plane.shape[1] * 2, plane.shape[0] * 2), interpolation=cv2.INTER_NEAREST)
    return whole[: size[1], : size[0]]


_STRETCH = np.clip(np.round((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)
"""Luma of 16..235 to 0..255."""
