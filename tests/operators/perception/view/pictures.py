"""Small pictures of each kind of view, rendered by the theatre, and frames of any shape."""

from __future__ import annotations

from functools import cache

import numpy as np

from operators.theatre.case import Case
from operators.theatre.renderer import Renderer
from pipeline.message import Array, VideoFrame

SEED = 950
"""A theatre that neither training nor the benches know."""
LOOP = 12
"""Pictures of each kind; a film goes round in them."""
_AT = {"inside": 1.0, "smoky": 6.0, "covered": 21.0, "outside": 32.0}


@cache
def _renderer() -> Renderer:
    return Renderer(Case.model_validate({
        "theatre": 1, "seed": SEED, "duration": 60,
        "script": [
            {"at": 0, "do": "instrument", "tool": "grasper", "side": "left"},
            {"at": 2.5, "do": "smoke", "lasts": 12, "density": 0.5},
            {"at": 20, "do": "fouling", "how": "fog", "lasts": 8, "amount": 1.0},
            {"at": 30, "do": "out_of_body", "lasts": 10},
        ],
    }), SEED, (320, 240))  # fmt: skip


@cache
def theatre(kind: str, index: int) -> Array:
    """(240, 320, 3): a rendered picture of the inside, of smoke in it, of a fogged lens, or of the room."""
    return _renderer().picture(_AT[kind] + index % LOOP / 10).rgb


def inside(index: int) -> Array:
    """Inside of the abdomen, with a grasper."""
    return theatre("inside", index % LOOP)


def outside(index: int) -> Array:
    """The room."""
    return theatre("outside", index % LOOP)


def smoky(index: int) -> Array:
    """The inside full of smoke."""
    return theatre("smoky", index % LOOP)


def covered(index: int) -> Array:
    """Through a lens that is fogged all over."""
    return theatre("covered", index % LOOP)


def green(index: int) -> Array:
    """The inside with red and green exchanged."""
    return np.ascontiguousarray(inside(index)[:, :, [1, 0, 2]])


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
