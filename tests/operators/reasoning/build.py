"""Messages and presets that these tests are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from operators.reasoning.watcher import Watcher
from pipeline.message import NANOSECONDS, AlertCondition, Detection, Event, Message, Numeric, Rule
from pipeline.operator import Context, each
from pipeline.time import ReplayClock

S = NANOSECONDS
HANDLERS = {Numeric: "on_numerics", AlertCondition: "on_observed", Event: "on_events", Detection: "on_detections"}
SIGNALS = """
  map: {numerics: ["*/ABP_MEAN", "*/ART_MEAN"], unit: "mm[Hg]", hold: 5s}
  hr: {numerics: "*/HR", unit: /min, hold: 5s}
  bleeding: {conditions: bleeding, alive: ["*/BLOOD_AREA"], alive_for: 5s}
  count: {events: sponge_count, alive_for: 20s}
  smoke: {detections: smoke, score: 0.5, hold: 2s, alive_for: 4s}
"""


def preset(folder: Path, *rules: str, signals: str = SIGNALS, checks: Sequence[str] = (), name: str = "tested") -> str:
    """The path of a preset with these rules, each given as YAML of a mapping in braces, or just its `when`."""
    written = [rule if rule.startswith("{") else rule_of(rule, f"rule_{i}") for i, rule in enumerate(rules)]
    text = f"reasoning: 1\nname: {name}\nversion: 1\nsignals:{signals}"
    text += "rules:\n" + "".join(f"  - {rule}\n" for rule in written) if rules else ""
    text += "checks:\n" + "".join(f"  - {check}\n" for check in checks) if checks else ""
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return str(path)


def rule_of(when: str, code: str = "rule", **more: str) -> str:
    """One rule as YAML."""
    extra = "".join(f', {key}: "{value}"' for key, value in more.items())
    return f'{{code: {code}, priority: medium, when: "{when}", text: "It is so."{extra}}}'


def numeric(second: float, value: float, channel: str = "Monitor/ABP_MEAN", unit: str = "") -> Message[Numeric]:
    unit = unit or ("/min" if channel.endswith("HR") else "mm[Hg]" if "A" in channel.partition("/")[2][:1] else "%")
    return Message(f"monitor.numerics/{channel}", round(second * S), 0, Numeric(channel, "", unit, value), "recorded")


def condition(second: float, present: bool, code: str = "bleeding", **more: Any) -> Message[AlertCondition]:
    fields: dict[str, Any] = {
        "priority": "medium", "kind": "physiological", "text": "So it is.", "source": "seer",
        "onset": round(second * S), "rule": Rule("seer", "1", "0" * 16),
        "ended": None if present else round(second * S),
    } | more  # fmt: skip
    return Message("seer.conditions", round(second * S), 0, AlertCondition(code, present, **fields), "recorded")


def event(second: float, kind: str = "sponge_count", text: str = "") -> Message[Event]:
    return Message(f"room.events/{kind}", round(second * S), 0, Event(kind, text), "recorded")


def detection(second: float, label: str = "smoke", score: float = 0.9) -> Message[Detection]:
    return Message("seer.detections", round(second * S), 0, Detection(label, score), "recorded")


def play(operator: Watcher, messages: Iterable[Message[Any]], until: float | None = None) -> list[Message[Any]]:
    """What the operator says, with the engine's rule for timers: those due before a message come before it."""
    operator.context = Context(ReplayClock(0, float("inf")))
    said: list[Message[Any]] = []
    last = 0

    def fire(before: int) -> None:
        while operator.wake_at is not None and operator.wake_at < before:
            due, operator.wake_at = operator.wake_at, None
            said.extend(each(operator.on_time(due)))

    for message in messages:
        fire(message.time)
        last = message.time
        handler = HANDLERS[type(message.payload)]
        if ":" in message.stream:  # "port:stream" where the payload does not say to which port it goes
            port, _, stream = message.stream.partition(":")
            handler, message = f"on_{port}", msgspec.structs.replace(message, stream=stream)
        said.extend(each(getattr(operator, handler)(message)))
    fire(last + 1 if until is None else round(until * S) + 1)
    if until is None:
        said.extend(each(operator.finish()))
    return said


def facts(said: Iterable[Message[Any]]) -> list[tuple[str, bool, float, float]]:
    """(code, present, said at, onset), in seconds."""
    return [(m.payload.code, m.payload.present, m.time / S, m.payload.onset / S) for m in said]
