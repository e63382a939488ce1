"""The parser of the rule language: recursive descent over a token list, with the place of everything.

It is total: any text gives an expression or a ``RuleSyntaxError`` that names the offset, what was expected there,
and the nearest spelling where a word is unknown. Depth and length are bounded, so no text makes it recurse without end.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from operators.reasoning import syntax
from operators.reasoning.syntax import LONGEST, NUMBERS, UNITS, Node
from pipeline.errors import nearest

MAXIMUM_LENGTH = 4000
"""Characters of one expression."""
MAXIMUM_DEPTH = 32
"""Brackets, `not` and minus signs inside one another."""

KEYWORDS = ("and", "or", "not", "for", "seen", "then", "within", "until", "of", "by")
FUNCTIONS = (*syntax.AGGREGATES, "rises", "falls", "silent")
RESERVED = frozenset((*KEYWORDS, *FUNCTIONS, *UNITS))
"""Words that no signal may be called."""

_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    r"|(?P<duration>\d+(?:\.\d+)?[ ]*(?:ms|min|s|h)\b(?![ ]*\())"
    r"|(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign><=|>=|[<>()+\-*/,%])",
    re.ASCII,
)


class RuleSyntaxError(ValueError):
    """Text that is no expression: ``offset`` in it, what is wrong, and what would mend it."""

    def __init__(self, message: str, offset: int, mend: str = "") -> None:
        super().__init__(message)
        self.message, self.offset, self.mend = message, offset, mend


class Token(NamedTuple):
    kind: Literal["duration", "number", "word", "sign", "end"]
    text: str
    at: int


def tokens(text: str) -> list[Token]:
    """The tokens of a text and one that marks its end. Raises ``RuleSyntaxError``."""
    if len(text) > MAXIMUM_LENGTH:
        raise RuleSyntaxError(f"an expression has at most {MAXIMUM_LENGTH:,} characters", MAXIMUM_LENGTH)
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise RuleSyntaxError(*_strange(text, at))
        kind = match.lastgroup
        if kind != "space":
            found.append(Token(kind, match.group(), at))  # type: ignore[arg-type]
        at = match.end()
    return [*found, Token("end", "", len(text.rstrip()))]


def _strange(text: str, at: int) -> tuple[str, int, str]:
    """Fault of a character that begins no token."""
    character = text[at]
    if character == "=" or text[at : at + 2] == "!=":
        return "values are compared with <, <=, > or >=", at, "equality of measured values is chance"
    if character.isdigit():
        word = "".join(itertools.takewhile(lambda one: one.isalnum() or one in "._", text[at:]))
        return f"{word!r} is neither a number nor a duration", at, "durations are in ms, s, min or h, such as 60s"
    if character in "&|!":
        return f"{character!r} is not part of the language", at, "write and, or, not"
    return f"{character!r} is not part of the language", at, ""


class Parser:
    """One text. ``numeric`` and ``states`` are the names of its signals; None takes any name for a number."""

    def __init__(self, text: str, numeric: Iterable[str] | None = None, states: Iterable[str] = ()) -> None:
        self.tokens = tokens(text)
        self.position, self.depth = 0, 0
        self.numeric = None if numeric is None else frozenset(numeric)
        self.states = frozenset(states)

    def parse(self) -> Node:
        """The whole text as one true-or-false expression. Raises ``RuleSyntaxError``."""
        node = self.any_of()
        if self.next.kind != "end":
            self.fail("the end, `and`, `or`, `then` or `for`", words=("and", "or", "then", "for", "until"))
        return self.truth(node)

    # -- tokens

    @property
    def next(self) -> Token:
        return self.tokens[self.position]

    def take(self) -> Token:
        token = self.next
        self.position += 1
        return token

    def is_next(self, *texts: str) -> bool:
        return self.next.text in texts and self.next.kind in ("word", "sign")

    def expect(self, text: str, after: str) -> Token:
        if not self.is_next(text):
            self.fail(f"`{text}` after {after}", words=(text,))
        return self.take()

    def fail(self, expected: str, words: Iterable[str] = ()) -> None:
        """Raise for what stands next instead of what was expected."""
        token = self.next
        what = "the text ends" if token.kind == "end" else f"{token.text!r} stands here"
        mend = ""
        if token.kind == "word":
            close = difflib.get_close_matches(token.text, list(words), n=1, cutoff=0.6)
            mend = f"did you mean {close[0]!r}?" if close else ""
        raise RuleSyntaxError(f"expected {expected}, but {what}", token.at, mend)

    def deeper(self, inner: Callable[[], Node]) -> Node:
        """Parse something inside something; bounded, so that no text exhausts the stack."""
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            raise RuleSyntaxError(f"more than {MAXIMUM_DEPTH} levels inside one another", self.next.at, "use two rules")
        node = inner()
        self.depth -= 1
        return node

    # -- kinds

    def truth(self, node: Node) -> Node:
        if isinstance(node, NUMBERS):
            raise RuleSyntaxError(
                "a number stands where true or false is needed", node.at, "compare it, such as map < 65"
            )
        return node

    def amount(self, node: Node) -> Node:
        if not isinstance(node, NUMBERS):
            raise RuleSyntaxError("true or false stands where a number is needed", node.at)
        return node

    # -- loosest first

    def any_of(self) -> Node:
        return self._chain("or", self.all_of, syntax.Or)

    def all_of(self) -> Node:
        return self._chain("and", self.sequence, syntax.And)

    def _chain(self, word: str, part: Callable[[], Node], kind: type[syntax.And] | type[syntax.Or]) -> Node:
        first = part()
        if not self.is_next(word):
            return first
        parts = [self.truth(first)]
        while self.is_next(word):
            self.take()
            parts.append(self.truth(part()))
        flat = [inner for one in parts for inner in (one.operands if isinstance(one, kind) else (one,))]
        return kind(tuple(flat), at=first.at)

    def sequence(self) -> Node:
        node = self.lasting()
        while self.is_next("then"):
            self.take()
            second = self.truth(self.lasting())
            self.expect("within", "what comes second")
            node = syntax.Then(self.truth(node), second, self.duration(), at=node.at)
            self._bounded(node)
        return node

    def lasting(self) -> Node:
        node = self.prefixed()
        if self.is_next("for"):
            self.take()
            node = syntax.For(self.truth(node), self.duration(), at=node.at)
            if self.is_next("for"):
                self.fail("one `for` only: put brackets around what lasts")
        return node

    def prefixed(self) -> Node:
        if self.is_next("not"):
            at = self.take().at
            return syntax.Not(self.truth(self.deeper(self.prefixed)), at=at)
        if self.is_next("seen"):
            at = self.take().at
            operand = self.truth(self.deeper(self.prefixed))
            self.expect("within", "what is to be seen")
            return syntax.Seen(operand, self.duration(), at=at)
        return self.comparison()

    def comparison(self) -> Node:
        left = self.sum()
        if not self.is_next("<", "<=", ">", ">="):
            return left
        operator = self.take().text
        right = self.amount(self.sum())
        until = None
        if self.is_next("until"):
            self.take()
            until = self.amount(self.sum())
        if self.is_next("<", "<=", ">", ">="):
            self.fail("one comparison only: join two with `and`")
        node = syntax.Compare(operator, self.amount(left), right, until, at=left.at)  # type: ignore[arg-type]
        _check_hysteresis(node)
        return node

    def sum(self) -> Node:
        return self._arithmetic(("+", "-"), self.product)

    def product(self) -> Node:
        return self._arithmetic(("*", "/"), self.factor)

    def _arithmetic(self, operators: tuple[str, ...], part: Callable[[], Node]) -> Node:
        node = part()
        while self.is_next(*operators):
            operator = self.take().text
            node = syntax.Arithmetic(operator, self.amount(node), self.amount(part()), at=node.at)  # type: ignore[arg-type]
            self._bounded(node)
        return node

    def factor(self) -> Node:
        if self.is_next("-"):
            at = self.take().at
            return syntax.Negative(self.amount(self.deeper(self.factor)), at=at)
        if self.is_next("("):
            self.take()
            node = self.deeper(self.any_of)
            self.expect(")", "what the bracket holds")
            return node
        if self.next.kind == "number":
            return self.number_or_count()
        if self.next.kind == "duration":
            raise RuleSyntaxError(
                "a duration stands where a value is needed", self.next.at, "numbers have no unit here"
            )
        if self.next.kind == "word" and self.next.text not in KEYWORDS:
            return self.name()
        self.fail("a signal, a number, a function or `(`")
        raise AssertionError("unreachable")

    # -- words

    def number_or_count(self) -> Node:
        token = self.take()
        value = float(token.text)
        if not self.is_next("of"):
            if not value < 1e15:
                raise RuleSyntaxError("a number is below 1e15", token.at)
            return syntax.Number(value, at=token.at)
        self.take()
        self.expect("(", "`of`")
        parts = [self.truth(self.deeper(self.any_of))]
        while self.is_next(","):
            self.take()
            parts.append(self.truth(self.deeper(self.any_of)))
        self.expect(")", "the last of them")
        if value != int(value) or not 1 <= value <= len(parts):
            raise RuleSyntaxError(f"{token.text} of {len(parts)} cannot be", token.at, f"1 to {len(parts)}")
        return syntax.AtLeast(int(value), tuple(parts), at=token.at)

    def name(self) -> Node:
        token = self.take()
        word = token.text
        if self.is_next("("):
            return self.function(token)
        if word in FUNCTIONS:
            self.fail(f"`(` after {word!r}")
        if word in self.states:
            return syntax.State(word, at=token.at)
        if self.numeric is None or word in self.numeric:
            return syntax.Value(word, at=token.at)
        raise RuleSyntaxError(f"no signal is called {word!r}", token.at, nearest(word, self.numeric | self.states))

    def function(self, token: Token) -> Node:
        word = token.text
        if word not in FUNCTIONS:
            raise RuleSyntaxError(f"there is no function {word!r}", token.at, nearest(word, FUNCTIONS))
        self.take()
        signal = self.signal(word)
        self.expect(",", f"the signal of {word!r}")
        if word not in ("rises", "falls"):
            window = self.duration()
            self.expect(")", "the duration")
            if word == "silent":
                return syntax.Silent(signal, window, at=token.at)
            return syntax.Aggregate(word, signal, window, at=token.at)
        self.expect("by", f"the signal of {word!r}")
        if self.next.kind != "number":
            self.fail("a number after `by`")
        given = self.take()
        amount = float(given.text)
        if not 1e-6 <= amount < 1e15:
            raise RuleSyntaxError("a change is more than nothing", given.at)
        percent = self.is_next("%") and bool(self.take())
        self.expect(",", "the amount")
        self.expect("within", "the amount")
        window = self.duration()
        self.expect(")", "the duration")
        return syntax.Change(word, signal, amount, percent, window, at=token.at)  # type: ignore[arg-type]

    def signal(self, word: str) -> str:
        token = self.next
        if token.kind != "word":
            self.fail(f"the name of a signal with values after `{word}(`")
        if token.text in self.states:
            raise RuleSyntaxError(f"{token.text!r} has no values, {word!r} needs them", token.at)
        if token.text in RESERVED or (self.numeric is not None and token.text not in self.numeric):
            raise RuleSyntaxError(
                f"no signal is called {token.text!r}", token.at, nearest(token.text, self.numeric or ())
            )
        return self.take().text

    def duration(self) -> int:
        """A duration in nanoseconds."""
        token = self.next
        if token.kind != "duration":
            self.fail("a duration such as 60s")
        self.take()
        digits, unit = re.fullmatch(r"([\d.]+) *(\w+)", token.text).groups()  # type: ignore[union-attr]
        nanoseconds = round(float(digits) * UNITS[unit])
        if not UNITS["ms"] <= nanoseconds <= LONGEST:
            raise RuleSyntaxError(f"{token.text!r} is not between 1ms and {syntax.duration(LONGEST)}", token.at)
        return nanoseconds

    def _bounded(self, node: Node) -> None:
        """Chains of one kind nest to the left without recursion of the parser; bound them as well."""
        depth, part = 0, node
        while isinstance(part, syntax.Then | syntax.Arithmetic):
            depth, part = depth + 1, part.first if isinstance(part, syntax.Then) else part.left
        if depth > MAXIMUM_DEPTH:
            raise RuleSyntaxError(f"a chain of more than {MAXIMUM_DEPTH}", self.next.at, "use two rules")


def parse(text: str, numeric: Iterable[str] | None = None, states: Iterable[str] = ()) -> Node:
    """An expression as nodes.

    Args:
        text: what the rule says.
        numeric: names of the signals that have values; None takes every other name for one.
        states: names of the signals that are true or false.

    Raises:
        RuleSyntaxError: with the offset in ``text``.
    """
    return Parser(text, numeric, states).parse()


def _check_hysteresis(node: syntax.Compare) -> None:
    if isinstance(node.right, syntax.Number) and isinstance(node.until, syntax.Number):
        bound, until = node.right.value, node.until.value
        if (until < bound) if node.operator in ("<", "<=") else (until > bound):
            side = "above" if node.operator in ("<", "<=") else "below"
            raise RuleSyntaxError(f"`until` must lie {side} the limit of `{node.operator}`", node.until.at)
