"""The one document that every bench prints."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from pipeline.bench import Row


def machine() -> str:
    """Processor, cores, memory and Python, without a name of the host."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = psutil.virtual_memory().total / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def document(name: str, command: Sequence[str], seed: int, rows: Sequence[Row]) -> dict[str, Any]:
    """``{bench, machine, command, seed, rows}``."""
    return {"bench": name, "machine": machine(), "command": " ".join(command), "seed": seed, "rows": list(rows)}
