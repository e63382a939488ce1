"""Five real polyps: that pictures of a real scope load and get sane answers. Nothing here was trained on polyps."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from operators.perception.segment import Segment
from operators.perception.segment.prompts import CLASSES
from operators.video.colour import from_rgb
from operators.video.file import VideoReader
from pipeline.message import Array, Event, Mask, Message
from pipeline.testing import run_operator

pytestmark = pytest.mark.real


def polyps(folder: Path) -> list[tuple[Array, Array]]:
    found = []
    for path in sorted((folder / "polyps" / "Kvasir-SEG" / "images").glob("*.jpg")):
        image, mask = cv2.imread(str(path)), cv2.imread(str(path.parents[1] / "masks" / path.name), 0)
        assert image is not None
        assert mask is not None
        assert image.shape[:2] == mask.shape
        found.append((image[:, :, ::-1], mask > 127))
    return found


def test_polyps_load_with_their_masks(shared_data: Path) -> None:
    found = polyps(shared_data)
    assert len(found) == 5
    assert all(0.01 < mask.mean() < 0.8 for _, mask in found)


def test_real_pictures_get_sane_answers(shared_data: Path) -> None:
    messages = [
        Message("scope.video", index * 1_000_000_000, index, from_rgb(image), "recorded")
        for index, (image, _) in enumerate(polyps(shared_data))
    ]
    said = run_operator(Segment(name="segment", samples=4), messages)
    masks = [m.payload for m in said if isinstance(m.payload, Mask)]
    facts = [m.payload.data["classes"] for m in said if isinstance(m.payload, Event)]
    assert len(masks) == len(facts) == 5
    for mask, fact in zip(masks, facts, strict=True):
        assert mask.labels.shape == (224, 224)
        assert np.isfinite(mask.confidence).all()  # type: ignore[arg-type]
        assert set(fact) == set(CLASSES[1:])
        assert all(0 <= found["entropy"] <= math.log(2) + 1e-4 for found in fact.values())
        # The inside of a bowel is mostly none of the three, whatever a model of rendered pictures makes of it.
        assert (mask.labels == CLASSES.index("instrument")).mean() < 0.5


def test_the_real_clip_replays_bit_for_bit(shared_data: Path) -> None:
    messages = list(VideoReader(shared_data / "laparoscopy_clip" / "endo.mp4").messages())[:100:25]
    one, two = (
        [m.payload for m in run_operator(Segment(name="s"), messages) if isinstance(m.payload, Mask)] for _ in range(2)
    )
    assert len(one) == 4
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(one, two, strict=True))
