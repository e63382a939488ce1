"""The bench of the real recordings meets its goals."""

from __future__ import annotations

from pathlib import Path

import pytest

from operators.bench import recordings
from pipeline.bench import BenchOptions

pytestmark = pytest.mark.real


def test_what_the_recordings_must_show_is_shown(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIL_DATA", str(shared_data))
    rows = recordings.run(BenchOptions(quick=True))
    judged = {row.name: row.met for row in rows if row.met is not None and row.unit != "x real time"}
    assert len(judged) >= 7
    assert all(judged.values()), judged


def test_without_the_recordings_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIL_DATA", "/nowhere")
    said: list[str] = []
    assert recordings.run(BenchOptions(progress=said.append)) == []
    assert "not here" in said[0]
