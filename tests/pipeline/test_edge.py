from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.edge import Edge, Policy, Wakeup
from pipeline.message import Bound, Message


def message(i: int, stream: str = "a.output") -> Message[Any]:
    return Message(stream, i, i, None)


def in_loop(check: Any) -> None:
    async def run() -> None:
        result = check()
        if asyncio.iscoroutine(result):
            await result

    asyncio.run(run())


def everything(edge: Edge) -> list[Any]:
    items: list[Any] = []
    while taken := edge.take(3):
        items.extend(taken)
    return items


batches = st.lists(st.lists(st.integers(0, 3), max_size=7), max_size=12)


@given(batches, st.integers(1, 6), st.sampled_from(["block", "latest", "drop_oldest"]), st.integers(0, 4))
@settings(max_examples=200, deadline=None)
def test_every_message_is_given_once_in_order_or_counted_as_dropped(
    groups: list[list[int]], capacity: int, policy: Policy, bound_every: int
) -> None:
    def check() -> None:
        edge = Edge("e", Wakeup(), capacity=capacity, policy=policy)
        number, pushed, got = 0, 0, []
        for n, streams in enumerate(groups):
            batch = []
            for stream in streams:
                batch.append(message(number, f"s{stream}"))
                number += 1
            if batch:
                edge.push(batch)
                pushed += len(batch)
            if bound_every and n % bound_every == 0:
                edge.bound(number)
            if n % 3 == 0:
                got.extend(edge.take(2))
            if policy == "drop_oldest":
                assert edge.size <= capacity
            if policy == "latest":
                assert edge.size <= 4, "one of each stream"
        got.extend(everything(edge))
        messages = [item for item in got if type(item) is not Bound]
        assert len(messages) + edge.metrics.dropped == edge.metrics.pushed == pushed
        assert edge.size == 0
        times = [item.time for item in got]
        if policy != "latest":
            assert times == sorted(times)
        assert len({m.sequence for m in messages}) == len(messages)
        if policy == "block":
            assert edge.metrics.dropped == 0
        if policy == "latest" and groups and groups[-1]:
            assert {m.sequence for m in messages} >= {number - 1}, "the newest is always there"

    in_loop(check)


def test_a_bound_that_waits_is_replaced_by_a_newer_one_and_stays_behind_what_it_follows() -> None:
    def check() -> None:
        edge = Edge("e", Wakeup(), capacity=4)
        edge.push([message(1)])
        edge.bound(5)
        edge.bound(9)
        edge.push([message(10)])
        items = everything(edge)
        assert [type(item).__name__ for item in items] == ["Message", "Bound", "Message"]
        assert items[1].time == 9

    in_loop(check)


def test_a_producer_waits_for_room_and_the_time_is_counted() -> None:
    async def check() -> None:
        edge, producer = Edge("e", Wakeup(), capacity=2), Wakeup()
        edge.push([message(1), message(2), message(3)])
        waiting = asyncio.create_task(edge.room(producer))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert edge.blocked_since is not None
        edge.take(2)
        await asyncio.wait_for(waiting, 1)
        assert edge.metrics.blocked == 1
        assert edge.metrics.blocked_nanoseconds > 5_000_000

    in_loop(check)


def test_a_closed_edge_lets_its_producer_go() -> None:
    async def check() -> None:
        edge = Edge("e", Wakeup(), capacity=1)
        edge.push([message(1)])
        edge.close()
        await asyncio.wait_for(edge.room(Wakeup()), 1)

    in_loop(check)


def test_an_edge_without_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity must be at least 1"):
        in_loop(lambda: Edge("e", Wakeup(), capacity=0))
