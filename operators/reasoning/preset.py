"""Presets: the rules, checks and signals of a YAML file, checked whole before anything runs, versioned and hashed.

See ``LANGUAGE.md`` for what may stand in one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any, Literal, get_args

from operators.reasoning import syntax
from operators.reasoning.document import MAXIMUM_BYTES, Item, PresetError, read
from operators.reasoning.parser import RESERVED, RuleSyntaxError, parse
from operators.reasoning.syntax import Node, print_expression
from pipeline.document import read as read_file
from pipeline.errors import nearest
from pipeline.message import NANOSECONDS, Kind, Priority

FOLDER = Path(__file__).parent / "presets"
"""The shipped presets."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
PLACE_HOLDER = re.compile(r"\{(\w*)(?::\.(\d)f)?\}")
MAXIMUM_RULES = 64
HOLDS = {"numerics": 10.0, "detections": 1.0, "events": 0.0, "conditions": 0.0}
"""Seconds that one message stands for unless the preset says so: see ``Signal.hold``."""
ALIVE = {"events": 600.0, "detections": 5.0, "conditions": 10.0}
"""Seconds after a sign of life for which its source counts as listening."""


@dataclasses.dataclass(frozen=True)
class Signal:
    """What a name of the preset stands for."""

    name: str
    kind: Literal["numerics", "conditions", "events", "detections"]
    patterns: tuple[str, ...]
    """Shell patterns over channels (numerics, best first), codes, kinds or labels."""
    hold: int
    """Nanoseconds that a value stands for, or that a detection or event counts as true; at least 1."""
    unit: str = ""
    """UCUM unit of a numeric; empty: whatever comes, unchecked."""
    subject: str = "*"
    """Shell pattern over a condition's subject or an event's text."""
    score: float = 0.0
    """A detection counts from this score on."""
    alive: tuple[str, ...] = ()
    """Shell patterns over streams and channels whose messages show that whoever would say it is listening."""
    alive_for: int = 0
    """Nanoseconds that such a message vouches for."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """One alert and when it is said."""

    code: str
    priority: Priority
    kind: Kind
    when: Node
    clear: Node
    text: str
    unless: Node | None = None
    because: str = ""
    """The reason told where ``unless`` rejects a candidate."""
    why: str = ""
    """For readers: where the rule and its figures come from."""


@dataclasses.dataclass(frozen=True)
class Check:
    """How a fast alert is verified afterwards."""

    codes: tuple[str, ...]
    source: str
    deadline: int
    """Nanoseconds after the alert was said by which there is a verdict, or it is said that there is none."""
    confirm: Node | None = None
    """None: an operator on `verdicts` is to answer."""
    refute: Node | None = None
    demote_to: Priority | None = None
    """What it becomes where it is refuted, or not confirmed by the deadline; None: it stays what it is."""
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Preset:
    name: str
    version: int
    description: str
    signals: dict[str, Signal]
    rules: tuple[Rule, ...]
    checks: tuple[Check, ...]
    digest: str
    """SHA-256 of the canonical content, first 16 hexadecimal digits: comments and layout do not count."""


def load(name: str) -> Preset:
    """A shipped preset by its name, or one by its path (anything with a slash or a suffix). Raises ``PresetError``."""
    path = Path(name) if "/" in name or name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if path.parent == FOLDER and not path.is_file():
        raise PresetError(f"there is no preset {name!r}", mend=nearest(name, (p.stem for p in FOLDER.glob("*.yaml"))))
    return loads(read_file(path, PresetError, MAXIMUM_BYTES), str(path))


def loads(content: bytes | str, file: str = "<preset>") -> Preset:
    """``load`` from text; ``file`` is what errors call it."""
    top = read(content, file).table(
        ("reasoning", "name", "version", "description", "include", "signals", "rules", "checks"),
        ("reasoning", "name", "version"),
    )
    if top["reasoning"].text() != "1":
        top["reasoning"].fail("this is version 1 of the language")
    if not NAME.fullmatch(top["name"].text()):
        top["name"].fail("a name is letters, digits and _")
    version = top["version"].number(1, 1e9)
    signals, rules, checks = _included(top["include"]) if "include" in top else ({}, (), ())
    for name, item in top["signals"].table().items() if "signals" in top else ():
        if name in signals:
            item.fail(f"{name!r} is a signal of the included preset")
        signals[name] = _signal(name, item)
    for item in top["rules"].items() if "rules" in top else ():
        rule = _rule(item, signals)
        if rule.code in [other.code for other in rules]:
            item.fail(f"the code {rule.code!r} is used twice")
        rules += (rule,)
    checks = (*(_check(item, signals) for item in (top["checks"].items() if "checks" in top else ())), *checks)
    if not rules and not checks:
        top["name"].fail("a preset needs `rules` or `checks`")
    if len(rules) + len(checks) > MAXIMUM_RULES:
        top["name"].fail(f"more than {MAXIMUM_RULES} rules")
    description = top["description"].text() if "description" in top else ""
    preset = Preset(top["name"].text(), int(version), description, signals, rules, checks, "")
    return dataclasses.replace(preset, digest=_digest(preset))


# ------------------------------------------------------------------------------------------- parts


def _included(item: Item) -> tuple[dict[str, Signal], tuple[Rule, ...], tuple[Check, ...]]:
    """Another shipped preset's signals, rules and checks; that one stands by itself."""
    name = item.text()
    if not (FOLDER / f"{name}.yaml").is_file():
        item.fail(f"there is no preset {name!r}", nearest(name, (path.stem for path in FOLDER.glob("*.yaml"))))
    if re.search(r"^include:", (FOLDER / f"{name}.yaml").read_text(), re.MULTILINE):
        item.fail(f"{name!r} includes another preset itself")
    other = load(name)
    return dict(other.signals), other.rules, other.checks


