"""The guard fails closed, whatever goes wrong, and hands on one frame for each frame."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from operators.video.privacy import PrivacyGuard, uniform
from operators.video.privacy.blank import blanked, shapes
from pipeline.engine import Engine, RunOptions
from pipeline.graph import Graph
from pipeline.message import AlertCondition, Event, Message, VideoFrame
from pipeline.operator import Config, Output, Source
from pipeline.testing import run_operator
from tests.operators.video.privacy.helpers import (
    INSIDE,
    MS,
    NAN,
    OUTSIDE,
    RAISES,
    SECOND,
    SLOW,
    NumberGuard,
    guard,
    picture,
    shown,
    stream,
    videos,
)  # fmt: skip
from tests.pipeline.helpers import ConditionLog


def conditions(messages: list[Message[Any]]) -> list[AlertCondition]:
    return [m.payload for m in messages if isinstance(m.payload, AlertCondition)]


def states(messages: list[Message[Any]]) -> list[tuple[int, str, str]]:
    return [(m.time, m.payload.data["state"], m.payload.data["reason"]) for m in messages
            if isinstance(m.payload, Event)]  # fmt: skip


# ------------------------------------------------------------------------------------------- the rule


def test_frames_before_the_first_inside_run_and_about_an_outside_one_are_blanked() -> None:
    given = stream([INSIDE] * 8 + [OUTSIDE] + [INSIDE] * 8)
    answers = run_operator(guard(), given)
    # 3 to open, 2 before the one outside, 3 to open again, the last 2 are never decided.
    assert shown(answers) == [2, 3, 4, 5, 11, 12, 13, 14]
    by_number = {m.sequence: m.payload for m in videos(answers)}
    for message in given:
        if message.sequence in (2, 5, 11):
            assert by_number[message.sequence] is message.payload, "what is shown is handed on as it is"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([INSIDE, OUTSIDE, RAISES, NAN]), max_size=40), st.integers(1, 5), st.integers(0, 5))
def test_every_frame_comes_out_once_in_order_with_its_time_and_nothing_near_a_bad_one_is_shown(
    values: list[int], opening: int, delay: int
) -> None:
    given = stream(values)
    answers = run_operator(guard(frames_to_open=opening, delay_frames=delay), given)
    out = videos(answers)
    assert [(m.time, m.sequence, m.origin) for m in out] == [(m.time, m.sequence, m.origin) for m in given]
    for i in shown(answers):
        assert set(values[max(0, i - opening + 1) : i + delay + 1]) == {INSIDE}


def test_times_in_seconds_count_as_frames_do() -> None:
    answers = run_operator(
        guard(frames_to_open=1, delay_frames=0, open_seconds=0.2, delay_seconds=0.12),
        stream([INSIDE] * 20 + [OUTSIDE] * 3),
    )
    assert shown(answers) == list(range(5, 17)), "0.2 s to open, 0.12 s before the one outside"


@pytest.mark.parametrize("form", ["yuv420p", "nv12", "rgb24", "gray"])
@pytest.mark.parametrize("fill", ["black", "grey", "mean"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", [(32, 24), (33, 25), (1, 1)])
def test_a_blanked_frame_is_of_one_colour_and_shares_nothing(
    form: Any, fill: Any, full: bool, size: tuple[int, int]
) -> None:
    random = np.random.default_rng(1)
    planes = tuple(random.integers(0, 256, shape, np.uint8) for shape in shapes(*size, form))
    frame = VideoFrame(*size, form, planes, full)
    blank = blanked(frame, fill)
    assert (blank.width, blank.height, blank.format, blank.full_range) == (*size, form, full)
    assert [p.shape for p in blank.planes] == [p.shape for p in planes]
    assert uniform(blank)
    for one in blank.planes:
        assert not any(np.shares_memory(one, other) for other in planes)
        assert not one.flags.writeable
    if fill == "mean":
        assert abs(float(blank.planes[0].reshape(-1)[0]) - float(planes[0].reshape(-1, planes[0].shape[-1] if
                   form == "rgb24" else 1).mean(axis=0)[0])) <= 0.5  # fmt: skip


# ------------------------------------------------------------------------------------------- fails closed


@pytest.mark.parametrize("bad", [RAISES, NAN, OUTSIDE])
def test_a_classifier_that_fails_or_answers_nonsense_closes_the_guard(bad: int, caplog: Any) -> None:
    operator = guard()
    answers = run_operator(operator, stream([INSIDE] * 6 + [bad] + [INSIDE] * 2))
    assert shown(answers) == [2, 3]
    assert len(videos(answers)) == 9
    assert operator.counts == {"shown": 2, "blanked": 7, "failed": 0 if bad == OUTSIDE else 1}
    assert ("failed: " in caplog.text) == (bad != OUTSIDE)
    assert "Smith" not in caplog.text


def test_black_and_blue_frames_are_outside_whatever_the_classifier_says() -> None:
    black = picture(INSIDE)
    black.planes[0][:] = 18
    black.planes[0][0, 0] = INSIDE
    blue = picture(INSIDE)
    blue.planes[1][:], blue.planes[2][:] = 220, 100
    given = stream([INSIDE] * 20)
    for i, frame in ((6, black), (13, blue)):
        given[i] = Message(given[i].stream, given[i].time, i, frame, "recorded")
    assert shown(run_operator(guard(), given)) == [2, 3, 8 + 1, 10, 16, 17]


def broken_frame(kind: str) -> VideoFrame:
    whole = picture(INSIDE)
    return {
        "corrupt": picture(INSIDE, corrupt=True),
        "planes": VideoFrame(32, 24, "yuv420p", whole.planes[:1]),
        "none": VideoFrame(32, 24, "yuv420p", ()),
        "empty": VideoFrame(0, 0, "gray", (np.zeros((0, 0), np.uint8),)),
        "negative": VideoFrame(-4, 24, "gray", whole.planes[:1]),
        "huge": VideoFrame(1 << 40, 2, "gray", whole.planes[:1]),
        "float": VideoFrame(32, 24, "gray", (whole.planes[0].astype(float),)),
        "list": VideoFrame(32, 24, "gray", ([1, 2],)),  # type: ignore[arg-type]
        "format": VideoFrame(32, 24, "yuv999", whole.planes),  # type: ignore[arg-type]
        "size": picture(INSIDE, (40, 24)),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["corrupt", "planes", "none", "empty", "negative", "huge", "float", "list", "format", "size"]
)
def test_a_frame_that_is_damaged_or_of_another_size_closes_the_guard(kind: str) -> None:
    given = stream([INSIDE] * 14)
    given[7] = Message("scope.video", given[7].time, 7, broken_frame(kind), "recorded")
    answers = run_operator(guard(), given)
    out = videos(answers)
    assert [m.sequence for m in out] == list(range(14))
    assert not {5, 6, 7, 8, 9} & set(shown(answers)), "two frames before, it, and two after it"
    assert {2, 3, 4, 10, 11} <= set(shown(answers))
    assert out[7].payload.width >= 1
    assert uniform(out[7].payload)


@pytest.mark.parametrize("jump", [-200 * MS, -40 * MS, 1100 * MS])
def test_time_that_stands_goes_back_or_leaps_starts_the_count_again(jump: int) -> None:
    first = stream([INSIDE] * 8)
    rest = stream([INSIDE] * 8, start=8 * 40 * MS + jump, first=8)
    answers = run_operator(guard(), first + rest)
    assert shown(answers) == [2, 3, 4, 5, 10, 11, 12, 13]


def test_frames_held_when_a_stream_falls_silent_come_out_blanked_before_it_comes_back() -> None:
    operator = guard()
    answers = run_operator(operator, stream([INSIDE] * 8), until=2 * SECOND)
    assert shown(answers) == [2, 3, 4, 5]
    assert states(answers) == [(0, "blanked", "opening"), (80 * MS, "open", ""), (1280 * MS, "blanked", "time")]


def test_a_late_answer_is_no_answer_while_live_and_is_one_in_a_replay() -> None:
    values = [INSIDE] * 5 + [SLOW] + [INSIDE] * 6
    late = run_operator(guard(deadline_seconds=0.01), stream(values, origin="live"))
    assert not {3, 4, 5, 6, 7} & set(shown(late))
    assert [reason for _, _, reason in states(late)][2] == "late"
    recorded = run_operator(guard(deadline_seconds=0.01), stream(values, origin="recorded"))
    assert shown(recorded) == list(range(2, 10))


def test_the_guard_does_not_start_without_its_classifier() -> None:
    class Missing(PrivacyGuard):
        def load_classifier(self) -> Any:
            raise ImportError("no torch here")

    with pytest.raises(ImportError):
        run_operator(Missing(), stream([INSIDE]))


def test_each_stream_is_judged_by_itself() -> None:
    left = [Message("scope.video/left", m.time, m.sequence, m.payload, m.origin) for m in stream([INSIDE] * 9)]
    right = [Message("scope.video/right", m.time, m.sequence, m.payload, m.origin) for m in stream([OUTSIDE] * 9)]
    answers = run_operator(guard(), [m for pair in zip(left, right, strict=True) for m in pair])
    assert {m.stream for m in videos(answers)} == {"privacy.video/left", "privacy.video/right"}
    assert {m.stream for m in videos(answers) if not uniform(m.payload)} == {"privacy.video/left"}


# ------------------------------------------------------------------------------------------- told


def test_each_change_is_told_once_and_no_flicker_becomes_an_alert() -> None:
    values = ([INSIDE] * 20 + [OUTSIDE] * 5) * 6
    answers = run_operator(guard(), stream(values))
    assert conditions(answers) == []
    assert [state for _, state, _ in states(answers)] == ["blanked"] + ["open", "blanked"] * 6


def test_lasting_blanking_is_one_condition_with_its_reason_and_interval() -> None:
    values = [INSIDE] * 25 + [OUTSIDE] * 75 + [INSIDE] * 10 + [OUTSIDE] * 25 + [INSIDE] * 150
    said = conditions(run_operator(guard(), stream(values)))
    assert [(c.code, c.present, c.priority, c.kind) for c in said] == [
        ("privacy_blanked", True, "info", "technical"), ("privacy_blanked", False, "info", "technical"),
    ]  # fmt: skip
    assert said[0].onset == said[1].onset == 23 * 40 * MS, "from the first frame that was taken back"
    assert said[0].evidence[0].frame == 23
    assert said[0].evidence[0].note == "out_of_body"
    assert said[1].ended == (135 + 2) * 40 * MS


def test_a_fault_is_told_as_more_than_a_camera_outside_and_no_word_of_the_exception() -> None:
    values = [OUTSIDE] * 100 + [RAISES] * 50
    said = conditions(run_operator(guard(), stream(values)))
    assert [(c.present, c.priority, c.evidence[0].note) for c in said] == [
        (True, "info", "out_of_body"), (True, "low", "error"), (False, "low", "error"),
    ]  # fmt: skip
    assert "no longer watched" in said[2].text
    assert not any("Smith" in c.text for c in said)


# ------------------------------------------------------------------------------------------- restart


def test_a_restart_starts_closed_and_ends_what_was_told() -> None:
    messages = stream([OUTSIDE] * 80 + [INSIDE] * 120)
    first = guard()
    answers = run_operator(first, messages[:60])
    first.load_state({})
    assert [c.present for c in conditions(answers)] == [True, False]
    one = guard()
    one.context = first.context
    one.setup()
    said = [m for message in messages[:60] for m in one.process(message) or []]
    two = guard()
    two.context = first.context
    two.setup()
    two.load_state(json.loads(json.dumps(one.state())))
    said += [m for message in messages[60:] for m in two.process(message) or []]
    assert [c.present for c in conditions(said)] == [True, False]
    assert len({c.onset for c in conditions(said)}) == 1

    open_one = guard()
    open_one.context = first.context
    open_one.setup()
    for message in stream([INSIDE] * 10):
        open_one.process(message)
    again = guard()
    again.context = first.context
    again.setup()
    again.load_state(open_one.state())
    answers = [m for message in stream([INSIDE] * 6, start=SECOND, first=10) for m in again.process(message) or []]
    assert shown(answers) == [12, 13], "it opens as if it had seen nothing"


class Numbers(Source):
    """A scripted stream of frames."""

    class Config(Config):
        values: tuple[int, ...] = ()

    live: ClassVar[bool] = False
    video: Output[VideoFrame]

    def run(self) -> Iterator[Message[Any]]:
        for i, value in enumerate(self.config.values):
            yield self.video.first(picture(value, (128, 96)), i * 40 * MS, origin="recorded")


def graph_of(values: tuple[int, ...], placement: Any = "inline", **options: Any) -> Graph:
    graph = Graph("guarded")
    graph.add("scope", Numbers, values=values)
    given = guard(**options).config
    graph.add("privacy", NumberGuard, given, placement=placement)
    graph.connect("scope.video", "privacy.input")
    graph.add("log", ConditionLog)
    graph.connect("privacy.conditions", "log.conditions")
    return graph


async def heard_of(graph: Graph, **options: Any) -> list[Message[Any]]:
    engine = Engine(graph, RunOptions(**{"speed": math.inf, **options}))
    heard: list[Message[Any]] = []
    for port in ("video", "states", "conditions"):
        engine.listen("privacy", port, heard.extend)
    await engine.run()
    return heard


@pytest.mark.parametrize("placement", ["inline", "thread", "process"])
async def test_a_guard_that_raises_is_restarted_closed_by_the_engine(placement: Any) -> None:
    values = (INSIDE,) * 12 + (RAISES,) + (INSIDE,) * 12
    heard = await heard_of(graph_of(values, placement, on_error="raise"))
    found = shown(heard)
    assert found == [2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 18, 19, 20, 21, 22]
    assert {m.sequence for m in videos(heard)} == set(range(25)) - {10, 11, 12}, "what it held is lost with it"


def plain(messages: list[Message[Any]]) -> list[Any]:
    return sorted(
        (m.stream, m.time, m.sequence,
         b"".join(p.tobytes() for p in m.payload.planes) if isinstance(m.payload, VideoFrame) else repr(m.payload))
        for m in messages
    )  # fmt: skip


async def test_the_same_at_any_speed_and_wherever_it_runs() -> None:
    random = np.random.default_rng(5)
    runs = random.integers(1, 30, 12)
    values = tuple(v for i, n in enumerate(runs) for v in [(INSIDE, OUTSIDE, INSIDE, RAISES)[i % 4]] * int(n))
    expected = plain(await heard_of(graph_of(values), deterministic=True))
    assert any(item[0] == "privacy.conditions" for item in expected)
    for placement in ("inline", "thread", "process"):
        for speed in (math.inf, 60.0):
            heard = await heard_of(graph_of(values, placement), deterministic=True, speed=speed)
            assert plain(heard) == expected, (placement, speed)
            assert [m.sequence for m in videos(heard)] == list(range(len(values)))
