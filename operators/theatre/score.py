"""Compares the alerts of a run with what the script had planted: found, missed, false."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from operators.theatre.truth import Expectation, Planted
from pipeline import message
from pipeline.message import NANOSECONDS, AlertCondition

EARLY = 2 * NANOSECONDS
"""How much earlier than planted an alert may begin: numerics are averages, and planted changes have no sharp edge."""


@dataclasses.dataclass(frozen=True)
class Alert:
    """One episode of an alert. Times are event time, ns."""

    code: str
    onset: int
    """When its condition became true, as the alert says."""
    ended: int | None = None
    """When it stopped being true; None while present."""
    subject: str = ""
    detected: int | None = None
    """When the rule said so; the onset where unknown."""


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
        if self.alert is None:
            return None
        told = self.alert.onset if self.alert.detected is None else self.alert.detected
        return (told - self.planted.onset) / NANOSECONDS


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


def alerts_of(conditions: Iterable[tuple[int, AlertCondition]]) -> list[Alert]:
    """The episodes in a run's conditions, each given with the event time at which it was said.

    Conditions that say ``suppressed_by`` are candidates that nobody was told of, and are left out.
    """
    episodes: dict[tuple[str, str, str, int], Alert] = {}
    for time, condition in conditions:
        if condition.suppressed_by:
            continue
        key = (condition.source, condition.code, condition.subject, condition.onset)
        known = episodes.get(key)
        if known is None and not condition.present:
            continue
        detected = time if known is None else known.detected
        ended = None if condition.present else condition.ended
        episodes[key] = Alert(condition.code, condition.onset, ended, condition.subject, detected)
    return sorted(episodes.values(), key=lambda alert: (alert.onset, alert.code, alert.subject))


def told_of(alerts: Iterable[message.Alert]) -> list[Alert]:
    """The episodes in what people were told: every revision of every ``Alert`` of a run, in any order."""
    latest: dict[str, message.Alert] = {}
    for alert in alerts:
        known = latest.get(alert.alert_id)
        if known is None or known.revision < alert.revision:
            latest[alert.alert_id] = alert
    return sorted(
        (
            Alert(
                alert.condition.code,
                alert.condition.onset,
                None if alert.condition.present else alert.condition.ended,
                alert.condition.subject,
                alert.detected,
            )
            for alert in latest.values()
        ),
        key=lambda alert: (alert.onset, alert.code, alert.subject),
    )


def score(truth: Iterable[Planted], alerts: Iterable[Alert]) -> Summary:
    """Match alerts to what was planted.

    An alert answers an expectation when code and subject fit, and it begins no earlier than two seconds before the
    planted onset and no later than the expectation's ``tail`` after the planted end. Each planted expectation takes
    the first alert that answers it and that no other has taken; others that fit are ``repeated``; those that fit
    nothing are ``false``.
    """
    truth = list(truth)
    wishes = [(planted, wish) for planted in sorted(truth, key=lambda item: item.onset) for wish in planted.expect]
    allowed = [(planted, wish) for planted in truth for wish in planted.allow]
    remaining = sorted(alerts, key=lambda alert: (alert.onset, alert.code, alert.subject))
    matches = []
    taken: set[int] = set()
    for planted, wish in wishes:
        answer = next(
            (i for i, alert in enumerate(remaining) if i not in taken and _answers(alert, planted, wish)), None
        )
        if answer is not None:
            taken.add(answer)
        matches.append(Match(planted, wish, None if answer is None else remaining[answer]))
    explained: list[Alert] = []
    false: list[Alert] = []
    for i, alert in enumerate(remaining):
        if i not in taken:
            known = any(_answers(alert, planted, wish) for planted, wish in wishes + allowed)
            (explained if known else false).append(alert)
    return Summary(tuple(matches), tuple(false), tuple(explained))


def _answers(alert: Alert, planted: Planted, wish: Expectation) -> bool:
    late = planted.end + round(wish.tail * NANOSECONDS)
    return wish.fits(alert.code, alert.subject) and planted.onset - EARLY <= alert.onset <= late
