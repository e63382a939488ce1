from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import numpy as np
import pytest

from pipeline.engine import Engine, RunOptions
from pipeline.errors import VigilError
from pipeline.graph import Graph, Placement
from pipeline.message import Message
from pipeline.time import stamp
from pipeline.watch import StalledError
from tests.pipeline.helpers import (
    SECOND,
    Add,
    AsyncAdd,
    AsyncCount,
    Collect,
    CollectAnswers,
    ConditionLog,
    Count,
    Frames,
    Hang,
    LiveCount,
    Mean,
    Silence,
    play,
    values,
)

PLACEMENTS: list[Placement] = ["inline", "thread", "process", "cuda"]


def chain(*, count: int = 10, placement: Placement = "inline", capacity: int | None = None, **options: Any) -> Graph:
    graph = Graph("chain")
    graph.add("count", Count, count=count)
    graph.add("add", Add, placement=placement, **options)
    graph.add("last", Add, amount=100)
    graph.add("end", Collect)
    graph.connect("count", "add", capacity=capacity)
    graph.connect("add", "last", capacity=capacity)
    graph.connect("last", "end")
    return graph


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_every_placement_gives_the_same_messages_in_order(placement: Placement) -> None:
    heard = await play(chain(count=200, placement=placement), "last.output")
    assert values(heard) == [i + 101.0 for i in range(200)]
    assert [message.sequence for message in heard] == list(range(200))
    assert [message.time for message in heard] == [i * 10_000_000 for i in range(200)]


async def test_queued_edges_give_what_fused_ones_give() -> None:
    fused, queued = await play(chain(count=500), "last.output"), await play(chain(count=500, capacity=3), "last.output")
    assert [(m.order, m.payload) for m in fused] == [(m.order, m.payload) for m in queued]


async def test_every_message_carries_the_stamps_of_its_way() -> None:
    before = stamp()
    heard = await play(chain(count=3), "last.output")
    for message in heard:
        assert [hop.node for hop in message.trace] == ["count", "add", "last"]
        stamps = [moment for hop in message.trace for moment in (hop.entered, hop.left)]
        assert stamps == sorted(stamps)
        assert before <= stamps[0]
        assert stamps[-1] <= stamp()


async def test_async_handlers_and_async_sources_run() -> None:
    graph = Graph("async")
    graph.add("count", AsyncCount, count=300)
    graph.add("add", AsyncAdd)
    graph.connect("count", "add")
    assert values(await play(graph, "add.output")) == [i + 1.0 for i in range(300)]


async def test_cuda_without_a_device_runs_inline_and_says_so() -> None:
    engine = Engine(chain(placement="cuda"), RunOptions(speed=float("inf")))
    await engine.run()
    if engine.notes:  # a machine with a device has nothing to say
        assert "add: placed on CUDA, runs inline here" in engine.notes[0]


@pytest.mark.parametrize("placement", ["inline", "thread", "process"])
async def test_an_operator_that_raises_is_restarted_with_its_state_and_people_are_told(placement: Placement) -> None:
    graph = chain(count=20, placement=placement, fail_on=(3.0,))
    graph.add("log", ConditionLog)
    engine = Engine(graph, RunOptions(speed=float("inf")))
    heard: list[Message[Any]] = []
    conditions: list[Message[Any]] = []
    engine.listen("last", "output", heard.extend)
    engine.listen("log", "log", conditions.extend)
    await engine.run()
    assert values(heard) == [i + 101.0 for i in range(20) if i != 3], "only the message that raised is lost"
    add = engine.steps["add"].metrics
    assert (add.errors, add.lost, add.restarts) == (1, 1, 1)
    told = [(m.payload.code, m.payload.subject, m.payload.present) for m in conditions]
    assert told == [("operator_failed", "add", True), ("operator_failed", "add", False)]
    assert "Smith" not in conditions[0].payload.text, "an exception's text may hold anything: it stays in the log"
    assert conditions[1].payload.ended >= conditions[1].payload.onset == 30_000_000


