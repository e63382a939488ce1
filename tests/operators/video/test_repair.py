"""Whatever a camera's clock does, event time goes forward."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.video.repair import WRAPS, Timeline, TimestampRepair
from pipeline.message import Message, VideoFrame
from pipeline.testing import run_operator

STEP = 40_000_000
FRAME = VideoFrame(2, 2, "gray", (np.zeros((2, 2), np.uint8),))


def fixed(times: list[int]) -> tuple[list[int], list[str]]:
    line = Timeline()
    answers = [line.fix(time) for time in times]
    return [time for time, _ in answers], [fault for _, fault in answers if fault]


def test_good_times_are_left_alone() -> None:
    times = [5 * STEP + i * STEP for i in range(50)]
    times[30:] = [time + 7_000_000_000 for time in times[30:]]  # seven seconds without a picture are real
    assert fixed(times) == (times, [])


def test_a_jump_to_zero_goes_on_by_one_interval() -> None:
    times = [10**12 + i * STEP for i in range(20)] + [i * STEP for i in range(20)]
    found, faults = fixed(times)
    assert found == [10**12 + i * STEP for i in range(40)]
    assert len(faults) == 1


@pytest.mark.parametrize("length", WRAPS)
def test_a_wrapped_counter_goes_on_exactly(length: int) -> None:
    true = [length - 10 * STEP + i * STEP for i in range(40)]
    found, faults = fixed([time % length for time in true])
    assert found == true
    assert faults == ["wrap"]


def test_one_wild_stamp_does_not_move_the_rest() -> None:
    times = [10**12 + i * STEP for i in range(40)]
    wild = [*times[:20], 3 * 10**15, *times[21:]]
    found, faults = fixed(wild)
    assert faults == ["forward", "return"]
    assert found[:20] + found[21:] == times[:20] + times[21:]


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=60))
def test_any_times_come_out_strictly_increasing(times: list[int]) -> None:
    found, _ = fixed(times)
    assert all(one < two for one, two in itertools.pairwise(found))


@given(st.lists(st.integers(0, 10**13), min_size=2, max_size=40), st.integers(1, 39))
def test_a_restart_of_the_operator_changes_nothing(times: list[int], cut: int) -> None:
    whole, _ = fixed(times)
    line = Timeline()
    first = [line.fix(time)[0] for time in times[:cut]]
    again = Timeline.from_state(json.loads(json.dumps(line.state())))
    assert first + [again.fix(time)[0] for time in times[cut:]] == whole


def test_the_stage_reports_what_it_mends() -> None:
    times = [i * STEP for i in range(10, 20)] + [i * STEP for i in range(10)]
    messages = [Message("camera.video/scope", time, i, FRAME, "recorded") for i, time in enumerate(times)]
    repair = TimestampRepair(name="repair")
    answers = run_operator(repair, messages)
    frames = [message for message in answers if message.stream == "repair.output/scope"]
    events = [message for message in answers if message.stream == "repair.repairs/scope"]
    assert [message.time for message in frames] == [i * STEP for i in range(10, 30)]
    assert [message.sequence for message in frames] == list(range(20))
    assert [event.payload.kind for event in events] == ["video_time_repaired"]
    assert sum(repair.counts.values()) == 1
