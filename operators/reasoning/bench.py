"""How fast the rules are, beside their plain meaning and beside the same rule written by hand; and what they say."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from operators.monitor.hypotension import Hypotension
from operators.monitor.vital import VitalReader
from operators.reasoning.preset import load
from operators.reasoning.reference import Reference
from operators.reasoning.rules import Rules
from operators.recordings import shared_data
from operators.rules import rank
from operators.theatre.case import SHIPPED
from operators.theatre.reader import TheatreReader
from pipeline.bench import BenchOptions, Row, compare, limit
from pipeline.message import NANOSECONDS, Message, Numeric, Waveform
from pipeline.operator import each

CHANNELS = ("ABP_MEAN", "ABP_SYS", "ABP_DIA", "ECG_HR", "PLETH_HR", "PLETH_SAT_O2", "ETCO2", "PIP", "TEMP")
UNITS = ("mm[Hg]", "mm[Hg]", "mm[Hg]", "/min", "/min", "%", "mm[Hg]", "cm[H2O]", "Cel")
LEVELS = (75.0, 105.0, 60.0, 85.0, 85.0, 96.0, 36.0, 20.0, 36.5)
OTHERS = 91
"""Channels that no rule reads, so that a second has a hundred numerics."""
HAND = "pressure_falls_fast"
"""The rule that is also written by hand."""


def traffic(seconds: int, seed: int) -> list[Message[Numeric]]:
    """A hundred numerics a second: nine wander about their limits so that rules begin and end, the rest is ballast."""
    random = np.random.default_rng(seed)
    wander = np.cumsum(random.normal(0, 0.25, (seconds, len(CHANNELS))), axis=0)
    wander -= np.linspace(0, 1, seconds)[:, None] * wander[-1]
    swing = 1 + 0.4 * np.sin(np.arange(seconds)[:, None] / (40 + 9 * np.arange(len(CHANNELS))))
    values = np.round((np.array(LEVELS) + wander) * swing, 1)
    names = [*zip(CHANNELS, UNITS, strict=True), *((f"OTHER_{i}", "1") for i in range(OTHERS))]
    found = []
    for second in range(seconds):
        for index, (name, unit) in enumerate(names):
            value = float(values[second, index]) if index < len(CHANNELS) else 1.0
            at = second * NANOSECONDS + index * (NANOSECONDS // len(names))
            found.append(Message(f"monitor.numerics/Sim/{name}", at, second, Numeric(f"Sim/{name}", "", unit, value)))
    return found


def drive(operator: Any, handle: Callable[[Any], Any], messages: Iterable[Message[Any]]) -> list[Message[Any]]:
    """What the operator says, timers and all."""
    said: list[Message[Any]] = []
    for message in messages:
        while operator.wake_at is not None and operator.wake_at < message.time:
            due, operator.wake_at = operator.wake_at, None
            said += each(operator.on_time(due))
        answer = handle(message)
        if answer:
            said += each(answer)
    return said


class ByHand:
    """The rule ``HAND`` as an engineer would write it for this one stream: falls 30 % in 3 min, low, pulse present."""

    def __init__(self) -> None:
        self.values: deque[tuple[int, float]] = deque()
        self.latest: dict[str, float] = {}
        self.since: dict[str, int | None] = dict.fromkeys(("low", "pulse", "high"))
        self.present = False
        self.said: list[tuple[int, bool]] = []

    def take(self, message: Message[Numeric]) -> None:
        channel, time_, value = message.payload.channel[4:], message.time, message.payload.value
        if channel not in ("ABP_MEAN", "ABP_SYS", "ABP_DIA"):
            return
        self.latest[channel] = value
        if channel == "ABP_MEAN":
            while self.values and self.values[-1][1] <= value:
                self.values.pop()
            self.values.append((time_, value))
            self._since("low", value < 65, time_)
            self._since("high", value > 65, time_)
        while self.values and self.values[0][0] <= time_ - 180 * NANOSECONDS:
            self.values.popleft()
        if len(self.latest) < 3:
            return
        self._since("pulse", self.latest["ABP_SYS"] - self.latest["ABP_DIA"] > 10, time_)
        top, now = self.values[0][1], self.latest["ABP_MEAN"]
        if not self.present and top > 0 and (top - now) / top >= 0.3 and self._lasts("low", time_):
            if self._lasts("pulse", time_):
                self.present = True
                self.said.append((time_, True))
        elif self.present and self._lasts("high", time_):
            self.present = False
            self.said.append((time_, False))

    def _since(self, name: str, true: bool, time_: int) -> None:
        self.since[name] = (self.since[name] if self.since[name] is not None else time_) if true else None

    def _lasts(self, name: str, time_: int) -> bool:
        since = self.since[name]
        return since is not None and time_ - since >= 15 * NANOSECONDS


def rows(options: BenchOptions) -> list[Row]:
    """Throughput, latency, and what the shipped presets say on the cases and on the real operation."""
    seconds = 120 if options.quick else 3600
    messages = traffic(seconds, options.seed)
    data = f"simulated numerics, 100 a second, {seconds} s"
    found = [*_speed(messages, data, options), *_beside_hand(messages, data), _beside_reference(options, data)]
    return [*found, *_cases(options)]


def _speed(messages: Sequence[Message[Numeric]], data: str, options: BenchOptions) -> list[Row]:
    options.progress("twelve rules over a hundred numerics a second")
    operator = Rules(preset="theatre", name="rules")
    begin = time.perf_counter()
    said = drive(operator, operator.on_numerics, messages)
    spent = time.perf_counter() - begin
    operator = Rules(preset="theatre", name="rules")
    taken = []
    for message in messages[: min(len(messages), 60_000)]:
        while operator.wake_at is not None and operator.wake_at < message.time:
            due, operator.wake_at = operator.wake_at, None
            operator.on_time(due)
        begin = time.thread_time()  # what others do on the machine meanwhile is not the rules' work
        operator.on_numerics(message)
        if "OTHER" not in message.stream:
            taken.append(time.thread_time() - begin)
    rate = len(messages) / spent
    found = [
        limit(f"{len(operator.firings)} rules, numerics", rate, "messages/s", at_least=10_000),
        Row("share of one core at 100 numerics/s", 100 * 100 / rate, "%"),
        Row("work added to a value that rules read, median", float(np.percentile(taken, 50)) * 1e6, "us"),
        limit("work added to a value that rules read, p99", float(np.percentile(taken, 99)) * 1e6, "us", at_most=5000),
        Row("alerts begun meanwhile", sum(m.payload.present for m in said), "alerts"),
    ]
    return [_with(row, data) for row in found]


def _beside_hand(traffic: Sequence[Message[Numeric]], data: str) -> list[Row]:
    messages = [m for m in traffic if m.payload.channel[4:] in ("ABP_MEAN", "ABP_SYS", "ABP_DIA")]
    operator = Rules(preset="default", name="rules", only=(HAND,))
    begin = time.perf_counter()
    said = drive(operator, operator.on_numerics, messages)
    ours = len(messages) / (time.perf_counter() - begin)
    hand = ByHand()
    begin = time.perf_counter()
    for message in messages:
        hand.take(message)
    plain = len(messages) / (time.perf_counter() - begin)
    spoken = [(m.time, m.payload.present) for m in said]
    # The hand-written rule has no timers: it notices what lasted only at the next value, at most a second later.
    same = len(spoken) == len(hand.said) and all(
        ours_present == present and 0 <= at - ours_at <= NANOSECONDS
        for (ours_at, ours_present), (at, present) in zip(spoken, hand.said, strict=True)
    )
    beside = compare(
        "one rule, a value, beside one by hand", ours, "messages/s", "the same rule written by hand", plain
    )
    told = f"{data}, {len(spoken)} begins and ends"
    together = Row("the rule and the hand-written one agree", float(same), "1 = yes", goal="= 1", met=same, data=told)
    return [_with(beside, data), together]


def _beside_reference(options: BenchOptions, data: str) -> Row:
    options.progress("the plain evaluator")
    preset = load("default")
    rule = next(rule for rule in preset.rules if rule.code == HAND)
    patterns = tuple(p for name in ("map", "sys", "dia") for p in preset.signals[name].patterns)
    some = [m for m in traffic(40 if options.quick else 90, options.seed) if rank(m.payload.channel, patterns) >= 0]
    begin = time.perf_counter()
    for node in (rule.when, rule.clear):
        Reference(preset.signals, some, ()).truths(node)
    plain = len(some) / (time.perf_counter() - begin)
    operator = Rules(preset="default", name="rules", only=(HAND,))
    begin = time.perf_counter()
    drive(operator, operator.on_numerics, some)
    ours = len(some) / (time.perf_counter() - begin)
    name, other = "one rule, a value, beside its plain meaning", "looking everything up every time"
    row = compare(name, ours, "messages/s", other, plain, at_least=10)
    return _with(row, f"simulated numerics, {len(some)} values; the baseline's time grows with the cube of the history")


TROUBLE = ("hypotension", "tachycardia", "bradycardia", "desaturation", "asystole", "sensor_off")
"""What is planted in the simulated cases that circulation and ventilation show."""
EPISODES = ((1, 430), (609, 2016))
"""True hypotension in or_case1, seconds from its start: its SOURCES.md."""


def _cases(options: BenchOptions) -> list[Row]:
    """Alerts outside planted or true trouble, beside those of single limits at once (``presets/baseline.yaml``)."""
    found = []
    for name in ("uneventful", "eventful") if options.quick else ("uneventful", "eventful", "long"):
        options.progress(f"the {name} case")
        reader = TheatreReader(SHIPPED / f"{name}.yaml")
        reader.tracks = [track for track in reader.tracks if track.stream.startswith(("numerics", "events"))]
        trouble = [(p.onset, p.end + 20 * NANOSECONDS) for p in reader.case.truth() if p.kind in TROUBLE]
        found += _counted(f"the {name} case", reader, trouble, f"simulated, {reader.case.duration:.0f} s", "")
    folder = shared_data()
    if folder is None:
        options.progress("the real recordings are not here: their rows are left out")
        return found
    reader = VitalReader(folder / "or_intellivue" / "or_case1.vital")
    zero = min(info.start for info in reader.streams())
    trouble = [(zero + begin * NANOSECONDS, zero + end * NANOSECONDS) for begin, end in EPISODES]
    split = "one patient: no interval; limits from the literature, the minute of clearing was chosen on this recording"
    return [*found, *_counted("the operation or_case1", reader, trouble, "real, 33 min", split)]


def _counted(what: str, reader: Any, trouble: Sequence[tuple[int, int]], data: str, split: str) -> list[Row]:
    ours, plain = _begun(reader, "theatre"), _begun(reader, "baseline")

    def outside(said: list[Message[Any]]) -> int:
        return sum(not any(begin <= m.payload.onset <= end for begin, end in trouble) for m in said)

    name, false = f"alerts outside trouble in {what}", outside(ours)
    told = f"{data}: {', '.join(m.payload.code for m in ours) or 'none'}"
    return [
        Row(f"alerts in {what}", len(ours), "alerts", "single limits at once", len(plain), data=told, split=split),
        Row(name, false, "alerts", "single limits at once", outside(plain), goal="= 0", met=not false, data=data,
            split=split),
    ]  # fmt: skip


def _begun(reader: Any, preset: str) -> list[Message[Any]]:
    hypotension, rules = Hypotension(name="hypotension"), Rules(preset=preset, name="rules")

    def handle(message: Message[Any]) -> list[Message[Any]]:
        said: list[Message[Any]] = []
        if isinstance(message.payload, Waveform | Numeric):
            port = hypotension.on_waveforms if isinstance(message.payload, Waveform) else hypotension.on_numerics
            for condition in each(port(message)):
                said += each(rules.on_observed(condition))
        if isinstance(message.payload, Numeric):
            said += each(rules.on_numerics(message))
        elif message.stream.startswith("events"):
            said += each(rules.on_events(message))
        return said

    return [m for m in drive(rules, handle, reader.messages()) if m.payload.present and not m.payload.suppressed_by]


def _with(row: Row, data: str) -> Row:
    return Row(row.name, row.value, row.unit, row.baseline_name, row.baseline, row.ratio, row.goal, row.met, data)
