"""`vigil bench soak`: does memory stay where it is over a long operation?"""

from __future__ import annotations

import asyncio
import gc
import importlib.resources
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipeline.bench import BenchOptions, Row, limit
from pipeline.engine import Engine, RunOptions
from pipeline.graph import Graph
from pipeline.message import NANOSECONDS, Message
from pipeline.topology import load

EVERY_SECONDS = 600
"""Simulated seconds between two looks at the memory; the first is what growth is counted from."""


class Samples:
    """Resident memory at every tenth simulated minute, looked at as messages pass."""

    def __init__(self, options: BenchOptions, every: float) -> None:
        self.options, self.every = options, round(every * NANOSECONDS)
        self.process = psutil.Process()
        self.megabytes: list[float] = []
        self.start = self.due = 0
        self.messages = 0

    def __call__(self, batch: Sequence[Message[Any]]) -> None:
        self.messages += len(batch)
        time_now = batch[-1].time
        if not self.start:
            self.start, self.due = time_now, time_now + self.every
        while time_now >= self.due:
            self.due += self.every
            gc.collect()
            self.megabytes.append(self.process.memory_info().rss / 1e6)
            hours = (self.due - self.every - self.start) / NANOSECONDS / 3600
            self.options.progress(f"{hours:.2f} simulated hours, {self.megabytes[-1]:,.0f} MB")


def stretched(hours: float, seed: int) -> dict[str, Any]:
    """The long case, made to last so many hours; what is scripted later than that is left out."""
    source = importlib.resources.files("operators") / "theatre" / "cases" / "long.yaml"
    case: dict[str, Any] = yaml.safe_load(source.read_text())
    seconds = hours * 3600
    case |= {"name": "soak", "duration": seconds, "seed": seed or case["seed"]}
    for part in ("phases", "script"):
        case[part] = [item for item in case[part] if item["at"] + item.get("lasts", 0) < seconds]
    case["video"]["bursts"] = [item for item in case["video"]["bursts"] if item["at"] + item["lasts"] < seconds]
    return case


def graph(case: Path) -> Graph:
    """The shipped theatre topology around a case, with patience for sparse film."""
    topology = Path(str(importlib.resources.files("topologies"))) / "theatre.yaml"
    return load(topology, {"CASE": str(case), "VIDEO_SILENT_SECONDS": "30"})


def run(options: BenchOptions) -> list[Row]:
    """The long case through the shipped theatre topology, journal and all, as fast as it goes."""
    hours = min(options.hours, 0.1) if options.quick else options.hours
    every = EVERY_SECONDS if hours * 3600 > 2 * EVERY_SECONDS else hours * 3600 / 6
    samples = Samples(options, every)
    with tempfile.TemporaryDirectory(prefix="vigil-soak-") as name:
        path = Path(name) / "soak.yaml"
        path.write_text(yaml.safe_dump(stretched(hours, options.seed)))
        engine = Engine(graph(path), RunOptions(speed=float("inf"), data=Path(name) / "data", case="soak"))
        alerts = [0]
        for port in ("video", "waveforms", "numerics"):
            engine.listen("theatre", port, samples)
        engine.listen("alerts", "alerts", lambda batch: alerts.__setitem__(0, alerts[0] + len(batch)))
        began = time.perf_counter()
        asyncio.run(engine.run())
        spent = time.perf_counter() - began
    first, last = samples.megabytes[0], max(samples.megabytes[1:], default=samples.megabytes[0])
    minutes = every / 60
    return [
        limit(f"resident growth after the first simulated {minutes:g} min", last - first, "MB", at_most=200),
        Row(f"resident after the first simulated {minutes:g} min", first, "MB"),
        Row("resident at the end", samples.megabytes[-1], "MB"),
        Row("simulated hours", hours, "h"),
        Row("speed", hours * 3600 / spent, "x real time"),
        Row("messages", float(samples.messages), ""),
        Row("revisions of alerts", float(alerts[0]), ""),
    ]
