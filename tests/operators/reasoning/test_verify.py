"""Fast alert, slow verification: it confirms, enriches or demotes, and it never delays, repeats or hides an alert."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from operators.monitor.limits import Limits
from operators.reasoning.verify import Verify, verdict
from operators.sinks.alerts import Alerts
from pipeline.alerts import AlertMachine, Origins, Policy
from pipeline.engine import Engine, RunOptions
from pipeline.graph import Graph
from pipeline.message import Alert, AlertCondition, Event, Evidence, Message, Numeric
from pipeline.operator import Config, Input, Operator, Output, Outputs, Source
from pipeline.topology import loads
from tests.operators.reasoning.build import S, condition, numeric, play, preset

CHECK = '{codes: low, deadline: 20s, confirm: "mean(map, 10s) < 65", refute: "min(map, 5s) > 70", demote_to: info, ' \
        'text: "Its mean is low: {map:.0f}."}'  # fmt: skip
ASKED = "{codes: low, deadline: 20s, demote_to: low}"


def candidate(second: float, present: bool = True, **more: Any) -> Message[AlertCondition]:
    said = condition(second, present, "low", **({"onset": 10 * S, "priority": "high", "source": "limits"} | more))
    return msgspec.structs.replace(said, stream="candidates:limits.conditions")


def answer(second: float, to: Message[AlertCondition], what: Any, text: str = "", **more: Any) -> Message[Event]:
    return Message("verdicts:slow.verdicts", round(second * S), 0, verdict(to.payload, what, text, **more), "recorded")


def verify(folder: Path, messages: list[Message[Any]], check: str = CHECK, until: float = 100) -> list[AlertCondition]:
    operator = Verify(preset=preset(folder, checks=[check]), name="verify")
    return [m.payload for m in play(operator, sorted(messages, key=lambda m: m.time), until)]


def values(begin: int, end: int, value: float) -> list[Message[Any]]:
    return [numeric(second, value) for second in range(begin, end)]


# ------------------------------------------------------------------------------------- by expression


def test_a_longer_window_confirms_with_its_proof(tmp_path: Path) -> None:
    first = candidate(12)
    said = verify(tmp_path, [*values(5, 10, 80), *values(10, 30, 60), first], until=29)
    assert [(c.verified, c.priority, c.onset, c.source, c.present) for c in said] == [
        ("confirmed", "high", 10 * S, "limits", True)
    ]
    assert said[0].text == "So it is. Its mean is low: 60."
    assert (
        said[0].evidence[0].note.startswith("verified 5.0 s after it was said (deadline 20s) by reasoning.tested 1 (")
    )
    proof = said[0].evidence[1]
    assert (proof.values, proof.note) == ((64.0, 60.0), "mean(map, 10s) < 65")
    assert said[0].rule == first.payload.rule, "the alert stays the one of its own rule"


def test_a_refuted_alert_is_demoted_and_never_raised(tmp_path: Path) -> None:
    messages = [*values(0, 12, 80), numeric(10.5, 60), *values(12, 30, 80)]
    said = verify(tmp_path, [*messages, candidate(11)], until=29)
    assert [(c.verified, c.priority) for c in said] == [("demoted", "info")]
    low = verify(tmp_path, [*messages, candidate(11, priority="info")], CHECK.replace("info", "medium"), until=29)
    assert [(c.verified, c.priority) for c in low] == [("demoted", "info")]


def test_a_demotion_is_taken_back_where_the_trouble_comes_after_all(tmp_path: Path) -> None:
    messages = [*values(0, 30, 80), *values(30, 60, 50), candidate(11)]
    said = verify(tmp_path, messages, until=59)
    assert [(c.verified, c.priority) for c in said] == [("demoted", "info"), ("confirmed", "high")]
    machine = AlertMachine(Origins("room", "case", "test"), Policy())
    told = [alert for c in (candidate(11).payload, *said) for alert in machine.condition(c, 60 * S, "live")]
    assert [(a.phase, a.condition.priority) for a in told] == [
        ("start", "high"),
        ("update", "info"),
        ("escalate", "high"),
    ]


def test_what_cannot_be_observed_is_told_as_unverified_at_the_deadline(tmp_path: Path) -> None:
    said = verify(tmp_path, [candidate(12)], until=60)
    assert [c.verified for c in said] == ["unverified"]
    assert said[0].priority == "high", "not knowing is no reason to demote"
    assert said[0].evidence[1].note == "not observed: mean(map, 10s) < 65; map never heard"
    assert said[0].evidence[0].end == 32 * S


def test_without_refute_the_deadline_decides_and_without_demote_to_nothing_is_demoted(tmp_path: Path) -> None:
    messages = [*values(0, 40, 80), candidate(12)]
    for more, expected in ((", demote_to: low", ("demoted", "low")), ("", ("unverified", "high"))):
        check = f'{{codes: low, deadline: 20s, confirm: "mean(map, 10s) < 65"{more}}}'
        said = verify(tmp_path, messages, check, until=39)
        assert [(c.verified, c.priority, c.evidence[0].end) for c in said] == [(*expected, 32 * S)]


def test_an_alert_that_ends_first_is_left_alone(tmp_path: Path) -> None:
    other = candidate(12)
    assert verify(tmp_path, [candidate(12), candidate(13, False), *values(20, 40, 60)]) == []
    assert verify(tmp_path, [candidate(12, suppressed_by="a flush"), *values(5, 40, 60)]) == []
    assert (
        verify(
            tmp_path,
            [
                msgspec.structs.replace(other, payload=msgspec.structs.replace(other.payload, code="other")),
                *values(5, 40, 60),
            ],
        )
        == []
    )


def test_a_rules_own_update_gets_the_verdict_again_and_a_worse_one_is_verified_anew(tmp_path: Path) -> None:
    messages = [*values(0, 9, 80), *values(9, 60, 60), candidate(12, priority="medium")]
    said = verify(tmp_path, [*messages, candidate(40, priority="medium", text="Still.")], until=50)
    assert [(c.verified, c.text) for c in said] == [
        ("confirmed", "So it is. Its mean is low: 60."), ("confirmed", "Still. Its mean is low: 60."),
    ]  # fmt: skip
    demoted = [*values(0, 41, 80), *values(41, 60, 60), candidate(12, priority="medium")]
    said = verify(tmp_path, [*demoted, candidate(42, priority="high")], until=59)
    assert [(c.verified, c.priority) for c in said] == [("demoted", "info"), ("confirmed", "high")]


def test_a_restart_keeps_what_is_under_verification(tmp_path: Path) -> None:
    path = preset(tmp_path, checks=[CHECK])
    first, second = Verify(preset=path), Verify(preset=path)
    play(first, [*values(5, 10, 80), *values(10, 13, 60), candidate(12.5)], until=12.6)
    second.load_state(json.loads(json.dumps(first.state())))
    said = play(second, values(13, 20, 60), until=19)
    assert [m.payload.verified for m in said] == ["confirmed"]


# --------------------------------------------------------------------------------------- by operator


def test_an_operator_answers(tmp_path: Path) -> None:
    first = candidate(12)
    seen = Evidence("scope.video", 9 * S, 11 * S, frame=7, note="the field is dry")
    said = verify(tmp_path, [first, answer(15, first, "demote", "It is a reflection.", evidence=[seen])], ASKED)
    assert [(c.verified, c.priority, c.text) for c in said] == [("demoted", "low", "So it is. It is a reflection.")]
    assert said[0].evidence[-1] == seen
    assert "demoted by slow 3.0 s after it was said (deadline 20s)" in said[0].evidence[0].note


def test_an_operator_enriches_after_it_confirmed(tmp_path: Path) -> None:
    first = candidate(12)
    said = verify(
        tmp_path, [first, answer(15, first, "confirm"), answer(16, first, "enrich", "From the {liver}.")], ASKED
    )
    assert [(c.verified, c.text, c.priority) for c in said] == [
        ("confirmed", "So it is.", "high"), ("enriched", "So it is. From the {liver}.", "high"),
    ]  # fmt: skip


def test_nobody_answers_and_that_is_said_until_somebody_does(tmp_path: Path) -> None:
    first, later = candidate(12), candidate(50, onset=50 * S)
    messages = [first, candidate(40, False), later, answer(55, later, "confirm")]
    said = verify(tmp_path, messages, ASKED)
    assert [(c.code, c.present, c.verified, c.kind) for c in said] == [
        ("low", True, "unverified", "physiological"), ("verifier_silent", True, "", "technical"),
        ("verifier_silent", False, "", "technical"), ("low", True, "confirmed", "physiological"),
    ]  # fmt: skip
    assert said[0].evidence[0].note == "not verified: no answer within 20s"
    assert said[1].onset == 32 * S


def test_answers_to_nothing_are_counted_and_left_out(tmp_path: Path) -> None:
    first = candidate(12)
    wrong = answer(15, first, "confirm")
    strange = [
        Message(wrong.stream, wrong.time, 0, Event("verdict", "", {**wrong.payload.data, **change}), "recorded")
        for change in ({"onset": 3}, {"answer": "hide"}, {"code": "other"}, {"source": None}, {"onset": "10"})
    ]
    operator = Verify(preset=preset(tmp_path, checks=[ASKED]))
    assert play(operator, [first, *strange], until=16) == []
    assert operator.unknown == 5
    unreadable = Message(wrong.stream, 16 * S, 0, Event("verdict", "", {**wrong.payload.data, "evidence": [3]}))
    assert "could not be read" in play(operator, [unreadable], until=17)[0].payload.evidence[-1].note


# ------------------------------------------------------------------------------------- in the engine


class Ward(Source):
    """A monitor whose pressure falls at 3 s of event time; twenty values a second, in real time."""

    live: ClassVar[bool] = False
    numerics: Output[Numeric]

    def run(self) -> Iterator[Message[Any]]:
        for i in range(160):
            value = Numeric("Monitor/ABP_MEAN", "", "mm[Hg]", 80.0 if i < 60 else 50.0)
            yield self.numerics.first(value, i * S // 20, channel="Monitor/ABP_MEAN", origin="simulated")


class Slow(Operator):
    """A verifying operator that works, thinks for long, never comes back, or fails."""

    class Config(Config):
        how: str = "works"

    candidates: Input[AlertCondition]
    verdicts: Output[Event]
    gate: ClassVar[threading.Event] = threading.Event()

    def process(self, message: Message[AlertCondition]) -> Outputs:
        if self.config.how == "raises":
            raise RuntimeError("no model")
        if self.config.how == "blocks":
            self.gate.wait(20)
        if self.config.how == "thinks":
            time.sleep(0.15)
        return self.verdicts.emit(verdict(message.payload, "confirm", "The field is red."), message)


LIMIT = {"name": "pressure", "channels": ["*/ABP_MEAN"], "unit": "mm[Hg]", "low": 65.0, "delay_seconds": 0.5}


async def ward(folder: Path, how: str) -> tuple[list[Message[Alert]], float]:
    """The revisions of a run at eight times real time, and the seconds from the decisive value to the first one."""
    graph = Graph("ward")
    graph.add("ward", Ward)
    graph.add("limits", Limits, limits=(LIMIT,))
    graph.add("alerts", Alerts, journal="")
    graph.connect("ward.numerics", "limits.numerics")
    graph.connect("limits.conditions", "alerts.conditions")
    if how != "absent":
        check = "{codes: pressure_low, deadline: 3s}"
        graph.add("slow", Slow, placement="thread", how=how)
        graph.add("verify", Verify, preset=preset(folder, checks=[check], name=f"ward_{how}"))
        for source, target in (("limits.conditions", "slow.candidates"), ("limits.conditions", "verify.candidates"),
                               ("slow.verdicts", "verify.verdicts"), ("ward.numerics", "verify.numerics"),
                               ("verify.conditions", "alerts.conditions")):  # fmt: skip
            graph.connect(source, target)
    engine = Engine(graph, RunOptions(speed=8.0))
    heard: list[Message[Alert]] = []
    delays: list[float] = []

    def listen(batch: Any) -> None:
        for message in batch:
            delays.append((time.monotonic_ns() - message.trace[0].left) / 1e9)
            heard.append(message)

    engine.listen("alerts", "alerts", listen)
    running = asyncio.create_task(engine.run())
    if how == "blocks":
        await asyncio.sleep(1.2)  # until the ward has ended, and then the thread may go
        Slow.gate.set()
    await running
    return heard, delays[0]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Message[Alert]], float]:
    return asyncio.run(ward(tmp_path_factory.mktemp("alone"), "absent"))


@pytest.mark.parametrize("how", ["works", "thinks", "blocks", "raises"])
async def test_whatever_the_verifier_does_the_alert_is_told_as_if_there_were_none(
    tmp_path: Path, how: str, alone: tuple[list[Message[Alert]], float]
) -> None:
    Slow.gate.clear()
    heard, delay = await ward(tmp_path, how)
    both = [msgspec.structs.replace(m.payload, alert_id="", processing_ns=0) for m in (alone[0][0], heard[0])]
    assert both[0] == both[1]
    assert delay < alone[1] + 0.1, "not even by the time that a thinking verifier takes"
    low = [m.payload for m in heard if m.payload.condition.code == "pressure_low"]
    assert len({alert.alert_id for alert in low}) == 1, "one alert, whatever is said about it"
    verdicts = [alert.condition.verified for alert in low if alert.condition.present]
    if how in ("works", "thinks"):
        assert verdicts == ["", "confirmed"]
        assert low[1].condition.text.endswith("The field is red.")
    else:
        assert verdicts[:2] == ["", "unverified"]
        assert low[1].time - low[0].time == 3 * S, "the deadline that the check states"
        assert "no answer within 3s" in low[1].condition.evidence[-1].note
        assert "verifier_silent" in [m.payload.condition.code for m in heard]


def test_a_verdict_that_comes_after_the_end_begins_no_second_alert() -> None:
    machine = AlertMachine(Origins("room", "case", "test"), Policy(latching=()))
    first = candidate(12).payload
    machine.condition(first, 12 * S, "live")
    machine.condition(candidate(13, False).payload, 13 * S, "live")
    assert machine.condition(msgspec.structs.replace(first, verified="confirmed"), 14 * S, "live") == []


TOPOLOGY = """
operators:
  theatre: {use: theatre, with: {case: eventful, video: false}}
  limits:
    use: monitor.limits
    from: {numerics: theatre.numerics}
    with:
      limits:
        - {name: heart_rate, channels: ["*/ECG_HR"], unit: /min, low: 40, high: 130, delay_seconds: 5, priority: high}
        - {name: oxygen_saturation, channels: ["*/PLETH_SAT_O2"], unit: "%", low: 90, delay_seconds: 5, priority: high}
  fusion:
    use: reasoning.rules
    from: {numerics: theatre.numerics, events: theatre.events, observed: [limits.conditions]}
    with: {preset: theatre}
  a_verify:
    use: reasoning.verify
    from: {candidates: [limits.conditions], numerics: theatre.numerics}
    with: {preset: theatre}
  alerts:
    use: alerts
    with: {journal: ""}
    from: [VERIFIER limits.conditions, fusion.conditions]
