"""The incremental evaluator and the plain one say the same, on whatever signals and whatever expressions."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from operators.reasoning import syntax
from operators.reasoning.cells import Formula
from operators.reasoning.parser import parse
from operators.reasoning.preset import loads
from operators.reasoning.reference import PORTS, Reference
from operators.reasoning.rules import Rules
from operators.reasoning.signals import Track, Watch
from operators.reasoning.syntax import Node, print_expression
from operators.rules import rank
from pipeline.message import Message, Numeric
from tests.operators.reasoning.build import SIGNALS, S, condition, detection, event, numeric, play, preset

NUMERIC, STATES = ("map", "hr"), ("bleeding", "count", "smoke")
LENGTH = 40
"""Seconds of a history."""


def expressions() -> st.SearchStrategy[Node]:
    """Any expression, with durations of whole seconds so that everything changes on a grid of seconds."""
    window = st.integers(1, 12).map(lambda seconds: seconds * S)
    name = st.sampled_from(NUMERIC)
    values = st.integers(0, 6).map(lambda value: syntax.Number(float(value)))
    aggregates = st.builds(syntax.Aggregate, st.sampled_from(syntax.AGGREGATES), name, window)
    terms = st.one_of(st.builds(syntax.Value, name), aggregates)
    sums = st.builds(syntax.Arithmetic, st.sampled_from("+-*/"), terms, st.one_of(terms, values))
    numbers = st.one_of(terms, sums, st.builds(syntax.Negative, terms))

    def compare(operator: str, left: Node, bound: Node, step: int) -> Node:
        if step == 0 or not isinstance(bound, syntax.Number):
            return syntax.Compare(operator, left, bound)  # type: ignore[arg-type]
        until = bound.value + (step if operator[0] == "<" else -step)
        return syntax.Compare(operator, left, bound, syntax.Number(abs(until)) if until >= 0 else None)  # type: ignore[arg-type]

    leaves = st.one_of(
        st.builds(compare, st.sampled_from(("<", "<=", ">", ">=")), numbers, st.one_of(values, terms),
                  st.integers(0, 2)),
        st.builds(syntax.Change, st.sampled_from(("rises", "falls")), name, st.integers(1, 4).map(float),
                  st.booleans(), window),
        st.builds(syntax.Silent, name, window),
        st.builds(syntax.State, st.sampled_from(STATES)),
    )  # fmt: skip

    def flat(kind: Any, parts: tuple[Node, ...]) -> Node:
        return kind(tuple(one for part in parts for one in (part.operands if isinstance(part, kind) else (part,))))

    def extend(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        some = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.one_of(
            st.builds(syntax.Not, inner),
            st.builds(flat, st.just(syntax.And), some), st.builds(flat, st.just(syntax.Or), some),
            st.builds(lambda parts, count: syntax.AtLeast(min(count, len(parts)), parts), some, st.integers(1, 3)),
            st.builds(syntax.For, inner, window), st.builds(syntax.Seen, inner, window),
            st.builds(syntax.Then, inner, inner, window),
        )  # fmt: skip

    then = st.builds(syntax.Then, leaves, leaves, window)
    return st.one_of(leaves, then, st.recursive(leaves, extend, max_leaves=5))


def histories() -> st.SearchStrategy[list[Message[Any]]]:
    second = st.integers(0, LENGTH)
    value = st.one_of(st.integers(0, 6).map(float), st.floats(0, 6), st.just(float("nan")))
    channel = st.sampled_from(("Monitor/ABP_MEAN", "Monitor/ART_MEAN", "Monitor/HR", "Vision/BLOOD_AREA", "Other/X"))
    each = st.one_of(
        st.builds(numeric, second, value, channel), st.builds(numeric, second, value, st.just("Monitor/ABP_MEAN")),
        st.builds(condition, second, st.booleans(), subject=st.sampled_from(("", "one"))),
        st.builds(event, second, st.sampled_from(("sponge_count", "phase"))),
        st.builds(detection, second, score=st.sampled_from((0.3, 0.9))),
    )  # fmt: skip
    levels = st.lists(st.one_of(st.none(), st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), max_size=LENGTH)
    channels = st.sampled_from(("Monitor/ABP_MEAN", "Monitor/ABP_MEAN", "Monitor/HR", "Vision/BLOOD_AREA"))

    def steady(found: list[Message[Any]], channel: str, values: list[int | None]) -> list[Message[Any]]:
        """Among the others a signal that comes nearly every second, so that windows fill."""
        found = found + [numeric(i, float(v), channel) for i, v in enumerate(values) if v is not None]
        return sorted(found or [numeric(0, 1.0)], key=lambda m: (m.time, m.stream))

    return st.builds(steady, st.lists(each, max_size=25), channels, levels)


UNITLESS = SIGNALS.replace(', unit: "mm[Hg]"', "").replace(", unit: /min", "")
SIGNAL_TABLE = loads(f"reasoning: 1\nname: t\nversion: 1\nsignals:{SIGNALS}rules:\n"
                     "  - {code: x, priority: low, when: smoke, text: x}\n").signals  # fmt: skip


def matters(message: Message[Any], names: dict[str, int]) -> bool:
    """Whether a message says anything to one of these signals: what else comes makes no instant."""
    for name in names:
        signal, payload = SIGNAL_TABLE[name], message.payload
        port = PORTS[type(payload)]
        channels = (message.stream, getattr(payload, "channel", message.stream))
        if any(fnmatch.fnmatchcase(channel, p) for p in signal.alive for channel in channels):
            return True
        if port != signal.kind:
            continue
        if isinstance(payload, Numeric):
            if rank(payload.channel, signal.patterns) >= 0:
                return True
        elif port != "conditions" or payload.code in signal.patterns:
            return True
    return False


def grid(messages: list[Message[Any]]) -> list[int]:
    """Every moment at which anything can change: whole seconds, and one nanosecond later for the end of events."""
    begin = messages[0].time
    return [begin + second * S + more for second in range(LENGTH + 16) for more in (0, 1)]


def incremental(node: Node, messages: list[Message[Any]]) -> dict[tuple[int, int], int]:
    """Truth at (time, messages so far), as the operator's own machinery finds it, timers and all."""
    found: dict[tuple[int, int], int] = {}
    signals: dict[str, Track | Watch] = {
        name: Track(s) if s.kind == "numerics" else Watch(s) for name, s in SIGNAL_TABLE.items()
    }
    formula = Formula([node], signals)
    root = formula.roots[0]
    assert root is not None

    def fire(before: int, count: int) -> None:
        while formula.due is not None and formula.due < before:
            time = formula.due
            formula.update(time)
            assert formula.due is None or formula.due > time
            found[time, count] = root.truth

    for count, message in enumerate(messages, 1):
        fire(message.time, count - 1)
        for name in syntax.signals(node):
            signal = signals[name]
            if isinstance(signal, Track):
                factor = signal.factor(message) if isinstance(message.payload, Numeric) else None
                if factor is not None:
                    signal.take(message.time, message, factor)
                continue
            if signal.vouches(message, PORTS[type(message.payload)]):
                signal.live(message.time)
            if PORTS[type(message.payload)] == signal.signal.kind:
                signal.take(message.time, message)
        formula.update(message.time)
        found[message.time, count] = root.truth
    fire(messages[0].time + (LENGTH + 15) * S + 2, len(messages))
    return found


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(expressions(), histories())
@example(parse("rises(map, by 1%, within 3s)"), [numeric(i, value) for i, value in enumerate((0, 0, 1, 2))])
def test_both_evaluators_say_the_same_at_every_instant(node: Node, messages: list[Message[Any]]) -> None:
    relevant = [message for message in messages if matters(message, syntax.signals(node))]
    if not relevant:
        return
    plain = Reference(SIGNAL_TABLE, relevant, grid(relevant))
    fast = incremental(node, relevant)
    state = 0
    begun = relevant[0].time
    for (time, count), (_, truth) in zip(plain.instants, plain.truths(node), strict=True):
        if time < begun:
            continue
        state = fast.get((time, count), state)  # between two updates nothing changes: that is what is claimed
        assert state == truth, (print_expression(node), (time - begun) / S, count)
    asked = {instant for instant in fast if instant[0] <= plain.instants[-1][0]}
    assert asked <= set(plain.instants), "it is only updated at moments of the grid"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(expressions(), expressions(), histories())
