from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.align import Aligned, AsOf, Gate, Join, Joiner, Nearest, Window, combined
from pipeline.engine import Engine, RunOptions
from pipeline.graph import Graph
from pipeline.message import Message, Numeric
from pipeline.operator import Input, Operator, Output, Outputs
from tests.pipeline.helpers import Add, Count

MS = 1_000_000


def message(time: int, edge: int, sequence: int = 0) -> Message[Any]:
    return Message(f"s{edge}.output", time, sequence, time)


@given(st.lists(st.lists(st.integers(0, 50), max_size=12), min_size=1, max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_a_gate_lets_out_the_total_order_whatever_the_arrival(streams: list[list[int]], chance: random.Random) -> None:
    gate = Gate(len(streams))
    waiting = [[message(t, edge, i) for i, t in enumerate(sorted(times))] for edge, times in enumerate(streams)]
    expected = sorted((m for stream in waiting for m in stream), key=lambda m: m.order)
    out: list[Message[Any]] = []
    while any(waiting):
        edge = chance.choice([i for i, stream in enumerate(waiting) if stream])
        gate.add(edge, waiting[edge].pop(0))
        out.extend(m for _, m in gate.release())
        if not waiting[edge]:
            gate.close(edge)
    for edge in range(len(streams)):
        gate.close(edge)
    out.extend(m for _, m in gate.release())
    assert out == expected
    assert gate.late == [0] * len(streams)


def test_a_message_behind_the_bound_is_counted_as_late_and_not_lost() -> None:
    gate = Gate(2)
    gate.add(0, message(10, 0))
    gate.bound(1, 20)
    gate.bound(0, 20)
    assert [m.time for _, m in gate.release()] == [10]
    gate.add(1, message(5, 1))
    assert gate.late == [0, 1]
    gate.close(0)
    gate.close(1)
    assert [m.time for _, m in gate.release()] == [5]


def joined(join: Join, left: list[int], right: list[int], chance: random.Random) -> list[tuple[int, Any, Any]]:
    joiner = Joiner(join, ["left", "right"], "node")
    waiting = [[message(t * MS, e, i) for i, t in enumerate(times)] for e, times in enumerate((left, right))]
    out: list[Message[Any]] = []
    while any(waiting):
        edge = chance.choice([i for i, stream in enumerate(waiting) if stream])
        joiner.add(edge, waiting[edge].pop(0))
        out.extend(m for _, m in joiner.release())
    for edge in (0, 1):
        joiner.close(edge)
    out.extend(m for _, m in joiner.release())

    def times(part: Any) -> Any:
        return [m.time // MS for m in part] if isinstance(part, list) else None if part is None else part.time // MS

    return [(m.time // MS, times(m.payload["left"]), times(m.payload["right"])) for m in out]


times = st.lists(st.integers(0, 60), max_size=12).map(sorted)


@given(times, times, st.sampled_from([0.005, 0.02, float("inf")]), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_as_of_gives_the_newest_that_is_not_after(
    left: list[int], right: list[int], tolerance: float, chance: random.Random
) -> None:
    def expected(t: int) -> int | None:
        before = [r for r in right if r <= t and (t - r) / 1000 <= tolerance]
        return max(before, default=None)

    assert joined(AsOf("left", tolerance), left, right, chance) == [(t, t, expected(t)) for t in left]


@given(times, times, st.sampled_from([0.005, 0.02]), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_nearest_gives_the_closest_on_either_side(
    left: list[int], right: list[int], tolerance: float, chance: random.Random
) -> None:
    def expected(t: int) -> int | None:
        near = [r for r in right if abs(t - r) / 1000 <= tolerance]
        return min(near, key=lambda r: (abs(t - r), r), default=None)

    assert joined(Nearest("left", tolerance), left, right, chance) == [(t, t, expected(t)) for t in left]


@given(times, times, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_windows_hold_exactly_what_lies_in_them(left: list[int], right: list[int], chance: random.Random) -> None:
    for end, in_left, in_right in joined(Window(length_seconds=0.02, step_seconds=0.01), left, right, chance):
        assert end % 10 == 0
        assert in_left == [t for t in left if end - 20 <= t < end]
        assert in_right == [t for t in right if end - 20 <= t < end]


def test_windows_do_not_depend_on_arrival() -> None:
    left, right = [1, 5, 12, 33], [2, 14, 31, 47]
    results = [joined(Window(0.02, 0.01), left, right, random.Random(seed)) for seed in range(10)]
    assert all(result == results[0] for result in results)
    assert [end for end, _, _ in results[0]] == [10, 20, 30, 40, 50]


def test_what_is_made_of_simulated_and_real_data_says_so() -> None:
    assert combined({"live"}) == "live"
    assert combined({"live", "recorded"}) == "composed"
    assert combined({"live", "simulated"}) == "simulated"


class Difference(Operator):
    """A declared join: ten lines."""

    align = AsOf("left", tolerance_seconds=1)
    left: Input[Numeric]
    right: Input[Numeric]
    output: Output[Numeric]

    def process(self, message: Message[Aligned]) -> Outputs:  # type: ignore[override]
        left, right = message.payload["left"], message.payload["right"]
        known = right.payload.value if right else 0.0
        return self.output.emit(Numeric("d", "", "1", left.payload.value - known), message)


async def test_a_declared_join_runs_in_a_graph_and_a_queue_does_not_change_it() -> None:
    results = []
    for capacity in (None, 3):
        graph = Graph("join")
        graph.add("a", Count, count=40, step_ms=10)
        graph.add("b", Count, count=10, step_ms=40)
        graph.add("slow", Add, amount=0, placement="thread")
        graph.add("difference", Difference)
        graph.connect("a", "difference.left", capacity=capacity)
        graph.connect("b", "slow")
        graph.connect("slow", "difference.right", capacity=capacity)
        engine = Engine(graph, RunOptions(speed=float("inf"), deterministic=True))
        heard: list[Message[Any]] = []
        engine.listen("difference", "output", heard.extend)
        await engine.run()
        results.append([m.payload.value for m in heard])
    assert results[0] == results[1] == [float(i - i // 4) for i in range(40)]
