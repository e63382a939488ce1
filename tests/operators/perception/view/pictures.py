"""Small made-up pictures of each kind of view, and frames of any shape."""

from __future__ import annotations

import numpy as np

from pipeline.message import Array, VideoFrame


def inside(index: int, size: tuple[int, int] = (160, 120)) -> Array:
    """(h, w, 3): red and yellow tissue with vessels that drifts, with a sensor's noise, in a round field."""
    return _scene(index, size, (0.95, 0.45, 0.38), (0.9, 0.66, 0.35))


def outside(index: int, size: tuple[int, int] = (160, 120)) -> Array:
    """(h, w, 3): blue drapes."""
    return _scene(index, size, (0.30, 0.45, 0.85), (0.35, 0.6, 0.8))


def smoky(index: int, size: tuple[int, int] = (160, 120)) -> Array:
    """``inside`` behind dense grey haze."""
    image = inside(index, size).astype(np.float64)
    lit = image.max(axis=2, keepdims=True) > 20
    return np.where(lit, 0.25 * image + 0.75 * np.array([168, 166, 172]), image).astype(np.uint8)


def green(index: int, size: tuple[int, int] = (160, 120)) -> Array:
    """``inside`` with red and green confused: a colour fault."""
    return np.ascontiguousarray(inside(index, size)[:, :, [1, 0, 2]])


def _scene(index: int, size: tuple[int, int], one: tuple[float, ...], two: tuple[float, ...]) -> Array:
    width, height = size
    y, x = np.mgrid[0:height, 0:width] * (120 / height)
    base = 130 + 55 * np.sin((x + 3 * index) / 9) + 45 * np.cos((y - 2 * index) / 6) + 30 * np.sin((x - y) / 2.5)
    mix = (0.5 + 0.5 * np.sin((x + y + index) / 23))[..., None]
    base = base + np.random.default_rng(index).normal(0, 3, (height, width))
    image = base[..., None] * (mix * np.array(one) + (1 - mix) * np.array(two))
    field = np.hypot(x - 60 * width / height, y - 60) < 62
    return np.clip(image * field[..., None], 0, 255).astype(np.uint8)


def random_frame(width: int, height: int, form: str, kind: str, strided: bool, seed: int) -> VideoFrame:
    """A whole frame of any size and content; ``strided`` ones are views into larger memory, as decoders give."""
    random = np.random.default_rng(seed)

    def plane(*shape: int) -> Array:
        whole = (shape[0] * 2, shape[1] + 7, *shape[2:]) if strided else shape
        if kind == "noise":
            memory = random.integers(0, 256, whole, np.uint8)
        else:
            memory = np.full(whole, {"flat": int(random.integers(256)), "black": 0, "white": 255}[kind], np.uint8)
        return memory[::2, : shape[1]] if strided else memory

    rows, columns = (height + 1) // 2, (width + 1) // 2
    planes = {
        "yuv420p": lambda: (plane(height, width), plane(rows, columns), plane(rows, columns)),
        "nv12": lambda: (plane(height, width), plane(rows, columns, 2)),
        "rgb24": lambda: (plane(height, width, 3),),
        "gray": lambda: (plane(height, width),),
    }[form]()
    return VideoFrame(width, height, form, planes, full_range=bool(seed & 1))  # type: ignore[arg-type]
