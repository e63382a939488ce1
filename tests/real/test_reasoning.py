"""Rules and verification on the real operation and on monitors in demo mode: what fires, and whether it is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from operators.monitor.hypotension import Hypotension
from operators.monitor.limits import Limits
from operators.monitor.vital import VitalReader
from operators.reasoning import syntax
from operators.reasoning.cells import Formula
from operators.reasoning.preset import load
from operators.reasoning.reference import Reference
from operators.reasoning.rules import Rules
from operators.reasoning.signals import Track, Watch
from operators.reasoning.verify import Verify
from operators.rules import rank
from pipeline.message import AlertCondition, Message, Numeric, Waveform
from pipeline.operator import each

pytestmark = pytest.mark.real
S = 1_000_000_000
EPISODES = ((1, 430), (609, 2016))
"""Hypotension (MAP < 65 mmHg for a minute) in or_case1, seconds after its start: SOURCES.md."""


def fired(operator: Any, before: int) -> Iterator[Message[Any]]:
    while operator.wake_at is not None and operator.wake_at < before:
        due, operator.wake_at = operator.wake_at, None
        yield from each(operator.on_time(due))


def play(reader: VitalReader, preset: str = "theatre") -> dict[str, list[Message[AlertCondition]]]:
    """What is said by `hypotension`, by the rules, and by the verification of what the monitor's rules say."""
    written = yaml.safe_load((Path(__file__).parents[2] / "topologies" / "monitor.yaml").read_text())
    hypotension = Hypotension(name="hypotension")
    limits = Limits(name="limits", **written["operators"]["limits"]["with"])
    rules, verify = Rules(preset=preset, name="rules"), Verify(preset=preset, name="verify")
    said: dict[str, list[Message[Any]]] = {"fast": [], "rules": [], "verify": []}
    for message in reader.messages():
        fast = list(fired(limits, message.time))
        said["rules"] += fired(rules, message.time)
        said["verify"] += fired(verify, message.time)
        if isinstance(message.payload, Numeric):
            fast += [*each(hypotension.on_numerics(message)), *each(limits.process(message))]
        elif isinstance(message.payload, Waveform):
            fast += each(hypotension.on_waveforms(message))
        for condition in fast:
            said["rules"] += each(rules.on_observed(condition))
            said["verify"] += each(verify.on_candidates(condition))
        said["fast"] += fast
        if isinstance(message.payload, Numeric):
            said["rules"] += each(rules.on_numerics(message))
            said["verify"] += each(verify.on_numerics(message))
    said["rules"] += each(rules.finish())
    return said


@pytest.fixture(scope="module")
def case(shared_data: Path) -> VitalReader:
    return VitalReader(shared_data / "or_intellivue" / "or_case1.vital")


@pytest.fixture(scope="module")
def said(case: VitalReader) -> dict[str, list[Message[AlertCondition]]]:
    return play(case)


def test_only_the_rule_that_fits_fires_and_only_within_true_hypotension(
    case: VitalReader, said: dict[str, list[Message[AlertCondition]]]
) -> None:
    zero = min(info.start for info in case.streams())
    begun = [m for m in said["rules"] if m.payload.present and m.payload.kind == "physiological"]
    assert {m.payload.code for m in begun} == {"bradycardia_with_hypotension"}
    assert len(begun) == 2, "once for each episode"
    for message, (begin, end) in zip(begun, EPISODES, strict=True):
        assert begin <= (message.payload.onset - zero) / S < (message.time - zero) / S <= end
    others = [m.payload.code for m in said["rules"] if m.payload.kind != "physiological"]
    assert others == []


def test_the_proof_is_what_the_recording_holds(
    case: VitalReader, said: dict[str, list[Message[AlertCondition]]]
) -> None:
    values: dict[str, list[tuple[int, float]]] = {}
    for message in case.messages():
        if isinstance(message.payload, Numeric):
            values.setdefault(message.payload.channel, []).append((message.time, message.payload.value))
    for message in said["rules"]:
        if not message.payload.present:
            continue
        notes = {evidence.note: evidence for evidence in message.payload.evidence}
        for note, limit in (("hr < 50", 50), ("map < 65", 65)):
            evidence = notes[note]
            during = [v for t, v in values[evidence.channel] if evidence.start <= t <= evidence.end]
            assert len(during) > 25, "thirty seconds of values"
            assert max(during) < limit
            assert evidence.values[-1] == pytest.approx(during[-1], abs=1e-6)
        assert notes["not observed: line_unreliable"].stream == ""


