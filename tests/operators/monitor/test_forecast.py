"""The forecast operator: what it publishes, when it holds its tongue, and what its advisory says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.monitor.forecast import HypotensionForecast, model
from operators.monitor.forecast.features import GROUPS, NAMES
from operators.runtime import weights
from pipeline.errors import VigilError
from pipeline.message import AlertCondition, Message, Numeric, Waveform
from pipeline.operator import each
from tests.operators.monitor.test_hypotension import Line

S = 1_000_000_000


def made(path: Path, *, bias: float = -6.0, default: str = "true", **changes: Any) -> Path:
    """Weights by hand: the lower the present mean pressure, the likelier; nothing else matters."""
    import torch

    count, wide = len(NAMES), len(NAMES) + len(GROUPS)
    first = torch.zeros(model.HIDDEN, wide)
    first[0, 0] = -0.25
    tensors = {
        "mean": torch.zeros(count), "spread": torch.full((count,), 20.0), "w1": first,
        "b1": torch.zeros(model.HIDDEN), "w2": torch.zeros(3, model.HIDDEN), "b2": torch.full((3,), bias),
    }  # fmt: skip
    tensors["mean"][0] = 80.0
    tensors["w2"][:, 0] = 40.0
    tensors |= changes.pop("tensors", {})
    plain = {"features": "; ".join(NAMES), "threshold": "0.5", "default": default} | changes
    weights.save(path, tensors, command="by hand", seed=0, data="none", **plain)
    return path


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    return made(tmp_path / "w.safetensors")


def drive(operator: HypotensionForecast, messages: Iterable[Message[Any]]) -> list[Message[Any]]:
    said: list[Message[Any]] = []
    for message in messages:
        handler = operator.on_waveforms if isinstance(message.payload, Waveform) else operator.on_numerics
        said += each(handler(message))
    return said


def play(messages: Iterable[Message[Any]], **options: Any) -> list[Message[Any]]:
    operator = HypotensionForecast(name="forecast", **options)
    operator.setup()
    return drive(operator, messages) + list(each(operator.finish()))


def table(said: list[Message[Any]]) -> dict[str, dict[int, float]]:
    """Channel to second and value."""
    found: dict[str, dict[int, float]] = {}
    for message in said:
        if isinstance(message.payload, Numeric):
            found.setdefault(message.payload.channel, {})[round(message.time / S)] = message.payload.value
    return found


def falling(length: int = 900, start: float = 90.0, per_minute: float = 2.0) -> Line:
    line = Line(length)
    line.mean = start - per_minute * np.arange(length) / 60
    return line


def test_pressure_and_its_line_always_go_with_the_probabilities(by_hand: Path) -> None:
    found = table(play(falling().messages(), weights=by_hand))
    assert set(found) == {"Vigil/MAP"} | {
        f"Vigil/{name}_{minutes}MIN" for name in ("MAP_EXTRAPOLATED", "HYPOTENSION") for minutes in (5, 10, 15)
    }
    moments = set(found["Vigil/MAP"])
    assert all(set(values) == moments for values in found.values())
    assert sorted(moments)[1:4] == [20, 40, 60]
    at = 600
    assert found["Vigil/MAP"][at] == pytest.approx(70, abs=0.5)
    assert found["Vigil/MAP_EXTRAPOLATED_5MIN"][at] == pytest.approx(60, abs=0.5)
    assert found["Vigil/MAP_EXTRAPOLATED_15MIN"][at] == pytest.approx(40, abs=0.5)
    chances = [found[f"Vigil/HYPOTENSION_{minutes}MIN"][at] for minutes in (5, 10, 15)]
    assert 0 <= chances[0] <= chances[1] <= chances[2] <= 1


def test_what_cannot_be_said_is_not_a_number(by_hand: Path) -> None:
    line = falling(900).set(300, 340, mean=0.0, pulse=0.0)
    found = table(play(line.messages(), weights=by_hand))
    chance = found["Vigil/HYPOTENSION_15MIN"]
    assert all(math.isnan(chance[second]) for second in chance if second < 120), "too little is known"
    assert math.isfinite(chance[200])
    assert math.isnan(found["Vigil/MAP"][340]), "the transducer is open to air"
    assert all(math.isnan(value) for second, value in chance.items() if second > 790), "it is there already"
    assert math.isfinite(found["Vigil/MAP"][840])


def test_silence_is_followed_by_silence(by_hand: Path) -> None:
    messages = [m for m in falling(600).messages() if m.time < 300 * S or "MEAN" not in m.payload.channel]
    assert max(table(play(messages, weights=by_hand))["Vigil/MAP"]) < 300


def test_weights_that_were_not_better_leave_the_baselines_alone(tmp_path: Path) -> None:
    worse = made(tmp_path / "w.safetensors", default="false")
    assert not [name for name in table(play(falling(200).messages(), weights=worse)) if "HYPOTENSION" in name]
    assert "Vigil/HYPOTENSION_5MIN" in table(play(falling(200).messages(), weights=worse, publish="model"))
    assert "Vigil/HYPOTENSION_5MIN" not in table(play(falling(200).messages(), weights=worse, publish="baselines"))


def test_the_shipped_weights_are_not_the_default_and_say_why(caplog: pytest.LogCaptureFixture) -> None:
    found = table(play(falling(200).messages()))
    assert [name for name in found if "HYPOTENSION" in name] == []
    assert "not shown to be better on real ones" in caplog.text
    shipped = model.load()
    assert shipped.metadata["better_on_simulated"] == "true"
    assert shipped.metadata["default"] == "false"
    chance = table(play(falling(700).messages(), publish="model"))["Vigil/HYPOTENSION_15MIN"]
    assert chance[680] > chance[200], "falling pressure makes it likelier"


def advice(said: list[Message[Any]]) -> list[AlertCondition]:
    return [message.payload for message in said if isinstance(message.payload, AlertCondition)]


def test_the_advisory_is_off_unless_asked_for_and_says_what_the_baselines_say(by_hand: Path) -> None:
    assert advice(play(falling().messages(), weights=by_hand)) == []
    said = advice(play(falling().messages(), weights=by_hand, advise=True, publish="model"))
    assert [(c.code, c.present, c.priority, c.kind) for c in said] == [
        ("hypotension_expected", True, "low", "advisory"), ("hypotension_expected", False, "low", "advisory"),
    ]  # fmt: skip
    assert "Mean arterial pressure is" in said[0].text
    assert "a straight line through the last 5 min leads to" in said[0].text
    assert said[0].limit == 0.5
    assert said[0].value is not None
    assert said[0].value >= 0.5
    assert said[1].ended is not None
    assert 740 <= said[1].ended / S <= 790, "it ends when the episode begins; the episode has an alert of its own"
    for publish in ("baselines", "default"):
        with pytest.raises(pydantic.ValidationError, match="advise needs"):
            HypotensionForecast(advise=True, publish=publish)


def test_just_after_an_episode_nothing_is_expected(by_hand: Path) -> None:
    line = Line(900).set(0, 900, mean=67.0).set(300, 400, mean=55.0)
    said = advice(play(line.messages(), weights=by_hand, advise=True, publish="model", threshold=0.3))
    begun = [c.onset / S for c in said if c.present]
    assert begun[0] < 300
    assert begun[1] >= 520


def test_without_a_waveform_and_in_kilopascal_it_says_nearly_the_same(by_hand: Path) -> None:
    plain = falling(400).messages()
    other = [
        Message(m.stream, m.time, m.sequence, Numeric(m.payload.channel, "", "kPa", m.payload.value / 7.50062))
        for m in plain if isinstance(m.payload, Numeric)
    ]  # fmt: skip
    one, two = (table(play(messages, weights=by_hand)) for messages in (plain, other))
    assert one["Vigil/MAP"][300] == pytest.approx(two["Vigil/MAP"][300], abs=0.01)
    assert one["Vigil/HYPOTENSION_15MIN"][300] == pytest.approx(two["Vigil/HYPOTENSION_15MIN"][300], abs=0.01)


def test_every_reading_is_the_same_and_a_restart_goes_on(by_hand: Path) -> None:
    messages = falling(800).messages()
    whole = play(messages, weights=by_hand, advise=True, publish="model")
    again = play(messages, weights=by_hand, advise=True, publish="model")
    assert [m.order for m in whole] == [m.order for m in again]
    assert str([m.payload for m in whole]) == str([m.payload for m in again])
    first, second = (
        HypotensionForecast(name="forecast", weights=by_hand, advise=True, publish="model") for _ in range(2)
    )
    first.setup()
    second.setup()
    head = [m for m in messages if m.time < 500 * S]
    said = drive(first, head)
    second.load_state(json.loads(json.dumps(first.state())))
    said += drive(second, messages[len(head) :])
    said += each(second.finish())
    assert [str(m.payload) for m in said] == [str(m.payload) for m in whole]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["M/ABP_MEAN", "M/ABP_SYS", "M/ABP_DIA", "M/HR", "M/ABP", "M/PLETH"]),
            st.integers(0, 2**62), st.floats(width=32) | st.floats(40, 120), st.floats() | st.just(125.0),
            st.lists(st.floats(width=32), max_size=40),
        ),
        max_size=30,
    )
)  # fmt: skip
def test_hostile_input_is_survived(given_messages: list[tuple[str, int, float, float, list[float]]]) -> None:
    operator = HypotensionForecast(publish="baselines")
    operator.setup()
    messages: list[Message[Any]] = []
    for i, (channel, time, value, rate, values) in enumerate(given_messages):
        wave = channel in ("M/ABP", "M/PLETH")
        unit = "/min" if channel == "M/HR" else "mm[Hg]"
        payload: Any = Waveform(channel, "", unit, rate, np.array(values, np.float32)) if wave else Numeric(
            channel, "", unit, value
        )  # fmt: skip
        messages.append(Message(f"m/{channel}", time, i, payload))
    with np.errstate(all="ignore"):
        for message in drive(operator, messages):
            assert not math.isinf(message.payload.value)
    json.dumps(operator.state())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": "other"}, "made for other features"),
        ({"tensors": {"b2": None}}, "does not fit the forecast: b2"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    import torch

    if "tensors" in changes:
        changes = {"tensors": {"b2": torch.zeros(4)}}
    path = made(tmp_path / "w.safetensors", **changes)
    with pytest.raises(VigilError, match=said):
        HypotensionForecast(weights=path).setup()
    broken = made(tmp_path / "n.safetensors", tensors={"b2": torch.full((3,), math.nan)})
    with pytest.raises(VigilError, match="no numbers"):
        HypotensionForecast(weights=broken).setup()


def test_the_rule_of_an_advisory_names_the_weights(tmp_path: Path) -> None:
    rules = []
    for bias in (-9.0, -8.0):
        operator = HypotensionForecast(weights=made(tmp_path / "w.safetensors", bias=bias))
        operator.setup()
        rules.append(operator.rule())
    assert rules[0].name == "hypotension_forecast"
    assert rules[0].digest != rules[1].digest
