"""A room that falls silent is told, once, and so is its return."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from pipeline import heartbeat
from pipeline.heartbeat import Heartbeats
from pipeline.message import NANOSECONDS, Status


class Clock:
    def __init__(self) -> None:
        self.now = 1000 * NANOSECONDS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(heartbeat, "stamp", lambda: made.now)
    return made


def status(at: int, **changes: Any) -> Status:
    given = Status(
        room="7", case="c", topology="t", origin="live", state="running", run="r", at=at, next_seconds=5.0,
        event_time=0, uptime_seconds=1.0,
    )  # fmt: skip
    return msgspec.structs.replace(given, **changes)


def test_silence_and_return_are_told_once_each(clock: Clock) -> None:
    told: list[str] = []
    beats = Heartbeats(told.append)
    beats.hear(None)
    now = time.time_ns()
    beats.hear(status(now))
    for _ in range(14):
        clock.now += NANOSECONDS
        beats.check()
    assert told == []
    clock.now += 2 * NANOSECONDS
    beats.check()
    beats.check()
    beats.hear(status(now))  # the same one again is no sign of life
    assert [line.partition(":")[0] for line in told] == ["7"]
    assert "16 s" in told[0]
    beats.hear(status(now + 1))
    assert told[1] == "7: heard again"
    beats.check()
    assert len(told) == 2


def test_the_senders_clock_may_be_wrong(clock: Clock) -> None:
    told: list[str] = []
    beats = Heartbeats(told.append)
    wrong = time.time_ns() + 3600 * NANOSECONDS
    for number in range(5):
        beats.hear(status(wrong + number * 5 * NANOSECONDS))
        clock.now += 5 * NANOSECONDS
        beats.check()
    assert told == []


def test_what_was_there_already_may_be_old(clock: Clock) -> None:
    told: list[str] = []
    beats = Heartbeats(told.append)
    beats.hear(status(time.time_ns() - 100 * NANOSECONDS))
    beats.check()
    assert len(told) == 1


def test_a_run_that_has_ended_is_told_and_is_not_silent(clock: Clock) -> None:
    told: list[str] = []
    beats = Heartbeats(told.append)
    now = time.time_ns()
    beats.hear(status(now))
    beats.hear(status(now + 1, state="stopped"))
    clock.now += 100 * NANOSECONDS
    beats.check()
    assert told == ["7: Vigil has ended there; nobody watches"]
