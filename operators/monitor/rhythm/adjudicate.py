"""Is an arrhythmia alarm true? What the other signals show while the heart is said to fail.

The logic follows the rules of Plesinger et al. (CinC 2015) as MIT-LCP's ``false-alarm-reduction`` has them: a veto by
regular activity on any channel, then a rule for each alarm. Its quirks, and how they are mended here:

* The veto looked back over a fixed time (10 to 16 s), so pulses from *before* the onset could veto a true alarm, and
  a true onset could spoil the veto of a false one. Here it is asked of the decisive interval itself.
* Regular activity on *any* channel was enough: a pacemaker's spikes over a standstill, or a hand that shakes at
  100/min. Here activity counts only where its beats have the patient's usual shape and at least half the usual size.
* A pulse at 45 to 135/min vetoed ventricular tachycardia, which may well have a pulse. Here it must be the same pulse
  as before: size, shape and rate unchanged.
* The veto for fibrillation listened to the ECG only. Fibrillation has no output: pulses speak against it too.
* The tachycardia rule fired for regular *slow* rates as well ("out of limits"). Here it asks for fast ones.
* An exception on the way to a verdict on ventricular tachycardia returned "true" as if it had been found. Here
  signals that are too bad or too short to tell have an answer of their own: the alarm is kept and says so.
* A lost pulse had no say but in fibrillation. Here a pulse channel of good quality that has gone still bars every veto.

A true alarm suppressed is five times worse than a false one kept (the challenge's score), so every doubt keeps it.
Cardiac massage is not told from a beating heart on a pulse channel where the standstill began under massage; an
episode that was raised before is not withdrawn by pulses (see ``operator``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from operators.monitor.quality.judge import USABLE
from operators.monitor.rhythm import definitions
from operators.monitor.rhythm.definitions import LENIENT, Interval, Kind, Limits
from operators.monitor.rhythm.trace import TRANSIT, Beats, Trace

LOOK_BACK: dict[Kind, float] = {
    "asystole": 14.0, "extreme_bradycardia": 20.0, "extreme_tachycardia": 16.0, "ventricular_tachycardia": 12.0,
    "ventricular_fibrillation": 14.0,
}  # fmt: skip
"""Seconds before a monitor's alarm in which it must have begun."""
ALIKE = 0.85
"""Similarity of a beat that counts as the patient's own."""
STRONG = 0.5
"""Size of a beat, as a share of the usual, that counts."""
EVEN = 0.025
"""s: standard deviation of intervals below which activity is regular (the card's figure, MIT-LCP's and Plesinger's)."""
UNCHANGED = 0.20
"""Share by which the rate of pulses may differ from the usual where they are to speak against an alarm."""
LOST = 0.25
"""Span, as a share of the usual, below which a pulse is lost."""
NAMES: dict[Kind, str] = {
    "asystole": "asystole", "extreme_bradycardia": "extreme bradycardia", "extreme_tachycardia": "extreme tachycardia",
    "ventricular_tachycardia": "ventricular tachycardia",
    "ventricular_fibrillation": "ventricular fibrillation or flutter",
}  # fmt: skip


class Candidate(NamedTuple):
    """One lead on which a definition holds."""

    trace: Trace
    interval: Interval


class Verdict(NamedTuple):
    """Is the alarm to be kept, why, and where to look."""

    true: bool
    reason: str
    interval: Interval
    channel: str
    """The channel that decided."""


def adjudicate(kind: Kind, traces: Sequence[Trace], alarm: float, limits: Limits = LENIENT) -> Verdict:
    """Judge an alarm that a monitor gave.

    Args:
        kind: what the monitor calls it.
        traces: all channels, fed up to the alarm or shortly past it.
        alarm: seconds on the traces' own count.
    """
    start = max(0.0, alarm - LOOK_BACK[kind])
    whole = Interval(start, alarm, math.nan)
    leads = [trace for trace in traces if trace.role == "ecg"]
    found = [c for lead in leads for c in candidates(kind, lead, start, alarm, limits)]
    contradictions = []
    for candidate in sorted(found, key=lambda c: (not c.trace.usable(c.interval.start, c.interval.end), -_length(c))):
        reason, channel = contradiction(kind, candidate, traces)
        if not reason:
            return Verdict(True, told(kind, candidate), candidate.interval, candidate.trace.channel)
        contradictions.append(Verdict(False, reason, candidate.interval, channel))
    if contradictions:
        return contradictions[0]
    return _without(kind, leads, traces, whole)


