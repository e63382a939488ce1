"""Compares the alerts of a run with what the script had planted, by the project's one scorer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from operators.theatre.truth import Expectation, Planted
from pipeline.alerts.score import Episode as Alert
from pipeline.alerts.score import TrueEvent, match, told_of
from pipeline.alerts.score import of_conditions as alerts_of
from pipeline.message import NANOSECONDS

__all__ = ["Alert", "Match", "Summary", "alerts_of", "events_of", "score", "told_of"]

EARLY = 2 * NANOSECONDS
"""How much earlier than planted an alert may begin: numerics are averages, and planted changes have no sharp edge."""


@dataclasses.dataclass(frozen=True)
class Match:
    """One planted expectation and what became of it."""

    planted: Planted
    expectation: Expectation
    alert: Alert | None
    """The first alert that answers it; None where it was missed."""

    @property
    def delay_seconds(self) -> float | None:
        """From planted onset to the rule's word, s."""
        return None if self.alert is None else (self.alert.told - self.planted.onset) / NANOSECONDS


@dataclasses.dataclass(frozen=True)
class Summary:
    """The verdict on a run."""

    matches: tuple[Match, ...]
    """One a planted expectation, in time order."""
    false: tuple[Alert, ...]
    """Alerts that nothing planted explains."""
    repeated: tuple[Alert, ...]
    """Further alerts about something already found, and alerts that the script allows."""

    @property
    def planted(self) -> int:
        """Alerts that ought to have come."""
        return len(self.matches)

    @property
    def found(self) -> int:
        """Of those, the ones that came."""
        return sum(match.alert is not None for match in self.matches)

    @property
    def missed(self) -> tuple[Match, ...]:
        """Of those, the ones that did not."""
        return tuple(match for match in self.matches if match.alert is None)

    def delay(self, percent: float) -> float | None:
        """That percentile of the delays of what was found, s, by nearest rank; None where nothing was."""
        delays = sorted(match.delay_seconds for match in self.matches if match.delay_seconds is not None)
        return delays[max(0, math.ceil(percent / 100 * len(delays)) - 1)] if delays else None

    def plain(self) -> dict[str, Any]:
        """As JSON values: ``{planted, found, missed, false, repeated, delay_p50_seconds, delay_p99_seconds, matches,
        false_codes}``. The delays include what the rules wait on purpose."""
        return {
            "delay_p50_seconds": self.delay(50),
            "delay_p99_seconds": self.delay(99),
            "planted": self.planted,
            "found": self.found,
            "missed": len(self.missed),
            "false": len(self.false),
            "repeated": len(self.repeated),
            "matches": [
                {
                    "kind": match.planted.kind,
                    "code": match.expectation.code,
                    "onset": match.planted.onset,
                    "found": match.alert is not None,
                    "delay_seconds": match.delay_seconds,
                }
                for match in self.matches
            ],
            "false_codes": [alert.code for alert in self.false],
        }


@dataclasses.dataclass(frozen=True)
class _Wish(TrueEvent):
    """A true event that knows what it was made from."""

    planted: Planted | None = None
    expectation: Expectation | None = None


def events_of(truth: Iterable[Planted]) -> list[TrueEvent]:
    """What was planted as events for the scorer: from two seconds before its onset to ``tail`` after its end."""
    return [
        _Wish(
            wish.code, planted.onset, planted.end, wish.subject, EARLY, round(wish.tail * NANOSECONDS), required,
            planted.kind, planted, wish,
        )
        for planted in truth
        for required, wishes in ((True, planted.expect), (False, planted.allow))
        for wish in wishes
    ]  # fmt: skip


def score(truth: Iterable[Planted], alerts: Iterable[Alert]) -> Summary:
    """Match alerts to what was planted: see ``pipeline.alerts.score.match`` and ``events_of``."""
    found = match(events_of(truth), alerts)
    matches = []
    for item in found.matches:
        wish = item.event
        assert isinstance(wish, _Wish)
        assert wish.planted is not None
        assert wish.expectation is not None
        matches.append(Match(wish.planted, wish.expectation, item.episode))
    explained = sorted((*found.repeated, *found.allowed), key=lambda alert: (alert.onset, alert.code, alert.subject))
    return Summary(tuple(matches), found.false, tuple(explained))
