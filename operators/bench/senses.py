"""`vigil bench senses`: every figure of perception and monitoring, and what they cost in the room they work in."""

from __future__ import annotations

import asyncio
import importlib
import importlib.resources
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from operators.recordings import shared_data
from operators.rules import RuleOperator
from operators.theatre.case import SHIPPED
from operators.theatre.score import score, told_of
from pipeline import registry
from pipeline.bench import BenchOptions, Row, limit
from pipeline.engine import Engine, RunOptions
from pipeline.graph import Graph
from pipeline.message import NANOSECONDS, Alert, Message, Numeric, VideoFrame
from pipeline.operator import Input, Outputs
from pipeline.reader import Reader
from pipeline.recording.composition import Composition
from pipeline.replay import Replay
from pipeline.time import stamp
from pipeline.topology import load

PARTS = (
    "operators.video.privacy.bench", "operators.perception.view.bench", "operators.perception.overlay.bench",
    "operators.perception.segment.bench", "operators.perception.bleeding.bench", "operators.monitor.rhythm.bench",
    "operators.monitor.forecast.bench", "operators.reasoning.bench",
)  # fmt: skip
"""Modules with ``rows(options)``, a part of the senses each."""
PERCEPTION = (("view", "views"), ("segment", "masks"), ("overlay", "readings"))
"""What is timed from the arrival of a picture."""
WIDTH, RATE = 320, 15
"""Pixels and pictures a second of the small camera that the room is judged with."""


class Pulse(RuleOperator):
    """Says a condition at every value it sees, and ends it at the next: traffic by which the reflex path is timed."""

    numerics: Input[Numeric]

    def process(self, message: Message[Numeric]) -> Outputs:
        present = message.sequence % 2 == 0
        self.onset = message.time if present else self.onset
        return self.say(
            message.time, message, code="pulse", subject=message.payload.channel, present=present, priority="medium",
            kind="technical", text="A pulse of the bench.", onset=self.onset, ended=None if present else message.time,
        )  # fmt: skip

    def setup(self) -> None:
        self.onset = 0


class Delays:
    """Milliseconds from a message's arrival to what came of it, by what."""

    def __init__(self) -> None:
        self.found: defaultdict[str, list[float]] = defaultdict(list)
        self.alerts: list[Alert] = []
        self.pending: deque[tuple[int, int]] = deque()

    def since(self, name: str) -> Callable[[Sequence[Message[Any]]], None]:
        """A listener that notes the age of each message."""

        def note(batch: Sequence[Message[Any]]) -> None:
            now = stamp()
            self.found[name] += [(now - message.trace[0].entered) / 1e6 for message in batch if message.trace]

        return note

    def watch(self, engine: Engine, perception: Iterable[tuple[str, str]]) -> None:
        """Listen to an engine that has not started."""
        for node, port in perception:
            if node in engine.graph.nodes:
                engine.listen(node, port, self.since(node))
        engine.listen("alerts", "alerts", self._alerts)
        self.engine = engine

    def _alerts(self, batch: Sequence[Message[Any]]) -> None:
        operator: Any = self.engine.steps["alerts"].operator  # type: ignore[attr-defined]
        if not self.alerts and operator.journal is not None:
            operator.journal.on_commit(self._durable)
        for message in batch:
            self.alerts.append(message.payload)
            if message.payload.condition.code == "pulse" and message.trace and operator.journal is not None:
                self.pending.append((operator.journal.sequence, message.trace[0].entered))

    def _durable(self, sequence: int) -> None:
        now = stamp()
        while self.pending and self.pending[0][0] <= sequence:
            self.found["reflex"].append((now - self.pending.popleft()[1]) / 1e6)

    def p99(self, name: str) -> float:
        return float(np.percentile(self.found[name], 99)) if self.found[name] else float("nan")


def topology(name: str, values: dict[str, str]) -> Graph:
    """A shipped topology with the bench's pulse beside its rules."""
    graph = load(Path(str(importlib.resources.files("topologies"))) / f"{name}.yaml", values)
    monitor = next(node.name for node in graph.sources() if "numerics" in node.operator.outputs)
    graph.add("pulse", Pulse)
    graph.connect(f"{monitor}.numerics", "pulse")
    graph.connect("pulse", "alerts.conditions")
    return graph


