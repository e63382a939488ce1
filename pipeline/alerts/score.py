"""The one scorer of alerts: what was found, missed and false, how early, and what it costs those who listen.

Definitions, fixed here before anything is measured with them:

* *event sensitivity*: true events with an alert in their window / true events.
* *PPV*: alerts that answer an event / alerts. An event is answered by one alert and an alert answers one event; more
  of them about the same event are ``repeated`` and count against PPV. Alerts that the truth merely allows count neither
  way.
* *false alarms per hour*: alerts that answer nothing (false and repeated) / monitored hours. Outside what was
  monitored nothing counts, neither alerts nor events.
* *alarms per bed-day*: 24 times the alerts per monitored hour.
* *lead time*: the event's onset minus the moment at which people were told; below zero where they were told after it.
* *raw and merged*: merged figures count an alert that comes back within the refractory time as one.
* *flips per hour*: how often any alert went on or off; *alarm minutes per hour*: minutes with at least one alert on.

Every statistic takes the scores of several patients, one each, and is pooled over them; intervals are bootstrapped
over patients (``pipeline.alerts.statistics.interval``), never over windows.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from pipeline.alerts.statistics import quantile
from pipeline.message import NANOSECONDS, Alert, AlertCondition

REFRACTORY_SECONDS = 120.0
"""An alert that comes back within so long after its end is the same one, in merged figures."""
LEADS = (1, 5, 10)
"""Minutes for which the share of events told at least so early is given."""

Span = tuple[int, int]
"""Beginning and end in event time, ns."""


@dataclass(frozen=True)
class Episode:
    """One alert from its beginning to its end. Times are event time, ns."""

    code: str
    onset: int
    """When its condition became true, as the alert says."""
    ended: int | None = None
    """When it stopped being true; None while present."""
    subject: str = ""
    detected: int | None = None
    """When the rule said so; the onset where unknown."""

    @property
    def told(self) -> int:
        """When people could know."""
        return self.onset if self.detected is None else self.detected


@dataclass(frozen=True)
class TrueEvent:
    """Something that happened and that alerts are judged by. Times are event time, durations ns."""

    code: str
    """Shell pattern over the codes of alerts that answer it."""
    onset: int
    end: int
    subject: str = "*"
    """Shell pattern over their subjects."""
    early: int = 0
    """How long before ``onset`` an alert may begin."""
    late: int = 0
    """How long after ``end`` it may; below zero where an alert just before the end is too late to be of use."""
    required: bool = True
    """False for what may be told but need not be."""
    name: str = ""

    @property
    def window(self) -> Span:
        """First and last moment at which an alert that answers it may begin."""
        return self.onset - self.early, self.end + self.late

    def answered_by(self, episode: Episode) -> bool:
        """Whether an alert is one that was meant."""
        first, last = self.window
        return (
            first <= episode.onset <= last
            and fnmatch.fnmatchcase(episode.code, self.code)
            and fnmatch.fnmatchcase(episode.subject, self.subject)
        )


@dataclass(frozen=True)
class Match:
    """A required event and what became of it."""

    event: TrueEvent
    episode: Episode | None
    """The alert that answers it; None where it was missed."""

    @property
    def lead_seconds(self) -> float | None:
        """Event onset minus the moment of telling, s."""
        return None if self.episode is None else (self.event.onset - self.episode.told) / NANOSECONDS


@dataclass(frozen=True)
class Matching:
    """Which alert answers which event."""

    matches: tuple[Match, ...]
    """One a required event, in time order."""
    false: tuple[Episode, ...]
    """Alerts that nothing explains."""
    repeated: tuple[Episode, ...]
    """Further alerts about an event that has its answer."""
    allowed: tuple[Episode, ...]
    """Alerts about what need not be told."""

    @property
    def found(self) -> int:
        """Events with an answer."""
        return sum(match.episode is not None for match in self.matches)

    @property
    def missed(self) -> tuple[Match, ...]:
        """Events without one."""
        return tuple(match for match in self.matches if match.episode is None)


def match(events: Iterable[TrueEvent], episodes: Iterable[Episode]) -> Matching:
    """Give each event at most one alert and each alert at most one event, as many as can be.

    Events take the earliest alert that fits, in time order; one gives its alert up only where there is another for it
    and somebody else would go without (augmenting paths, Kuhn 1955).
    """
    events = sorted(events, key=lambda event: (event.onset, event.end, event.code, event.subject))
    needed = [event for event in events if event.required]
    offered = sorted(episodes, key=_order)
    fits = [[i for i, episode in enumerate(offered) if event.answered_by(episode)] for event in needed]
    owner: dict[int, int] = {}
    for wish in range(len(needed)):
        _augment(wish, fits, owner)
    answers = {wish: i for i, wish in owner.items()}
    matches = tuple(Match(event, offered[answers[n]] if n in answers else None) for n, event in enumerate(needed))
    rest = [episode for i, episode in enumerate(offered) if i not in owner]
    about = {id(e): any(event.answered_by(e) for event in needed) for e in rest}
    optional = {id(e): any(event.answered_by(e) for event in events if not event.required) for e in rest}
    return Matching(
        matches,
        false=tuple(e for e in rest if not about[id(e)] and not optional[id(e)]),
        repeated=tuple(e for e in rest if about[id(e)] and not optional[id(e)]),
        allowed=tuple(e for e in rest if optional[id(e)]),
    )


def _augment(wish: int, fits: list[list[int]], owner: dict[int, int]) -> None:
    """Find an alert for a wish, breadth first, moving the wishes that already have one."""
    reached: dict[int, int] = {}
    """Alert to the wish that asks for it."""
    asking = [wish]
    for asker in asking:
        for i in fits[asker]:
            if i in reached:
                continue
            reached[i] = asker
            if i in owner:
                asking.append(owner[i])
                continue
            held = {by: alert for alert, by in owner.items()}
            while True:
                by = owner[i] = reached[i]
                if by == wish:
                    return
                i = held[by]


def merged(episodes: Iterable[Episode], refractory_seconds: float = REFRACTORY_SECONDS) -> list[Episode]:
    """Alerts of one code and subject, those that come back within the refractory time joined to the first."""
    pause = round(refractory_seconds * NANOSECONDS)
    latest: dict[tuple[str, str], int] = {}
    found: list[Episode] = []
    for episode in sorted(episodes, key=_order):
        key = (episode.code, episode.subject)
        place = latest.get(key)
        before = None if place is None else found[place]
        if place is not None and before is not None and (before.ended is None or episode.onset < before.ended + pause):
            open_ended = before.ended is None or episode.ended is None
            ended = None if open_ended else max(before.ended or 0, episode.ended or 0)
            found[place] = replace(before, ended=ended)
            continue
        latest[key] = len(found)
        found.append(episode)
    return found


class Figures(msgspec.Struct, frozen=True):
    """Counts and rates of one matching; rates are None where there is nothing to divide by."""

    events: int
    found: int
    alerts: int
    false: int
    repeated: int
    allowed: int
    hours: float
    """That were monitored."""
    sensitivity: float | None
    ppv: float | None
    false_alarms_per_hour: float | None
    alarms_per_bed_day: float | None


@dataclass(frozen=True)
class Score:
    """The verdict on one patient."""

    matching: Matching
    joined: Matching
    """The same for merged alerts."""
    hours: float
    leads: tuple[float, ...]
    """Lead times of what was found, s."""
    flips: int
    alarm_minutes: float
    refractory_seconds: float = REFRACTORY_SECONDS
    unmonitored_alerts: int = 0
    unmonitored_events: int = 0

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return summary([self]) | {
            "unmonitored": {"alerts": self.unmonitored_alerts, "events": self.unmonitored_events},
            "matches": [
                {"name": item.event.name, "code": item.event.code, "subject": item.event.subject,
                 "onset": item.event.onset, "end": item.event.end, "found": item.episode is not None,
                 "lead_seconds": item.lead_seconds}
                for item in self.matching.matches
            ],
            "false": [_said(episode) for episode in self.matching.false],
            "repeated": [_said(episode) for episode in self.matching.repeated],
        }  # fmt: skip


def score(
    events: Iterable[TrueEvent], episodes: Iterable[Episode], monitored: Sequence[Span], *,
    refractory_seconds: float = REFRACTORY_SECONDS,
) -> Score:  # fmt: skip
    """Judge the alerts of one patient.

    Args:
        events: what happened, and what may be told beside it.
        episodes: what people were told, see ``told_of``.
        monitored: spans in which the sensor was valid; they may touch and overlap.
        refractory_seconds: for the merged figures.
    """
    events, episodes, spans = list(events), list(episodes), union(monitored)
    inside = [event for event in events if any(event.onset < end and event.end >= start for start, end in spans)]
    raw = _within(match(inside, episodes), spans)
    joined = _within(match(inside, merged(episodes, refractory_seconds)), spans)
    last = max((end for _, end in spans), default=0)
    on = overlap([(e.onset, last if e.ended is None else e.ended) for e in episodes], spans)
    moments = [moment for e in episodes for moment in (e.told, e.ended) if moment is not None]
    leads = tuple(lead for item in raw.matches if (lead := item.lead_seconds) is not None)
    counted = sum(len(part) for part in (raw.false, raw.repeated, raw.allowed)) + raw.found
    return Score(
        raw, joined, hours=length(spans) / NANOSECONDS / 3600, leads=leads,
        flips=sum(_contains(spans, moment) for moment in moments), alarm_minutes=length(on) / NANOSECONDS / 60,
        refractory_seconds=refractory_seconds, unmonitored_alerts=len(episodes) - counted,
        unmonitored_events=sum(event.required for event in events) - len(raw.matches),
    )  # fmt: skip


def _within(found: Matching, spans: Sequence[Span]) -> Matching:
    """Without the alerts that answer nothing and began while nobody monitored."""
    parts = {
        name: tuple(e for e in getattr(found, name) if _contains(spans, e.onset))
        for name in ("false", "repeated", "allowed")
    }
    return Matching(found.matches, **parts)


# ------------------------------------------------------------------------------- statistics over patients


def figures(matchings: Sequence[Matching], hours: float) -> Figures:
    """Counts and rates of several patients together."""
    events, found = sum(len(m.matches) for m in matchings), sum(m.found for m in matchings)
    false, repeated, allowed = (
        sum(len(getattr(m, name)) for m in matchings) for name in ("false", "repeated", "allowed")
    )
    alerts = found + false + repeated + allowed
    judged = alerts - allowed
    return Figures(
        events, found, alerts, false, repeated, allowed, hours,
        sensitivity=found / events if events else None, ppv=found / judged if judged else None,
        false_alarms_per_hour=(false + repeated) / hours if hours else None,
        alarms_per_bed_day=24 * alerts / hours if hours else None,
    )  # fmt: skip


def raw_figures(scores: Sequence[Score]) -> Figures:
    """Figures of the alerts as they were told."""
    return figures([one.matching for one in scores], sum(one.hours for one in scores))


def merged_figures(scores: Sequence[Score]) -> Figures:
    """Figures of the merged alerts."""
    return figures([one.joined for one in scores], sum(one.hours for one in scores))


def lead(scores: Sequence[Score], share: float = 0.5) -> float | None:
    """That quantile of the lead times of what was found, s; the median where not given."""
    return quantile([value for one in scores for value in one.leads], share)


def summary(scores: Sequence[Score]) -> dict[str, Any]:
    """Everything in the module's docstring, pooled, as JSON values."""
    leads, hours = [value for one in scores for value in one.leads], sum(one.hours for one in scores)
    early = {
        f"share_{minutes}_min": sum(value >= 60 * minutes for value in leads) / len(leads) if leads else None
        for minutes in LEADS
    }
    return {
        "patients": len(scores),
        "monitored_hours": hours,
        "raw": msgspec.to_builtins(raw_figures(scores)),
        "merged": msgspec.to_builtins(merged_figures(scores)),
        "refractory_seconds": scores[0].refractory_seconds if scores else REFRACTORY_SECONDS,
        "lead_seconds": {"median": lead(scores), "q1": lead(scores, 0.25), "q3": lead(scores, 0.75), **early},
        "flips_per_hour": sum(one.flips for one in scores) / hours if hours else None,
        "alarm_minutes_per_hour": sum(one.alarm_minutes for one in scores) / hours if hours else None,
    }


