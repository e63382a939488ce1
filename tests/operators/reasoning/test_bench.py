"""The bench runs, its rows say what they were measured on, and what must hold holds."""

from __future__ import annotations

from operators.reasoning.bench import rows
from pipeline.bench import BenchOptions


def test_the_rows_name_their_data_and_their_baselines() -> None:
    found = rows(BenchOptions(quick=True))
    assert all(row.data for row in found)
    named = {row.name: row for row in found}
    assert named["the rule and the hand-written one agree"].met
    assert named["alerts outside trouble in the uneventful case"].met
    assert named["alerts in the eventful case"].baseline_name == "single limits at once"
    for row in found:
        assert row.data.startswith(("simulated", "real")), row.name