"""


@pytest.mark.parametrize("deterministic", [True, False])
async def test_in_a_topology_verification_adds_revisions_and_no_alert(deterministic: bool) -> None:
    """The verifier's name and place in the file put its messages before its alerts': they follow them all the same."""

    async def revisions(verifier: str) -> list[Alert]:
        graph = loads(TOPOLOGY.replace("VERIFIER", verifier))
        engine = Engine(graph, RunOptions(speed=float("inf"), deterministic=deterministic))
        heard: list[Alert] = []
        engine.listen("alerts", "alerts", lambda batch: heard.extend(message.payload for message in batch))
        await engine.run()
        return [msgspec.structs.replace(alert, processing_ns=0, alert_id="") for alert in heard]

    plain, verified = await revisions(""), await revisions("a_verify.conditions,")
    kept = [alert for alert in verified if not alert.condition.verified and alert.phase in ("start", "end")]
    assert [(a.time, a.phase, a.condition) for a in kept] == [
        (a.time, a.phase, a.condition) for a in plain if a.phase in ("start", "end")
    ]
    verdicts = {a.condition.code: a.condition.verified for a in verified if a.condition.verified}
    assert verdicts == {
        "oxygen_saturation_low": "confirmed", "heart_rate_high": "confirmed", "heart_rate_low": "confirmed",
    }  # fmt: skip
