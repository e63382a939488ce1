"""Where real recordings lie, for benches and training: never in the project itself."""

from __future__ import annotations

import os
from pathlib import Path


def shared_data() -> Path | None:
    """The folder of real recordings: ``VIGIL_DATA`` where it is set, else ``../shared/data`` beside the checkout.

    None where there is none; what needs it then says so and does without.
    """
    named = os.environ.get("VIGIL_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None
