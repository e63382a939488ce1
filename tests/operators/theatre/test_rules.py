"""The shipped cases watched by the shipped rules: all that was planted is found, and nothing else is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import topologies
from operators.theatre.case import SHIPPED
from operators.theatre.reader import TheatreReader
from operators.theatre.score import Summary, alerts_of, score
from pipeline.message import AlertCondition
from pipeline.replay import Replay
from pipeline.topology import loads

FOLDER = Path(topologies.__file__).parent
MONITOR_RULES = ("freshness", "limits", "hypotension", "quality", "rhythm")
PICTURE_RULES = (*MONITOR_RULES, "picture")
ALL_RULES = (*PICTURE_RULES, "view", "segment", "bleeding", "beats", "rules")


def written(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return document


@pytest.mark.parametrize("name", ["theatre", "operating_room"])
def test_the_rules_are_those_of_the_monitor(name: str) -> None:
    theatre, monitor = written(name)["operators"], written("monitor")["operators"]
    assert theatre["limits"].get("with") == monitor["limits"].get("with")
    assert theatre["hypotension"].get("with") == monitor["hypotension"].get("with")
    watches = [
        watch
        for watch in theatre["freshness"]["with"]["watches"]
        if watch.get("channels") not in (["*.video/video"], ["camera.video/video"])
    ]
    assert watches == monitor["freshness"]["with"]["watches"]


def test_rules_never_see_the_truth() -> None:
    for name, operator in written("theatre")["operators"].items():
        inputs = operator.get("from", [])
        given = inputs.values() if isinstance(inputs, dict) else [inputs] if isinstance(inputs, str) else inputs
        assert not [port for port in given if port in ("theatre.truth", "theatre.masks", "theatre.scene")], name


async def watched(
    name: str, folder: Path, rules: tuple[str, ...] = MONITOR_RULES, *, size: str = "320, 240", rate: int = 15,
    patience: str = "2",
) -> Summary:  # fmt: skip
    """Verdict on these rules over a case; pictures are drawn only for the rule that looks at them."""
    document = written("theatre")
    document["operators"] = {k: v for k, v in document["operators"].items() if k in ("theatre", *rules)}
    graph = loads(yaml.safe_dump(document, sort_keys=False), values={"VIDEO_SILENT_SECONDS": patience})
    text = (SHIPPED / f"{name}.yaml").read_text()
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("size: [320, 240]", f"size: [{size}]").replace("rate: 15,", f"rate: {rate},"))
    reader = TheatreReader(path)
    if "picture" not in rules:
        reader.tracks = [track for track in reader.tracks if track.stream != "video/video"]
    said: list[tuple[int, AlertCondition]] = []
    replay = Replay(reader, graph, data=folder)
    for rule in (name for name in rules if "conditions" in graph.nodes[name].operator.outputs):
        replay.engine.listen(rule, "conditions", lambda batch: said.extend((m.time, m.payload) for m in batch))
    await replay.run()
    return score(reader.case.truth(), alerts_of(said))


async def test_eventful_all_of_the_monitor_is_found_and_nothing_else(tmp_path: Path) -> None:
    summary = await watched("eventful", tmp_path)
    missed = {(match.planted.kind, match.expectation.code) for match in summary.missed}
    assert missed == {
        ("video_fault", "video_frozen"), ("video_fault", "video_black"), ("video_fault", "stream_silent"),
        ("bleeding", "bleeding"),
    }  # fmt: skip
    assert summary.found == 7
    assert not summary.false
    assert all(0 < match.delay_seconds < 45 for match in summary.matches if match.delay_seconds is not None)
    assert summary.delay(50) <= summary.delay(99)


async def test_uneventful_says_nothing(tmp_path: Path) -> None:
    summary = await watched("uneventful", tmp_path)
    assert (summary.planted, summary.false, summary.repeated) == (0, (), ())


async def test_eventful_with_pictures_everything_is_found(tmp_path: Path) -> None:
    summary = await watched("eventful", tmp_path, PICTURE_RULES, size="96, 64")
    assert [match.expectation.code for match in summary.missed] == ["bleeding"]
    assert (summary.planted, summary.found, summary.false) == (11, 10, ())


async def test_uneventful_with_pictures_says_nothing(tmp_path: Path) -> None:
    summary = await watched("uneventful", tmp_path, PICTURE_RULES, size="96, 64", rate=5)
    assert (summary.planted, summary.false, summary.repeated) == (0, (), ())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "planted"), [("eventful", 11), ("uneventful", 0)])
async def test_shipped_cases_in_full_size(name: str, planted: int, tmp_path: Path) -> None:
    summary = await watched(name, tmp_path, ALL_RULES)
    assert (summary.planted, summary.found, summary.false) == (planted, planted, ())


@pytest.mark.slow
async def test_six_hours_find_everything(tmp_path: Path) -> None:
    summary = await watched("long", tmp_path)
    assert (summary.planted, summary.found, summary.false) == (8, 8, ())
