"""Nothing from outside the body reaches anything that a run writes: every such frame is marked, every file searched."""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from operators.sinks.alerts import Alerts
from operators.sinks.recorder import Recorder
from operators.theatre.case import load
from operators.theatre.signals import Monitor
from operators.theatre.source import Theatre
from operators.theatre.tracks import Studio
from operators.video.privacy import PrivacyGuard, classify, uniform
from operators.video.signal import VideoSignal
from pipeline.engine import Engine, RunOptions
from pipeline.export import export
from pipeline.graph import Graph
from pipeline.journal import JournalReader
from pipeline.message import Message, VideoFrame
from pipeline.recording import McapReader
from tests.operators.video.privacy.watermark import (
    FOUND,
    Watermark,
    correlation,
    is_outside,
    marked,
    pictures_of_file,
    stamp,
)

SIZE = (192, 144)
KNOWN = {".mcap", ".mkv", ".db", ".db-wal", ".db-shm", ".yaml"}
"""What a run may write, and what the search below can read."""


def script(path: Path, seed: int) -> Path:
    """A case of some 25 s that begins outside, goes in, comes out twice, and ends outside."""
    draw = random.Random(seed)
    views = draw.sample(["wide", "gallbladder", "liver", "bowel", "close"], 2)
    first, second = draw.uniform(2, 4), draw.uniform(10, 11.5)
    path.write_text(f"""\
theatre: 1
seed: {seed}
duration: 25
video: {{rate: {draw.choice([10, 15])}, size: [{SIZE[0]}, {SIZE[1]}]}}
phases: [{{at: 0, name: a, view: {views[0]}}}, {{at: 12, name: b, view: {views[1]}}}]
script:
  - {{at: 0, do: out_of_body, lasts: {first:.2f}}}
  - {{at: 5, do: smoke, lasts: 2, density: {draw.uniform(0.2, 0.5):.2f}}}
  - {{at: 6, do: instrument, tool: hook, lasts: 15}}
  - {{at: {second:.2f}, do: out_of_body, lasts: {draw.uniform(3.3, 6):.2f}}}
  - {{at: {draw.uniform(21.5, 23):.2f}, do: out_of_body}}
""")
    return path


def graph_of(case: Path, guarded: bool) -> Graph:
    """Theatre, mark, guard, and everything that stores or tells."""
    graph = Graph("proof")
    graph.add("theatre", Theatre, case=str(case))
    graph.add("mark", Watermark, case=str(case))
    graph.add("recorder", Recorder)
    graph.add("picture", VideoSignal)
    graph.add("alerts", Alerts)
    graph.connect("theatre.video", "mark.input")
    if guarded:
        graph.add("privacy", PrivacyGuard, tell_after_seconds=1.0)
        graph.connect("mark.video", "privacy.input")
        graph.connect("privacy.conditions", "alerts.conditions")
        graph.connect("privacy.states", "recorder.messages")
    video = "privacy.video" if guarded else "mark.video"
    graph.connect(video, "recorder.messages", policy="block")
    graph.connect(video, "picture.input", policy="block")
    graph.connect("picture.conditions", "alerts.conditions")
    graph.connect("alerts.alerts", "recorder.messages")
    return graph


async def run(folder: Path, seed: int, *, guarded: bool = True) -> tuple[list[Message[VideoFrame]], Any]:
    """Play a case at full speed; what left the last operator before the sinks, and the case."""
    case = script(folder / "case.yaml", seed)
    engine = Engine(graph_of(case, guarded), RunOptions(speed=math.inf, data=folder))
    heard: list[Message[VideoFrame]] = []
    engine.listen("privacy" if guarded else "mark", "video", heard.extend)
    await engine.run()
    export(folder / "recording.mcap", folder / "clip.mkv", streams=("*.video",))
    return heard, load(case)


def search(folder: Path) -> tuple[int, int]:
    """Pictures found in everything under the folder, and how many bear the mark. Fails on files that it cannot read."""
    found: list[float] = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        if path.suffix == ".lock":
            assert path.stat().st_size == 0
            continue
        assert path.suffix in KNOWN, f"{path.name}: nobody has looked into this kind of file"
        if path.suffix == ".mcap":
            with McapReader(path) as reader:
                for message in reader.messages():
                    if isinstance(message.payload, VideoFrame):
                        found.append(correlation(message.payload.planes[0]))
                    else:
                        assert "VideoFrame" not in repr(message.payload)
        elif path.suffix == ".mkv":
            found.extend(correlation(picture) for picture in pictures_of_file(path))
        elif path.suffix == ".db":
            reader = JournalReader(path)
            for entry in reader.entries():
                json.loads(entry.body)
                assert len(entry.body) < 8000, "an alert is words and numbers, never a picture"
            reader.close()
    return len(found), sum(value >= FOUND for value in found)


SEEDS = [2001, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2002, 2011))]


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_frame_from_outside_the_body_is_in_anything_that_is_written_or_told(tmp_path: Path, seed: int) -> None:
    heard, case = await run(tmp_path, seed)
    outside = [is_outside(case, message.time) for message in heard]
    changes = sum(a != b for a, b in itertools.pairwise(outside))
    assert changes == 4, "in, out, in, out"
    assert [m.sequence for m in heard] == list(range(len(heard)))
    leaked = [m.sequence for m, out in zip(heard, outside, strict=True) if out and not uniform(m.payload)]
    assert leaked == []
    assert not any(marked(message.payload) for message in heard)
    pictures, with_mark = search(tmp_path)
    assert pictures >= 2 * len(heard), "the recording and the clip hold every frame"
    assert with_mark == 0
    inside = [not uniform(m.payload) for m, out in zip(heard, outside, strict=True) if not out]
    # In so short a case opening, delay and smoke take up to half of it.
    assert sum(inside) > 0.3 * len(inside), "and what is inside the body can be seen"


async def test_the_search_finds_the_mark_when_there_is_no_guard(tmp_path: Path) -> None:
    heard, case = await run(tmp_path, 2001, guarded=False)
    outside = sum(is_outside(case, message.time) for message in heard)
    pictures, with_mark = search(tmp_path)
    assert outside > 60
    assert pictures == 2 * len(heard)
    assert with_mark == 2 * outside, "each of them, in the recording and in the clip, and none of the others"


def test_the_mark_does_not_help_the_guard(tmp_path: Path) -> None:
    case = load(script(tmp_path / "case.yaml", 2001))
    studio = Studio(case, 2001, Monitor(case, 2001))
    frames = [studio.frame(i) for i in range(0, len(studio.times), 4) if is_outside(case, int(studio.times[i]))]
    judge = classify.load("learnt")
    plain, with_mark = ([judge(frame) for frame in them] for them in (frames, [stamp(frame) for frame in frames]))
    assert len(frames) > 20
    assert sum(value >= 0.5 for value in with_mark) >= sum(value >= 0.5 for value in plain)
    assert sum(with_mark) >= sum(plain) - 0.5