def rows(options: BenchOptions) -> list[Row]:
    """The rows about the whole room, in real time on this machine."""
    found = _theatre(options)
    folder = shared_data()
    if folder is None:
        options.progress("the real recordings are not here (VIGIL_DATA): no composed replay")
        return found
    return found + _composed(options, folder)


def _theatre(options: BenchOptions) -> list[Row]:
    """The eventful case, live, all senses on: does it keep up, and does it find what was planted?"""
    delays, case = Delays(), SHIPPED / "eventful.yaml"
    options.progress("the eventful case in real time with all senses")
    with tempfile.TemporaryDirectory(prefix="vigil-bench-") as folder:
        engine = Engine(topology("theatre", {"CASE": str(case)}), RunOptions(data=Path(folder), case="eventful"))
        delays.watch(engine, PERCEPTION)
        began = time.monotonic()
        asyncio.run(engine.run())
        spent = time.monotonic() - began
        truth = registry.open_reader(case).case  # type: ignore[attr-defined]
        told = told_of(alert for alert in delays.alerts if alert.condition.code != "pulse")
        summary = score(truth.truth(), told)
    where = "eventful case, simulated, 320x240 at 15 frames/s"
    return [
        *_timed(delays, where),
        Row("real seconds beyond the case's own", spent - truth.duration, "s", data=where),
        Row("pictures that segmentation looked at", len(delays.found["segment"]) / truth.duration, "/s", data=where),
        Row("planted events found", float(summary.found), f"of {summary.planted}", goal="all",
            met=not summary.missed, data=where),
        limit("false alerts", float(len(summary.false)), "", at_most=0),
    ]  # fmt: skip


class Small:
    """A film as a small camera would have given it: 320 pixels wide, 15 pictures a second. Wraps its reader."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.path, self.origin, self.warnings = reader.path, reader.origin, reader.warnings
        self.streams, self.close = reader.streams, reader.close

    def messages(
        self, start: int | None = None, end: int | None = None, *, streams: tuple[str, ...] = ("*",)
    ) -> Iterator[Message[Any]]:
        slot = None
        for message in self.reader.messages(start, end, streams=streams):
            if message.time * RATE // NANOSECONDS == slot:
                continue
            slot = message.time * RATE // NANOSECONDS
            frame: VideoFrame = message.payload
            height = round(WIDTH * frame.height / frame.width / 2) * 2
            planes = tuple(
                cv2.resize(plane, (WIDTH // part, height // part), interpolation=cv2.INTER_AREA)
                for plane, part in zip(frame.planes, (1, 2, 2), strict=True)
            )
            small = VideoFrame(WIDTH, height, frame.format, planes, frame.full_range)
            yield msgspec.structs.replace(message, payload=small)


def _composed(options: BenchOptions, folder: Path) -> list[Row]:
    """A real film beside a real monitor through the topology of a real room, as if both were live."""
    seconds = 10 if options.quick else 60
    options.progress(f"{seconds} s of a real film beside a real monitor")
    delays = Delays()
    reader = Composition(
        [Small(registry.open_reader(folder / "laparoscopy_clip" / "endo.mp4")),
         registry.open_reader(folder / "or_intellivue" / "or_case1.vital")], repeat=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="vigil-bench-") as data:
        end = reader.start + seconds * NANOSECONDS
        graph = topology("operating_room", {})
        play = Replay(reader, graph, speed=1.0, end=end, data=Path(data), deterministic=False)
        delays.watch(play.engine, PERCEPTION)
        summary = asyncio.run(play.run())
    reader.close()
    where = f"endo.mp4 beside or_case1.vital, real, composed, {WIDTH} pixels wide at {RATE} frames/s"
    late = summary.wall_seconds - summary.event_seconds
    return [*_timed(delays, where), Row("real seconds beyond the recordings' own", late, "s", data=where)]


def _timed(delays: Delays, where: str) -> list[Row]:
    found = []
    for name in delays.found:
        label = "reflex: value to alert on the disk, p99" if name == "reflex" else f"perception: picture to {name}, p99"
        row = limit(label, delays.p99(name), "ms", at_most=50.0 if name == "reflex" else 100.0)
        found.append(msgspec.structs.replace(row, data=where))
    return found


def run(options: BenchOptions) -> list[Row]:
    """All parts in turn, the whole room last."""
    found: list[Row] = []
    for name in PARTS:
        options.progress(name.removeprefix("operators.").removesuffix(".bench"))
        found += importlib.import_module(name).rows(options)
    return found + rows(options)
