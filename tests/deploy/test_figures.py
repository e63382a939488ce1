"""The README's figures are those of the benches' documents."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def figures() -> Any:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "deploy" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_is_what_the_documents_say(figures: Any) -> None:
    readme = (ROOT / "README.md").read_text()
    assert figures.BLOCK.search(readme)
    assert figures.written(readme) == readme, "run deploy/figures.py"


def test_every_document_says_how_it_was_made(figures: Any) -> None:
    documents = sorted(figures.FOLDER.glob("*.json"))
    assert documents
    for path in documents:
        document = json.loads(path.read_text())
        assert document["bench"] == path.stem
        assert {"machine", "command", "seed", "rows"} <= document.keys()
        assert document["rows"]


def test_a_row_shows_value_interval_baseline_and_verdict(figures: Any) -> None:
    row = {
        "name": "speed", "value": 12345.6, "unit": "/s", "baseline_name": "plain", "baseline": 1.5, "ratio": 0.25,
        "goal": "ratio >= 1", "met": False, "interval": [0.123456, 2],
    }  # fmt: skip
    assert figures.row(row) == "| speed | 12,346 /s (0.123 to 2) | plain: 1.5 | 0.25 | ratio >= 1: **not met** |"