def reduction(before: Sequence[Score], after: Sequence[Score]) -> tuple[float | None, float | None]:
    """Share of false alarms that went, and share of found events that stayed: never the first without the second."""
    then, now = raw_figures(before), raw_figures(after)
    unanswered = then.false + then.repeated
    gone = 1 - (now.false + now.repeated) / unanswered if unanswered else None
    return gone, now.found / then.found if then.found else None


# ------------------------------------------------------------------------------------- alerts of a run


def of_conditions(conditions: Iterable[tuple[int, AlertCondition]]) -> list[Episode]:
    """The episodes in a run's conditions, each given with the event time at which it was said.

    Conditions that say ``suppressed_by`` are candidates that nobody was told of, and are left out.
    """
    found: dict[tuple[str, str, str, int], Episode] = {}
    for time, condition in conditions:
        if condition.suppressed_by:
            continue
        key = (condition.source, condition.code, condition.subject, condition.onset)
        known = found.get(key)
        if known is None and not condition.present:
            continue
        detected = time if known is None else known.detected
        ended = None if condition.present else condition.ended
        found[key] = Episode(condition.code, condition.onset, ended, condition.subject, detected)
    return sorted(found.values(), key=_order)


def told_of(alerts: Iterable[Alert]) -> list[Episode]:
    """The episodes that people were told of: every revision of every ``Alert`` of a run, in any order.

    What was withheld is left out: rejected candidates, and alerts that a limit kept quiet all their life.
    """
    latest: dict[str, Alert] = {}
    for alert in alerts:
        known = latest.get(alert.alert_id)
        if known is None or known.revision < alert.revision:
            latest[alert.alert_id] = alert
    return sorted(
        (
            Episode(
                alert.condition.code, alert.condition.onset,
                None if alert.condition.present else alert.condition.ended, alert.condition.subject, alert.detected,
            )
            for alert in latest.values()
            if not alert.condition.suppressed_by and not alert.signal.withheld
        ),
        key=_order,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- spans of time


def union(spans: Iterable[Span]) -> list[Span]:
    """The same time in spans that neither touch nor overlap, in order; empty ones are left out."""
    found: list[Span] = []
    for start, end in sorted(span for span in spans if span[1] > span[0]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def overlap(one: Iterable[Span], other: Sequence[Span]) -> list[Span]:
    """What two sets of spans have in common."""
    other = union(other)
    return union((max(a, c), min(b, d)) for a, b in union(one) for c, d in other)


def length(spans: Iterable[Span]) -> int:
    """Nanoseconds in spans that do not overlap."""
    return sum(end - start for start, end in spans)


def _contains(spans: Sequence[Span], moment: int) -> bool:
    return any(start <= moment <= end for start, end in spans)


def _order(episode: Episode) -> tuple[int, str, str]:
    return (episode.onset, episode.code, episode.subject)


def _said(episode: Episode) -> dict[str, Any]:
    return {"code": episode.code, "subject": episode.subject, "onset": episode.onset, "ended": episode.ended,
            "told": episode.told}  # fmt: skip
