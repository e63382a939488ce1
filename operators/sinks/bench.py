"""`vigil bench alerts`: from a condition that is true to an alert on the disk, and acknowledged by a genuine broker."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer

from operators.sinks.alerts import Alerts
from pipeline.bench import BenchOptions, Row, compare, limit
from pipeline.broker import Broker
from pipeline.engine import Engine, RunOptions
from pipeline.errors import VigilError
from pipeline.graph import Graph
from pipeline.journal import JournalReader
from pipeline.kafka import KafkaSettings, ensure_topics, subscribe
from pipeline.message import AlertCondition, Evidence, Message, Rule
from pipeline.operator import Output, Source
from pipeline.time import stamp

RATE = 50.0
"""Conditions a second in the steady run: far more than any room has."""
SUBJECTS = 16
"""Alerts that are active at once."""
WINDOW = 200
"""Conditions under way at most in the run for throughput: fewer than what a live source's door holds."""
WARM_UP = 20
"""First alerts that are not counted: connections and caches are made then."""


class Meter:
    """What a run is asked for, and the stamps (ns) of each of its alerts."""

    def __init__(self, count: int, rate: float) -> None:
        self.count, self.rate = count, rate
        self.begin, self.finish = threading.Event(), threading.Event()
        self.left = np.zeros(count, np.int64)
        self.durable = np.zeros(count, np.int64)
        self.acknowledged = np.zeros(count, np.int64)
        self.committed = self.received = 0

    def commit(self, sequence: int) -> None:
        """The disk has everything up to ``sequence``."""
        self.durable[self.committed : sequence] = stamp()
        self.committed = sequence

    def acknowledge(self, sequence: int) -> None:
        """The broker has everything up to ``sequence``."""
        self.acknowledged[self.received : sequence] = stamp()
        self.received = sequence

    def milliseconds(self, until: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """How long each alert took, without the first ones."""
        taken: np.ndarray[Any, Any] = (until - self.left)[WARM_UP:] / 1e6
        return taken


def condition(number: int, onset: int, now: int) -> AlertCondition:
    """One that begins at ``now``, or began at ``onset`` and ends."""
    ended = now if now > onset else None
    evidence = Evidence("monitor.numerics", onset, now, "Intellivue/ABP_MEAN", (64.0, 63.0, 61.5), "mm[Hg]")
    return AlertCondition(
        code="hypotension", present=ended is None, priority="high", kind="technical",
        text="Mean arterial pressure is below 65 mmHg for 60 s.", onset=onset, source="bench",
        rule=Rule("bench", "1", "0" * 16), subject=str(number % SUBJECTS), ended=ended, value=61.5, limit=65.0,
        unit="mm[Hg]", evidence=(evidence,),
    )  # fmt: skip


def conditions(meter: Meter) -> type[Source]:
    """A device that gives what ``meter`` asks for."""

    class Conditions(Source):
        conditions: Output[AlertCondition]

        def run(self) -> Iterator[Message[Any]]:
            meter.begin.wait()
            due, onsets = time.perf_counter(), [0] * SUBJECTS
            for number in range(meter.count):
                if meter.rate:
                    due += 1 / meter.rate
                    time.sleep(max(0.0, due - time.perf_counter()))
                while number - meter.committed >= WINDOW and not self.stopping.is_set():
                    time.sleep(0.0002)
                now = time.time_ns()
                if number // SUBJECTS % 2 == 0:  # sixteen begin, the same sixteen end, and so on
                    onsets[number % SUBJECTS] = now
                meter.left[number] = stamp()
                yield self.conditions.first(condition(number, onsets[number % SUBJECTS], now), now)
            meter.finish.wait(120)

    return Conditions


def measure(folder: Path, meter: Meter, kafka: KafkaSettings) -> None:
    """Run conditions through the real graph: engine, state machine, journal, publisher."""
    graph = Graph("bench")
    graph.add("source", conditions(meter))
    graph.add("alerts", Alerts, kafka=kafka)
    graph.connect("source", "alerts")
    engine = Engine(graph, RunOptions(data=folder, room="bench"))

    async def go() -> None:
        running = asyncio.create_task(engine.run())
        try:
            while not engine.ready:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            operator: Any = engine.steps["alerts"].operator  # type: ignore[attr-defined]
            operator.journal.on_commit(meter.commit)
            if operator.publisher is not None:
                operator.publisher.on_acknowledged(meter.acknowledge)
                await asyncio.to_thread(operator.publisher.connected.wait, 30)
            meter.begin.set()
            done = meter.acknowledged if operator.publisher is not None else meter.durable
            until = time.monotonic() + 120
            while not done[-1] and not running.done():
                if time.monotonic() > until:
                    raise VigilError(f"{meter.received} of {meter.count} were acknowledged in 120 s")
                await asyncio.sleep(0.01)
        finally:
            meter.begin.set()
            meter.finish.set()
            engine.stop()
            await running

    asyncio.run(go())


def raw_commits(path: Path, bodies: list[bytes], rate: float) -> np.ndarray[Any, Any]:
    """Milliseconds of each commit where the same bodies go straight into SQLite, one a transaction."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE entries (sequence INTEGER PRIMARY KEY, body BLOB)")
    taken, due = [], time.perf_counter()
    for body in bodies:
        due += 1 / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        began = stamp()
        database.execute("INSERT INTO entries (body) VALUES (?)", (body,))
        taken.append(stamp() - began)
    database.close()
    return np.array(taken[WARM_UP:]) / 1e6


async def raw_sends(settings: KafkaSettings, bodies: list[bytes], rate: float) -> np.ndarray[Any, Any]:
    """Milliseconds of each ``send_and_wait`` of the same bodies by a plain producer with the same guarantees."""
    await ensure_topics(settings)
    producer = AIOKafkaProducer(**settings.client(), enable_idempotence=True, acks="all")
    await producer.start()
    taken, due = [], time.perf_counter()
    try:
        for body in bodies:
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            began = stamp()
            await producer.send_and_wait(settings.topic, body, key=b"bench")
            taken.append(stamp() - began)
    finally:
        await producer.stop()
    return np.array(taken[WARM_UP:]) / 1e6


async def arrived(settings: KafkaSettings, journal: Path) -> int:
    """Alerts of the journal that a subscriber did not get, got twice, or got in another order: 0 where all is well."""
    reader = JournalReader(journal)
    wanted = [(entry.alert.alert_id, entry.alert.revision) for entry in reader.entries()]
    reader.close()
    found: list[tuple[str, int]] = []
    async with contextlib.aclosing(subscribe(settings, beginning=True)) as alerts:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(120):
                async for alert in alerts:
                    found.append((alert.alert_id, alert.revision))
                    if len(found) == len(wanted):
                        break
    return sum(a != b for a, b in zip(wanted, found, strict=False)) + abs(len(wanted) - len(found))


def run(options: BenchOptions) -> list[Row]:
    """The alert path at a steady rate, then flat out. Without Java and Maven the rows about Kafka are left out."""
    with tempfile.TemporaryDirectory(prefix="vigil-bench-") as name:
        folder = Path(name)
        rows = _disk(folder, options)
        if not (shutil.which("java") and shutil.which("mvn")):
            options.progress("no Java or Maven here: no rows about Kafka")
            return rows
        broker = Broker(folder / "kafka")
        options.progress("starting Apache Kafka")
        try:
            broker.start()
            return rows + _kafka(folder, options, broker.bootstrap)
        finally:
            broker.stop()


def _steady(options: BenchOptions) -> int:
    return WARM_UP + (100 if options.quick else 1500)


def _disk(folder: Path, options: BenchOptions) -> list[Row]:
    meter = Meter(_steady(options), RATE)
    options.progress(f"{meter.count} alerts at {RATE:g}/s to the disk")
    measure(folder / "disk", meter, KafkaSettings())
    reader = JournalReader(folder / "disk" / "journal.db")
    bodies = [entry.body for entry in reader.entries()]
    reader.close()
    taken = meter.milliseconds(meter.durable)
    raw = raw_commits(folder / "raw.db", bodies, RATE)
    p99 = float(np.percentile(taken, 99))
    return [
        Row("condition true to durable, p50", float(np.median(taken)), "ms"),
        limit("condition true to durable, p99", p99, "ms", at_most=10),
        compare("durable p99 beside a raw commit", p99, "ms", "raw SQLite commit p99", float(np.percentile(raw, 99))),
    ]


def _kafka(folder: Path, options: BenchOptions, bootstrap: str) -> list[Row]:
    settings = KafkaSettings(bootstrap=bootstrap)
    meter = Meter(_steady(options), RATE)
    options.progress(f"{meter.count} alerts at {RATE:g}/s to Kafka")
    measure(folder / "steady", meter, settings)
    reader = JournalReader(folder / "steady" / "journal.db")
    bodies = [entry.body for entry in reader.entries() if entry.kind == "alert"]
    reader.close()
    plain = settings.model_copy(update={"topic": "vigil.alerts.raw"})
    raw = asyncio.run(raw_sends(plain, bodies, RATE))
    taken = meter.milliseconds(meter.acknowledged)

    flat = Meter(5_000 if options.quick else 50_000, 0)
    options.progress(f"{flat.count:,} alerts as fast as they go")
    swift = settings.model_copy(update={"topic": "vigil.alerts.flat"})
    measure(folder / "flat", flat, swift)
    seconds = float(flat.acknowledged[-1] - flat.left[0]) / 1e9
    wrong = asyncio.run(arrived(swift, folder / "flat" / "journal.db"))
    p99, raw_p99 = float(np.percentile(taken, 99)), float(np.percentile(raw, 99))
    return [
        Row("condition true to acknowledged, p50", float(np.median(taken)), "ms"),
        compare("condition true to acknowledged, p99", p99, "ms", "raw send_and_wait p99", raw_p99, at_most=3),
        limit("alerts sustained to acknowledged", flat.count / seconds, "/s", at_least=5000),
        limit("alerts missing, twice or out of order", float(wrong), "", at_most=0),
    ]
