"""Overlays of other looks than the real ones: many are missed, none is read wrongly. All of it is simulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from operators.perception.overlay import Overlay, drawn, layout
from operators.perception.overlay.drawn import Style
from operators.perception.overlay.grammar import Kind
from operators.perception.overlay.models import Finder, Reader
from operators.perception.overlay.reader import Memory, read
from operators.perception.overlay.strokes import brightest
from operators.video.colour import from_rgb
from operators.video.file import VideoReader
from pipeline.message import Numeric
from pipeline.testing import run_operator
from tests.operators.perception.overlay.screens import body
from tests.operators.video.clips import encode


def count(styles: int, seed: int) -> tuple[int, list[str], int]:
    """Numbers read right, faults in words, and numbers in all, of three pictures of each look."""
    random, reader = np.random.default_rng(seed), Reader()
    finder = Finder(reader)
    right, total, faults = 0, 0, []
    for _ in range(styles):
        style = drawn.sample(random)
        known: layout.Layout | None = None
        for _ in range(3):
            scene = drawn.ground(random, body(int(random.integers(6))))
            pressure, flow = int(random.integers(0, 31)), round(float(random.uniform(0, 30)), 1)
            image = drawn.pressed(drawn.draw(scene, style, pressure, flow), random)
            bright = brightest(from_rgb(image))
            known = known if known is not None and known.fields else layout.search(bright, finder)[0]
            truth: tuple[tuple[Kind, float], ...] = (("patient_pressure", pressure), ("gas_flow", flow))
            for kind, true in truth:
                field = known.field(kind)
                reading = read(bright, field, reader, Memory()) if field is not None else None
                total += 1
                right += reading is not None and reading.value == true
                if reading is not None and reading.value != true:
                    faults.append(f"{style} {kind}: {true} read as {reading}")
    return right, faults, total


def test_a_few_other_looks_are_read_and_none_wrongly() -> None:
    right, faults, total = count(6, seed=5)
    assert faults == []
    assert right >= 0.5 * total


@pytest.mark.slow
def test_many_other_looks_are_read_and_none_wrongly() -> None:
    right, faults, total = count(100, seed=6)
    assert faults == []
    assert right >= 0.7 * total


@pytest.mark.slow
def test_an_overlay_through_h264_is_read_and_none_wrongly(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    shown, images = [], []
    for second in range(12):
        pressure, flow = int(random.integers(0, 31)), round(float(random.uniform(0, 14)), 1)
        shown.append({"Overlay/PATIENT_PRESSURE": float(pressure), "Overlay/GAS_FLOW": flow})
        images += [drawn.draw(body(second % 6), Style(), pressure, flow)] * 5
    path = encode(tmp_path / "overlay.mp4", images=images, rate=5, options={"crf": "28"})
    said = run_operator(Overlay(name="overlay"), list(VideoReader(path).messages()))
    first = min(message.time for message in said)
    read_values = [
        (round((message.time - first) / 1e9), message.payload)
        for message in said if isinstance(message.payload, Numeric)
    ]  # fmt: skip
    assert [
        f"{second} {numeric}" for second, numeric in read_values if numeric.value != shown[second][numeric.channel]
    ] == []
    assert len(read_values) >= 16