def _signal(name: str, item: Item) -> Signal:
    if not NAME.fullmatch(name):
        item.source.fail(f"{name!r} is no name for a signal", item.key, "letters, digits and _")
    if name in RESERVED:
        item.source.fail(f"{name!r} is a word of the language and no name for a signal", item.key)
    body = item.table((*HOLDS, "unit", "hold", "subject", "text", "score", "alive", "alive_for"))
    kinds = [word for word in body if word in HOLDS]
    if len(kinds) != 1:
        item.fail(f"signal {name!r} needs one of {', '.join(HOLDS)}")
    kind: Any = kinds[0]
    fitting = {"numerics": ("unit", "hold"), "conditions": ("subject", "alive", "alive_for"),
               "events": ("text", "hold", "alive", "alive_for"),
               "detections": ("score", "hold", "alive", "alive_for")}[kind]  # fmt: skip
    for word, entry in body.items():
        if word != kind and word not in fitting:
            entry.fail(f"{kind} have no {word!r}", nearest(word, fitting))
    hold = _duration(body["hold"]) if "hold" in body else round(HOLDS[kind] * NANOSECONDS)
    patterns = body["subject"] if "subject" in body else body.get("text")
    alive_for = _duration(body["alive_for"]) if "alive_for" in body else round(ALIVE.get(kind, 0.0) * NANOSECONDS)
    return Signal(
        name, kind, body[kind].texts(), max(1, hold), unit=body["unit"].text() if "unit" in body else "",
        subject=patterns.text() if patterns else "*", score=body["score"].number(0, 1) if "score" in body else 0.0,
        alive=body["alive"].texts() if "alive" in body else (), alive_for=alive_for,
    )  # fmt: skip


def _rule(item: Item, signals: dict[str, Signal]) -> Rule:
    body = item.table(
        ("code", "priority", "kind", "when", "clear", "unless", "because", "text", "why"),
        ("code", "priority", "when", "text"),
    )
    code = _code(body["code"])
    when = _expression(body["when"], signals)
    default = syntax.For(when.operand if isinstance(when, syntax.Not) else syntax.Not(when), 10 * NANOSECONDS)
    if "because" in body and "unless" not in body:
        body["because"].fail("`because` is the reason of an `unless`, and there is none")
    return Rule(
        code, body["priority"].choice(get_args(Priority)),  # type: ignore[arg-type]
        body["kind"].choice(get_args(Kind)) if "kind" in body else "physiological",  # type: ignore[arg-type]
        when, _expression(body["clear"], signals) if "clear" in body else default, _text(body["text"], signals),
        _expression(body["unless"], signals) if "unless" in body else None,
        body["because"].text() if "because" in body else "", body["why"].text() if "why" in body else "",
    )  # fmt: skip


