"""Commands and heartbeats over a genuine broker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from operators.sinks.alerts import Alerts
from pipeline import commands
from pipeline.broker import Broker, artefacts
from pipeline.engine import Engine, RunOptions
from pipeline.errors import VigilError
from pipeline.graph import Graph
from pipeline.journal import JournalReader
from pipeline.kafka import KafkaSettings, send_command, statuses, subscribe
from pipeline.message import Status
from tests.operators.sinks.test_alerts import Patient

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.xdist_group("kafka"),
    pytest.mark.skipif(not (shutil.which("java") and shutil.which("mvn")), reason="needs Java 17 and Maven"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    artefacts()
    made = Broker(tmp_path_factory.mktemp("kafka"))
    made.start()
    yield made
    made.stop()


async def test_a_room_is_commanded_over_the_broker_and_garbage_is_left_out(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = KafkaSettings(bootstrap=broker.bootstrap, partitions=2)
    graph = Graph("ward")
    graph.add("patient", Patient)
    graph.add("alerts", Alerts, kafka=settings)
    graph.connect("patient", "alerts")
    engine = Engine(graph, RunOptions(room="7", data=tmp_path))
    running = asyncio.create_task(engine.run())
    told = subscribe(settings, beginning=True, room="7")
    try:
        async with asyncio.timeout(60):
            first = await anext(told)
            operator = engine.steps["alerts"].operator  # type: ignore[attr-defined]
            await asyncio.to_thread(operator.reader.reading.wait, 30)
            with caplog.at_level(logging.WARNING):
                producer = AIOKafkaProducer(**settings.client())
                await producer.start()
                for body in (b"", b"\xff", b"{}", b"[" * 4000, b"x" * 10_000, b'{"command":"resume"}', None):
                    await producer.send_and_wait(settings.commands_topic, body, key=b"7")
                await producer.stop()
                order = commands.issue("acknowledge", "7", "anaesthesia", alert_id=first.alert_id)
                outcome = await send_command(settings, order)
            assert outcome.done, outcome.reason
            assert outcome.alerts == (first.alert_id,)
            second = await anext(told)
            assert (second.revision, second.signal.presence, second.signal.by) == (2, "acknowledged", "anaesthesia")
            refused = await send_command(settings, commands.issue("acknowledge", "7", "nurse", alert_id="nobody"))
            assert not refused.done
            assert refused.reason.startswith("alert_id")
            with pytest.raises(VigilError, match="has not answered"):
                await send_command(settings, commands.issue("resume", "another room", "nurse"), seconds=1)
        assert caplog.text.count(f"{settings.commands_topic}:") == 7
    finally:
        engine.stop()
        await asyncio.wait_for(running, 20)
        await told.aclose()
    kinds = [entry.kind for entry in JournalReader(tmp_path / "journal.db").entries()]
    assert kinds == ["alert", "alert", "command", "command"]


async def test_heartbeats_arrive_and_the_last_one_says_that_the_run_has_ended(broker: Broker, tmp_path: Path) -> None:
    settings = KafkaSettings(bootstrap=broker.bootstrap, partitions=2)
    graph = Graph("ward")
    graph.add("patient", Patient)
    graph.add("alerts", Alerts, kafka=settings)
    graph.connect("patient", "alerts")
    engine = Engine(graph, RunOptions(room="9", data=tmp_path))
    running = asyncio.create_task(engine.run())
    found: list[Status] = []
    async with asyncio.timeout(60), contextlib.aclosing(statuses(settings, room="9")) as beats:
        async for status in beats:
            found.append(status)
            if status.state == "stopped":
                break
            engine.stop()
    await asyncio.wait_for(running, 20)
    assert [status.state for status in found[-2:]] == ["running", "stopped"]
    assert found[0].run == found[-1].run != ""
    assert [stream.name for stream in found[-1].streams] == ["patient.conditions"]
