"""The operator: masks that replay exactly, a rate in event time, and an abstention where it cannot say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operators.perception.segment import Segment, scenes
from operators.perception.segment.evaluate import dice
from operators.perception.segment.prompts import CLASSES, PROMPTS, digest
from operators.video.colour import from_rgb
from pipeline.errors import VigilError
from pipeline.message import Abstain, Array, Event, Mask, Message, VideoFrame
from pipeline.testing import run_operator

MS = 1_000_000


def video(images: list[Array], period: int = 100, form: Any = "yuv420p") -> list[Message[VideoFrame]]:
    return [
        Message("theatre.video", index * period * MS, index, from_rgb(image, form), "simulated")
        for index, image in enumerate(images)
    ]


def split(said: list[Message[Any]]) -> tuple[list[Message[Mask]], list[Message[Event]], list[Message[Abstain]]]:
    kinds = (Mask, Event, Abstain)
    return tuple([m for m in said if isinstance(m.payload, kind)] for kind in kinds)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def pictures() -> list[scenes.Sample]:
    """Three pictures of a world that nothing was trained on, with instruments in them."""
    return [sample for _, sample in scenes.pictures((4290,), 4) if sample.masks[0].mean() > 0.004][:3]


@pytest.fixture(scope="module")
def segment() -> Segment:
    operator = Segment(name="segment")
    operator.setup()
    return operator


def test_masks_have_the_pinned_classes_and_find_the_instrument(pictures: list[scenes.Sample]) -> None:
    masks, facts, _ = split(run_operator(Segment(name="segment"), video([p.image for p in pictures], form="rgb24")))
    assert len(masks) == len(facts) == len(pictures)
    for mask, fact, picture in zip(masks, facts, pictures, strict=True):
        assert mask.payload.classes == CLASSES
        assert mask.payload.labels.shape == (224, 224)
        assert mask.payload.labels.dtype == np.uint8
        assert mask.payload.confidence is not None
        assert mask.payload.confidence.dtype == np.float32
        assert mask.payload.confidence.min() >= 0
        assert mask.payload.confidence.max() <= 1
        assert mask.origin == "simulated"
        assert dice(mask.payload.labels == 1, picture.masks[0]) > 0.5
        assert fact.payload.data["prompts"] == digest()
        for name in PROMPTS:
            found = fact.payload.data["classes"][name]
            assert 0 <= found["information"] <= found["entropy"] <= math.log(2)


def test_a_replay_gives_the_same_masks_bit_for_bit_wherever_it_begins(pictures: list[scenes.Sample]) -> None:
    messages = video([p.image for p in pictures])
    one, two = (split(run_operator(Segment(name="s"), messages))[0] for _ in range(2))
    late = split(run_operator(Segment(name="s"), messages[1:]))[0]
    for a, b in (*zip(one, two, strict=True), *zip(one[1:], late, strict=True)):
        assert np.array_equal(a.payload.labels, b.payload.labels)
        assert np.array_equal(a.payload.confidence, b.payload.confidence)  # type: ignore[arg-type]
    other = split(run_operator(Segment(name="s", seed=1), messages))[0]
    assert not np.array_equal(one[0].payload.confidence, other[0].payload.confidence)  # type: ignore[arg-type]


def test_pictures_are_let_go_in_event_time(pictures: list[scenes.Sample]) -> None:
    messages = video([pictures[0].image] * 12, period=33)
    masks, _, _ = split(run_operator(Segment(name="s", every=0.1, samples=0), messages))
    assert [mask.time // MS for mask in masks] == [0, 99, 198, 297]


def test_an_unsure_class_is_left_out_and_said(pictures: list[scenes.Sample], segment: Segment) -> None:
    assert segment._model is not None
    strict = Segment(name="strict")
    strict.setup()
    strict._model = segment._model._replace(metadata={**segment._model.metadata, "abstain_entropy": "0.0001"})
    masks, facts, abstentions = split(list(strict.process(video([pictures[0].image])[0])))  # type: ignore[arg-type]
    assert not (masks[0].payload.labels == 1).any()
    assert facts[0].payload.data["classes"]["instrument"]["abstained"]
    assert abstentions[0].payload.reason == "uncertain"
    assert "instrument" in abstentions[0].payload.detail


def test_damaged_and_tiny_pictures_get_an_abstention(segment: Segment) -> None:
    segment.load_state({})
    damaged = VideoFrame(64, 64, "gray", (np.zeros((64, 64), np.uint8),), True, True)
    tiny = VideoFrame(8, 8, "gray", (np.zeros((8, 8), np.uint8),), True)
    for index, frame in enumerate((damaged, tiny)):
        said = segment.process(Message("v", index * 1000 * MS, index, frame))
        assert isinstance(said, Message)
        assert isinstance(said.payload, Abstain)


def test_a_restart_keeps_the_rate(segment: Segment, pictures: list[scenes.Sample]) -> None:
    segment.load_state({})
    first, second = video([pictures[0].image] * 2, period=50)
    assert segment.process(first)
    segment.load_state(segment.state())
    assert segment.process(second) is None


def test_missing_weights_are_named(tmp_path: Any) -> None:
    with pytest.raises(VigilError, match="no weights"):
        Segment(name="s", weights=tmp_path / "none.safetensors").setup()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(32, 90), st.integers(32, 90), st.sampled_from(["rgb24", "yuv420p", "nv12", "gray"]),
       st.integers(0, 2**31))  # fmt: skip
def test_any_picture_gets_a_finite_answer(segment: Segment, width: int, height: int, form: Any, seed: int) -> None:
    segment.load_state({})
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    if seed % 3 == 0:
        image[:] = seed % 256
    masks, facts, _ = split(list(segment.process(video([image], form=form)[0])))  # type: ignore[arg-type]
    assert np.isfinite(masks[0].payload.confidence).all()  # type: ignore[arg-type]
    assert masks[0].payload.labels.max() < len(CLASSES)
    assert all(0 <= c["entropy"] <= 0.6932 for c in facts[0].payload.data["classes"].values())
