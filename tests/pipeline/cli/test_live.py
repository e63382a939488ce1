"""What a terminal shows while a graph runs."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from pipeline.cli import live, show
from pipeline.engine import Engine
from pipeline.graph import Graph
from pipeline.health import snapshot
from tests.pipeline.helpers import Collect, Count


def shown(picture: Any, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(picture)
    return capture.get()


async def test_a_run_is_told_in_three_lines_and_the_strip_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = Graph("small", room="OR-3")
    graph.add("count", Count, count=5)
    graph.add("last", Collect)
    graph.connect("count", "last")
    engine = Engine(graph)
    signalled = live.Signalled(engine, [])
    monkeypatch.setattr(show, "out", Console(force_terminal=True, width=100, file=io.StringIO()))
    async with live.strip(engine, signalled, seconds=0.01):
        await engine.run()
    found = shown(live.picture(snapshot(engine), signalled.line())).splitlines()
    assert "small in OR-3" in found[0]
    assert found[1].startswith("streams: count.output 0.")
    assert found[2].startswith("alerts: none")