def test_joined_signals_say_less_than_the_single_limit(case: VitalReader, tmp_path: Path) -> None:
    """The trivial rule on the heart rate alone, with the same delay, fires outside the episodes as well."""
    alone = tmp_path / "alone.yaml"
    alone.write_text(
        "reasoning: 1\nname: alone\nversion: 1\nsignals:\n  hr: {numerics: ['*/ECG_HR', '*/HR'], unit: /min}\n"
        "rules:\n  - {code: slow, priority: medium, when: hr < 50 for 30s, text: Slow.}\n"
    )
    zero = min(info.start for info in case.streams())
    seconds = [(m.time - zero) / S for m in play(case, str(alone))["rules"] if m.payload.present]
    outside = [second for second in seconds if not any(begin <= second <= end for begin, end in EPISODES)]
    assert len(seconds) > 2
    assert outside


def test_the_true_episodes_are_confirmed_over_a_longer_window(
    said: dict[str, list[Message[AlertCondition]]],
) -> None:
    fast = [m for m in said["fast"] if m.payload.code == "hypotension" and m.payload.present]
    verdicts = [m for m in said["verify"] if m.payload.code == "hypotension"]
    assert {m.payload.verified for m in verdicts} == {"confirmed"}
    assert {m.payload.onset for m in verdicts} == {m.payload.onset for m in fast}
    assert all(m.payload.source == "hypotension" for m in verdicts)


@pytest.mark.parametrize("name", ["test_data_demo", "test_intelliue_demo2", "test_intellivue_demo1"])
def test_a_monitor_in_demo_mode_is_quiet(shared_data: Path, name: str) -> None:
    assert play(VitalReader(shared_data / "monitor_demo" / f"{name}.vital"))["rules"] == []


def test_the_incremental_evaluator_is_the_plain_one_on_real_values(case: VitalReader) -> None:
    """Ninety seconds around the first firing, every expression of the preset that reads these four signals."""
    preset, names = load("default"), {"hr", "map", "sys", "dia"}
    zero = min(info.start for info in case.streams())
    patterns = tuple(pattern for name in names for pattern in preset.signals[name].patterns)
    window = [
        m for m in case.messages(zero + 90 * S, zero + 180 * S)
        if isinstance(m.payload, Numeric) and rank(m.payload.channel, patterns) >= 0
    ]  # fmt: skip
    table = {name: preset.signals[name] for name in names}
    rule = next(rule for rule in preset.rules if rule.code == "bradycardia_with_hypotension")
    for node in (rule.when, rule.clear):
        relevant = [
            m for m in window
            if any(rank(m.payload.channel, table[name].patterns) >= 0 for name in syntax.signals(node))
        ]  # fmt: skip
        signals: dict[str, Track | Watch] = {name: Track(signal) for name, signal in table.items()}
        formula = Formula([node], signals)
        root = formula.roots[0]
        assert root is not None
        fast = {}
        for count, message in enumerate(relevant, 1):
            while formula.due is not None and formula.due < message.time:
                due = formula.due
                formula.update(due)
                fast[due, count - 1] = root.truth
            for track in signals.values():
                factor = track.factor(message) if isinstance(track, Track) else None
                if factor is not None and isinstance(track, Track):
                    track.take(message.time, message, factor)
            formula.update(message.time)
            fast[message.time, count] = root.truth
        plain = Reference(table, relevant, [])
        plain.instants = sorted(fast)
        assert dict(zip(plain.instants, [t for _, t in plain.truths(node)], strict=True)) == fast
        assert len(set(fast.values())) > 1 or node is rule.clear, "something happens in it"
