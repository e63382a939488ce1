"""Draws the README's picture: the demo as a terminal shows it.

Usage: .venv/bin/python deploy/pictures/draw.py
"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

from rich.console import Console

from pipeline.cli import main, show


def draw(target: Path) -> int:
    """Run the demo and write what it prints as SVG; gives its exit code."""
    recorder = Console(record=True, width=150, highlight=False, color_system="truecolor", file=io.StringIO())
    show.out = show.err = recorder
    sys.argv = ["vigil", "demo"]
    code: object = 0
    with contextlib.suppress(SystemExit):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
            raise
    target.write_text(recorder.export_svg(title="vigil demo"))
    return int(code) if isinstance(code, int) else 1


if __name__ == "__main__":
    sys.exit(draw(Path(__file__).with_name("demo.svg")))
