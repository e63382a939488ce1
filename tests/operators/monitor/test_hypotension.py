"""Hypotension: true episodes are found as the trivial rule finds them, artefacts of the line are not.

The arterial line here is simulated: beats of a plausible shape, and the artefacts that people make on real lines.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from operators.monitor.hypotension import Hypotension
from operators.monitor.limits import Limits
from pipeline.message import AlertCondition, Message, Numeric, Waveform
from pipeline.operator import each

S = 1_000_000_000
RATE = 125


def beat(seconds: np.ndarray, mean: float, pulse: float, rate: float = 70.0) -> np.ndarray:
    phase = (seconds * rate / 60) % 1
    shape = np.exp(-(((phase - 0.2) / 0.09) ** 2)) + 0.35 * np.exp(-(((phase - 0.5) / 0.08) ** 2))
    return mean + pulse * (shape - shape.mean())


class Line:
    """A simulated hour: ``set`` changes what the line shows from a second on."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.mean, self.pulse = np.full(length, 80.0), np.full(length, 45.0)
        self.pleth = np.full(length, 40.0)
        self.extra: dict[int, float] = {}

    def set(
        self, start: int, end: int, *, mean: float | None = None, pulse: float | None = None, pleth: float | None = None
    ) -> Line:
        for array, value in ((self.mean, mean), (self.pulse, pulse), (self.pleth, pleth)):
            if value is not None:
                array[start:end] = value
        return self

    def messages(self) -> list[Message[Any]]:
        found: list[Message[Any]] = []
        time = np.arange(RATE) / RATE
        for second in range(self.length):
            mean, pulse = self.mean[second], self.pulse[second]
            waves = {"M/ABP": beat(second + time, mean, pulse), "M/PLETH": beat(second + time, 50, self.pleth[second])}
            if second in self.extra:
                waves["M/ABP"][60:] += self.extra[second]
            for channel, values in waves.items():
                for part in range(5):
                    piece = values[part * 25 : part * 25 + 25].astype(np.float32)
                    unit = "mm[Hg]" if channel == "M/ABP" else "1"
                    found.append(Message(f"monitor.waveforms/{channel}", second * S + part * S // 5, second * 5 + part,
                                         Waveform(channel, "", unit, RATE, piece), "simulated"))  # fmt: skip
            for name, value in (("SYS", mean + 0.7 * pulse), ("DIA", mean - 0.3 * pulse), ("MEAN", mean)):
                channel = f"M/ABP_{name}"
                found.append(Message(f"monitor.numerics/{channel}", second * S + S // 2, second,
                                     Numeric(channel, "", "mm[Hg]", float(value)), "simulated"))  # fmt: skip
        return sorted(found, key=lambda message: message.order)


def drive(operator: Hypotension, messages: list[Message[Any]]) -> list[AlertCondition]:
    said = []
    for message in messages:
        handler = operator.on_waveforms if isinstance(message.payload, Waveform) else operator.on_numerics
        said += [answer.payload for answer in each(handler(message))]
    return said


def run(line: Line, **options: Any) -> list[AlertCondition]:
    operator = Hypotension(**options)
    said = drive(operator, line.messages())
    return said + [answer.payload for answer in each(operator.finish())]


