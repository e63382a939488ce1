"""The soak bench: what it plays, and that playing fast raises no alert that playing in order would not."""

from __future__ import annotations

from operators.theatre.soak import run, stretched
from pipeline.bench import BenchOptions


def test_the_case_is_stretched_and_cut() -> None:
    day = stretched(8, 0)
    assert day["duration"] == 8 * 3600
    assert len(day["script"]) > 5
    short = stretched(0.1, 5)
    assert short["seed"] == 5
    assert all(item["at"] < 360 for part in ("phases", "script") for item in short[part])


def test_six_quiet_minutes_raise_nothing_and_memory_stays() -> None:
    """Outputs of one source that meet again at a rule once came out of order at full speed: false silences."""
    told: list[str] = []
    rows = {row.name: row for row in run(BenchOptions(quick=True, progress=told.append))}
    assert rows["revisions of alerts"].value == 0
    assert rows["messages"].value > 10_000
    growth = next(row for name, row in rows.items() if name.startswith("resident growth"))
    assert growth.met
    assert told
