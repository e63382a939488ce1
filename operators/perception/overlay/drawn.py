"""Drawn overlays: what an insufflator's overlay may look like elsewhere, for tests and benches. All of it is simulated.

Fonts, sizes, places, colours, outlines and the labels' words vary, and numbers run over all that a device can show;
the ground is the simulated theatre's picture, black, bright or blue. Figures made on it say so.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.message import Array

SIZES = ((1280, 720), (1920, 1080), (960, 540))
WORDS = (
    ("Actual gas flow", "Patient pressure"), ("Gas flow", "Patient pressure"), ("Actual flow", "Actual pressure"),
    ("CO2 flow", "Abdominal pressure"),
)  # fmt: skip
HERSHEY = {"simplex": cv2.FONT_HERSHEY_SIMPLEX, "duplex": cv2.FONT_HERSHEY_DUPLEX, "complex": cv2.FONT_HERSHEY_COMPLEX}
COLOURS = ((60, 255, 80), (255, 255, 255), (255, 230, 60), (120, 220, 255))


@dataclasses.dataclass(frozen=True)
class Style:
    """How one overlay looks. Sizes are pixels of a picture 720 lines high, and scale with it."""

    font: str = "DejaVuSans"
    """A Hershey font of OpenCV, ``default`` for the one inside Pillow, or the name of a DejaVu file."""
    tall: int = 15
    colour: tuple[int, int, int] = (60, 255, 80)
    outline: bool = True
    corner: tuple[float, float] = (0.05, 0.91)
    """Left end of the upper line, share of the picture."""
    words: tuple[str, str] = WORDS[0]
    colon: bool = False
    size: tuple[int, int] = (1280, 720)


def fonts() -> list[str]:
    """Names of the fonts that can be drawn here, always the same ones first."""
    names = [*HERSHEY, "default"]
    return names + [name for name in ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif") if _file(name)]


def sample(random: np.random.Generator) -> Style:
    """A style at random."""
    fonts_here = fonts()
    return Style(
        fonts_here[int(random.integers(len(fonts_here)))], int(random.integers(13, 27)),
        COLOURS[int(random.integers(len(COLOURS)))], bool(random.random() < 0.8),
        (float(random.uniform(0.02, 0.45)), float(random.uniform(0.03, 0.88))),
        WORDS[int(random.integers(len(WORDS)))], bool(random.random() < 0.3), SIZES[int(random.integers(len(SIZES)))],
    )  # fmt: skip


def draw(ground: Array, style: Style, pressure: int | None, flow: float | None, message: str = "") -> Array:
    """The overlay over a ground of any size, as (h, w, 3) uint8 RGB of the style's size; None leaves a line out."""
    width, height = style.size
    image = cv2.resize(ground, (width, height), interpolation=cv2.INTER_LINEAR)
    scale = height / 720
    tall = round(style.tall * scale)
    x, y = round(style.corner[0] * width), round(style.corner[1] * height)
    colon = ":" if style.colon else ""
    if flow is not None:
        number = f"{flow:.1f}".removesuffix(".0")
        _line(image, (x, y), (f"{style.words[0]}{colon} ", number, " l/min"), style, tall)
    if pressure is not None:
        _line(image, (x, y + round(2.2 * tall)), (f"{style.words[1]}{colon} ", f"{pressure}", " mmHg"), style, tall)
    if message:
        white = dataclasses.replace(style, colour=(255, 255, 255))
        big = round(1.4 * tall)
        wide = _width(message, style, big)
        _line(image, ((width - wide) // 2, y + round(1.1 * tall) - big // 4), (message, "", ""), white, big)
    return image


def _line(image: Array, at: tuple[int, int], parts: tuple[str, str, str], style: Style, tall: int) -> None:
    x, y = at
    for text, colour in zip(parts, ((255, 255, 255), style.colour, (255, 255, 255)), strict=True):
        if text:
            put(image, text, (x, y), colour, style, tall)
            x += _width(text, style, tall)


def put(image: Array, text: str, at: tuple[int, int], colour: tuple[int, int, int], style: Style, tall: int) -> None:
    """Draw a text into the picture, its left end and the top of its tallest letter at ``at``, ``tall`` pixels high."""
    edge = 1 if style.outline else 0
    if style.font in HERSHEY:
        font, size = HERSHEY[style.font], tall / 30
        thick = max(1, round(tall / 14))
        base = (at[0], at[1] + round(0.75 * tall))
        if edge:
            cv2.putText(image, text, base, font, size, (0, 0, 0), thick + 2, cv2.LINE_AA)
        cv2.putText(image, text, base, font, size, colour, thick, cv2.LINE_AA)
        return
    from PIL import Image, ImageDraw

    page = Image.fromarray(image)
    ImageDraw.Draw(page).text(at, text, fill=colour, font=_font(style.font, tall), stroke_width=edge,
                              stroke_fill=(0, 0, 0))  # fmt: skip
    # The stroke grows outwards: the letters themselves stay as wide as without it.
    ImageDraw.Draw(page).text(at, text, fill=colour, font=_font(style.font, tall))
    image[:] = np.asarray(page)


def _width(text: str, style: Style, tall: int) -> int:
    if style.font in HERSHEY:
        (wide, _), _ = cv2.getTextSize(text, HERSHEY[style.font], tall / 30, max(1, round(tall / 14)))
        return int(wide)
    return round(_font(style.font, tall).getlength(text))


@functools.lru_cache(64)
def _font(name: str, tall: int) -> Any:
    from PIL import ImageFont

    file = _file(name)
    return ImageFont.truetype(str(file), tall) if file else ImageFont.load_default(tall)


@functools.cache
def _file(name: str) -> Path | None:
    """A DejaVu file of the system's or of matplotlib's, if there is one."""
    folders = [Path("/usr/share/fonts/truetype/dejavu")]
    spec = importlib.util.find_spec("matplotlib")
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf")
    return next((folder / f"{name}.ttf" for folder in folders if (folder / f"{name}.ttf").is_file()), None)


def ground(random: np.random.Generator, scene: Array | None = None) -> Array:
    """A ground to draw on: the scene with a round mask, bare, darkened, or one even colour."""
    kind = int(random.integers(5))
    if scene is None or kind == 4:
        colour = ((0, 0, 0), (82, 140, 206), (150, 120, 90))[int(random.integers(3))]
        return np.full((360, 640, 3), colour, np.uint8)
    if kind == 0:
        return scene
    height, width = scene.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (width // 2, height // 2), round(0.42 * width), 1, -1)
    return scene * mask[:, :, None] if kind < 3 else (scene * 0.4).astype(np.uint8)


def pressed(image: Array, random: np.random.Generator) -> Array:
    """The picture, (h, w, 3) uint8 RGB; half of the pictures go through JPEG of quality 60 to 95 first."""
    if random.random() >= 0.5:
        return image
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(60, 95))]
    return cv2.imdecode(cv2.imencode(".jpg", image[:, :, ::-1], quality)[1], cv2.IMREAD_COLOR)[:, :, ::-1]
