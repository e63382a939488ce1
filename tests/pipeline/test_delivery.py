"""Vigil is killed, a broker of a cluster is killed: nothing is lost, nothing changes its place."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from pipeline.broker import Broker, artefacts
from pipeline.journal import Journal, JournalReader
from pipeline.kafka import KafkaSettings, Publisher, subscribe
from tests.pipeline.test_journal import alert
from tests.pipeline.test_kafka import published, received

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.xdist_group("kafka"),
    pytest.mark.skipif(not (shutil.which("java") and shutil.which("mvn")), reason="needs Java 17 and Maven"),
    pytest.mark.timeout(900),
]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    artefacts()
    made = Broker(tmp_path_factory.mktemp("kafka"))
    made.start()
    yield made
    made.stop()


def run_and_kill(data: Path, bootstrap: str, topic: str, seed: int, seconds: float) -> None:
    """Launch, wait for the first alert, and SIGKILL some time later."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.pipeline.delivery_child", str(data), bootstrap, topic, str(seed)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "alive\n"
    time.sleep(seconds)
    assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.stdout.read()
    child.stdout.close()
    child.wait()


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
async def test_vigil_is_killed_again_and_again(broker: Broker, tmp_path: Path, kills: int) -> None:
    chance = random.Random(kills)
    for number in range(kills):
        await asyncio.to_thread(
            run_and_kill, tmp_path, broker.bootstrap, f"killed-{kills}", number, chance.uniform(0, 1.5)
        )
    options = KafkaSettings(bootstrap=broker.bootstrap, topic=f"killed-{kills}", partitions=3)
    journal = Journal(tmp_path / "journal.db")
    publisher = Publisher(journal, options)
    await asyncio.to_thread(published, publisher, journal.sequence)
    publisher.close()
    journal.close()
    reader = JournalReader(tmp_path / "journal.db")
    assert reader.verify() == (reader.last(), "")
    wanted = [entry.alert for entry in reader.entries() if entry.kind == "alert"]
    reader.close()
    assert len({(one.alert_id, one.revision) for one in wanted}) == len(wanted) > kills
    assert await received(subscribe(options, beginning=True), len(wanted)) == wanted


async def leader(bootstrap: str, topic: str) -> int:
    """The node (from 0) that leads partition 0."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
        number: int = described["partitions"][0]["leader"]
        return number - 1
    finally:
        await admin.close()


@pytest.mark.slow
async def test_a_cluster_loses_its_leader_and_goes_on(tmp_path: Path) -> None:
    artefacts()
    cluster = Broker(tmp_path / "kafka", nodes=3)
    try:
        await asyncio.to_thread(cluster.start)
        options = KafkaSettings(bootstrap=cluster.bootstrap, topic="cluster", partitions=1)
        journal = Journal(tmp_path / "journal.db")
        publisher = Publisher(journal, options)
        alerts = [alert(number) for number in range(900)]
        for one in alerts[:300]:
            journal.append("alert", one)
        await asyncio.to_thread(published, publisher, 300)
        lost = await leader(cluster.bootstrap, "cluster")
        for number, one in enumerate(alerts[300:600]):
            journal.append("alert", one)
            if number == 100:
                cluster.kill(lost)
        await asyncio.to_thread(published, publisher, 600, 120)
        now = await leader(cluster.bootstrap, "cluster")
        assert now != lost
        cluster.start_node(lost)
        await asyncio.to_thread(cluster.wait, lost)
        for one in alerts[600:]:
            journal.append("alert", one)
        await asyncio.to_thread(published, publisher, 900, 120)
        publisher.close()
        journal.close()
        assert await received(subscribe(options, beginning=True), 900) == alerts
    finally:
        await asyncio.to_thread(cluster.stop)


async def test_a_subscriber_outlives_its_broker(broker: Broker, tmp_path: Path) -> None:
    options = KafkaSettings(bootstrap=broker.bootstrap, topic="outlived", partitions=1)
    journal = Journal(tmp_path / "journal.db")
    publisher = Publisher(journal, options)
    alerts = [alert(number) for number in range(200)]
    listening = asyncio.create_task(received(subscribe(options, beginning=True), 200, 120))
    for one in alerts[:100]:
        journal.append("alert", one)
    await asyncio.to_thread(published, publisher, 100)
    broker.kill()
    await asyncio.sleep(1)
    broker.start_node(0)
    await asyncio.to_thread(broker.wait, 0)
    for one in alerts[100:]:
        journal.append("alert", one)
    assert await listening == alerts
    publisher.close()
    journal.close()
