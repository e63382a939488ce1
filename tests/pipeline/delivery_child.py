"""A launch that raises alerts until it is killed: run with DATA BOOTSTRAP TOPIC SEED."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from operators.sinks.alerts import Alerts
from pipeline.engine import Engine, RunOptions
from pipeline.graph import Graph
from pipeline.message import AlertCondition, Message, Rule
from pipeline.operator import Config, Output, Source


class Patients(Source):
    """Conditions of eight patients that come and go at random, some hundred a second."""

    class Config(Config):
        seed: int

    conditions: Output[AlertCondition]

    def run(self) -> Iterator[Message[Any]]:
        chance = random.Random(self.config.seed)
        onsets: dict[int, int] = {}
        while not self.stopping.is_set():
            time.sleep(chance.uniform(0, 0.005))
            now, patient = time.time_ns(), chance.randrange(8)
            ended = now if patient in onsets else None
            onset = onsets.pop(patient) if ended else onsets.setdefault(patient, now)
            yield self.conditions.first(
                AlertCondition(
                    code="hypotension", present=ended is None, priority="high", kind="technical", text="Low",
                    onset=onset, source="patients", rule=Rule("patients", "1", "0"), subject=str(patient), ended=ended,
                ),
                now,
            )  # fmt: skip


def main() -> None:
    data, bootstrap, topic, seed = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    graph = Graph("delivery")
    graph.add("patients", Patients, seed=seed)
    graph.add("alerts", Alerts, kafka={"bootstrap": bootstrap, "topic": topic, "partitions": 3})
    graph.connect("patients", "alerts")
    engine = Engine(graph, RunOptions(room="9", data=data))
    engine.listen("alerts", "alerts", lambda batch: print("alive", flush=True))
    asyncio.run(engine.run())


if __name__ == "__main__":
    main()
