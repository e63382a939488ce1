"""Black, blue, frozen and noise are told; a living picture, a short fault and a flicker are not."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from operators.video.colour import from_rgb
from operators.video.file import VideoReader
from operators.video.signal import VideoSignal
from pipeline.message import Array, Message, VideoFrame
from pipeline.testing import run_operator
from tests.operators.video.clips import encode, numbered, pictures_of

SECOND = 1_000_000_000


def moving(index: int) -> Array:
    """(120, 160, 3): a soft scene that drifts, with a sensor's noise."""
    y, x = np.mgrid[0:120, 0:160]
    base = 120 + 60 * np.sin((x + 3 * index) / 17) + 30 * np.cos((y - index) / 11)
    noise = np.random.default_rng(index).normal(0, 3, (120, 160))
    red = np.clip(base + noise, 0, 255)
    return np.stack([red, red * 0.6, red * 0.5], axis=2).astype(np.uint8)


def fault(kind: str, index: int) -> Array:
    if kind == "black":
        return np.full((120, 160, 3), 4, np.uint8)
    if kind == "blue":
        image = np.zeros((120, 160, 3), np.uint8)
        image[:] = (20, 20, 200)
        image[50:60, 60:100] = 230  # the words "no input"
        return image
    if kind == "noise":
        return np.repeat(np.random.default_rng(index).integers(0, 256, (120, 160, 1)), 3, axis=2).astype(np.uint8)
    return moving(100)


def scene(kind: str, begin: int, end: int, count: int, form: str = "yuv420p") -> list[Message[VideoFrame]]:
    images = (fault(kind, i) if begin <= i < end else moving(i) for i in range(count))
    return pictures_of([from_rgb(image, form) for image in images])  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["yuv420p", "nv12", "rgb24"])
@pytest.mark.parametrize("kind", ["black", "blue", "noise", "frozen"])
def test_a_lasting_fault_is_told_once_with_its_interval(kind: str, form: str) -> None:
    said = [message.payload for message in run_operator(VideoSignal(name="signal"), scene(kind, 50, 225, 300, form))]
    assert [(c.code, c.present, c.onset, c.subject) for c in said] == [
        (f"video_{kind}", True, 2 * SECOND, "camera.video/video"),
        (f"video_{kind}", False, 2 * SECOND, "camera.video/video"),
    ]
    assert said[1].ended == 9 * SECOND
    assert said[0].evidence[0].frame == 50
    assert said[0].kind == "technical"


def test_two_cameras_of_one_rule_are_two_subjects() -> None:
    black = scene("black", 0, 100, 100)
    other = [msgspec.structs.replace(message, stream="second.video/video") for message in black]
    mixed = [message for pair in zip(black, other, strict=True) for message in pair]
    said = [message.payload for message in run_operator(VideoSignal(name="signal"), mixed)]
    assert {c.subject for c in said if c.present} == {"camera.video/video", "second.video/video"}


@pytest.mark.parametrize("kind", ["black", "blue", "noise", "frozen"])
def test_a_short_fault_is_not_told_but_the_baseline_tells_it(kind: str) -> None:
    messages = scene(kind, 50, 75, 150)
    assert run_operator(VideoSignal(name="signal"), messages) == []
    assert run_operator(VideoSignal(name="signal", baseline=True), messages) != []


def test_a_gap_shorter_than_the_clearing_time_does_not_end_it() -> None:
    images = [fault("black", i) if 25 <= i < 200 and not 100 <= i < 110 else moving(i) for i in range(275)]
    said = run_operator(VideoSignal(name="signal"), pictures_of([from_rgb(image) for image in images]))
    assert [message.payload.present for message in said] == [True, False]
    assert said[1].payload.ended == 8 * SECOND


def test_a_value_between_the_limits_stays_what_it_was() -> None:
    def half(share: float) -> Array:
        image = np.full((120, 160, 3), 4, np.uint8)
        image[:, : round(160 * (1 - share))] = 200
        return image

    shares = [0.5] * 25 + [1.0] * 60 + [0.965] * 100 + [0.5] * 60
    frames = [from_rgb(half(share)) for share in shares]
    said = [m.payload for m in run_operator(VideoSignal(name="signal"), pictures_of(frames))]
    black = [(c.present, c.ended) for c in said if c.code == "video_black"]
    assert black == [(True, None), (False, 185 * SECOND // 25)]


def test_a_still_picture_with_one_small_instrument_moving_is_live() -> None:
    def image(index: int) -> Array:
        picture = moving(3).copy()
        picture[40:70, (index * 2) % 140 : (index * 2) % 140 + 14] = 220
        return picture

    messages = pictures_of([from_rgb(image(i)) for i in range(300)])
    assert run_operator(VideoSignal(name="signal"), messages) == []


def test_an_encoded_standstill_is_found_though_its_pictures_are_not_equal(tmp_path: Path) -> None:
    images = [numbered(i) if i < 25 else numbered(500) for i in range(200)]
    path = encode(tmp_path / "clip.mp4", images=images, options={"crf": "30"})
    said = run_operator(VideoSignal(name="signal"), list(VideoReader(path).messages()))
    assert [message.payload.code for message in said] == ["video_frozen", "video_frozen"]
    assert "no longer watched" in said[1].payload.text


def test_a_restart_keeps_the_episode() -> None:
    messages = scene("black", 25, 200, 260)
    whole = run_operator(VideoSignal(name="signal"), messages)
    first = VideoSignal(name="signal")
    said = [m for message in messages[:120] for m in (first.process(message) or [])]
    second = VideoSignal(name="signal")
    second.load_state(json.loads(json.dumps(first.state())))
    said += [m for message in messages[120:] for m in (second.process(message) or [])]
    assert [m.payload for m in said] == [m.payload for m in whole]
