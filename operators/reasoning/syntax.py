"""What an expression of the rule language is made of, and how it is written down in one canonical way.

The nodes are frozen and compare by content; where they were written is no part of that. ``print_expression`` gives
text with the fewest brackets that parses to the same node, so equal meaning of this kind is equal text, which is what
the digest of a preset is made of. The grammar is in ``LANGUAGE.md``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

from pipeline.message import NANOSECONDS

Operation = Literal["<", "<=", ">", ">="]
AGGREGATES = ("mean", "min", "max", "slope")
"""Functions of the values of one signal in a window that ends now."""
UNITS = {"ms": NANOSECONDS // 1000, "s": NANOSECONDS, "min": 60 * NANOSECONDS, "h": 3600 * NANOSECONDS}
"""Units of durations, in nanoseconds."""
LONGEST = 4 * UNITS["h"]
"""The longest duration that may be written, ns: what a window must remember is bounded by it."""


@dataclasses.dataclass(frozen=True)
class Node:
    """Base of all. ``at`` is the offset in the text that it was parsed from."""

    at: int = dataclasses.field(default=0, compare=False, kw_only=True)


# ------------------------------------------------------------------------------------------ numbers


@dataclasses.dataclass(frozen=True)
class Number(Node):
    value: float


@dataclasses.dataclass(frozen=True)
class Value(Node):
    """The latest value of a signal."""

    signal: str


@dataclasses.dataclass(frozen=True)
class Aggregate(Node):
    """``mean(map, 60s)``; ``slope`` is the change a minute of the least squares line."""

    function: str
    signal: str
    window: int


@dataclasses.dataclass(frozen=True)
class Arithmetic(Node):
    operator: Literal["+", "-", "*", "/"]
    left: Node
    right: Node


@dataclasses.dataclass(frozen=True)
class Negative(Node):
    operand: Node


# -------------------------------------------------------------------------------------------- truths


@dataclasses.dataclass(frozen=True)
class Compare(Node):
    """``left < right``, and once true until ``left`` reaches ``until``, the other side of the hysteresis."""

    operator: Operation
    left: Node
    right: Node
    until: Node | None = None


@dataclasses.dataclass(frozen=True)
class Change(Node):
    """``falls(map, by 10, within 60s)``: the value is so far from the extreme of the window. ``percent``: of it."""

    direction: Literal["rises", "falls"]
    signal: str
    amount: float
    percent: bool
    window: int


@dataclasses.dataclass(frozen=True)
class Silent(Node):
    """A signal that was heard has given no value for so long."""

    signal: str
    window: int


@dataclasses.dataclass(frozen=True)
class State(Node):
    """A condition that is present, an event at its moment, a detection while it is held."""

    signal: str


@dataclasses.dataclass(frozen=True)
class Not(Node):
    operand: Node


@dataclasses.dataclass(frozen=True)
class And(Node):
    operands: tuple[Node, ...]


@dataclasses.dataclass(frozen=True)
class Or(Node):
    operands: tuple[Node, ...]


@dataclasses.dataclass(frozen=True)
class AtLeast(Node):
    """``2 of (a, b, c)``."""

    count: int
    operands: tuple[Node, ...]


@dataclasses.dataclass(frozen=True)
class For(Node):
    """True without a break for so long."""

    operand: Node
    window: int


@dataclasses.dataclass(frozen=True)
class Seen(Node):
    """True at some time in the window that ends now."""

    operand: Node
    window: int


@dataclasses.dataclass(frozen=True)
class Then(Node):
    """``second`` is true, and ``first`` was at some time in the ``window`` before it became so."""

    first: Node
    second: Node
    window: int


NUMBERS = (Number, Value, Aggregate, Arithmetic, Negative)
"""The nodes whose value is a number; all others are true, false or unknown."""


def children(node: Node) -> tuple[Node, ...]:
    """The parts of a node, from left to right."""
    match node:
        case Arithmetic() | Compare():
            until = node.until if isinstance(node, Compare) else None
            return (node.left, node.right) if until is None else (node.left, node.right, until)
        case Negative() | Not() | For() | Seen():
            return (node.operand,)
        case And() | Or() | AtLeast():
            return node.operands
        case Then():
            return (node.first, node.second)
    return ()


def walk(node: Node) -> Iterator[Node]:
    """A node and everything in it."""
    yield node
    for child in children(node):
        yield from walk(child)


def signals(node: Node) -> dict[str, int]:
    """The names of the signals that an expression reads, with the offset of the first mention."""
    found: dict[str, int] = {}
    for part in walk(node):
        name = getattr(part, "signal", None)
        if name is not None:
            found.setdefault(name, part.at)
    return found


# ------------------------------------------------------------------------------------------- printing

OR, AND, THEN, FOR, UNARY, COMPARE, SUM, PRODUCT, SIGN, PRIMARY = range(10)
"""How tightly things bind, loosest first."""


def print_expression(node: Node) -> str:
    """Canonical text. ``parse(print_expression(node)) == node`` for every node that ``parse`` gives."""
    return _print(node, OR)


def duration(nanoseconds: int) -> str:
    """``90s``, ``2min``, ``250ms``: the largest unit in which it is a whole number."""
    for unit in ("h", "min", "s"):
        if nanoseconds % UNITS[unit] == 0:
            return f"{nanoseconds // UNITS[unit]}{unit}"
    return f"{number(nanoseconds / UNITS['ms'])}ms"


def number(value: float) -> str:
    """The shortest text that gives the same number again."""
    return repr(float(value)).removesuffix(".0")


def _print(node: Node, loosest: int) -> str:  # noqa: PLR0911 - one line for each kind
    """Text of a node in a place where nothing looser than ``loosest`` may stand without brackets."""
    match node:
        case Number():
            return number(node.value)
        case Value() | State():
            return node.signal
        case Aggregate():
            return f"{node.function}({node.signal}, {duration(node.window)})"
        case Silent():
            return f"silent({node.signal}, {duration(node.window)})"
        case Change():
            by = f"by {number(node.amount)}{'%' if node.percent else ''}"
            return f"{node.direction}({node.signal}, {by}, within {duration(node.window)})"
        case AtLeast():
            return f"{node.count} of ({', '.join(_print(part, OR) for part in node.operands)})"
    text, binds = _compound(node)
    return f"({text})" if binds < loosest else text


def _compound(node: Node) -> tuple[str, int]:  # noqa: PLR0911
    match node:
        case Negative():
            return f"-{_print(node.operand, SIGN)}", SIGN
        case Arithmetic():
            binds = SUM if node.operator in "+-" else PRODUCT
            return f"{_print(node.left, binds)} {node.operator} {_print(node.right, binds + 1)}", binds
        case Compare():
            until = "" if node.until is None else f" until {_print(node.until, SUM)}"
            return f"{_print(node.left, SUM)} {node.operator} {_print(node.right, SUM)}{until}", COMPARE
        case Not():
            return f"not {_print(node.operand, UNARY)}", UNARY
        case Seen():
            return f"seen {_print(node.operand, UNARY)} within {duration(node.window)}", UNARY
        case For():
            return f"{_print(node.operand, UNARY)} for {duration(node.window)}", FOR
        case Then():
            first, second = _print(node.first, THEN), _print(node.second, FOR)
            return f"{first} then {second} within {duration(node.window)}", THEN
        case And():
            return " and ".join(_print(part, THEN) for part in node.operands), AND
        case Or():
            return " or ".join(_print(part, AND) for part in node.operands), OR
    raise TypeError(f"{type(node).__name__} is not part of an expression")
