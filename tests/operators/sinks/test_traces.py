"""Spans are made of the hops that a message has, and say nothing of a patient."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from operators.basic import PassThrough
from operators.sinks.traces import Traces
from pipeline import tracing
from pipeline.engine import Engine, RunOptions
from pipeline.errors import VigilError
from pipeline.graph import Graph
from pipeline.message import Hop, Message, Numeric
from pipeline.time import stamp
from tests.pipeline.helpers import LiveCount
from tests.pipeline.test_journal import alert


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    found = InMemorySpanExporter()

    def provider(*_: str) -> TracerProvider:
        made = TracerProvider()
        made.add_span_processor(SimpleSpanProcessor(found))
        return made

    monkeypatch.setattr(tracing, "provider", provider)
    return found


def test_an_alert_is_a_span_with_one_below_for_each_hop(exporter: InMemorySpanExporter) -> None:
    now = stamp()
    hops = [Hop("camera", now, now + 1000), Hop("rule", now + 5000, now + 9000)]
    one = alert(3)
    tracing.record(tracing.provider("console").get_tracer("test"), Message("alerts.alerts", 7, 0, one, "live", hops))
    spans = {span.name: span for span in exporter.get_finished_spans()}
    root = spans[f"alert {one.condition.code}"]
    assert set(spans) == {root.name, "camera", "rule"}
    assert root.attributes is not None
    assert (root.attributes["vigil.alert.id"], root.attributes["vigil.room"]) == (one.alert_id, one.room)
    assert one.condition.text not in map(str, root.attributes.values())

    def between(span: Any) -> int:
        return int(span.end_time - span.start_time)

    assert (between(root), between(spans["camera"]), between(spans["rule"])) == (9000, 1000, 4000)
    for name in ("camera", "rule"):
        parent = spans[name].parent
        assert parent is not None
        assert root.context is not None
        assert parent.span_id == root.context.span_id


async def test_one_in_so_many_of_the_rest(exporter: InMemorySpanExporter, tmp_path: Path) -> None:
    graph = Graph("traced")
    graph.add("numbers", LiveCount, count=100)
    graph.add("pass", PassThrough)
    graph.add("traces", Traces, every=10)
    graph.connect("numbers", "pass")
    graph.connect("pass", "traces")
    await Engine(graph, RunOptions(data=tmp_path)).run()
    roots = [span for span in exporter.get_finished_spans() if span.parent is None]
    assert len(roots) == 10
    assert {span.name for span in exporter.get_finished_spans()} == {"numbers.output", "numbers", "pass"}


def test_nothing_leaves_a_replay(exporter: InMemorySpanExporter, tmp_path: Path) -> None:
    graph = Graph("traced")
    graph.add("numbers", LiveCount, count=5)
    graph.add("traces", Traces, every=1)
    graph.connect("numbers", "traces")
    asyncio.run(Engine(graph, RunOptions(data=tmp_path, deterministic=True)).run())
    assert exporter.get_finished_spans() == ()


def test_without_the_extra_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(VigilError, match=r"vigil\[tracing\]"):
        tracing.provider("console")


def test_a_message_without_hops_has_no_span(exporter: InMemorySpanExporter) -> None:
    tracing.record(tracing.provider("console").get_tracer("test"), Message("a.b", 0, 0, Numeric("n", "", "1", 1.0)))
    assert exporter.get_finished_spans() == ()
