"""States follow the view without flicker and are told sparingly; smoke, a covered lens and false colour are alerts."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.perception.view import ViewState
from operators.theatre.case import load
from operators.theatre.renderer import Renderer
from operators.video.colour import from_rgb
from pipeline.message import NANOSECONDS, AlertCondition, Array, Detection, Message, VideoFrame
from pipeline.testing import run_operator
from tests.operators.perception.view.pictures import covered, green, inside, outside, random_frame, smoky

RATE = 15
MODELS = pytest.mark.parametrize("model", ["learnt", "rules"])


def black(index: int) -> Array:
    return np.full((120, 160, 3), 4, np.uint8)


def blue(index: int) -> Array:
    return np.full((120, 160, 3), (16, 32, 200), np.uint8)


def snow(index: int) -> Array:
    return np.repeat(np.random.default_rng(index).integers(0, 256, (120, 160, 1)), 3, axis=2).astype(np.uint8)


def still(index: int) -> Array:
    return inside(7)


@cache
def frame(draw: Any, index: int) -> VideoFrame:
    """What ``draw`` draws, as a camera sends it."""
    return from_rgb(draw(index))


def film(*parts: tuple[Any, float], stream: str = "scope.video/a", rate: int = RATE) -> list[Message[VideoFrame]]:
    """Messages of pictures: each part is what draws them and for how many seconds."""
    draws = [draw for draw, length in parts for _ in range(round(length * rate))]
    step = NANOSECONDS // rate
    return [Message(stream, i * step, i, frame(draw, i), "recorded") for i, draw in enumerate(draws)]


def views(answers: list[Message[Any]]) -> list[str]:
    """The states in order, without repeats."""
    labels = [m.payload.label for m in answers if isinstance(m.payload, Detection)]
    return [label for i, label in enumerate(labels) if i == 0 or labels[i - 1] != label]


def conditions(answers: list[Message[Any]]) -> list[AlertCondition]:
    return [m.payload for m in answers if isinstance(m.payload, AlertCondition)]


@MODELS
@pytest.mark.parametrize(
    ("draw", "label"),
    [(black, "black"), (blue, "no_signal"), (snow, "noise"), (still, "frozen"), (outside, "out_of_body")],
)
def test_a_state_is_told_when_it_comes_and_when_it_goes(model: str, draw: Any, label: str) -> None:
    answers = run_operator(ViewState(name="view", model=model), film((inside, 3), (draw, 5), (inside, 3)))
    assert views(answers) == ["in_body", label, "in_body"]
    assert conditions(answers) == [], "black, no signal, noise and standstill are alerts of video.signal alone"


@MODELS
def test_a_state_is_told_at_its_change_and_once_a_second_between(model: str) -> None:
    answers = run_operator(ViewState(name="view", model=model), film((inside, 4), (outside, 4)))
    times = [m.time for m in answers]
    assert len(times) == len(set(times))
    assert 8 <= len(times) <= 10
    changed = next(m for m in answers if m.payload.label == "out_of_body")
    assert 4 * NANOSECONDS < changed.time < 5 * NANOSECONDS
    assert changed.payload.attributes["since"] == 4 * RATE * (NANOSECONDS // RATE)
    assert changed.payload.frame == round(changed.time / (NANOSECONDS // RATE))
    assert changed.stream == "view.views/a"
    assert changed.origin == "recorded"


@MODELS
@pytest.mark.parametrize("length", [1 / RATE, 5 / RATE])
def test_a_flicker_does_not_change_the_state(model: str, length: float) -> None:
    answers = run_operator(ViewState(name="view", model=model), film((inside, 2), (outside, length), (inside, 2)))
    assert views(answers) == ["in_body"]


def test_without_smoothing_every_frame_decides() -> None:
    answers = run_operator(
        ViewState(name="view", smoothing_seconds=0), film((inside, 1), (outside, 1 / RATE), (inside, 1))
    )
    assert views(answers) == ["in_body", "out_of_body", "in_body"]


def test_pictures_that_come_seldom_decide_at_once() -> None:
    answers = run_operator(ViewState(name="view"), film((inside, 2), (outside, 2), rate=1))
    assert [m.payload.label for m in answers] == ["in_body", "in_body", "out_of_body", "out_of_body"]


def test_lasting_smoke_above_the_usual_is_told_once_and_ended() -> None:
    found = conditions(run_operator(ViewState(name="view"), film((inside, 30), (smoky, 30), (inside, 12))))
    assert [(c.code, c.present, c.suppressed_by, c.kind, c.priority, c.subject) for c in found] == [
        ("view_smoke", True, "", "advisory", "info", "scope.video/a"),
        ("view_smoke", False, "", "advisory", "info", "scope.video/a"),
    ]
    assert found[0].onset == pytest.approx(30 * NANOSECONDS, abs=1.1 * NANOSECONDS)
    assert found[1].onset == found[0].onset
    assert found[1].ended == pytest.approx(60 * NANOSECONDS, abs=1.1 * NANOSECONDS)
    assert found[0].evidence[0].frame == pytest.approx(30 * RATE, abs=RATE)


def test_short_smoke_is_not_told() -> None:
    assert conditions(run_operator(ViewState(name="view"), film((inside, 25), (smoky, 15), (inside, 10)))) == []


def test_a_scene_that_was_always_pale_is_a_candidate_that_nobody_is_told_of() -> None:
    found = conditions(run_operator(ViewState(name="view"), film((smoky, 40))))
    assert [(c.code, c.present, bool(c.suppressed_by)) for c in found] == [
        ("view_smoke", True, True), ("view_smoke", False, True),
    ]  # fmt: skip
    assert "no longer watched" in found[1].text
    told = conditions(run_operator(ViewState(name="view", smoke_rise=0.0), film((smoky, 40))))
    assert [c.suppressed_by for c in told] == ["", ""]


def test_smoke_that_thickens_after_a_suppressed_candidate_is_told() -> None:
    def thin(index: int) -> Array:
        return (0.45 * inside(index) + 0.55 * smoky(index)).astype(np.uint8)

    options: dict[str, Any] = {"smoke_rise": 0.05, "smoke": {"enter": 0.2, "leave": 0.1, "delay_seconds": 3}}
    found = conditions(run_operator(ViewState(name="view", model="rules", **options), film((thin, 30), (smoky, 10))))
    assert [(c.present, bool(c.suppressed_by)) for c in found] == [(True, True), (True, False), (False, False)]
    assert found[1].onset == found[0].onset


def test_a_covered_lens_is_told_by_the_learnt_model_and_not_known_to_the_rules() -> None:
    messages = film((inside, 3), (covered, 15), (inside, 6))
    found = conditions(run_operator(ViewState(name="view"), messages))
    assert [(c.code, c.present, c.kind, c.priority) for c in found] == [
        ("view_obstructed", True, "technical", "low"), ("view_obstructed", False, "technical", "low"),
    ]  # fmt: skip
    assert "obstructed" not in views(run_operator(ViewState(name="view", model="rules"), messages))


@MODELS
def test_a_lasting_colour_fault_is_told(model: str) -> None:
    found = conditions(run_operator(ViewState(name="view", model=model), film((inside, 3), (green, 15), (inside, 10))))
    assert [(c.code, c.present, c.kind) for c in found if c.code == "view_colour_fault"] == [
        ("view_colour_fault", True, "technical"), ("view_colour_fault", False, "technical"),
    ]  # fmt: skip


def test_streams_do_not_disturb_each_other() -> None:
    one, two = film((inside, 4), (outside, 4)), film((outside, 4), (black, 4), stream="room.video/b")
    mixed = run_operator(ViewState(name="view"), sorted([*one, *two], key=lambda m: m.order))
    for messages in (one, two):
        alone = run_operator(ViewState(name="view"), messages)
        channel = messages[0].stream.partition("/")[2]
        assert [(m.time, m.payload) for m in mixed if m.stream.endswith(f"/{channel}")] == [
            (m.time, m.payload) for m in alone
        ]


def test_a_restart_goes_on_where_it_was() -> None:
    messages = film((inside, 25), (smoky, 26), (outside, 3))
    whole = run_operator(ViewState(name="view"), messages)
    for cut in (10 * RATE, 47 * RATE + 4):
        first, second = ViewState(name="view"), ViewState(name="view")
        first.setup()
        second.setup()
        said = [m for message in messages[:cut] for m in (first.process(message) or [])]
        second.load_state(json.loads(json.dumps(first.state())))
        said += [m for message in messages[cut:] for m in (second.process(message) or [])]
        said += second.finish()
        assert [(m.time, m.payload) for m in said] == [(m.time, m.payload) for m in whole]


@MODELS
def test_the_same_messages_give_the_same_answers(model: str) -> None:
    messages = film((inside, 3), (smoky, 3), (covered, 3), (snow, 2))
    one, two = (run_operator(ViewState(name="view", model=model), messages) for _ in range(2))
    assert [(m.order, m.payload) for m in one] == [(m.order, m.payload) for m in two]


def test_a_frame_that_is_not_whole_is_unknown_and_the_next_is_judged() -> None:
    broken = VideoFrame(64, 48, "yuv420p", (np.zeros((3, 3), np.uint8),))
    whole = from_rgb(inside(1))
    messages = [Message("scope.video", i * NANOSECONDS, i, f) for i, f in enumerate([whole, broken, whole])]
    assert views(run_operator(ViewState(name="view"), messages)) == ["in_body", "unknown", "in_body"]


def test_the_rule_names_the_weights() -> None:
    learnt, ruled = ViewState(name="view").rule(), ViewState(name="view", model="rules").rule()
    assert learnt.digest != ruled.digest
    assert "+" in learnt.digest


@pytest.mark.slow
def test_a_quiet_operation_raises_nothing_and_its_look_at_the_room_is_seen() -> None:
    case = load("uneventful")
    renderer = Renderer(case, case.seed)
    step = NANOSECONDS // 2
    messages = [
        Message("t.video/video", i * step, i, from_rgb(renderer.picture(i / 2).rgb), "simulated")
        for i in range(round(case.duration * 2))
    ]
    answers = run_operator(ViewState(name="view"), messages)
    assert [c for c in conditions(answers) if not c.suppressed_by] == []
    assert [view for view in views(answers) if view != "trocar"] == ["in_body", "out_of_body", "in_body"]
    room = [m.time for m in answers if isinstance(m.payload, Detection) and m.payload.label == "out_of_body"]
    out = next(step for step in case.script if step.do == "out_of_body")
    assert out.at <= min(room) / NANOSECONDS <= out.at + 3
    assert out.end - 3 <= max(room) / NANOSECONDS <= out.end + 1


FRAMES = st.tuples(
    st.integers(1, 70), st.integers(1, 70), st.sampled_from(["yuv420p", "nv12", "rgb24", "gray"]),
    st.sampled_from(["noise", "flat", "black", "white"]), st.booleans(), st.integers(0, 999),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(FRAMES, st.integers(-2, 30), st.sampled_from("ab")), max_size=25))
def test_any_frames_at_any_times_give_known_states_in_order(
    parts: list[tuple[tuple[int, int, str, str, bool, int], int, str]],
) -> None:
    time, messages = 10 * NANOSECONDS, []
    for index, (shape, tenths, channel) in enumerate(parts):
        time += tenths * NANOSECONDS // 10
        messages.append(Message(f"scope.video/{channel}", time, index, random_frame(*shape)))
    answers = run_operator(ViewState(name="view"), messages)
    for channel in "ab":
        times = [m.time for m in answers if m.stream == f"view.views/{channel}"]
        assert times == sorted(times)
    known = {"in_body", "out_of_body", "trocar", "obstructed", "black", "no_signal", "noise", "frozen", "unknown"}
    assert set(views(answers)) <= known
    for message in answers:
        if isinstance(message.payload, Detection):
            assert 0 <= message.payload.score <= 1
            assert 0 <= message.payload.attributes["smoke"] <= 1