def _length(candidate: Candidate) -> float:
    return candidate.interval.end - candidate.interval.start


def _without(kind: Kind, leads: Sequence[Trace], traces: Sequence[Trace], whole: Interval) -> Verdict:
    """No lead shows it. Is there one good enough to say so?"""
    lost = next((trace for trace in traces if trace.role != "ecg" and still(trace, whole.end - 5, whole.end)), None)
    if lost is not None:
        return Verdict(True, f"no lead shows it, but {lost.short} has lost its pulse", whole, lost.channel)
    for lead in leads:
        if lead.usable(whole.start, whole.end, 0.8) and beating(lead, whole.start, whole.end, own=0.7):
            return Verdict(False, f"no lead shows {NAMES[kind]}; {_pulses(lead, whole)}", whole, lead.channel)
    reason, channel = _witness(kind, None, traces, whole)
    if reason:
        return Verdict(False, reason, whole, channel)
    return Verdict(True, "no signal is good enough to speak against it", whole, "")


# ------------------------------------------------------------------------------------------ candidates


def candidates(kind: Kind, lead: Trace, start: float, end: float, limits: Limits) -> list[Candidate]:
    """Where a lead shows the alarm's definition within ``[start, end]``, whatever its quality."""
    if not lead.seconds or lead.seconds[-1].end < start + 1:
        return []
    beats = lead.beats().within(start - (2.0 if kind == "asystole" else 0.0), end)
    times = beats.times
    if kind == "asystole":
        known = max(start, lead.seconds[0].start)
        begin = float(times[0]) if len(times) and times[0] < known else known
        found = definitions.asystole(times, begin, min(end, max(lead.settled(), begin)), limits)
    elif kind == "extreme_bradycardia":
        found = definitions.extreme_bradycardia(times, limits)
    elif kind == "extreme_tachycardia":
        found = definitions.extreme_tachycardia(times, limits)
    elif kind == "ventricular_tachycardia":
        found = definitions.ventricular_tachycardia(times, foreign(beats, limits), limits)
    else:
        seconds = [second for second in lead.seconds if second.end > start and second.end <= end + 1]
        found = definitions.ventricular_fibrillation(
            np.array([second.start - 1 for second in seconds]), np.array([second.end for second in seconds]),
            np.array([second.oscillating for second in seconds], bool), limits,
        )  # fmt: skip
    return [Candidate(lead, interval) for interval in found]


def foreign(beats: Beats, limits: Limits) -> np.ndarray:
    """Beats that count towards a ventricular run: the flagged ones; leniently, all that are unlike the usual."""
    with np.errstate(invalid="ignore"):
        return beats.ventricular | (beats.similarity < 0.8) if limits is LENIENT else beats.ventricular


# ------------------------------------------------------------------------------------------ witnesses


def contradiction(kind: Kind, candidate: Candidate, traces: Sequence[Trace]) -> tuple[str, str]:
    """Why the candidate cannot be, and the channel that says so; two empty strings where nothing speaks against it."""
    return _witness(kind, candidate.trace, traces, candidate.interval)


def _witness(kind: Kind, but: Trace | None, traces: Sequence[Trace], interval: Interval) -> tuple[str, str]:
    start, end = interval.start, interval.end
    pulses = [trace for trace in traces if trace.role != "ecg"]
    if any(still(trace, start, end) for trace in pulses):
        return "", ""
    # A finger is moved more often than an artery: the oximeter has no say against a pressure that shows no pulses.
    pulses.sort(key=lambda trace: trace.role)
    lines = [trace for trace in pulses if trace.role == "abp" and trace.usable(start, end, 0.9)]
    if lines and not any(_denies(kind, trace, start, end) for trace in lines):
        pulses = []
    for trace in (*pulses, *(trace for trace in traces if trace.role == "ecg" and trace is not but)):
        if trace.usable(start, end) and _denies(kind, trace, start, end):
            return _pulses(trace, interval), trace.channel
    return "", ""


