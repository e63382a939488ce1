"""The scorer, by figures worked out by hand before it was written."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts import statistics, truth
from pipeline.alerts.score import (
    Episode,
    TrueEvent,
    lead,
    match,
    merged,
    merged_figures,
    overlap,
    raw_figures,
    reduction,
    score,
    summary,
    told_of,
    union,
)
from pipeline.errors import RecordingError
from pipeline.message import NANOSECONDS, Alert, AlertCondition, Rule, Signal

S = NANOSECONDS
HOUR = 3600 * S


def event(onset: int, end: int | None = None, code: str = "low", **more: Any) -> TrueEvent:
    return TrueEvent(code, onset * S, (onset if end is None else end) * S, **more)


def alert(onset: int, ended: int | None = None, code: str = "low", *, told: int | None = None) -> Episode:
    return Episode(code, onset * S, None if ended is None else ended * S, "", None if told is None else told * S)


def test_a_worked_case() -> None:
    """Two hours; three events; five alerts: two answer, one repeats, one is allowed, one is false."""
    events = [
        event(1000, 1100, early=600 * S), event(3000, 3100, early=600 * S), event(6000, 6100, early=600 * S),
        event(4000, 4100, "gas", required=False),
    ]  # fmt: skip
    alerts = [
        alert(400, 500), alert(900, 960), alert(2940, 3060, told=2970), alert(4010, 4070, "gas"), alert(5000, 5030),
    ]  # fmt: skip
    found = score(events, alerts, [(0, 2 * HOUR)])
    figures = raw_figures([found])
    assert (figures.events, figures.found, figures.alerts) == (3, 2, 5)
    assert (figures.false, figures.repeated, figures.allowed) == (1, 1, 1)
    assert figures.sensitivity == pytest.approx(2 / 3)
    assert figures.ppv == pytest.approx(2 / 4), "what is allowed counts neither way"
    assert figures.false_alarms_per_hour == pytest.approx(2 / 2), "false and repeated, over two hours"
    assert figures.alarms_per_bed_day == pytest.approx(24 * 5 / 2)
    assert found.leads == (600.0, 30.0)
    plain = found.plain()
    assert plain["lead_seconds"] == {
        "median": 315.0, "q1": 172.5, "q3": 457.5, "share_1_min": 0.5, "share_5_min": 0.5, "share_10_min": 0.5,
    }  # fmt: skip
    assert plain["flips_per_hour"] == pytest.approx(10 / 2)
    assert plain["alarm_minutes_per_hour"] == pytest.approx((100 + 60 + 120 + 60 + 30) / 60 / 2)
    assert [item["found"] for item in plain["matches"]] == [True, True, False]


def test_repeats_within_the_refractory_time_are_one_alert_in_merged_figures() -> None:
    alerts = [alert(100, 110), alert(200, 205), alert(400, 410), alert(150, 160, "other")]
    assert [(e.onset // S, (e.ended or 0) // S) for e in merged(alerts, 120)] == [(100, 205), (150, 160), (400, 410)]
    assert len(merged(alerts, 80)) == 4, "90 s after the end is later than 80 s"
    assert merged([alert(100), alert(5000, 5010)], 120) == [alert(100)], "one that is still on is not a new one"
    found = score([event(90, 300, early=0)], alerts, [(0, HOUR)], refractory_seconds=120)
    assert (raw_figures([found]).repeated, raw_figures([found]).false) == (1, 2)
    assert (merged_figures([found]).repeated, merged_figures([found]).false) == (0, 2)


def test_each_event_takes_one_alert_and_as_many_events_as_possible_get_one() -> None:
    wide, narrow = event(10, 100), event(20, 30)
    assert [m.episode for m in match([wide, narrow], [alert(25), alert(90)]).matches] == [alert(90), alert(25)]
    assert match([wide, narrow], [alert(25)]).found == 1
    assert [m.episode for m in match([wide], [alert(25), alert(90)]).matches] == [alert(25)], "the first where free"


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), max_size=5), st.lists(st.integers(0, 18), max_size=5))
def test_no_other_pairing_finds_more(spans: list[tuple[int, int]], onsets: list[int]) -> None:
    events, alerts = [event(start, start + length) for start, length in spans], [alert(onset) for onset in onsets]
    best = 0
    for order in itertools.permutations(range(len(events))):
        free, count = list(alerts), 0
        for index in order:
            fitting = next((a for a in sorted(free, key=lambda a: a.onset) if events[index].answered_by(a)), None)
            if fitting is not None:
                free.remove(fitting)
                count += 1
        best = max(best, count)
    found = match(events, alerts)
    assert found.found >= best
    used = [m.episode for m in found.matches if m.episode is not None]
    assert len(used) + len(found.false) + len(found.repeated) == len(alerts)
    assert all(m.event.answered_by(m.episode) for m in found.matches if m.episode is not None)


def test_only_what_was_monitored_counts() -> None:
    events = [event(100, 200), event(5000, 5100)]
    alerts = [alert(110, 150), alert(2000, 2010), alert(5010, 5020)]
    found = score(events, alerts, [(0, 600 * S), (300 * S, 900 * S)])
    assert found.hours == pytest.approx(0.25), "spans that overlap are counted once"
    figures = raw_figures([found])
    assert (figures.events, figures.found, figures.alerts, figures.false) == (1, 1, 1, 0)
    assert (found.unmonitored_alerts, found.unmonitored_events) == (2, 1)
    nothing = raw_figures([score(events, alerts, [])])
    assert (nothing.sensitivity, nothing.ppv, nothing.false_alarms_per_hour) == (None, None, None)


def test_a_warning_that_comes_too_late_to_be_of_use_is_no_answer() -> None:
    wish = event(1000, early=900 * S, late=-120 * S)
    assert match([wish], [alert(880)]).found == 1
    assert match([wish], [alert(881)]).found == 0


def test_figures_of_several_patients_are_pooled_and_intervals_are_over_patients() -> None:
    good = score([event(100, 200)], [alert(100, 120)], [(0, HOUR)])
    bad = score([event(100, 200)], [alert(900, 910), alert(2000, 2010)], [(0, HOUR)])
    figures = raw_figures([good, bad])
    assert (figures.sensitivity, figures.ppv, figures.false_alarms_per_hour) == (0.5, pytest.approx(1 / 3), 1.0)
    assert summary([good, bad])["patients"] == 2
    assert lead([good, bad]) == 0.0
    assert statistics.interval([good] * 5, lambda drawn: raw_figures(drawn).sensitivity) == (1.0, 1.0)
    low, high = statistics.interval([good, bad] * 20, lambda drawn: raw_figures(drawn).sensitivity) or (0, 0)
    assert 0.3 < low < 0.5 < high < 0.7
    assert statistics.interval([good], lambda drawn: raw_figures(drawn).sensitivity) is None, (
        "one patient proves nothing"
    )
    assert reduction([bad, good], [good]) == (1.0, 1.0)
    assert reduction([good], [bad]) == (None, 0.0)


# ---------------------------------------------------------------------------------------- statistics


def test_ppv_at_the_base_rate_is_the_case_from_the_literature() -> None:
    assert statistics.base_rate_ppv(0.81, 0.781, 0.013) == pytest.approx(0.046, abs=0.001)
    assert statistics.base_rate_ppv(0.9, 0.9, 0.5) == pytest.approx(0.9)
    assert math.isnan(statistics.base_rate_ppv(0.0, 1.0, 0.5))


def test_brier_and_calibration_error_by_hand() -> None:
    assert statistics.brier([0.0, 1.0, 0.5, 0.8], [0, 1, 1, 0]) == pytest.approx((0 + 0 + 0.25 + 0.64) / 4)
    # 0.1 and 0.15 lie in one bin (mean 0.125, half came true), 0.9 in another (none did).
    assert statistics.calibration_error([0.1, 0.15, 0.9], [0, 1, 0]) == pytest.approx((2 * 0.375 + 0.9) / 3)
    assert statistics.calibration_error([0.5] * 4, [1, 0, 1, 0]) == 0
    assert statistics.reliability([1.0], [1]) == [(1.0, 1.0, 1)]
    for wrong in ([1.5], [float("nan")], [0.1, 0.2]):
        with pytest.raises(ValueError, match="probabilit"):
            statistics.brier(wrong, [1])


def test_auroc_by_hand() -> None:
    assert statistics.auroc([1, 2, 3, 4], [0, 0, 1, 1]) == 1.0
    assert statistics.auroc([1, 2, 3, 4], [0, 1, 0, 1]) == 0.75
    assert statistics.auroc([1, 1, 1], [0, 1, 0]) == 0.5
    assert math.isnan(statistics.auroc([1, 2], [1, 1]))
    assert math.isnan(statistics.auroc([], []))
    assert statistics.auroc([1, 2, 3], [0, 1, 0], [3, 1, 1]) == statistics.auroc([1, 1, 1, 2, 3], [0, 0, 0, 1, 0])


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=30))
def test_auroc_is_the_share_of_pairs_in_the_right_order(points: list[tuple[int, bool]]) -> None:
    true, false = [s for s, y in points if y], [s for s, y in points if not y]
    found = statistics.auroc([s for s, _ in points], [y for _, y in points])
    if not true or not false:
        assert math.isnan(found)
        return
    assert found == pytest.approx(np.mean([(t > f) + (t == f) / 2 for t in true for f in false]))


def test_spans() -> None:
    assert union([(5, 8), (0, 2), (2, 4), (7, 9), (3, 3)]) == [(0, 4), (5, 9)]
    assert overlap([(0, 10)], [(2, 4), (3, 6), (9, 20)]) == [(2, 6), (9, 10)]


# ------------------------------------------------------------------------------------- alerts of a run


def told(identity: str, revision: int, *, suppressed: str = "", withheld: str = "", ended: int | None = None) -> Alert:
    condition = AlertCondition(
        "low", ended is None, "low", "physiological", "", 12 * S, "rule", Rule("r", "1", ""),
        ended=None if ended is None else ended * S, suppressed_by=suppressed,
    )  # fmt: skip
    signal = Signal("on", 72 * S, withheld=withheld)
    return Alert(identity, revision, "start", 72 * S, 72 * S, condition, signal, "room", "case", "theatre", "recorded")


def test_only_what_people_were_told_is_judged() -> None:
    alerts = [told("a", 2, ended=85), told("a", 1), told("b", 1, suppressed="artefact"), told("c", 1, withheld="many")]
    assert told_of(alerts) == [Episode("low", 12 * S, 85 * S, "", 72 * S)]


# ------------------------------------------------------------------------------------------ truth files


def test_a_truth_file_in_seconds_and_in_moments_is_the_same() -> None:
    text = """
