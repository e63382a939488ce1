"""What all rule operators share: one way to say that a condition began, changed or ended."""

from __future__ import annotations

import fnmatch
from typing import Any

from pipeline.message import AlertCondition, Message, Origin, Rule
from pipeline.operator import Operator, Output

NOT_WATCHED = "The input ended while this was present; it is no longer watched."
"""Added to the text of conditions that end only because there is nothing more to look at."""


class RuleOperator(Operator):
    """Base of operators that decide on alert conditions. They keep to event time, so a replay decides the same."""

    conditions: Output[AlertCondition]

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self.now = 0
        """Event time of the latest message, ns."""
        self.origin: Origin = "live"
        self._rule: Rule | None = None

    def say(self, time: int, cause: Message[Any] | None = None, **fields: Any) -> Message[AlertCondition]:
        """A message with the condition. ``fields`` are those of ``AlertCondition`` but source and rule."""
        if self._rule is None:
            self._rule = self.rule()
        condition = AlertCondition(source=self.name, rule=self._rule, **fields)
        if cause is not None:
            return self.conditions.emit(condition, cause, time=time)
        return self.conditions.first(condition, time, origin=self.origin)


def seconds(duration: int) -> str:
    """Nanoseconds for people: ``1.6 s``, ``75 s``."""
    value = duration / 1e9
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def rank(name: str, patterns: tuple[str, ...]) -> int:
    """Index of the first shell pattern that the name matches, capitals and small letters alike; -1 for none."""
    name = name.upper()
    return next((index for index, pattern in enumerate(patterns) if fnmatch.fnmatchcase(name, pattern.upper())), -1)


def figure(value: float) -> str:
    """A measured value for people: at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")
