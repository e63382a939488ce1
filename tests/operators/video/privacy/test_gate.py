"""Whatever the evidence: nothing near a frame from outside is shown, nothing before enough frames from inside."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from operators.video.privacy.gate import MOST_HELD, Gate

MS = 1_000_000
FRAMES = st.lists(st.tuples(st.integers(-50, 1200), st.booleans()), max_size=60)


def play(gate: Gate[int], frames: list[tuple[int, bool]]) -> tuple[list[tuple[int, bool]], list[int]]:
    """What is decided, in order, and the times; ``frames`` are steps in ms and whether each is inside."""
    times, decided, now = [], [], 0
    for index, (step, inside) in enumerate(frames):
        now += step * MS
        times.append(now)
        decided += gate.add(now, index, inside)
    return decided + gate.shut(), times


def may_be_shown(i: int, frames: list[tuple[int, bool]], times: list[int], opening: int, open_ms: int, delay: int,
                 delay_ms: int, gap_ms: int) -> bool:  # fmt: skip
    """The rule read straight from its description."""

    def goes_on(j: int) -> bool:
        return 0 < times[j] - times[j - 1] <= gap_ms * MS

    first = i
    while first > 0 and frames[first - 1][1] and goes_on(first):
        first -= 1
    if not frames[i][1] or i - first + 1 < opening or times[i] - times[first] < open_ms * MS:
        return False
    if delay == 0 and delay_ms == 0:
        return True
    for j in range(i + 1, len(frames)):
        if not frames[j][1] or not goes_on(j):
            return False
        if j - i >= delay and times[j] - times[i] >= delay_ms * MS:
            return True
    return False


@given(FRAMES, st.integers(1, 6), st.integers(0, 400), st.integers(0, 6), st.integers(0, 400), st.integers(50, 1000))
def test_shown_is_what_the_rule_says_and_all_frames_come_out_in_order(
    frames: list[tuple[int, bool]], opening: int, open_ms: int, delay: int, delay_ms: int, gap_ms: int
) -> None:
    gate: Gate[int] = Gate(opening, open_ms / 1000, delay, delay_ms / 1000, gap_ms / 1000)
    decided, times = play(gate, frames)
    assert [index for index, _ in decided] == list(range(len(frames)))
    expected = [may_be_shown(i, frames, times, opening, open_ms, delay, delay_ms, gap_ms) for i in range(len(frames))]
    assert [visible for _, visible in decided] == expected


@given(st.lists(st.booleans(), max_size=80), st.integers(1, 8), st.integers(0, 8))
def test_no_frame_within_the_delay_before_an_outside_one_is_shown_nor_before_enough_inside(
    evidence: list[bool], opening: int, delay: int
) -> None:
    decided, _ = play(Gate(opening, 0, delay, 0, 10), [(40, inside) for inside in evidence])
    for i, visible in decided:
        if visible:
            assert all(evidence[max(0, i - opening + 1) : i + delay + 1])
            assert i + 1 >= opening
            assert i + delay < len(evidence)


def test_closed_frames_are_decided_at_once_and_open_ones_after_the_delay() -> None:
    gate: Gate[int] = Gate(2, 0, 2, 0, 1)
    given = [gate.add(i * 40 * MS, i, inside) for i, inside in enumerate([True, True, True, True, True, False, True])]
    assert given == [[(0, False)], [], [], [(1, True)], [(2, True)], [(3, False), (4, False), (5, False)], [(6, False)]]


def test_a_stream_of_frames_that_hardly_advance_cannot_fill_the_memory() -> None:
    gate: Gate[int] = Gate(1, 0, 1, 10, 1)
    decided = []
    for i in range(4 * MOST_HELD):
        decided += gate.add(i, i, True)
        assert len(gate.held) <= MOST_HELD
    assert not any(visible for _, visible in decided)