async def test_an_operator_that_keeps_raising_is_kept_out_for_longer_and_longer_and_the_rest_runs() -> None:
    graph = chain(count=1000, fail_on=tuple(float(i) for i in range(1000)))
    graph.add("bystander", Add)
    graph.connect("count", "bystander")
    engine = Engine(graph, RunOptions(speed=float("inf")))
    heard: list[Message[Any]] = []
    engine.listen("bystander", "output", heard.extend)
    await engine.run()
    assert len(heard) == 1000
    metrics = engine.steps["add"].metrics
    assert metrics.lost == 1000
    assert 3 < metrics.errors < 15, "10 s of event time with a backoff that doubles from 0.1 s"


async def test_state_survives_a_restart() -> None:
    engine = Engine(chain(count=20, fail_on=(3.0,)), RunOptions(speed=float("inf")))
    await engine.run()
    assert engine.steps["add"].operator.seen == 20  # type: ignore[attr-defined]


async def test_a_missed_deadline_is_an_abstention_and_is_counted() -> None:
    graph = Graph("deadline")
    graph.add("count", Count, count=3)
    graph.add("slow", Add, placement="thread", deadline_seconds=0.02, sleep_seconds=0.1)
    graph.add("answers", CollectAnswers)
    graph.connect("count", "slow")
    graph.connect("slow", "answers")
    engine = Engine(graph, RunOptions(speed=float("inf")))
    heard: list[Message[Any]] = []
    engine.listen("answers", "output", heard.extend)
    await engine.run()
    assert [message.payload.channel for message in heard] == ["Abstain"] * 3
    assert engine.steps["slow"].metrics.abstained == 3


