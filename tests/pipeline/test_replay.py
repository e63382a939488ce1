"""The same alerts, bit for bit: at any speed, under load, wherever operators run, as often as one likes."""

from __future__ import annotations

import contextlib
import importlib.resources
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import registry
from pipeline.alerts import Digest
from pipeline.errors import RecordingError, VigilError
from pipeline.export import export
from pipeline.message import NANOSECONDS, Event, Numeric, VideoFrame
from pipeline.replay import Replay, ReplaySummary, Router, parse_moment, topology_for
from pipeline.topology import load

CASE = """
theatre: 1
name: short
seed: 3
start: 2026-01-05T09:00:00Z
duration: 9
video: {rate: 8, size: [96, 72]}
phases: [{at: 0, name: dissection, view: wide}]
script:
  - {at: 1, do: video_fault, how: black, lasts: 4}
  - {at: 1.5, do: sensor_off, sensor: capnograph, lasts: 5}
  - {at: 2, do: artefact, how: flush, lasts: 2}
"""
TOPOLOGY = Path(str(importlib.resources.files("topologies"))) / "theatre.yaml"
RULES = ("freshness", "limits", "hypotension", "picture")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    case = folder / "short.yaml"
    case.write_text(CASE)
    export(registry.open_reader(case), folder / "short.mcap")
    return folder / "short.mcap"


async def played(
    source: Path, folder: Path, *, speed: float = float("inf"), placement: str = "inline"
) -> ReplaySummary:
    graph = load(TOPOLOGY, {"CASE": str(source)})
    for name in RULES:
        graph.nodes[name].placement = placement  # type: ignore[assignment]
    reader = registry.open_reader(source)
    play, found = Replay(reader, graph, speed=speed, data=folder), Digest()
    play.engine.listen("alerts", "alerts", found)
    try:
        return await play.run(found.result)
    finally:
        reader.close()


def _burn() -> None:
    while True:
        sum(range(10_000))


@contextlib.contextmanager
def loaded(processes: int = 3) -> Iterator[None]:
    """More work than the machine has cores, for as long as this lasts."""
    spawn = multiprocessing.get_context("spawn")
    running = [spawn.Process(target=_burn, daemon=True) for _ in range(processes)]
    for process in running:
        process.start()
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.join()


async def test_the_digest_is_the_same_at_every_speed_placement_and_under_load(recording: Path, tmp_path: Path) -> None:
    first = await played(recording, tmp_path)
    assert first.alerts == 2, "a black picture and a silent capnograph"
    found = {
        "again": await played(recording, tmp_path),
        "ten": await played(recording, tmp_path, speed=10),
        "thread": await played(recording, tmp_path, placement="thread"),
        "process": await played(recording, tmp_path, placement="process"),
    }
    with loaded():
        found["loaded"] = await played(recording, tmp_path, placement="thread")
    assert {name: summary.digest for name, summary in found.items()} == dict.fromkeys(found, first.digest)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_twenty_runs_and_real_time_say_the_same(recording: Path, tmp_path: Path) -> None:
    digests = {(await played(recording, tmp_path)).digest for _ in range(20)}
    digests.add((await played(recording, tmp_path, speed=1)).digest)
    with loaded():
        for placement in ("inline", "thread", "process"):
            digests.add((await played(recording, tmp_path, speed=10, placement=placement)).digest)
    assert len(digests) == 1


async def test_a_case_and_its_recording_differ_only_by_what_a_film_loses(recording: Path, tmp_path: Path) -> None:
    """H.264 changes pixels, not what is seen in them: the same alerts come, at the same times."""
    from_case = await played(recording.with_suffix(".yaml"), tmp_path)
    assert from_case.alerts == (await played(recording, tmp_path)).alerts


async def test_real_time_takes_its_time(recording: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    summary = await played(recording, tmp_path, speed=4)
    assert time.monotonic() - began >= summary.event_seconds / 4 * 0.95


def test_what_a_topology_made_is_made_anew_and_a_guards_pictures_stand_for_the_cameras() -> None:
    router = Router(load(TOPOLOGY.with_name("operating_room.yaml"), {}))
    assert router.route("monitor.numerics/GE/HR", Numeric) == ("monitor", "monitor.numerics/GE/HR")
    assert router.route("beats.numerics/Vigil/HEART_RATE", Numeric) is None
    assert router.route("overlay.events", Event) is None
    assert router.route("privacy.video/video", VideoFrame) == ("camera", "camera.video/video")
    assert router.route("other.numerics/GE/SPO2", Numeric) == ("monitor", "monitor.numerics/GE/SPO2")


async def test_a_recording_that_fits_nothing_says_what_it_holds(tmp_path: Path) -> None:
    table = tmp_path / "values.csv"
    table.write_text("time,HR (/min)\n2026-01-05T09:00:00Z,70\n2026-01-05T09:00:01Z,71\n")
    reader = registry.open_reader(table)
    assert topology_for(reader) == "monitor"
    graph = load(TOPOLOGY.with_name("video.yaml"), {})
    with pytest.raises(RecordingError, match=r"has nothing for the topology 'video'"):
        await Replay(reader, graph, data=tmp_path).run()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("605", 605), ("605.5s", 605.5), ("10m5s", 605), ("0:10:05", 605), ("1h", 3600), ("2:03", 123)],
)
def test_moments_are_written_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_moment(text, 7) == 7 + round(seconds * NANOSECONDS)


def test_a_moment_may_be_a_time_of_its_own_and_what_is_none_is_refused() -> None:
    assert parse_moment("1970-01-01T00:00:02+00:00", 99) == 2 * NANOSECONDS
    for text in ("", "soon", "12:", "-5", "1:2:3:4"):
        with pytest.raises(VigilError, match="is not a moment"):
            parse_moment(text, 0)
