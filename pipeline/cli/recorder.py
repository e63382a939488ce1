"""`vigil record`: sources by their addresses, into one recording."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

from pipeline import registry
from pipeline.cli import show
from pipeline.cli.common import stop_on_signals
from pipeline.engine import Engine, RunOptions
from pipeline.errors import VigilError
from pipeline.graph import Graph
from pipeline.message import VideoFrame
from pipeline.time import stamp

ADDRESSES: tuple[tuple[str, str, str], ...] = (
    (r"rtsps?://.*", "video.rtsp", "url"),
    (r"(srt://|v4l2:|decklink:).*", "video.capture", "device"),
    (r"/dev/video\d+", "video.capture", "device"),
    (r"mllp:\d+", "monitor.hl7", "port"),
    (r".*\.vital", "monitor.vital", "path"),
    (r".*\.hea", "monitor.wfdb", "path"),
    (r".*\.csv", "monitor.csv", "path"),
    (r".*\.(mp4|mkv|mov|avi|ts|h264)", "video.file", "path"),
    (r"[\w-]+|.*\.yaml", "theatre", "case"),
)
"""What an address looks like, the operator that reads it, and the option that takes it."""


def source_of(address: str) -> tuple[str, dict[str, Any]]:
    """The operator for an address and its options. Raises ``VigilError`` where no operator reads such a thing."""
    for pattern, name, option in ADDRESSES:
        if re.fullmatch(pattern, address, re.IGNORECASE):
            value: Any = address
            if name == "monitor.hl7":
                value = int(address.partition(":")[2])
            elif address.startswith("/dev/"):
                value = f"v4l2:{address}"
            elif option == "path" and not Path(address).is_file():
                raise VigilError("there is no such file", where=address)
            return name, {option: value}
    raise VigilError(
        "is nothing that can be recorded", where=address,
        mend="rtsp://..., srt://..., v4l2:/dev/video0, decklink:0, mllp:2575, a recording, or a theatre case",
    )  # fmt: skip


def recording_graph(
    addresses: list[str], topology: Path | str, values: dict[str, str], target: Path, *, raw: bool = False
) -> Graph:
    """Every source with all its outputs into one recorder, pictures of cameras past a privacy guard unless ``raw``.

    Raises ``VigilError``.
    """
    operators = registry.names("operators")
    graph = Graph(target.stem)
    if topology:
        from pipeline.topology import load

        for node in load(Path(topology), values).sources():
            graph.add(node.name, node.operator, **node.config.model_dump(exclude_unset=True))
    for address in addresses:
        name, options = source_of(address)
        graph.add(_free(graph, name.rpartition(".")[2]), operators[name].load(), **options)
    if not graph.nodes:
        raise VigilError("nothing to record", mend="give an address, or --topology NAME")
    sources = list(graph.nodes.values())
    graph.add("recorder", operators["recorder"].load(), path=str(target.absolute()), unguarded=raw)
    for node in sources:
        for port, output in node.operator.outputs.items():
            if VideoFrame in output.types and node.operator.films_people and not raw:  # type: ignore[attr-defined]
                guard = graph.add(_free(graph, "privacy"), operators["video.privacy"].load(), placement="thread").name
                graph.connect(f"{node.name}.{port}", guard)
                graph.connect(f"{guard}.video", "recorder")
                graph.connect(f"{guard}.states", "recorder")
            else:
                graph.connect(f"{node.name}.{port}", "recorder")
    return graph


def _free(graph: Graph, name: str) -> str:
    number = 2
    free = name
    while free in graph.nodes:
        free = f"{name}{number}"
        number += 1
    return free


def run_recording(graph: Graph, target: Path, room: str, seconds: float | None) -> dict[str, Any]:
    """Record until the sources end, ``seconds`` are over, or Ctrl-C. Gives the summary as plain values."""
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = Engine(graph, RunOptions(room=room, case=target.stem, data=target.absolute().parent))
    began = 0  # the stamp of the first message: devices take their time to start

    def elapsed() -> float:
        return (stamp() - began) / 1e9 if began else 0.0

    async def run() -> Path:
        nonlocal began
        stop_on_signals(engine.stop)
        running = asyncio.create_task(engine.run())
        recorder: Any = None
        with show.err.status("") if show.err.is_terminal else contextlib.nullcontext() as line:
            while not running.done():
                await asyncio.wait({running}, timeout=0.5)
                if not began and any(engine.stream_ages()):
                    began = stamp()
                if recorder is None and engine.ready:
                    recorder = engine.steps["recorder"].worker.operator  # type: ignore[attr-defined]
                if line is not None and recorder is not None:
                    line.update(_progress(engine, recorder.path, elapsed()))
                if seconds is not None and elapsed() > seconds:
                    engine.stop()
        await running
        path: Path = recorder.path if recorder is not None else target
        return path

    path = asyncio.run(run())
    streams = [name for name, _, _ in engine.stream_ages()]
    return {
        "path": str(path), "messages": sum(count for _, _, count in engine.stream_ages()), "streams": streams,
        "bytes": path.stat().st_size if path.exists() else 0, "seconds": round(elapsed(), 3),
        "origin": engine.origin(), "dropped": sum(edge.dropped for edge in engine.edge_metrics()),
    }  # fmt: skip


def _progress(engine: Engine, path: Path, seconds: float) -> str:
    ages = list(engine.stream_ages())
    silent = sum(age > show.SILENT_SECONDS for _, age, _ in ages)
    size = path.stat().st_size / 1e6 if path.exists() else 0.0
    text = f"[red]recording[/] {seconds:,.0f} s, {size:,.1f} MB, {len(ages)} streams"
    return text + (f", [yellow]{silent} silent[/]" if silent else "")
