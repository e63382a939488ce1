"""`vigil score` on the real operation, with the truth written in SOURCES.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app

pytestmark = pytest.mark.real


def truth_of(sources: str, path: Path) -> Path:
    """Write the truth file from what SOURCES.md says: ``MAP < 65 mmHg ...: [1 s, +429 s, min 42] and [...]``."""
    row = next(line for line in sources.splitlines() if "or_case1.vital" in line)
    episodes = [(int(onset), int(length)) for onset, length in re.findall(r"\[(\d+) s, \+(\d+) s", row)]
    assert len(episodes) == 2
    lines = [f"  - {{code: hypotension, onset: {a}, end: {a + b}, early: 15}}" for a, b in episodes]
    path.write_text("truth: 1\ncodes: [hypotension]\nevents:\n" + "\n".join(lines) + "\nmonitored: [[0, 1974]]\n")
    return path


def test_both_episodes_are_found_and_nothing_else_is_said(shared_data: Path, tmp_path: Path) -> None:
    truth = truth_of((shared_data / "SOURCES.md").read_text(), tmp_path / "truth.yaml")
    case = shared_data / "or_intellivue" / "or_case1.vital"
    done = CliRunner().invoke(app, ["score", str(case), "--truth", str(truth), "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads(done.stdout)["score"]
    raw = found["raw"]
    assert (raw["events"], raw["found"], raw["alerts"]) == (2, 2, 2)
    assert (raw["sensitivity"], raw["ppv"], raw["false_alarms_per_hour"]) == (1.0, 1.0, 0.0)
    assert found["origin"] == "recorded"
    # The rule waits for a minute of low pressure: its alert comes after the onset, by its own design.
    assert -75 < found["lead_seconds"]["median"] < -60
    assert found["lead_seconds"]["share_1_min"] == 0


def test_an_episode_that_never_was_is_missed(shared_data: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.yaml"
    truth.write_text("truth: 1\ncodes: [hypotension]\nevents: [{code: hypotension, onset: 480, end: 540}]\n")
    case = shared_data / "or_intellivue" / "or_case1.vital"
    done = CliRunner().invoke(app, ["score", str(case), "--truth", str(truth), "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["score"]["raw"]["false"] == 2
