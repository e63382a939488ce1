"""Bleeding: growth on tissue that is held still is told; pans, rinsing, fouling, smoke and old pools are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.perception.bleeding import Bleeding
from operators.perception.bleeding.evaluate import Event, Outcome, figures
from operators.perception.bleeding.measure import followed_by, laid_over, look, register
from operators.perception.bleeding.settings import Cusum
from operators.theatre.world import noise
from operators.video.colour import from_rgb
from pipeline.message import AlertCondition, Array, Mask, Message, VideoFrame

SECOND = 1_000_000_000
BLOOD = np.array([100, 18, 22], np.float32)
STAINED = np.array([0.22, 0.1, 0.1], np.float32)


def tissue() -> tuple[Array, Array]:
    """A landscape (700, 700, 3) of reddish tissue, and how far each place is from its middle, with a ripple."""
    random = np.random.default_rng(5)
    shade = 1 + 0.25 * noise(random, 700, 40, 4, 0.7)[..., None] + 0.08 * noise(random, 700, 4, 2)[..., None]
    y, x = np.mgrid[0:700, 0:700]
    away = np.hypot(x - 350, y - 350) + 3 * noise(random, 700, 30, 2)
    return np.clip(np.array([186, 106, 90]) * shade, 20, 235).astype(np.float32), away.astype(np.float32)


GROUND, AWAY = tissue()


def view(x: float, y: float, zoom: float = 1.0) -> tuple[Array, Array]:
    """What a camera over (x, y) sees of both, (120, 160, 3) and (120, 160) float32."""
    matrix = np.array([[zoom, 0, 80 - zoom * x], [0, zoom, 60 - zoom * y]])
    return tuple(  # type: ignore[return-value]
        cv2.warpAffine(plane, matrix, (160, 120), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        for plane in (GROUND, AWAY)
    )


ROWS, COLUMNS = np.mgrid[0:120, 0:160]
LIGHT = np.exp(-(((ROWS - 60) ** 2 + (COLUMNS - 80) ** 2) / 85.0**2))[..., None]


def noisy(picture: Array, seed: int) -> Array:
    """The picture in a scope's light, with a sensor's noise, (120, 160, 3) uint8."""
    return np.clip(picture * LIGHT + np.random.default_rng(seed).normal(0, 1.2, picture.shape), 0, 255).astype(np.uint8)


def seen(radius: float = 0, x: float = 350, y: float = 350, seed: int = 0, zoom: float = 1.0) -> Array:
    """The landscape with a pool of blood of that radius (points), seen from (x, y)."""
    ground, away = view(x, y, zoom)
    if radius > 0:
        cover = np.clip((radius - away) / 2, 0, 1)[..., None]
        ground = ground * (1 - cover) + (0.7 * BLOOD + STAINED * ground) * cover
    return noisy(ground, seed)


def film(scene: Callable[[float], Array], seconds: float, rate: float = 5.0) -> list[Message[VideoFrame]]:
    return [
        Message("scope.video", int(index / rate * SECOND), index, from_rgb(scene(index / rate), "rgb24"))
        for index in range(int(seconds * rate))
    ]


def run(messages: list[Message[VideoFrame]], rule: Bleeding | None = None) -> list[tuple[float, AlertCondition]]:
    rule = Bleeding(name="bleeding") if rule is None else rule
    said = [(m.time / SECOND, rule.on_video(m)) for m in messages]
    return [(at, answer.payload) for at, answer in said if answer is not None]  # type: ignore[union-attr]


def told(said: list[tuple[float, AlertCondition]]) -> list[tuple[float, AlertCondition]]:
    return [(at, condition) for at, condition in said if not condition.suppressed_by]


def sway(second: float) -> tuple[float, float]:
    return 350 + 14 * np.sin(second * 0.9), 350 + 9 * np.cos(second * 0.7)


def growing(second: float, onset: float = 4.0, stop: float = 9.0) -> Array:
    radius = 34 * (1 - np.exp(-max(0.0, min(second, stop) - onset) / 3))
    return seen(radius, *sway(second), seed=int(second * 10))


def test_cusum_by_hand() -> None:
    cusum = Cusum(drift=0.01, cap=0.1)
    values = [cusum.add(gain, i * SECOND, (i + 1) * SECOND) for i, gain in enumerate([0.0, 0.03, 0.02, -0.05, 0.5])]
    assert values == pytest.approx([0, 0.02, 0.03, 0, 0.1])
    assert cusum.since == 4 * SECOND
    assert Cusum(0.01, 1).add(0.05, 0, SECOND // 2) == pytest.approx(0.045), "the drift is per second"


def test_growth_under_a_swaying_camera_is_told_within_three_seconds_and_ends() -> None:
    said = told(run(film(growing, 22)))
    assert [(c.code, c.present) for _, c in said] == [("bleeding", True), ("bleeding", False)]
    (at, first), (_, last) = said
    assert 4.0 < at <= 7.0
    assert 3.8 <= first.onset / SECOND <= 5.5
    assert first.kind == "physiological"
    assert first.priority in ("medium", "high")
    evidence = first.evidence[0]
    assert (evidence.stream, evidence.start) == ("scope.video", first.onset)
    assert evidence.frame == round(at * 5)
    assert evidence.values[-1] > evidence.values[0]
    assert last.ended is not None
    assert first.onset < last.ended <= 13 * SECOND
    assert "%" in first.text


def test_fast_growth_has_high_priority_and_slow_growth_medium() -> None:
    def scene(speed: float) -> Callable[[float], Array]:
        return lambda t: seen(speed * np.sqrt(max(0.0, t - 3)), seed=int(t * 10))

    assert told(run(film(scene(27), 9)))[0][1].priority == "high"
    assert told(run(film(scene(12), 12)))[0][1].priority == "medium"


def pan(second: float) -> Array:
    return seen(60, 120 + 26 * second, 350, seed=int(second * 10))


def test_a_pan_onto_an_old_pool_is_not_told_but_the_baseline_tells_it() -> None:
    messages = film(pan, 12)
    assert told(run(messages)) == []
    assert told(run(messages, Bleeding(name="b", baseline=True))) != []


def test_a_jump_to_an_old_pool_and_a_zoom_onto_it_are_not_told() -> None:
    assert told(run(film(lambda t: seen(40, 150 if t < 4 else 350, 350, int(t * 10)), 9))) == []
    assert told(run(film(lambda t: seen(40, 375, 350, int(t * 10), zoom=0.6 + 0.12 * t), 9))) == []


def test_a_pool_that_is_sucked_away_is_not_told() -> None:
    scene = film(lambda t: seen(45 - 5 * max(0.0, t - 2), *sway(t), seed=int(t * 10)), 14)
    assert told(run(scene)) == []


def rinsed(second: float) -> Array:
    """Bloody rinsing fluid: it reddens what it covers and glitters, but does not darken it."""
    ground, away = view(*sway(second))
    cover = np.clip((14 * max(0.0, second - 3) - away) / 3, 0, 1)[..., None]
    light = ground[..., :1] * 1.03 * np.array([1.0, 0.30, 0.34], np.float32)
    return noisy(ground * (1 - cover) + light * cover, int(second * 10))


def test_irrigation_is_rejected_with_its_reason() -> None:
    said = run(film(rinsed, 9))
    assert told(said) == []
    assert any("irrigation" in condition.suppressed_by for _, condition in said)


SMEAR = noise(np.random.default_rng(6), 160, 40, 3)[:120]


def fouled(second: float) -> Array:
    picture = seen(0, *sway(second), seed=int(second * 10)).astype(np.float32)
    amount = np.clip((second - 4) / 0.8, 0, 1)
    small = SMEAR
    cover = np.clip((small - (1.2 - 1.3 * amount)) / 0.2, 0, 1)[..., None] * (amount > 0)
    blurred = cv2.GaussianBlur(picture, (0, 0), 6)
    return np.clip(picture * (1 - cover) + blurred * np.array([0.8, 0.2, 0.2]) * cover, 0, 255).astype(np.uint8)


def test_a_lens_fouled_with_blood_is_not_told() -> None:
    assert told(run(film(fouled, 10))) == []


def veiled(image: Array, opacity: float) -> Array:
    light = (image / 255.0) ** 2 * (1 - opacity) + 0.5 * opacity
    return (np.sqrt(light) * 255).astype(np.uint8)


def test_smoke_that_clears_from_an_old_pool_is_not_told() -> None:
    scene = film(lambda t: veiled(seen(40, *sway(t), seed=int(t * 10)), 0.6 * np.exp(-t / 4)), 20)
    rule = Bleeding(name="b")
    assert told(run(scene, rule)) == []
    assert rule.skipped["veiled"] > 10


def masks_of(messages: list[Message[VideoFrame]], radius: Callable[[float], float]) -> list[Message[Mask]]:
    found = []
    for message in messages:
        second = message.time / SECOND
        _, away = view(*sway(second))
        labels = 2 * (away < radius(second)).astype(np.uint8)
        classes = ("background", "instrument", "blood", "smoke")
        found.append(Message("s.masks", message.time, message.sequence, Mask(labels, classes)))
    return found


def test_in_smoke_growth_is_taken_from_the_segmentation() -> None:
    def radius(second: float) -> float:
        return 34 * (1 - np.exp(-max(0.0, second - 4) / 3))

    messages = film(lambda t: veiled(growing(t, stop=99), 0.35), 12)
    assert told(run(messages)) == [], "colours say nothing"
    rule, said = Bleeding(name="b"), []
    for message, mask in zip(messages, masks_of(messages, radius), strict=True):
        rule.on_masks(mask)
        said += run([message], rule)
    assert told(said)
    assert told(said)[0][0] <= 7.5
    quiet, found = Bleeding(name="b"), []
    for message, mask in zip(messages, masks_of(messages, lambda second: 20.0), strict=True):
        quiet.on_masks(mask)
        found += run([message], quiet)
    assert told(found) == [], "a pool that does not grow"


def test_in_a_clear_view_colour_and_segmentation_must_agree() -> None:
    messages = film(growing, 12)
    rule, said = Bleeding(name="b"), []
    for message, mask in zip(messages, masks_of(messages, lambda second: 0.0), strict=True):
        rule.on_masks(mask)
        said += run([message], rule)
    assert told(said) == []


def test_dark_and_foreign_pictures_are_skipped_and_counted() -> None:
    rule = Bleeding(name="b")
    teal = np.full((120, 160, 3), (20, 120, 110), np.uint8)
    black = np.zeros((120, 160, 3), np.uint8)
    messages = film(lambda t: black if t < 2 else teal if t < 4 else growing(t, onset=6, stop=99), 12)
    damaged = [m if i % 7 else Message(m.stream, m.time, m.sequence, VideoFrame(160, 120, "rgb24", m.payload.planes,
               True, True)) for i, m in enumerate(messages)]  # fmt: skip
    said = told(run(damaged, rule))
    assert rule.skipped["dark"] == 8
    assert rule.skipped["out of body"] == 9
    assert rule.skipped["damaged"] == 9
    assert len(said) >= 1
    assert 6 < said[0][0] < 9.2


def test_it_looks_at_its_own_rate_whatever_it_is_sent() -> None:
    fast = film(growing, 10, rate=30)
    rule = Bleeding(name="b")
    said = told(run(fast, rule))
    assert said
    assert said[0][0] <= 7.0
    assert len(rule._steps) <= 16


def test_the_same_pictures_give_the_same_conditions() -> None:
    messages = film(growing, 14)
    assert [c for _, c in run(messages)] == [c for _, c in run(messages)]


def test_a_restart_keeps_the_episode_and_its_end_is_said() -> None:
    messages = film(growing, 22)
    first = Bleeding(name="bleeding")
    said = run(messages[:40], first)
    second = Bleeding(name="bleeding")
    second.load_state(json.loads(json.dumps(first.state())))
    said += run(messages[40:], second)
    found = told(said)
    assert [c.present for _, c in found] == [True, False]
    assert found[0][1].onset == found[1][1].onset


def test_the_end_of_input_ends_what_is_present() -> None:
    rule = Bleeding(name="bleeding")
    assert told(run(film(growing, 8), rule))
    last = rule.finish()
    assert last is not None
    assert not last.payload.present  # type: ignore[union-attr]
    assert "no longer watched" in last.payload.text  # type: ignore[union-attr]
    assert rule.finish() is None


@pytest.mark.parametrize("shift", [(0.0, 0.0), (4.0, -3.0), (-7.5, 5.0)])
def test_registration_finds_a_known_shift(shift: tuple[float, float]) -> None:
    one = look(from_rgb(seen(0, 350, 350, 1), "rgb24"), 0, 0)
    two = look(from_rgb(seen(0, 350 - shift[0], 350 - shift[1], 2), "rgb24"), 1, 1)
    matrix = register(one, two)
    assert matrix is not None
    middle = matrix @ np.array([80, 60, 1.0])
    assert middle == pytest.approx([80 + shift[0], 60 + shift[1]], abs=0.35)
    far = look(from_rgb(seen(0, 120, 600, 3), "rgb24"), 2, 2)
    assert register(one, far) is None


def test_affines_follow_one_another_and_carry_planes() -> None:
    right, down = np.array([[1, 0, 3.0], [0, 1, 0]]), np.array([[1, 0, 0.0], [0, 1, 2]])
    plane = np.zeros((20, 20), np.float32)
    plane[5, 5] = 1
    moved = laid_over(plane, followed_by(right, down))
    assert np.unravel_index(moved.argmax(), moved.shape) == (7, 8)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from(["rgb24", "yuv420p", "nv12", "gray"]),
       st.integers(0, 2**31))  # fmt: skip
def test_any_pictures_are_survived(width: int, height: int, form: Any, seed: int) -> None:
    random, rule = np.random.default_rng(seed), Bleeding(name="b")
    for index in range(4):
        size = (height, width, 3) if index != 2 else (width, height, 3)
        image = random.integers(0, 256, size, np.uint8) if seed % 2 else np.full(size, seed % 256, np.uint8)
        time = (index if seed % 3 else -index) * SECOND // 4
        run([Message("v", time, index, from_rgb(image, form))], rule)
    rule.on_masks(Message("m", SECOND, 0, Mask(np.zeros((0, 0), np.uint8), ("background", "blood"))))
    rule.on_masks(Message("m", SECOND, 1, Mask(np.zeros((3, 3), np.uint8), ("background", "tool"))))
    run([Message("v", SECOND, 9, from_rgb(seen(), "rgb24"))], rule)


def test_figures_are_those_counted_by_hand() -> None:
    one = Outcome(1, 0.5, [Event(10, 20, True, 12.0), Event(40, 50, True, 46.0)], [70.0], [])
    two = Outcome(2, 0.5, [Event(10, 20, True), Event(40, 50, False)], [], ["x"])
    found = figures([one, two])
    assert (found.events, found.false, found.hours, found.per_hour) == (3, 1, 1.0, 1.0)
    assert found.recall == pytest.approx(2 / 3)
    assert found.in_time == pytest.approx(1 / 3)
    assert found.recall_all == pytest.approx(2 / 4)
    assert (found.median, found.p95) == (4.0, 6.0)