def told(said: list[AlertCondition]) -> list[tuple[str, bool, int, int]]:
    """What people are told about the blood pressure: code, present, onset and end in seconds."""
    return [
        (c.code, c.present, c.onset // S, (c.ended or 0) // S)
        for c in said if c.kind == "physiological" and not c.suppressed_by
    ]  # fmt: skip


def baseline(line: Line) -> list[AlertCondition]:
    limit = {"name": "map", "channels": ["*/ABP_MEAN"], "low": 65, "delay_seconds": 60, "unit": "mm[Hg]"}
    operator, said = Limits(limits=(limit,)), []
    for message in line.messages():
        if isinstance(message.payload, Numeric):
            while operator.wake_at is not None and operator.wake_at < message.time:
                due, operator.wake_at = operator.wake_at, None
                said += [answer.payload for answer in each(operator.on_time(due))]
            said += [answer.payload for answer in each(operator.process(message))]
    return said


def test_an_episode_begins_and_ends() -> None:
    said = run(Line(300).set(100, 200, mean=58))
    assert told(said) == [("hypotension", True, 100, 0), ("hypotension", False, 100, 200)]
    assert (said[0].priority, said[0].limit, said[0].unit) == ("medium", 65, "mm[Hg]")
    assert said[0].evidence[0].stream == "monitor.numerics/M/ABP_MEAN"
    assert [c.onset // S for c in baseline(Line(300).set(100, 200, mean=58))] == [100, 100]


def test_less_than_a_minute_is_no_episode() -> None:
    assert run(Line(300).set(100, 158, mean=58)) == []


def test_a_return_of_seconds_does_not_end_an_episode() -> None:
    said = run(Line(400).set(100, 200, mean=58).set(208, 300, mean=60))
    assert told(said) == [("hypotension", True, 100, 0), ("hypotension", False, 100, 300)]


def test_severe_hypotension_comes_sooner_and_high() -> None:
    said = run(Line(300).set(100, 160, mean=44, pulse=30))
    assert [(c.present, c.priority) for c in said] == [(True, "high"), (False, "high")]
    said = run(Line(400).set(100, 300, mean=60).set(200, 300, mean=45))
    assert [(c.present, c.priority) for c in said] == [(True, "medium"), (True, "high"), (False, "high")]
    assert len({c.onset for c in said}) == 1


@pytest.mark.parametrize(
    ("reason", "mean", "pulse"),
    [("open_to_air", 0.0, 0.0), ("no_pulse", 40.0, 0.5), ("damped", 55.0, 11.0)],
)
def test_artefacts_are_logged_and_told_as_technical(reason: str, mean: float, pulse: float) -> None:
    line = Line(400).set(150, 250, mean=mean, pulse=pulse)
    assert [c.present for c in baseline(line)] == [True, False]  # the trivial rule is taken in
    said = run(line)
    assert told(said) == []
    assert [(c.code, c.present, c.suppressed_by) for c in said] == [
        ("arterial_line_unreliable", True, ""),
        ("hypotension", True, reason),
        ("arterial_line_unreliable", False, ""),
        ("hypotension", False, reason),
    ]
    assert said[0].onset // S in range(148, 153)


def test_a_flush_during_hypotension_does_not_end_it() -> None:
    said = run(Line(400).set(100, 300, mean=58).set(200, 210, mean=290, pulse=2))
    assert told(said) == [("hypotension", True, 100, 0), ("hypotension", False, 100, 300)]


def test_a_knock_on_the_line_is_nothing() -> None:
    line = Line(300)
    line.extra[150] = 60.0
    assert run(line) == []


def test_cardiac_arrest_is_not_taken_for_an_artefact() -> None:
    said = run(Line(300).set(150, 300, mean=12, pulse=0.5, pleth=0.2))
    assert told(said)[0] == ("hypotension", True, 150, 0)
    assert said[0].priority == "high"


def test_a_narrow_pulse_without_a_witness_counts_as_true() -> None:
    line = Line(300).set(150, 300, mean=52, pulse=10)
    messages = [m for m in line.messages() if m.payload.channel != "M/PLETH"]
    assert drive(Hypotension(), messages)[0].code == "hypotension"


def test_silence_does_not_end_an_episode() -> None:
    messages = [m for m in Line(300).set(100, 300, mean=58).messages() if not 200 <= m.time / S < 280]
    assert [(c.code, c.present) for c in drive(Hypotension(), messages)] == [("hypotension", True)]


def test_another_device_steps_in_when_the_first_is_silent() -> None:
    messages = [m for m in Line(100).messages() if m.payload.channel.endswith("MEAN")]
    other = [
        Message("monitor.numerics/E/ART_MBP", i * S, i, Numeric("E/ART_MBP", "", "mm[Hg]", 55.0)) for i in range(300)
    ]
    said = drive(Hypotension(), sorted(messages + other, key=lambda m: m.order))
    assert [c.onset // S for c in said] == [110]


def test_every_reading_is_the_same_and_state_goes_on() -> None:
    messages = Line(400).set(100, 200, mean=58).set(250, 330, mean=0, pulse=0).messages()
    whole = drive(Hypotension(name="h"), messages)
    assert whole == drive(Hypotension(name="h"), messages)
    # Restarted between two windows (a window that was open is lost with the process).
    for at in (130, 180, 300):
        first, second = Hypotension(name="h"), Hypotension(name="h")
        head = [m for m in messages if m.time < at * S]
        said = drive(first, head)
        second.load_state(json.loads(json.dumps(first.state())))
        said += drive(second, messages[len(head) :])
        assert [(c.code, c.present, c.onset, c.suppressed_by) for c in said] == [
            (c.code, c.present, c.onset, c.suppressed_by) for c in whole
        ]
