"""The bench of the alert path, quickly, against a genuine broker."""

from __future__ import annotations

import shutil

import pytest

from operators.sinks.bench import run
from pipeline.bench import BenchOptions


@pytest.mark.kafka
@pytest.mark.xdist_group("kafka")
@pytest.mark.skipif(not (shutil.which("java") and shutil.which("mvn")), reason="needs Java 17 and Maven")
@pytest.mark.timeout(300)
def test_every_row_is_there_and_nothing_is_lost() -> None:
    rows = {row.name: row for row in run(BenchOptions(quick=True))}
    assert rows["alerts missing, twice or out of order"].value == 0
    assert rows["condition true to durable, p99"].goal == "<= 10 ms"
    assert rows["condition true to acknowledged, p99"].goal == "ratio <= 3"
    assert rows["alerts sustained to acknowledged"].value > 100
    durable, acknowledged = rows["condition true to durable, p50"], rows["condition true to acknowledged, p50"]
    assert 0 < durable.value < acknowledged.value


def test_without_java_the_rows_about_kafka_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    told: list[str] = []
    rows = run(BenchOptions(quick=True, progress=told.append))
    assert [row.name for row in rows][:2] == ["condition true to durable, p50", "condition true to durable, p99"]
    assert len(rows) == 3
    assert any("no Java" in line for line in told)
