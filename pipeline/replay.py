"""Deterministic replay: a recorded case through a topology, in the total order (event time, stream, sequence).

The recording takes the place of the topology's own sources. Nothing is dropped, no deadline applies and operators
with several inputs see them merged in the total order, so the alerts are the same at any speed, on any machine and
with any placement; ``digest`` shows it.
"""

from __future__ import annotations

import dataclasses
import datetime
import glob
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec

from pipeline.drivers import Fed, SourceStep
from pipeline.engine import Engine, RunOptions
from pipeline.errors import RecordingError, VigilError
from pipeline.graph import Graph, Node
from pipeline.message import NANOSECONDS, PAYLOADS, Message
from pipeline.reader import Reader
from pipeline.time import stamp


class ReplaySummary(msgspec.Struct, frozen=True):
    """What a replay did. Times in seconds."""

    source: str
    topology: str
    messages: int
    event_seconds: float
    wall_seconds: float
    times_real_time: float
    streams: dict[str, int]
    """Messages by the stream they entered as."""
    unused: tuple[str, ...]
    """Streams of the recording that nothing in the topology takes."""
    warnings: tuple[str, ...]
    alerts: int
    digest: str


class Router:
    """Decides by which port of which source each stream of a recording enters the graph.

    A stream recorded as ``node.port`` enters there if the topology has it; any other by the first source that has a
    port of that name for that type of payload (``video``, ``waveforms``, ``numerics``, ``events``). Streams that a
    topology made itself when it was recorded are not fed in again.
    """

    PORTS = ("video", "waveforms", "numerics", "events")

    def __init__(self, graph: Graph) -> None:
        self.graph, self.sources = graph, graph.sources()
        self.routes: dict[str, tuple[str, str] | None] = {}

    def route(self, stream: str, payload: type) -> tuple[str, str] | None:
        """Name of the source and of the stream by which ``stream`` enters; None where nothing takes it."""
        try:
            return self.routes[stream]
        except KeyError:
            route = self.routes[stream] = self._find(stream, payload)
            return route

    def taken(self, reader: Reader, heard: Collection[tuple[str, str]]) -> tuple[str, ...]:
        """Patterns of the streams that something takes: those that enter by an output that leads on or is in
        ``heard`` (node, port). The others need not be read."""
        leading = {(c.source, c.output) for node in self.sources for c in self.graph.out_of(node.name)} | set(heard)
        found = []
        for info in reader.streams():
            way = self.route(info.stream, PAYLOADS[info.payload]) if info.payload in PAYLOADS else None
            if way is not None and (way[0], way[1].partition("/")[0].rpartition(".")[2]) in leading:
                found.append(glob.escape(info.stream))
            else:
                self.routes[info.stream] = None
        return tuple(found)

    def _find(self, stream: str, payload: type) -> tuple[str, str] | None:
        head, slash, channel = stream.partition("/")
        recorded_node, _, port = head.rpartition(".")
        made_by = self.graph.nodes.get(recorded_node)
        if made_by is not None and not made_by.is_source and not made_by.operator.guards_privacy:
            return None  # it is made anew; a guard's pictures stand for those of the camera, which were not kept
        for node in self.sources:
            if node.name == recorded_node and _gives(node, port, payload):
                return node.name, stream
        if port in self.PORTS:
            for node in self.sources:
                if _gives(node, port, payload):
                    return node.name, f"{node.name}.{port}{slash}{channel}"
        return None

    @property
    def unused(self) -> tuple[str, ...]:
        return tuple(sorted(stream for stream, route in self.routes.items() if route is None))


def _gives(node: Node, port: str, payload: type) -> bool:
    output = node.operator.outputs.get(port)
    return output is not None and (Any in output.types or issubclass(payload, output.types))