def _check(item: Item, signals: dict[str, Signal]) -> Check:
    body = item.table(("codes", "source", "deadline", "confirm", "refute", "demote_to", "text"), ("codes", "deadline"))
    if "refute" in body and not {"confirm", "demote_to"} <= body.keys():
        body["refute"].fail("`refute` needs a `confirm` and a `demote_to` beside it")
    return Check(
        body["codes"].texts(), body["source"].text() if "source" in body else "*", _duration(body["deadline"]),
        _expression(body["confirm"], signals) if "confirm" in body else None,
        _expression(body["refute"], signals) if "refute" in body else None,
        body["demote_to"].choice(get_args(Priority)) if "demote_to" in body else None,  # type: ignore[arg-type]
        _text(body["text"], signals) if "text" in body else "",
    )  # fmt: skip


def _code(item: Item) -> str:
    code = item.text()
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,79}", code):
        item.fail(f"{code!r} is no code", "small letters, digits and _")
    return code


def _expression(item: Item, signals: dict[str, Signal]) -> Node:
    numeric = [name for name, signal in signals.items() if signal.kind == "numerics"]
    states = [name for name, signal in signals.items() if signal.kind != "numerics"]
    try:
        node = parse(item.text(), numeric, states)
        for part in syntax.walk(node):
            if isinstance(part, syntax.Compare):
                units(part, signals)
    except RuleSyntaxError as fault:
        item.fail(f"{item.name}: {fault.message}", fault.mend, offset=fault.offset)
    return node


def _text(item: Item, signals: dict[str, Signal]) -> str:
    text = item.text().strip()
    for match in PLACE_HOLDER.finditer(text):
        signal = signals.get(match[1])
        if signal is None:
            item.fail(f"text: no signal is called {match[1]!r}", nearest(match[1], signals), offset=match.start())
        if signal.kind != "numerics":
            item.fail(f"text: {match[1]!r} has no value to be told", offset=match.start())
    for bracket in re.finditer(r"[{}]", PLACE_HOLDER.sub(lambda m: "." * len(m[0]), text)):
        item.fail("text: write {signal} or {signal:.1f}", offset=bracket.start())
    return text


def _duration(item: Item) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *(ms|s|min|h)", item.text().strip())
    if match is None:
        item.fail(f"{item.name} must be a duration such as 60s, not {item.text()!r}")
    length = round(float(match[1]) * syntax.UNITS[match[2]])
    if not syntax.UNITS["ms"] <= length <= syntax.LONGEST:
        item.fail(f"{item.name} must be between 1ms and {syntax.duration(syntax.LONGEST)}")
    return length


# -------------------------------------------------------------------------------------------- units


def units(node: Node, signals: dict[str, Signal]) -> str | None:  # noqa: PLR0911 - one case for each kind
    """The UCUM unit of a number; None where it fits everything (a bare number, a signal without a unit).

    Raises ``RuleSyntaxError`` where two quantities are added or compared that have different units.
    """
    match node:
        case syntax.Value():
            return signals[node.signal].unit or None
        case syntax.Aggregate():
            unit = signals[node.signal].unit
            return f"{unit}/min" if node.function == "slope" and unit else unit or None
        case syntax.Negative():
            return units(node.operand, signals)
        case syntax.Arithmetic() if node.operator in "*/":
            left, right = units(node.left, signals), units(node.right, signals)
            if right is None or isinstance(node.right, syntax.Number):
                return left if isinstance(node.right, syntax.Number) else None
            if node.operator == "/":
                return "1" if left == right else None if left is None else f"({left})/({right})"
            return right if isinstance(node.left, syntax.Number) else None if left is None else f"({left}).({right})"
        case syntax.Arithmetic() | syntax.Compare():
            parts = [(part, units(part, signals)) for part in syntax.children(node)]
            known = [(part, unit) for part, unit in parts if unit is not None]
            for part, unit in known[1:]:
                if unit != known[0][1]:
                    raise RuleSyntaxError(f"{unit} stands beside {known[0][1]}", part.at, "compare like with like")
            return known[0][1] if known else None
    return None


def _digest(preset: Preset) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, Node):
            return print_expression(value)
        if dataclasses.is_dataclass(value):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        return [plain(part) for part in value] if isinstance(value, tuple) else value

    return hashlib.sha256(json.dumps(plain(preset), sort_keys=True).encode()).hexdigest()[:16]