truth: 1
start: 2020-01-01T08:00:00Z
codes: [low, "gas*"]
events:
  - {code: low, onset: 60, end: 120, early: 30, late: 5, name: first}
  - {code: low, onset: "2020-01-01T09:01:00+01:00", end: 120, required: false}
monitored: [[0, 600], ["2020-01-01T08:10:00Z", 1200]]
"""
    found = truth.loads(text).resolve(0, 0)
    zero = 1577865600 * S
    assert found.events[0] == TrueEvent("low", zero + 60 * S, zero + 120 * S, "*", 30 * S, 5 * S, True, "first")
    assert (found.events[1].onset, found.events[1].required) == (zero + 60 * S, False)
    assert union(found.monitored) == [(zero, zero + 1200 * S)]
    judged = found.score([Episode("low", zero + 61 * S), Episode("unrelated", zero + 61 * S)])
    assert raw_figures([judged]).alerts == 1, "the truth does not speak of the other"


def test_a_truth_file_in_json_that_leaves_all_open_takes_the_whole_recording() -> None:
    found = truth.loads('{"truth": 1, "events": [{"code": "low", "onset": 5}]}')
    assert found.relative
    resolved = found.resolve(100 * S, 200 * S)
    assert (resolved.events[0].onset, resolved.events[0].end) == (105 * S, 105 * S)
    assert resolved.monitored == ((100 * S, 200 * S),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("truth: 1\nevents:\n  - {code: low, onset: x}", r"t.yaml:3: events\[0\].onset"),
        ("truth: 1\nevents:\n  - {code: low, onset: .nan}", r"t.yaml:3: events\[0\].onset"),
        ("truth: 1\nevents:\n  - {code: low, onset: true}", r"t.yaml:3: events\[0\].onset"),
        ("truth: 1\nevents:\n  - {cod: low, onset: 1}", r"t.yaml:3: there is no entry 'cod' \(did you mean 'code'"),
        ("truth: 1\nevents:\n  - {code: low}", r"t.yaml:3: events\[0\].onset is missing"),
        ("truth: 1\nevents:\n  - code: low\n    onset: 9\n    end: 8", r"t.yaml:5: events\[0\].end is before"),
        ("truth: 1\nmonitored: [[5, 1]]", r"t.yaml:2: monitored\[0\] is before"),
        ("truth: 1\nmonitored: []", r"t.yaml:2: monitored"),
        ("truth: 2", r"t.yaml:1: truth"),
        ("theatre: 1", r"t.yaml: is not a truth file \(it begins with `truth: 1`\)"),
        ("[1, 2", r"t.yaml:"),
        ("", r"t.yaml: is not a truth file"),
    ],
)
def test_a_wrong_truth_file_is_answered_with_the_place(text: str, said: str) -> None:
    with pytest.raises(RecordingError, match=said):
        truth.loads(text, "t.yaml")


def test_a_span_whose_ends_are_given_in_two_ways_is_checked_once_the_start_is_known() -> None:
    found = truth.loads('truth: 1\nmonitored: [[0, "2020-01-01T08:00:00Z"]]')
    assert found.resolve(0, 0).monitored[0][1] == 1577865600 * S
    with pytest.raises(RecordingError, match=r"monitored\[0\] ends before"):
        found.resolve(1577865601 * S, 1577865700 * S)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: ("truth: 1\n" + text).encode()))
def test_hostile_truth_files_are_refused_not_crashed_on(content: bytes) -> None:
    try:
        truth.loads(content)
    except RecordingError as error:
        assert error.where
