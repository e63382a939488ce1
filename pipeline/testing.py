"""Runs one operator outside a graph, with the engine's own rules for timers and for the end of input."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.message import Message
from pipeline.operator import Context, Operator, each
from pipeline.time import NEVER, ReplayClock


def run_operator(
    operator: Operator,
    messages: Iterable[Message[Any]],
    *,
    data: Path = Path(),
    port: str = "",
    until: int = NEVER,
    room: str = "room",
) -> list[Message[Any]]:
    """Everything that ``operator`` answers to ``messages``, which are delivered in the given order.

    Before a message at time ``t`` timers due before ``t`` fire; after the last one, timers due before ``until``
    (pass it for operators that re-arm their timer for ever).
    """

    async def run() -> list[Message[Any]]:
        clock = ReplayClock(0, float("inf"))
        operator.context = Context(clock=clock, room=room, data=data)
        answers: list[Message[Any]] = []
        await _settle(operator.setup(), answers)
        handler = getattr(operator, operator.handlers()[port or next(iter(operator.inputs))])
        last = 0
        for message in messages:
            last = message.time
            await _fire(operator, message.time, answers)
            clock.reach(message.time)
            await _settle(handler(message), answers)
        await _fire(operator, until if until != NEVER else last + 1, answers)
        await _settle(operator.finish(), answers)
        await _settle(operator.teardown(), [])
        return answers

    return asyncio.run(run())


async def _fire(operator: Operator, before: int, answers: list[Message[Any]]) -> None:
    while operator.wake_at is not None and operator.wake_at < before:
        due, operator.wake_at = operator.wake_at, None
        await _settle(operator.on_time(due), answers)


async def _settle(result: Any, answers: list[Message[Any]]) -> None:
    if inspect.isasyncgen(result):
        found: list[Any] = [message async for message in result]
        answers.extend(found)
        return
    if inspect.isawaitable(result):
        result = await result
    answers.extend(each(result))
