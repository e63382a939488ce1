"""A running graph seen from outside."""

from __future__ import annotations

import asyncio
import http.server
import io
import threading
from pathlib import Path

import pytest
from rich.console import Console

from operators.basic import PassThrough
from pipeline.cli import top
from pipeline.engine import Engine, RunOptions
from pipeline.errors import VigilError
from pipeline.graph import Graph
from pipeline.health import served
from tests.pipeline.cli.test_commands import vigil
from tests.pipeline.helpers import LiveCount


def test_nobody_answers() -> None:
    assert "is a launch running?" in vigil("top", "--port", "1", "--once", expect=2).stderr
    with pytest.raises(VigilError, match="is no address"):
        top.fetch("file:///etc/passwd")


def test_something_else_answers() -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(VigilError, match="is no vigil"):
            top.fetch(f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()


async def test_rates_are_counted_between_two_pictures(tmp_path: Path) -> None:
    graph = Graph("ward")
    graph.add("ticks", LiveCount, count=100_000, pause_seconds=0.005)
    graph.add("pass", PassThrough)
    graph.connect("ticks", "pass", capacity=4)
    engine = Engine(graph, RunOptions(room="7", data=tmp_path))
    running = asyncio.create_task(engine.run())
    async with served(engine, port=0) as port:
        await asyncio.sleep(0.3)
        before = await asyncio.to_thread(top.fetch, f"http://127.0.0.1:{port}")
        await asyncio.sleep(0.5)
        now = await asyncio.to_thread(top.fetch, f"http://127.0.0.1:{port}")
        engine.stop()
        await running
    counted = {node.name: node.messages for node in now.nodes}
    seconds = now.uptime_seconds - before.uptime_seconds
    rate = top.rates(before, now)
    earlier = next(node.messages for node in before.nodes if node.name == "pass")
    assert counted["pass"] > earlier
    assert rate["pass"] == pytest.approx((counted["pass"] - earlier) / seconds)
    assert next(node.end_to_end_p99_ms for node in now.nodes if node.name == "pass") > 0
    text = io.StringIO()
    Console(file=text, width=160).print(top.picture(before, now))
    for word in ("ward", "ticks.output->pass.input", "0/4", "s ago", "never the only alarm"):
        assert word in text.getvalue()
