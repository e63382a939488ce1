"""YAML files that people write: topologies, case scripts, truth files. Each value remembers its line, for errors.

Hostile files are refused: too large, unfolding without end, nested too deeply, tags that would construct something.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import VigilError

MAXIMUM_BYTES = 1_000_000
MAXIMUM_NODES = 20_000
SCALARS = ("int", "float", "bool", "null", "timestamp")
"""YAML's own words for values, beside plain text."""

Fault = type[VigilError]
"""The kind of error that is raised, as the reader of such files calls it."""


class Place(str):
    """A YAML scalar that remembers its line, so that every error can name it."""

    line: int = 0


class Table(dict[str, Any]):
    """A YAML mapping that remembers its line and those of its keys."""

    line: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


def read(path: Path, fault: Fault, limit: int = MAXIMUM_BYTES) -> bytes:
    """A file's content, at most one byte more than ``limit`` of it. Raises ``fault`` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise fault(f"cannot be read: {reason}", where=str(path)) from None


def parse(content: bytes | str, where: str, fault: Fault) -> Any:
    """What a document says: ``Table``, list, ``Place`` (text) and YAML's own values.

    Args:
        content: the document.
        where: what errors call it.
        fault: what is raised, with the line, where it is no such document or larger than ``MAXIMUM_BYTES``.
    """
    if len(content) > MAXIMUM_BYTES:
        raise fault(f"is larger than {MAXIMUM_BYTES:,} bytes", where=where)
    try:
        node = yaml.compose(content, Loader=yaml.SafeLoader)  # composes nodes only: nothing is constructed
        return None if node is None else _convert(node, where, _count(where, fault), fault)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "is not YAML"
        raise fault(str(problem), where=f"{where}:{mark.line + 1}" if mark else where) from None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else f"is not readable text: {error}"
        raise fault(reason, where=where) from None


def _count(where: str, fault: Fault) -> Iterator[None]:
    # Aliases make a small file unfold into a huge one; a budget of nodes stops that.
    for _ in range(MAXIMUM_NODES):
        yield
    raise fault(f"unfolds into more than {MAXIMUM_NODES:,} values", where=where)


def _convert(node: yaml.Node, where: str, budget: Iterator[None], fault: Fault) -> Any:
    next(budget)
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        table = Table()
        table.line = line
        for key_node, value_node in node.value:
            key = _convert(key_node, where, budget, fault)
            if not isinstance(key, str | int | float):
                raise fault("a key must be a word", where=f"{where}:{line}")
            key = str(key)
            if key in table:
                raise fault(f"{key!r} is given twice", where=f"{where}:{key_node.start_mark.line + 1}")
            table[key] = _convert(value_node, where, budget, fault)
            table.lines[key] = key_node.start_mark.line + 1
        return table
    if isinstance(node, yaml.SequenceNode):
        return [_convert(item, where, budget, fault) for item in node.value]
    if node.tag == "tag:yaml.org,2002:str":
        text = Place(node.value)
        text.line = line
        return text
    if node.tag.removeprefix("tag:yaml.org,2002:") not in SCALARS:
        raise fault(f"the tag {node.tag!r} is not allowed", where=f"{where}:{line}")
    return yaml.safe_load(yaml.serialize(node)) if node.tag != "tag:yaml.org,2002:timestamp" else str(node.value)