def test_the_operator_begins_and_ends_alerts_when_the_reference_does(
    tmp_path_factory: pytest.TempPathFactory, when: Node, unless: Node, messages: list[Message[Any]]
) -> None:
    words, but = print_expression(when), print_expression(unless)
    rule = f'{{code: it, priority: low, when: "{words}", unless: "{but}", text: "It is so."}}'
    operator = Rules(preset=preset(tmp_path_factory.mktemp("preset"), rule, signals=UNITLESS))
    said = play(operator, messages, until=messages[0].time / S + LENGTH + 15)
    clear = operator.preset.rules[0].clear
    relevant = [m for m in messages if matters(m, {**syntax.signals(when), **syntax.signals(unless)})]
    expected: list[tuple[int, bool, bool]] = []
    present, rejected = False, False
    if relevant:
        plain = Reference(SIGNAL_TABLE, relevant, grid(relevant))
        for j, (time, _) in enumerate(plain.instants):
            if not relevant[0].time <= time <= messages[0].time + (LENGTH + 15) * S:
                continue
            true, over, no = (plain.truth(node, j) == 1 for node in (when, clear, unless))
            if not present and true and not over:
                present, rejected = True, no
                expected.append((time, True, no))
            elif present and over:
                expected.append((time, False, rejected))
                present = rejected = False
            elif rejected and true and not no:
                expected += [(time, False, True), (time, True, False)]
                rejected = False
    assert [(m.time, m.payload.present, bool(m.payload.suppressed_by)) for m in said] == expected, words


def test_shipped_words_mean_what_the_manual_says() -> None:
    node = parse("map < 65 until 70", NUMERIC)
    values = [80, 64, 69, 70, 69, 64, 70]
    plain = Reference(SIGNAL_TABLE, [numeric(i, value) for i, value in enumerate(values)], [])
    assert [truth for _, truth in plain.truths(node)] == [-1, 1, 1, -1, -1, 1, -1]
    assert list(incremental(node, [numeric(i, value) for i, value in enumerate(values)]).values())[:7] == [
        -1, 1, 1, -1, -1, 1, -1,
    ]  # fmt: skip
