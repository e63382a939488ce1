"""Commands from anywhere: each is taken as what it says, or refused by name; none of them hurts."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.alerts import AlertMachine, Origins, Policy
from pipeline.commands import LONGEST, decode, issue
from pipeline.errors import MessageError
from pipeline.message import NANOSECONDS, AlertCondition, Command, Rule

GOOD = msgspec.json.encode(
    Command("pause_audio", "OR-3", "anaesthesia", alert_id="a1", seconds=60.0, command_id="c1", issued=1)
)
T0 = 1_700_000_000 * NANOSECONDS
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)


def machine() -> AlertMachine:
    """With one alert that is being signalled."""
    made = AlertMachine(Origins("OR-3", "case", "topology", "", ""), Policy())
    condition = AlertCondition(
        "hypotension", True, "high", "physiological", "low", T0, "rule", Rule("rule", "1", "0" * 16)
    )
    made.condition(condition, T0, "live", 0)
    return made


def taken_or_refused(body: bytes, target: AlertMachine) -> bool:
    """True where it was taken for a command. Whatever it is, the machine goes on."""
    try:
        command = decode(body)
    except MessageError as error:
        assert str(error)
        return False
    with contextlib.suppress(MessageError):
        for alert in target.command(command, T0 + NANOSECONDS):
            msgspec.json.decode(msgspec.json.encode(alert))
    target.advance(T0 + 2 * NANOSECONDS)
    assert math.isfinite(target.due() or 0)
    return True


def mutants(seed: int, count: int) -> int:
    """Damages a good command in ``count`` ways; gives how many of them were still commands."""
    random, target, taken = np.random.default_rng(seed), machine(), 0
    for number in range(count):
        body = bytearray(GOOD)
        for _ in range(int(random.integers(1, 6))):
            place, how = int(random.integers(0, len(body) + 1)), int(random.integers(0, 4))
            if how == 0:
                body[place : place + 1] = bytes([int(random.integers(0, 256))])
            elif how == 1:
                del body[place : place + int(random.integers(1, 20))]
            elif how == 2:
                body[place:place] = random.bytes(int(random.integers(1, 20)))
            else:
                body = body[: max(1, place)]
        if number % 1000 == 0:
            target = machine()
        taken += taken_or_refused(bytes(body), target)
    return taken


def test_a_good_one_is_taken_and_damaged_ones_hurt_nobody() -> None:
    assert taken_or_refused(GOOD, machine())
    assert 0 < mutants(1, 3000) < 3000


@pytest.mark.slow
def test_a_hundred_thousand_damaged_commands() -> None:
    assert 0 < mutants(2, 100_000) < 100_000


@settings(max_examples=300, deadline=None)
@given(anything, st.sampled_from(["command", "room", "by", "alert_id", "seconds", "command_id", "issued", "more"]))
def test_a_field_that_is_something_else_is_named(value: Any, field: str) -> None:
    document = msgspec.json.decode(GOOD)
    document[field] = value
    body = msgspec.json.encode(document)
    try:
        command = decode(body)
    except MessageError as error:
        assert field in str(error) or len(body) > LONGEST
        return
    assert getattr(command, field) == value
    taken_or_refused(body, machine())


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 1e300])
def test_a_pause_of_no_sensible_length_is_refused_or_ends(seconds: float) -> None:
    target = machine()
    with contextlib.suppress(MessageError):
        target.command(issue("pause_audio", "OR-3", "anaesthesia", seconds=seconds), T0)
    assert target.due() is None or abs(target.due() or 0) < 2**63


def test_what_is_too_long_or_nested_too_deep_is_refused() -> None:
    for body in (b" " * (LONGEST + 1), b"[" * LONGEST, b'{"a":' * (LONGEST // 5), b"", b"\xff\xfe"):
        with pytest.raises(MessageError):
            decode(body)
