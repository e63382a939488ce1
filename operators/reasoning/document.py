"""YAML that remembers where everything was written: file, line and column, also within a text that is parsed on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NoReturn

import yaml

from pipeline.errors import VigilError, nearest

MAXIMUM_BYTES = 200_000
MAXIMUM_VALUES = 5_000
MAXIMUM_DEPTH = 20


class PresetError(VigilError):
    """A preset that cannot be used. ``where`` is ``file:line:column``."""


class Source:
    """The text of a file, for places in it."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file

    def place(self, index: int) -> str:
        """``file:line:column`` of a character, lines and columns from 1."""
        index = min(index, len(self.text))
        line = self.text.count("\n", 0, index) + 1
        return f"{self.file}:{line}:{index - (self.text.rfind(chr(10), 0, index) + 1) + 1}"

    def fail(self, message: str, index: int, mend: str = "") -> NoReturn:
        raise PresetError(message, where=self.place(index), mend=mend)


class Item:
    """One value of the document."""

    def __init__(self, source: Source, node: yaml.Node, name: str, key: int = 0) -> None:
        self.source, self.node, self.name, self.key = source, node, name, key
        """``key``: where its name stands in the file."""

    @property
    def index(self) -> int:
        """Where it begins in the file."""
        return self.node.start_mark.index

    def fail(self, message: str, mend: str = "", *, offset: int | None = None) -> NoReturn:
        """Raise ``PresetError`` at this value, or at a character of its text."""
        self.source.fail(message, self.index if offset is None else self.within(offset), mend)

    def within(self, offset: int) -> int:
        """Where the character at ``offset`` of this text stands in the file.

        YAML folds lines and drops indents and quotes; what is no space is found again in the same order.
        """
        raw, at, end = self.source.text, self.index, self.node.end_mark.index
        style, value = getattr(self.node, "style", None), str(self.node.value)
        if style in ("|", ">"):
            at = raw.find("\n", at, end) + 1
        elif style in ("'", '"'):
            at += 1
        last = at
        for position, character in enumerate(value):
            if position >= offset and not character.isspace():
                found = raw.find(character, at, end)
                return found if found >= 0 else last
            if not character.isspace():
                found = raw.find(character, at, end)
                if found < 0:
                    return last
                last, at = found, found + 1
        return min(last + 1, end)

    # -- kinds

    def table(self, known: Iterable[str] = (), required: Iterable[str] = ()) -> dict[str, Item]:
        """A mapping, in the order it was written. Unknown and missing names are errors unless ``known`` is empty."""
        if not isinstance(self.node, yaml.MappingNode):
            self.fail(f"{self.name} must be a mapping of names to values")
        found: dict[str, Item] = {}
        names = [*known]
        for key, value in self.node.value:
            word = key.value if isinstance(key, yaml.ScalarNode) else ""
            if not word:
                self.source.fail("a name must be a word", key.start_mark.index)
            if names and word not in names:
                self.source.fail(f"{self.name} has no entry {word!r}", key.start_mark.index, nearest(word, names))
            if word in found:
                self.source.fail(f"{word!r} is given twice", key.start_mark.index)
            found[word] = Item(self.source, value, word, key.start_mark.index)
        for word in required:
            if word not in found:
                self.fail(f"{self.name} needs {word!r}")
        return found

    def items(self) -> list[Item]:
        """A list."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.fail(f"{self.name} must be a list")
        return [Item(self.source, node, self.name) for node in self.node.value]

    def text(self) -> str:
        """A text that is not empty."""
        if not isinstance(self.node, yaml.ScalarNode) or not self.node.value.strip():
            self.fail(f"{self.name} must be a text")
        return str(self.node.value)

    def texts(self) -> tuple[str, ...]:
        """A text or a list of texts."""
        if isinstance(self.node, yaml.SequenceNode):
            return tuple(item.text() for item in self.items()) or self.fail(f"{self.name} is an empty list")
        return (self.text(),)

    def choice(self, known: Iterable[str]) -> str:
        """One of some words."""
        word = self.text()
        if word not in (names := [*known]):
            self.fail(f"{word!r} is no {self.name}", nearest(word, names))
        return word

    def number(self, least: float, most: float) -> float:
        """A number between two, both included."""
        try:
            value = float(self.text())
        except ValueError:
            self.fail(f"{self.name} must be a number, not {self.node.value!r}")
        if not least <= value <= most:
            self.fail(f"{self.name} must be between {least:g} and {most:g}")
        return value


def read(content: bytes | str, file: str) -> Item:
    """The document of a YAML text. Raises ``PresetError``."""
    if len(content) > MAXIMUM_BYTES:
        raise PresetError(f"is larger than {MAXIMUM_BYTES:,} bytes", where=file)
    try:
        text = content if isinstance(content, str) else content.decode()
        text = text.replace("\r\n", "\n")
        root = yaml.compose(text, Loader=yaml.SafeLoader)  # composes nodes only: nothing is constructed
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        raise PresetError(str(getattr(error, "problem", None) or "is not YAML"), where=where) from None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else f"is not readable text: {error}"
        raise PresetError(reason, where=file) from None
    if root is None:
        raise PresetError("is empty", where=f"{file}:1:1")
    source = Source(text, file)
    _bounded(root, source, iter(range(MAXIMUM_VALUES)))
    return Item(source, root, "a preset")


def _bounded(node: yaml.Node, source: Source, budget: Iterator[int], depth: int = 0) -> None:
    """Aliases make a small file unfold into a huge one, or into itself; a budget of values and of levels stops that."""
    if next(budget, None) is None or depth > MAXIMUM_DEPTH:
        raise PresetError(f"unfolds into more than {MAXIMUM_VALUES:,} values or {MAXIMUM_DEPTH} levels",
                          where=source.file)  # fmt: skip
    parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    for part in parts if isinstance(node, yaml.CollectionNode) else ():
        _bounded(part, source, budget, depth + 1)
