"""The bench of the whole room: what it times and what it shows a small camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from operators.bench import senses
from operators.sinks.alerts import Alerts
from pipeline.bench import BenchOptions
from pipeline.engine import Engine, RunOptions
from pipeline.graph import Graph
from pipeline.message import NANOSECONDS, Message, VideoFrame
from pipeline.reader import StreamInfo
from tests.pipeline.helpers import Count


class Film:
    """Two seconds of 1280x720 at 25 frames a second."""

    path, origin, warnings = Path("film.mp4"), "recorded", []

    def streams(self) -> list[StreamInfo]:
        return [StreamInfo("video/video", "VideoFrame", 50, 0, 2 * NANOSECONDS)]

    def messages(self, start=None, end=None, *, streams=("*",)):  # type: ignore[no-untyped-def]
        planes = tuple(np.zeros((720 // part, 1280 // part), np.uint8) for part in (1, 2, 2))
        for i in range(50):
            yield Message("video/video", i * NANOSECONDS // 25, i, VideoFrame(1280, 720, "yuv420p", planes), "recorded")

    def close(self) -> None: ...


def test_a_small_camera_gives_fifteen_small_pictures_a_second() -> None:
    found = list(senses.Small(Film()).messages())  # type: ignore[arg-type]
    assert len(found) == 2 * senses.RATE
    frame = found[0].payload
    assert (frame.width, frame.height) == (320, 180)
    assert [plane.shape for plane in frame.planes] == [(180, 320), (90, 160), (90, 160)]


async def test_every_pulse_is_timed_to_the_disk(tmp_path: Path) -> None:
    graph = Graph("pulsing")
    graph.add("count", Count, count=20)
    graph.add("pulse", senses.Pulse)
    graph.add("alerts", Alerts)
    graph.connect("count", "pulse")
    graph.connect("pulse", "alerts.conditions")
    engine, delays = Engine(graph, RunOptions(data=tmp_path)), senses.Delays()
    delays.watch(engine, senses.PERCEPTION)
    await engine.run()
    assert len(delays.alerts) == 20
    assert len(delays.found["reflex"]) == 20
    assert not delays.pending
    assert 0 < delays.p99("reflex") < 10_000


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_eventful_case_with_all_senses_finds_everything_and_nothing_else() -> None:
    rows = {row.name: row for row in senses._theatre(BenchOptions(quick=True))}
    assert rows["planted events found"].met
    assert rows["false alerts"].met
