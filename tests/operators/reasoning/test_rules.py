"""The operator: exact moments, proof, what is not observed, rejected candidates, late messages, restarts."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operators.monitor.hypotension import Hypotension
from operators.reasoning.rules import Rules
from operators.theatre.case import SHIPPED
from operators.theatre.reader import TheatreReader
from operators.theatre.source import Theatre
from pipeline.graph import Graph
from pipeline.message import Detection, Event, Message, Numeric
from pipeline.replay import Replay
from tests.operators.reasoning.build import S, condition, detection, event, facts, numeric, play, preset, rule_of
from tests.operators.reasoning.test_reference import histories


def run(folder: Path, messages: list[Message[Any]], *rules: str, until: float | None = None) -> list[Message[Any]]:
    return play(Rules(preset=preset(folder, *rules), name="rules"), messages, until)


def steady(begin: int, end: int, value: float, channel: str = "Monitor/ABP_MEAN") -> list[Message[Any]]:
    return [numeric(second, value, channel) for second in range(begin, end)]


def test_what_lasts_is_said_at_the_exact_moment_and_not_at_the_next_message(tmp_path: Path) -> None:
    messages = [*steady(100, 110, 80), *steady(110, 112, 60), numeric(114.2, 60), numeric(119.1, 60), numeric(123, 60)]
    said = run(tmp_path, messages, "map < 65 for 7.5s", until=124)
    assert facts(said) == [("rule_0", True, 117.5, 110.0)]


def test_silence_neither_begins_nor_ends_an_alert(tmp_path: Path) -> None:
    short = run(tmp_path, steady(0, 4, 60), "map < 65 for 9s", until=60)
    assert short == [], "the last value stands for five seconds here, so that it was low for nine is not known"
    said = run(tmp_path, [*steady(0, 20, 60), numeric(300, 60), *steady(310, 330, 80)], "map < 65 for 9s", until=330)
    assert facts(said) == [("rule_0", True, 9.0, 0.0), ("rule_0", False, 320.0, 0.0)]
    assert said[1].payload.ended == 310 * S


def test_absence_is_only_said_where_somebody_listened(tmp_path: Path) -> None:
    rule = "not seen count within 30s"
    assert run(tmp_path, [event(10, "phase")], rule, until=200) == [], "the room fell silent after twenty seconds"
    talk = [event(second, "phase") for second in range(10, 100, 10)]
    assert facts(run(tmp_path, talk, rule, until=99)) == [("rule_0", True, 40.0, 40.0)]
    counted = sorted([*talk, event(35)], key=lambda message: message.time)
    said = run(tmp_path, counted, rule, until=99)
    assert [round(second, 6) for _, _, second, _ in facts(said)] == [65.0]


def test_sequence_asks_for_the_order(tmp_path: Path) -> None:
    rule = "bleeding then falls(map, by 10, within 10s) within 20s"
    falls = [*steady(0, 30, 80), *steady(30, 40, 68)]

    def with_bleeding(at: float) -> list[Message[Any]]:
        ordered = [*falls, condition(at, True), condition(at + 2, False)]
        return run(tmp_path, sorted(ordered, key=lambda message: message.time), rule, until=45)

    assert facts(with_bleeding(15)) == [("rule_0", True, 30.0, 30.0)]
    assert with_bleeding(5) == [], "too long before"
    assert with_bleeding(33) == [], "afterwards"


def test_map_falls_while_bleeding_grows_with_proof(tmp_path: Path) -> None:
    rule = '{code: both, priority: high, when: "falls(map, by 10, within 60s) and bleeding for 5s and not count", ' \
           'text: "MAP {map} mmHg, {hr:.1f}/min."}'  # fmt: skip
    messages = [*steady(0, 20, 80), condition(20.5, True), *steady(21, 40, 68.25)]
    said = run(tmp_path, messages, rule, until=40)
    assert said == [], "that nothing was counted is not known: nobody listened"
    said = run(tmp_path, sorted([*messages, event(24, "phase")], key=lambda m: m.time), rule, until=40)
    alert = said[0].payload
    assert (said[0].time, alert.text) == (round(25.5 * S), "MAP 68.2 mmHg, unknown/min.")
    found = {evidence.note: evidence for evidence in alert.evidence}
    assert list(found) == ["falls(map, by 10, within 1min)", "bleeding", "false: count"]
    fall = found["falls(map, by 10, within 1min)"]
    assert (fall.stream, fall.channel, fall.values, fall.unit) == (
        "monitor.numerics/Monitor/ABP_MEAN", "Monitor/ABP_MEAN", (80.0, 68.25), "mm[Hg]",
    )  # fmt: skip
    assert (fall.start, fall.end) == (0, round(25.5 * S))
    assert (found["bleeding"].stream, found["bleeding"].start) == ("seer.conditions", round(20.5 * S))
    assert alert.rule.name == "reasoning.tested"
    assert len(alert.rule.digest) == 16


def test_the_proof_says_what_was_not_observed(tmp_path: Path) -> None:
    said = run(tmp_path, [*steady(0, 12, 60), numeric(1, 90, "Monitor/HR")], "map < 65 for 3s or hr > 100 or smoke",
               until=11)  # fmt: skip
    notes = [evidence.note for evidence in said[0].payload.evidence]
    assert notes[0] == "map < 65"
    assert notes[1:] == ["not observed: hr > 100; hr never heard", "not observed: smoke"]
    assert said[0].payload.value == 60
    assert said[0].payload.limit == 65


def test_a_rejected_candidate_is_said_with_its_reason_and_comes_true_when_the_reason_ends(tmp_path: Path) -> None:
    rule = rule_of("map < 65 for 3s", unless="seen smoke within 5s", because="smoke on the field")
    messages: list[Message[Any]] = steady(0, 12, 60)
    messages += [detection(1), *steady(12, 30, 80)]
    said = run(tmp_path, sorted(messages, key=lambda m: m.time), rule, until=29)
    assert [(m.time / S, m.payload.present, m.payload.suppressed_by) for m in said] == [
        (3.0, True, "smoke on the field"), (8.0, False, "smoke on the field"), (8.0, True, ""), (22.0, False, ""),
    ]  # fmt: skip


def test_two_of_three_and_a_detection_below_its_score(tmp_path: Path) -> None:
    messages = [numeric(0, 60), numeric(0, 130, "Monitor/HR"), detection(0, score=0.4)]
    assert facts(run(tmp_path, messages, "2 of (map < 65, hr > 120, smoke)", until=1)) == [("rule_0", True, 0.0, 0.0)]
    assert run(tmp_path, messages, "3 of (map < 65, hr > 120, smoke)", until=1) == []


def test_the_better_channel_speaks_and_two_devices_are_never_compared(tmp_path: Path) -> None:
    first = [numeric(second, 100) for second in range(10)]
    both = [numeric(second + 0.5, 60, "Monitor/ART_MEAN") for second in range(20)]
    messages = sorted([*first, *both], key=lambda message: message.time)
    operator = Rules(preset=preset(tmp_path, "falls(map, by 10, within 30s)", "map < 65"))
    said = play(operator, messages, until=20)
    assert facts(said) == [("rule_1", True, 14.5, 14.5)], "the other device counts once the first was silent for 5 s"
    assert said[0].payload.evidence[0].channel == "Monitor/ART_MEAN"


def test_units_are_converted_or_refused_aloud(tmp_path: Path) -> None:
    said = run(tmp_path, [numeric(0, 8, unit="kPa")], "map < 65", until=1)
    assert said[0].payload.value == pytest.approx(60.005, abs=1e-3)
    said = run(tmp_path, [numeric(0, 8, unit="Cel"), numeric(1, 8, unit="Cel")], "map < 65", until=1)
    assert [(m.payload.code, m.payload.kind) for m in said] == [("rule_input_not_watched", "technical")]
    assert "comes in Cel" in said[0].payload.text


def test_a_late_message_counts_as_if_it_came_now(tmp_path: Path) -> None:
    operator = Rules(preset=preset(tmp_path, "bleeding and map < 65"))
    said = play(operator, [numeric(10, 60), condition(9.8, True)], until=10)
    assert facts(said) == [("rule_0", True, 10.0, 10.0)]
    assert operator.late == 1


def test_what_is_no_value_changes_nothing(tmp_path: Path) -> None:
    strange = [numeric(second + 0.5, value) for second, value in enumerate((float("nan"), float("inf"), -1e300))]
    messages = sorted([*steady(0, 9, 60), *strange], key=lambda message: message.time)
    assert facts(run(tmp_path, messages, "map < 65 for 7s", until=8)) == [("rule_0", True, 7.0, 0.0)]


def whatever() -> st.SearchStrategy[Message[Any]]:
    """Any message, at any time, in any order."""
    text = st.one_of(
        st.text(max_size=5), st.sampled_from(("Monitor/ABP_MEAN", "bleeding", "sponge_count", "smoke", ""))
    )
    number = st.one_of(st.floats(), st.sampled_from((60.0, 80.0, 1e15, -0.0)))
    payload = st.one_of(
        st.builds(Numeric, text, text, st.sampled_from(("mm[Hg]", "kPa", "", "?")), number),
        st.builds(Event, text, text), st.builds(Detection, text, number),
        st.builds(lambda code, present, why: condition(0, present, code, suppressed_by=why).payload, text,
                  st.booleans(), st.sampled_from(("", "x"))),
    )  # fmt: skip
    return st.builds(lambda what, time: Message("any.thing/x", time, 0, what), payload, st.integers(0, 2**62))


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(whatever(), max_size=30))
def test_whatever_comes_nothing_breaks_and_time_never_goes_back(
    tmp_path_factory: pytest.TempPathFactory, messages: list[Message[Any]]
) -> None:
    rules = (
        "falls(map, by 10%, within 5s) or mean(map, 3s) > 2",
        "bleeding then map / hr > 1 within 9s",
        "smoke or count",
    )
    operator = Rules(preset=preset(tmp_path_factory.mktemp("preset"), *rules))
    said = play(operator, messages)
    assert all(one.time <= two.time for one, two in itertools.pairwise(said))
    assert 0 <= operator.late < max(len(messages), 1)
    json.dumps(operator.state())


def test_the_end_of_the_input_ends_what_is_present(tmp_path: Path) -> None:
    said = run(tmp_path, steady(0, 9, 60), "map < 65")
    assert [message.payload.present for message in said] == [True, False]
    assert "no longer watched" in said[1].payload.text


def test_only_some_rules_can_be_put_to_work(tmp_path: Path) -> None:
    operator = Rules(preset=preset(tmp_path, "map < 65", "map < 60", "map < 55"), only=("*_1", "rule_2"))
    assert [message.payload.code for message in play(operator, [numeric(0, 50)], until=0)] == ["rule_1", "rule_2"]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories(), st.integers(0, 60))
def test_a_restart_from_its_state_goes_on_as_if_nothing_had_been(
    tmp_path_factory: pytest.TempPathFactory, messages: list[Message[Any]], at: int
) -> None:
    rules = (
        "mean(map, 5s) < 3 for 2s", "falls(map, by 2, within 8s) or slope(hr, 5s) > 10", "silent(map, 4s)",
        "not seen count within 9s", "bleeding then map < 3 until 4 within 9s", "2 of (smoke, hr > 3, max(map, 4s) > 5)",
    )  # fmt: skip
    path = preset(tmp_path_factory.mktemp("preset"), *rules)
    until = messages[-1].time / S + 30
    whole = play(Rules(preset=path), messages, until)
    first, second = Rules(preset=path), Rules(preset=path)
    cut = min(at, len(messages))
    said = play(first, messages[:cut], until=messages[cut - 1].time / S if cut else 0)
    second.load_state(json.loads(json.dumps(first.state())))
    second._routes.clear()
    said += play(second, messages[cut:], until)
    technical = "rule_input_not_watched"  # told again by the new instance: it meets the stream anew
    assert [(m.time, m.payload) for m in said if m.payload.code != technical] == [
        (m.time, m.payload) for m in whole if m.payload.code != technical
    ]


def test_memory_is_bounded(tmp_path: Path) -> None:
    operator = Rules(preset=preset(tmp_path, "mean(map, 10s) < 5 and falls(map, by 90, within 1min) for 1h"))
    sizes = []
    for block in range(3):
        play(operator, [numeric(block * 1000 + i / 4, i % 7) for i in range(4000)], until=block * 1000 + 1000)
        sizes.append(len(json.dumps(operator.state())))
    assert max(sizes) < 1.1 * min(sizes)


# ---------------------------------------------------------------------------------------- the cases


def watch_case(name: str, folder: Path, *, preset: str = "theatre") -> tuple[list[Message[Any]], int]:
    """The case's monitor and room, without pictures, through the whole engine."""
    graph = Graph("theatre")
    graph.add("theatre", Theatre)
    graph.add("hypotension", Hypotension)
    graph.add("fusion", Rules, preset=preset)
    for source, target in (
        ("theatre.numerics", "hypotension.numerics"), ("theatre.waveforms", "hypotension.waveforms"),
        ("theatre.numerics", "fusion.numerics"), ("theatre.events", "fusion.events"),
        ("hypotension.conditions", "fusion.observed"),
    ):  # fmt: skip
        graph.connect(source, target)
    reader = TheatreReader(SHIPPED / f"{name}.yaml")
    reader.tracks = [track for track in reader.tracks if track.stream != "video/video"]
    replay = Replay(reader, graph, data=folder)
    said: list[Message[Any]] = []
    replay.engine.listen("fusion", "conditions", said.extend)
    asyncio.run(replay.run())
    return said, reader.case.origin_ns


