"""`vigil bench recordings`: a real monitor recording and a real film, beside a trivial rule and a plain read."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.resources
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import msgspec

from operators.recordings import shared_data
from operators.video.file import VideoReader
from pipeline import registry
from pipeline.alerts.score import Episode, of_conditions
from pipeline.bench import BenchOptions, Row, compare, limit
from pipeline.message import NANOSECONDS, AlertCondition, Message
from pipeline.replay import Replay, ReplaySummary
from pipeline.topology import load

EPISODES = ((1.0, 430.0), (609.0, 2016.0))
"""Hypotension in ``or_case1.vital``, seconds from its start, as ``SOURCES.md`` gives it; the second to its end."""
ARTEFACT = (600.0, 612.0)
"""When the arterial line was knocked."""
Said = list[Message[AlertCondition]]


def replayed(recording: Path, topology: str, nodes: tuple[str, ...]) -> tuple[ReplaySummary, Said]:
    """A shipped topology over a recording as fast as it goes, and every condition that ``nodes`` said."""
    said: Said = []
    path = Path(str(importlib.resources.files("topologies"))) / f"{topology}.yaml"
    reader = registry.open_reader(recording)
    with tempfile.TemporaryDirectory(prefix="vigil-bench-") as folder:
        play = Replay(reader, load(path, {"VIDEO": str(recording)}), data=Path(folder))
        for node in nodes:
            play.engine.listen(node, "conditions", said.extend)
        summary = asyncio.run(play.run())
    reader.close()
    return summary, said


def episodes(said: Said, code: str) -> list[Episode]:
    """The episodes of one code that people were told of, in order."""
    return [found for found in of_conditions((m.time, m.payload) for m in said) if found.code == code]


def run(options: BenchOptions) -> list[Row]:
    """Rows about real recordings; none where they are not here."""
    folder = shared_data()
    if folder is None:
        options.progress("the real recordings are not here (VIGIL_DATA)")
        return []
    options.progress("a real intra-operative recording")
    rows = _monitor(folder / "or_intellivue" / "or_case1.vital")
    options.progress("a real laparoscopic film")
    return rows + _film(folder / "laparoscopy_clip" / "endo.mp4")


def _monitor(path: Path) -> list[Row]:
    data = "or_case1.vital, real, one patient"
    reader = registry.open_reader(path)
    start = min(info.start for info in reader.streams())
    began = time.perf_counter()
    count = sum(1 for _ in reader.messages())
    reading = time.perf_counter() - began
    reader.close()
    summary, said = replayed(path, "monitor", ("freshness", "limits", "hypotension"))
    _, plain = replayed(path, "monitor_baseline", ("baseline",))
    ours, trivial = episodes(said, "hypotension"), episodes(plain, "mean_pressure_low")

    def seconds(moment: int | None) -> float:
        return float("inf") if moment is None else (moment - start) / NANOSECONDS

    pairs = list(zip(ours, EPISODES, strict=False))
    near = [m for m in said if m.payload.kind == "physiological" and not m.payload.suppressed_by and m.payload.present
            and ARTEFACT[0] <= seconds(m.time) <= ARTEFACT[1] + 60]  # fmt: skip
    silent = episodes(said, "device_silent")
    rows = [
        Row("hypotension episodes found", float(len(ours)), "", "limit with a 60 s delay", float(len(trivial)),
            goal="= 2", met=len(ours) == len(EPISODES)),
        limit("onset, error of the worst", max(abs(seconds(a.onset) - b[0]) for a, b in pairs), "s", at_most=15),
        limit("end, error of the worst", max(abs(seconds(a.ended) - b[1]) for a, b in pairs), "s", at_most=30),
        limit("pressure alerts from the artefact near 605 s", float(len(near)), "", at_most=0),
        limit("devices falling silent, told", float(len(silent)), "", at_least=1),
        compare("replay with rules and alerts", summary.event_seconds / summary.wall_seconds, "x real time",
                "reading alone", summary.event_seconds / reading),
        limit("replay, beside the goal", summary.event_seconds / summary.wall_seconds, "x real time", at_least=300),
        Row("messages", float(count), ""),
    ]  # fmt: skip
    return [_with(row, data) for row in rows]


def _film(path: Path) -> list[Row]:
    with av.open(str(path)) as container:
        plain = [hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest() for frame in container.decode(video=0)]
    began = time.perf_counter()
    ours = [_hash(message.payload) for message in VideoReader(path).messages()]
    spent = time.perf_counter() - began
    summary, said = replayed(path, "video", ("freshness", "signal"))
    right = sum(a == b for a, b in zip(ours, plain, strict=False))
    rows = [
        compare("pictures, in order, each once, equal to a plain decode", float(right), "", "plain decode",
                float(len(plain)), at_least=1),
        limit("alerts on a living picture", float(len(said)), "", at_most=0),
        Row("pictures read", len(ours) / spent, "frames/s"),
        Row("replay with picture faults and freshness", summary.event_seconds / summary.wall_seconds, "x real time"),
    ]  # fmt: skip
    return [_with(row, "endo.mp4, real, 250 frames of 1280x720") for row in rows]


def _hash(frame: Any) -> str:
    return hashlib.sha256(b"".join(plane.tobytes() for plane in frame.planes)).hexdigest()


def _with(row: Row, data: str) -> Row:
    return msgspec.structs.replace(row, data=data)
