"""Delivery to a genuine broker: nothing lost, order kept, each once for who reads the ids."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from pipeline.broker import Broker, artefacts
from pipeline.errors import VigilError
from pipeline.journal import Journal
from pipeline.kafka import KafkaSettings, Publisher, headers, subscribe
from pipeline.message import Alert
from tests.pipeline.test_journal import alert

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


def settings(broker: Broker, topic: str) -> KafkaSettings:
    return KafkaSettings(bootstrap=broker.bootstrap, topic=topic, partitions=2)


async def received(source: AsyncIterator[Alert], count: int, seconds: float = 60) -> list[Alert]:
    found: list[Alert] = []
    async with asyncio.timeout(seconds):
        async for one in source:
            found.append(one)
            if len(found) == count:
                break
    await source.aclose()  # type: ignore[attr-defined]
    return found


def published(publisher: Publisher, count: int, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while publisher.position < count:
        assert time.monotonic() < until, f"{publisher.position} of {count}: {publisher.error}"
        time.sleep(0.05)


async def test_every_alert_arrives_in_order_with_its_envelope_and_only_once(broker: Broker, tmp_path: Path) -> None:
    options, journal = settings(broker, "plain"), Journal(tmp_path / "journal.db")
    publisher = Publisher(journal, options)
    alerts = [alert(number) for number in range(1200)]
    for one in alerts:
        journal.append("alert", one)
    await asyncio.to_thread(published, publisher, len(alerts))
    publisher.mark.unlink()  # as if killed before it was noted: all of it goes out again
    publisher.close()
    again = Publisher(journal, options)
    await asyncio.to_thread(published, again, len(alerts))
    again.close()
    journal.append("alert", alert(5000))
    journal.close()
    journal = Journal(tmp_path / "journal.db")
    last = Publisher(journal, options)
    await asyncio.to_thread(published, last, len(alerts) + 1)
    last.close()
    journal.close()
    assert last.published == 1, "goes on where the one before it ended"
    assert await received(subscribe(options, beginning=True), 1201) == [*alerts, alert(5000)]
    envelope = dict(headers(alerts[3], 7))
    assert envelope["ce_id"] == f"{alerts[3].alert_id}:1".encode()
    assert envelope["ce_time"] == b"1970-01-01T00:00:00.000000003Z"


async def test_the_broker_is_killed_and_comes_back(broker: Broker, tmp_path: Path) -> None:
    options, journal = settings(broker, "killed"), Journal(tmp_path / "journal.db")
    publisher = Publisher(journal, options)
    alerts = [alert(number) for number in range(600)]
    for one in alerts[:200]:
        journal.append("alert", one)
    await asyncio.to_thread(published, publisher, 200)
    for one in alerts[200:400]:
        journal.append("alert", one)
    broker.kill()
    for one in alerts[400:]:
        journal.append("alert", one)
    await asyncio.sleep(1)
    broker.start_node(0)
    await asyncio.to_thread(broker.wait, 0)
    await asyncio.to_thread(published, publisher, 600, 120)
    publisher.close()
    journal.close()
    assert await received(subscribe(options, beginning=True), 600) == alerts


async def test_a_broker_that_comes_after_the_run_gets_everything(broker: Broker, tmp_path: Path) -> None:
    nowhere = KafkaSettings(bootstrap="127.0.0.1:1", topic="later")
    journal = Journal(tmp_path / "journal.db")
    publisher = Publisher(journal, nowhere)
    alerts = [alert(number) for number in range(300)]
    for one in alerts:
        journal.append("alert", one)
    await asyncio.sleep(1)
    publisher.close(0.5)
    journal.close()
    assert publisher.error
    journal = Journal(tmp_path / "journal.db")
    options = settings(broker, "later")
    publisher = Publisher(journal, options)
    await asyncio.to_thread(published, publisher, 300)
    publisher.close()
    journal.close()
    assert await received(subscribe(options, beginning=True), 300) == alerts


async def test_what_is_no_alert_is_left_out(broker: Broker) -> None:
    options = settings(broker, "hostile")
    reading = asyncio.create_task(received(subscribe(options, beginning=True), 1))
    await asyncio.sleep(2)
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        import msgspec

        for body in (b"", b"{", b"null", b"\xff" * 100, b'{"alert_id": 3}', msgspec.json.encode(alert(1))):
            await producer.send_and_wait("hostile", body)
    assert await reading == [alert(1)]


async def test_a_broker_that_is_not_there_is_named() -> None:
    with pytest.raises(VigilError, match=r"127\.0\.0\.1:1.*vigil broker start"):
        await anext(subscribe(KafkaSettings(bootstrap="127.0.0.1:1")))


async def test_a_topic_that_the_broker_has_only_just_made_is_waited_for(broker: Broker) -> None:
    """Several readers make the topics at once: some meet a broker that has not heard of them yet."""
    options = settings(broker, "just-made")
    readers = [asyncio.create_task(received(subscribe(options, beginning=True), 1)) for _ in range(6)]
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        import msgspec

        await asyncio.sleep(2)
        await producer.send_and_wait("just-made", msgspec.json.encode(alert(1)))
    assert await asyncio.gather(*readers) == [[alert(1)]] * 6