def test_the_uneventful_case_says_nothing(tmp_path: Path) -> None:
    assert watch_case("uneventful", tmp_path)[0] == []


def test_the_eventful_case_is_told_by_the_rules_that_fit_it(tmp_path: Path) -> None:
    said, zero = watch_case("eventful", tmp_path)
    begun = {m.payload.code: (m.time - zero) / S for m in said if m.payload.present and not m.payload.suppressed_by}
    assert {code: round(second, 1) for code, second in begun.items()} == {
        "pressure_falls_fast": 23.2, "desaturation_confirmed": 26.4, "shock_index_high": 30.2, "output_falls": 46.9,
    }  # fmt: skip
    onsets = [m.payload.onset for m in said]
    assert all(onset >= zero for onset in onsets)
    rejected = {m.payload.code: m.payload.suppressed_by for m in said if m.payload.suppressed_by}
    assert rejected == {"desaturation_confirmed": "the oximeter's pulse is not the ECG's"}
    twice, _ = watch_case("eventful", tmp_path)
    assert [(m.order, m.payload) for m in twice] == [(m.order, m.payload) for m in said]
    assert all(one.time <= two.time for one, two in itertools.pairwise(said))


@pytest.mark.parametrize(("name", "at", "fires"), [("eventful", 6.0, True), ("uneventful", 62.0, False)])
def test_bleeding_counts_where_pressure_falls_with_it(name: str, at: float, fires: bool) -> None:
    """Composed: the case's own numerics, and bleeding said by hand at the time at which the case has it."""
    reader = TheatreReader(SHIPPED / f"{name}.yaml")
    reader.tracks = [track for track in reader.tracks if track.stream.startswith("numerics")]
    zero = reader.case.origin_ns / S
    messages = sorted([*reader.messages(), condition(zero + at, True)], key=lambda message: message.time)
    said = [m.payload for m in play(Rules(preset="theatre"), messages) if "bleeding" in m.payload.code]
    begun = [condition.code for condition in said if condition.present]
    assert begun == (["bleeding_with_falling_pressure", "bleeding_then_fast_heart"] if fires else [])
    if fires:
        notes = {evidence.note: evidence for evidence in said[0].evidence}
        assert {"bleeding", "map < 70"} <= notes.keys(), "the elementary parts, whatever stands around them"
        assert notes["map < 70"].values[-1] < 70


