"""Finds operators, readers and benches by their registered names (entry points), so that imports keep one direction."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path
from typing import Any

from pipeline.errors import RecordingError, TopologyError, nearest
from pipeline.operator import Operator
from pipeline.reader import Reader


@functools.cache
def names(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    """Registered name to entry point of the group ``vigil.<group>``."""
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=f"vigil.{group}")}


def operator(name: str, where: str = "") -> type[Operator]:
    """The operator class registered as ``name``. Raises ``TopologyError`` with the nearest spelling."""
    entry = names("operators").get(name)
    if entry is None:
        raise TopologyError(f"there is no operator {name!r}", where=where, mend=nearest(name, names("operators")))
    loaded: Any = entry.load()
    return loaded  # type: ignore[no-any-return]


def open_reader(path: Path | str) -> Reader:
    """Open a recording by its suffix. Raises ``RecordingError`` for missing files and unknown kinds."""
    path = Path(path)
    if path.suffix == "" and path.with_suffix(".hea").exists():
        path = path.with_suffix(".hea")
    entry = names("readers").get(path.suffix.lower())
    if entry is None:
        mend = "known: " + ", ".join(sorted(names("readers")))
        raise RecordingError(f"no reader for files ending in {path.suffix!r}", where=str(path), mend=mend)
    if not path.is_file():
        raise RecordingError("there is no such file", where=str(path))
    reader: Reader = entry.load()(path)
    return reader
