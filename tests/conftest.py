"""Fixtures for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings; the test is skipped where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real recordings are not here ({SHARED_DATA.relative_to(SHARED_DATA.parents[2])})")
    return SHARED_DATA