async def test_timers_fire_in_event_time_also_after_the_last_message() -> None:
    graph = Graph("timers")
    graph.add("count", Count, count=3, step_ms=300)
    graph.add("silence", Silence, seconds=0.1)
    graph.connect("count", "silence")
    heard = await play(graph, "silence.output")
    assert [message.time // 1_000_000 for message in heard] == [100, 400], "the run ends at 600: 700 is not reached"


@pytest.mark.parametrize("capacity", [None, 4])
async def test_a_silent_source_does_not_hold_up_another(capacity: int | None) -> None:
    graph = Graph("bounds")
    graph.add("fast", Count, count=100)
    graph.add("early", Count, count=1)
    graph.add("silence", Silence, seconds=0.2)
    graph.connect("early", "silence", capacity=capacity)
    graph.add("bystander", Add)
    graph.connect("fast", "bystander")
    heard = await play(graph, "silence.output")
    assert [message.time for message in heard] == [200_000_000], "it learnt the time from the other source"


async def test_a_live_source_is_never_made_to_wait() -> None:
    graph = Graph("live")
    graph.add("device", LiveCount, count=5000)
    graph.add("slow", Add, placement="thread", sleep_seconds=0.01)
    graph.connect("device", "slow", policy="block", capacity=2)
    engine = Engine(graph, RunOptions())
    task = asyncio.create_task(engine.run())
    await asyncio.sleep(0.5)
    engine.stop()
    await task
    buffer = engine._sources[0].metrics
    assert buffer.pushed == 5000, "the device was read to the end, however slow the graph"
    assert buffer.dropped > 4000
    assert buffer.dropped + engine.steps["device"].metrics.processed >= 5000 - 256


async def test_frames_that_fan_out_keep_the_newest_and_a_slow_branch_never_slows_its_sibling() -> None:
    graph = Graph("fan-out")
    graph.add("device", LiveCount, count=60, pause_seconds=0.005)
    graph.add("fast", Add)
    graph.add("slow", Add, placement="thread", sleep_seconds=0.05)
    graph.connect("device", "fast")
    graph.connect("device", "slow", policy="latest")
    engine = Engine(graph, RunOptions())
    fast: list[int] = []
    engine.listen("fast", "output", lambda batch: fast.extend(stamp() - m.trace[0].left for m in batch))
    began = time.monotonic()
    await engine.run()
    assert len(fast) == 60
    dropped = engine.steps["slow"].edges[0].metrics.dropped
    assert dropped + engine.steps["slow"].metrics.processed == 60, "nothing is dropped without being counted"
    assert dropped > 20
    assert time.monotonic() - began < 3.0


async def test_frames_fan_out_defaults_to_latest_and_replay_to_block() -> None:
    graph = Graph("frames")
    graph.add("video", Frames)
    graph.add("one", Mean)
    graph.add("two", Mean)
    graph.connect("video", "one.video")
    graph.connect("video", "two.video")
    live, replay = Engine(graph), Engine(graph, RunOptions(deterministic=True, speed=float("inf")))
    for engine, policies in ((live, {"latest"}), (replay, set())):
        engine.stop()
        await engine.run()
        assert {edge.policy for edge in engine.edges} == policies


async def test_frames_are_not_copied_inside_a_process_and_arrive_whole_in_another() -> None:
    for placement in ("inline", "thread", "process"):
        graph = Graph("frames")
        graph.add("video", Frames, count=12)
        graph.add("mean", Mean, placement=placement)  # type: ignore[arg-type]
        graph.connect("video", "mean.video")
        engine = Engine(graph, RunOptions(speed=float("inf")))
        addresses: list[str] = []
        heard: list[Message[Any]] = []

        def remember(batch: Any, addresses: list[str] = addresses) -> None:
            addresses.extend(str(m.payload.planes[0].ctypes.data) for m in batch)

        engine.listen("video", "video", remember)
        engine.listen("mean", "output", heard.extend)
        await engine.run()
        assert values(heard) == [float(i) for i in range(12)]
        assert ([m.payload.channel for m in heard] == addresses) == (placement != "process")


async def test_a_source_that_breaks_off_is_an_error_after_what_it_gave() -> None:
    graph = Graph("broken")
    graph.add("count", Count, count=10, fail_at=4)
    graph.add("add", Add)
    graph.connect("count", "add")
    engine = Engine(graph, RunOptions(speed=float("inf")))
    heard: list[Message[Any]] = []
    engine.listen("add", "output", heard.extend)
    with pytest.raises(VigilError, match="the disk is gone"):
        await engine.run()
    assert len(heard) == 4


async def test_an_operator_that_cannot_start_ends_the_run_and_is_named() -> None:
    class Broken(Add):
        def setup(self) -> None:
            raise RuntimeError("no licence")

    graph = Graph("broken")
    graph.add("count", Count)
    graph.add("broken", Broken)
    graph.connect("count", "broken")
    with pytest.raises(VigilError, match="'broken' cannot start: no licence"):
        await Engine(graph).run()


async def test_a_paced_run_takes_its_time() -> None:
    began = time.monotonic()
    heard = await play(chain(count=11), "last.output", speed=0.5)
    assert len(heard) == 11
    assert 0.15 < time.monotonic() - began < 2.0, "0.1 s of event time at half speed"


async def test_stop_ends_a_long_run_cleanly_and_soon() -> None:
    graph = chain(count=10_000_000, capacity=8)
    engine = Engine(graph, RunOptions(speed=1.0))
    heard: list[Message[Any]] = []
    engine.listen("last", "output", heard.extend)
    task = asyncio.create_task(engine.run())
    await asyncio.sleep(0.3)
    began = time.monotonic()
    engine.stop()
    await task
    assert time.monotonic() - began < 5.0
    assert values(heard) == [i + 101.0 for i in range(len(heard))]
    assert engine.steps["last"].metrics.processed == engine.steps["count"].metrics.processed, "all was handed on"


async def test_a_standstill_is_an_error_that_names_the_edge() -> None:
    graph = chain(count=10, capacity=4)
    engine = Engine(graph, RunOptions(speed=float("inf"), stall_seconds=0.3))

    class Deaf:
        def __call__(self, *_: Any) -> None:
            return None

    original = engine._connect

    def lose_the_end(connection: Any, *arguments: Any) -> None:
        original(connection, *arguments)
        if connection.source == "add":
            engine.steps["add"].links["output"][-1].close = Deaf()

    engine._connect = lose_the_end  # type: ignore[method-assign]
    with pytest.raises(StalledError, match=r"add\.output->last\.input"):
        await engine.run()


async def test_an_edge_that_stays_full_is_a_technical_condition_until_it_moves() -> None:
    graph = Graph("stall")
    graph.add("count", Count, count=4)
    graph.add("slow", Add, placement="thread", sleep_seconds=0.5)
    graph.add("log", ConditionLog)
    graph.connect("count", "slow", capacity=1)
    engine = Engine(graph, RunOptions(speed=float("inf"), stall_seconds=0.15))
    heard: list[Message[Any]] = []
    engine.listen("log", "log", heard.extend)
    await engine.run()
    assert [m.payload.present for m in heard][:2] == [True, False]
    assert heard[0].payload.subject == "count.output->slow.input"


async def test_a_cycle_with_a_buffer_runs_and_ends() -> None:
    class Damped(Add):
        """Half of everything, until it is small."""

        def process(self, message: Message[Any]) -> Any:
            half = message.payload.value / 2
            return self.output.emit(type(message.payload)("n", "", "1", half), message) if half > 0.1 else None

    graph = Graph("cycle")
    graph.add("count", Count, count=5)
    graph.add("half", Damped)
    graph.connect("count", "half")
    graph.connect("half", "half", capacity=16)
    heard = await play(graph, "half.output")
    assert values(heard)[0] == 0.5
    assert len(heard) >= 4


async def test_deterministic_runs_show_several_inputs_in_the_total_order(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    orders = []
    for placement in ("inline", "thread", "inline"):
        graph = Graph("merge")
        for name, step in (("a", 7), ("b", 5), ("c", 11)):
            graph.add(name, Count, count=50, step_ms=step)
            graph.add(f"add_{name}", Add, placement=placement if name == "b" else "inline")  # type: ignore[arg-type]
            graph.connect(name, f"add_{name}")
        graph.add("all", CollectAnswers)
        for name in "abc":
            graph.connect(f"add_{name}", "all")
        engine = Engine(graph, RunOptions(speed=float("inf"), deterministic=True))
        seen: list[int] = []
        engine.listen("all", "output", lambda batch, seen=seen: seen.extend(m.time for m in batch))
        await engine.run()
        assert seen == sorted(seen)
        orders.append(seen)
    assert orders[0] == orders[1] == orders[2]
    assert len(orders[0]) == 150


async def test_messages_and_drops_are_counted_by_stream_and_edge() -> None:
    engine = Engine(chain(count=50, capacity=8), RunOptions(speed=float("inf")))
    await engine.run()
    assert [(name, count) for name, _, count in engine.stream_ages()] == [("count.output", 50)]
    assert {metrics.name: metrics.pushed for metrics in engine.edge_metrics()} == {
        "count.output->add.input": 50,
        "add.output->last.input": 50,
    }
    add = engine.steps["add"].metrics
    assert add.process.count == 50
    assert engine.steps["end"].metrics.end_to_end.count == 50
    assert np.isfinite(add.process.quantile(0.99))
    assert engine.steps["count"].last_time == 49 * SECOND // 100


async def test_an_operator_that_hangs_does_not_hold_up_the_timers_of_others() -> None:
    graph = Graph("hanging")
    graph.add("count", Count, count=200, step_ms=10)
    graph.add("early", Count, count=1)
    graph.add("hang", Hang, placement="thread")
    graph.add("silence", Silence, seconds=0.2)
    graph.connect("count", "hang", policy="latest", capacity=1)
    graph.connect("hang", "silence")
    graph.connect("early", "silence")
    engine, heard = Engine(graph, RunOptions(speed=1.0)), []
    engine.listen("silence", "output", lambda batch: heard.extend((m.time, engine.clock.now()) for m in batch))
    await engine.run()
    due, told = heard[0]
    assert (told - due) / SECOND < 1.0, "half a second is all that the others wait; the hanging one takes 1.8"