def _denies(kind: Kind, trace: Trace, start: float, end: float) -> bool:
    """Does a good channel show what cannot be during this alarm?"""
    shift = TRANSIT if trace.role != "ecg" else 0.0
    beats = trace.beats().within(start + shift, end + 0.3)
    if len(beats.times) < 3 or not beating(trace, start, end):
        return False
    rate = 60 * (len(beats.times) - 1) / (beats.times[-1] - beats.times[0])
    _, usual = trace.usual(start)
    if trace.role != "ecg" and not (abs(rate - usual) < UNCHANGED * usual and _steady(beats.times, trace, start)):
        return False
    denies = {
        "extreme_bradycardia": rate > 46,
        "extreme_tachycardia": rate < 125,
        "ventricular_tachycardia": bool(np.mean(beats.similarity >= ALIKE) >= 0.9 and not beats.ventricular.any())
        if trace.role == "ecg"
        else beating(trace, start, end, size=0.7, own=0.9),
    }
    return bool(denies.get(kind, True))


def _steady(times: np.ndarray, trace: Trace, start: float) -> bool:
    """Are the intervals as even as they were before? A hand that shakes at the heart's own rate is less so."""
    before = np.diff(trace.beats().within(start - 30, start).times)
    now = np.diff(times)
    usual = _unevenness(before) if len(before) >= 5 else 0.0
    return bool(_unevenness(now) <= max(0.08, 1.5 * usual))


def _unevenness(intervals: np.ndarray) -> float:
    """Mean absolute deviation from the median, as a share of it."""
    middle = float(np.median(intervals))
    return float(np.mean(np.abs(intervals - middle))) / middle


def beating(trace: Trace, start: float, end: float, *, size: float = STRONG, own: float = 0.8) -> bool:
    """Does a channel show the patient's own beats all through an interval?

    Args:
        size: share of the usual size that a beat must have.
        own: share of the beats that must be of the usual shape and size.
    """
    amplitude, rate = trace.usual(start)
    beats = trace.beats().within(start - 0.2, end + 0.3)
    times = beats.times
    if len(times) < 3 or math.isnan(amplitude):
        return False
    pause = float(np.diff(np.concatenate([[start - 0.2], times, [end + 0.3]])).max())
    longest = max(1.6, 2.4 * 60 / max(rate, 30.0))
    with np.errstate(invalid="ignore"):
        mine = (beats.similarity >= ALIKE) | (trace.role != "ecg" and _even(times, rate))
        mine &= beats.amplitude >= size * amplitude
        mine &= beats.confidence >= 0.5 * USABLE
    return bool(pause < min(longest, 2.4) and mine.mean() >= own)


def _even(times: np.ndarray, usual: float) -> bool:
    """The regular activity of the original rules, at the patient's own rate: such a pulse needs no further likeness."""
    intervals = np.diff(times)
    rate = 60 / float(np.median(intervals))
    return bool(len(times) >= 5 and intervals.std() < EVEN and 45 <= rate <= 135 and abs(rate - usual) < 0.1 * usual)


def still(trace: Trace, start: float, end: float) -> bool:
    """Has a pulse channel of good quality gone still: three seconds on end below a quarter of its usual span?"""
    run = 0.0
    for second in trace.over(start, end + 0.5):
        quiet = second.span < LOST * second.usual  # never where the usual is not known
        run = run + 1 if quiet and second.index >= USABLE else 0.0
        if run >= 3:
            return True
    return False


# --------------------------------------------------------------------------------------------- words


def told(kind: Kind, candidate: Candidate) -> str:
    """What a candidate shows, in words."""
    interval, lead = candidate.interval, candidate.trace.short
    return {
        "asystole": f"{lead} shows no beat for {interval.value:.1f} s",
        "extreme_bradycardia": f"{lead} shows {interval.value:.0f}/min",
        "extreme_tachycardia": f"{lead} shows {interval.value:.0f}/min",
        "ventricular_tachycardia": f"{lead} shows ventricular beats at {interval.value:.0f}/min",
        "ventricular_fibrillation": f"{lead} oscillates without a QRS complex for {interval.value:.0f} s",
    }[kind]


def _pulses(trace: Trace, interval: Interval) -> str:
    beats = trace.beats().within(interval.start, interval.end + 0.3)
    pause = float(np.diff(beats.times).max()) if len(beats.times) > 1 else math.nan
    rate = 60 / float(np.median(np.diff(beats.times))) if len(beats.times) > 1 else math.nan
    what = {"ecg": "the usual beats", "abp": "regular pulses", "pleth": "regular pulses"}[trace.role]
    return f"{trace.short} shows {what} at {rate:.0f}/min, longest pause {pause:.2f} s"