SCRIPT = """
theatre: 1
name: planted
description: One thing planted in a quiet patient.
procedure: test
seed: 5
start: 2026-01-05T08:00:00Z
duration: 100
video: {rate: 1, size: [64, 48]}
patient: {heart_rate: 66, mean_pressure: 82, pulse_pressure: 46, saturation: 98.6, breathing_rate: 12,
          end_tidal_co2: 37, temperature: 36.3}
phases: [{at: 0, name: inspection, view: wide}]
script:
  - {at: 30, do: PLANTED}
"""


@pytest.mark.parametrize(
    ("planted", "codes"),
    [
        ("sensor_off, sensor: capnograph, lasts: 60", ["capnogram_lost_alone"]),
        ("asystole, lasts: 60", ["output_falls"]),
        ("hypotension, to: 45, ramp: 20, lasts: 60", ["pressure_falls_fast", "shock_index_high"]),
        ("desaturation, to: 80, ramp: 20, lasts: 60", ["desaturation_confirmed"]),
        ("sensor_off, sensor: oximeter, lasts: 60", []),
        ("sensor_off, sensor: arterial, lasts: 60", []),
        ("sensor_off, sensor: ecg, lasts: 60", []),
        ("artefact, how: zeroing, lasts: 40", []),
        ("artefact, how: flush, lasts: 4", []),
        ("artefact, how: motion, lasts: 40", []),
        ("artefact, how: diathermy, lasts: 40", []),
    ],
)
def test_each_trouble_has_its_own_rule_and_faults_of_sensors_have_none_of_the_patient_s(
    planted: str, codes: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "planted.yaml"
    path.write_text(SCRIPT.replace("PLANTED", planted))
    reader = TheatreReader(path)
    reader.tracks = [track for track in reader.tracks if track.stream.startswith("numerics")]
    said = play(Rules(preset="theatre"), reader.messages())
    begun = [m.payload for m in said if m.payload.present and not m.payload.suppressed_by]
    assert [condition.code for condition in begun] == codes
    assert {condition.kind for condition in begun} <= {"technical" if "capnograph" in planted else "physiological"}


def test_an_instrument_that_goes_in_unseen(tmp_path: Path) -> None:
    outside = [detection(second, "out_of_body") for second in range(20, 28)]
    inside = [detection(second, "in_body") for second in range(28, 40)]

    def told(at: float) -> list[str]:
        messages = sorted([*outside, *inside, event(at, "instrument_in", "hook")], key=lambda message: message.time)
        return [m.payload.code for m in play(Rules(preset="theatre"), messages) if m.payload.present]

    assert told(25) == ["instrument_goes_in_unseen"]
    assert told(20.5) == ["instrument_goes_in_unseen"], "it is in the trocar still when the camera has been out for 3 s"
    assert told(14) == []
    assert told(30) == []


def test_closing_without_a_count_is_only_said_where_the_room_was_heard() -> None:
    def told(minutes: list[int], *events: Message[Any]) -> list[tuple[str, float]]:
        heard = [numeric(60 * minute + second, 80) for minute in minutes for second in range(0, 60, 10)]
        messages = sorted([*heard, *events], key=lambda message: message.time)
        said = play(Rules(preset="theatre"), messages, until=60 * 60)
        return [(m.payload.code, m.time / S / 60) for m in said if m.payload.present]

    closing = event(35 * 60, "phase", "closure")
    expected = [("closing_without_count", 35.0)]
    assert told(list(range(45)), closing) == [(code, pytest.approx(minute)) for code, minute in expected]
    assert told(list(range(45)), event(20 * 60), closing) == [], "counted"
    assert told([*range(10), *range(20, 45)], closing) == [], "for ten minutes nobody listened"