class Replay:
    """One replay of one recording through one topology.

    Args:
        reader: the opened recording.
        graph: the topology; its sources are not started.
        speed: event seconds per real second, ``inf`` for as fast as it goes.
        start: event time (ns) to begin at; operators know nothing of what was before.
        end: event time (ns) to end before.
        data: a folder for what sinks write; never that of a live room.
        deterministic: False plays it as if it were live: edges drop what comes too fast, deadlines apply, alerts are
            journalled in ``data``. For measuring; two such plays need not say the same.
    """

    def __init__(
        self,
        reader: Reader,
        graph: Graph,
        *,
        speed: float = float("inf"),
        start: int | None = None,
        end: int | None = None,
        data: Path,
        command: str = "",
        deterministic: bool = True,
    ) -> None:
        self.reader, self.graph, self.start, self.end = reader, graph, start, end
        self.router = Router(graph)
        options = RunOptions(speed=speed, deterministic=deterministic, data=data, replay=command, case=reader.path.stem)
        self.engine = Engine(graph, dataclasses.replace(options), feed=self._feed)
        self.count = 0
        self.first: int | None = None
        self.last = 0

    async def run(self, alerts: Callable[[], tuple[int, str]] | None = None) -> ReplaySummary:
        """Play to the end. ``alerts`` gives the number and digest of what was listened to.

        Raises:
            RecordingError: where the recording fits nothing in the topology.
            VigilError: as ``Engine.run``.
        """
        began = stamp()
        await self.engine.run()
        wall = (stamp() - began) / NANOSECONDS
        if self.count == 0 and not self.engine.stopped:
            given = ", ".join(self.router.unused[:5]) or "nothing in this interval"
            wanted = ", ".join(f"{node.name}.{port}" for node in self.router.sources for port in node.operator.outputs)
            raise RecordingError(
                f"has nothing for the topology {self.graph.name!r}", where=str(self.reader.path),
                mend=f"it holds {given}; the topology takes {wanted}",
            )  # fmt: skip
        event = (self.last - (self.first or 0)) / NANOSECONDS
        number, digest = alerts() if alerts is not None else (0, "")
        return ReplaySummary(
            source=self.reader.path.name, topology=self.graph.name, messages=self.count, event_seconds=event,
            wall_seconds=wall, times_real_time=event / wall if wall else 0.0,
            streams={name: count for name, _, count in self.engine.stream_ages()}, unused=self.router.unused,
            warnings=(*self.reader.warnings, *self.engine.notes), alerts=number, digest=digest,
        )  # fmt: skip

    def _feed(self, steps: dict[str, SourceStep]) -> Iterator[Fed]:
        route = self.router.route
        streams = self.router.taken(self.reader, self.engine.listeners)
        for message in self.reader.messages(self.start, self.end, streams=streams):
            way = route(message.stream, type(message.payload))
            if way is None:
                continue
            node, stream = way
            if self.first is None:
                self.first = message.time
            self.count += 1
            self.last = message.time
            if stream != message.stream:
                message = Message(stream, message.time, message.sequence, message.payload, message.origin)
            yield steps[node], message


def parse_moment(text: str, start: int) -> int:
    """Event time (ns) of ``--from`` and ``--to``: ``605`` or ``605s``, ``10m5s``, ``1:02:03`` after the recording's
    start, or an ISO 8601 time of its own. Raises ``VigilError``."""
    text = text.strip()
    if match := re.fullmatch(r"(?:(\d+):)?(\d{1,3}):(\d{1,2}(?:\.\d+)?)", text):
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return start + round((hours * 3600 + minutes * 60 + seconds) * NANOSECONDS)
    if text and (match := re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text)):
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return start + round((hours * 3600 + minutes * 60 + seconds) * NANOSECONDS)
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        mend = "write 605, 10m5s, 0:10:05 or 2026-01-31T09:30:00+00:00"
        raise VigilError(f"{text!r} is not a moment", mend=mend) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    whole = moment.replace(microsecond=0)
    return int(whole.timestamp()) * NANOSECONDS + moment.microsecond * 1000


def topology_for(reader: Reader) -> str:
    """The name of the shipped topology that fits what a recording holds."""
    payloads = {info.payload for info in reader.streams()}
    video, monitor = "VideoFrame" in payloads, bool(payloads & {"Waveform", "Numeric"})
    return "theatre" if video and monitor else "video" if video else "monitor"
