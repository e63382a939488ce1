from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.engine import Engine, RunOptions
from pipeline.errors import VigilError
from pipeline.graph import Graph
from pipeline.health import Snapshot, served
from tests.pipeline.helpers import Add, LiveCount


def running() -> Engine:
    graph = Graph("health")
    graph.add("device", LiveCount, count=10_000, pause_seconds=0.01)
    graph.add("add", Add, fail_on=(3.0,))
    graph.add("queued", Add)
    graph.connect("device", "add")
    graph.connect("add", "queued", capacity=8)
    return Engine(graph, RunOptions())


async def get(port: int, path: str) -> tuple[int, str]:
    def fetch() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(fetch)


async def test_a_running_engine_shows_its_health_its_metrics_and_its_state() -> None:
    engine = running()
    async with served(engine, port=0) as port:
        assert (await get(port, "/readyz"))[0] == 503, "not started yet"
        task = asyncio.create_task(engine.run())
        await asyncio.sleep(0.5)
        assert (await get(port, "/healthz"))[0] == (await get(port, "/readyz"))[0] == 200
        families = {f.name: f for f in text_string_to_metric_families((await get(port, "/metrics"))[1])}
        status: Snapshot = msgspec.json.decode((await get(port, "/status"))[1], type=Snapshot)
        engine.stop()
        await task
        assert (await get(port, "/readyz"))[0] == 503

    def value(name: str, **labels: str) -> float:
        base = name.removesuffix("_total").removesuffix("_count")
        return next(s.value for s in families[base].samples if s.name == name and labels.items() <= s.labels.items())

    assert value("vigil_operator_messages_total", operator="add") > 10
    assert value("vigil_operator_errors_total", operator="add") == 1
    assert value("vigil_operator_process_seconds_count", operator="queued") > 10
    assert value("vigil_edge_messages_total", edge="add.output->queued.input") > 10
    assert value("vigil_edge_wait_seconds_count", edge="add.output->queued.input") > 10
    assert value("vigil_stream_age_seconds", stream="device.output") < 5
    assert {node.name: node.errors for node in status.nodes} == {"device": 0, "add": 1, "queued": 0}
    assert status.origin == "live"
    assert [stream.name for stream in status.streams] == ["device.output"]


async def test_a_loop_that_does_not_turn_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = running()
    monkeypatch.setattr("pipeline.health.UNHEALTHY_SECONDS", 0.0)
    async with served(engine, port=0) as port:
        task = asyncio.create_task(engine.run())
        await asyncio.sleep(0.3)
        code, body = await get(port, "/healthz")
        engine.stop()
        await task
    assert (code, json.loads(body)["status"]) == (503, "held up")


async def test_a_port_in_use_is_an_error_that_says_what_to_do() -> None:
    async with served(running(), port=0) as port:
        with pytest.raises(VigilError, match="give --port"):
            async with served(running(), port=port):
                pass


async def test_freshness_ages_while_nothing_comes() -> None:
    graph = Graph("silent")
    graph.add("device", LiveCount, count=3)
    graph.add("add", Add)
    graph.connect("device", "add")
    engine = Engine(graph)
    await engine.run()
    first = [age for _, age, _ in engine.stream_ages()]
    await asyncio.sleep(0.1)
    later: list[Any] = [age for _, age, _ in engine.stream_ages()]
    assert later[0] - first[0] > 0.09
