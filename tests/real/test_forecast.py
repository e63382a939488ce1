"""The forecast on the one real operation: it publishes what it must. One patient proves nothing about its worth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from operators.monitor.forecast import HypotensionForecast
from operators.monitor.vital import VitalReader
from pipeline.message import AlertCondition, Message, Numeric, Waveform
from pipeline.operator import each
from pipeline.replay import Replay
from pipeline.topology import loads

pytestmark = pytest.mark.real


def play(case: VitalReader, **options: Any) -> tuple[dict[str, dict[int, float]], list[AlertCondition]]:
    """Channel to second and value, and what was said."""
    zero = min(info.start for info in case.streams())
    operator = HypotensionForecast(**options)
    operator.setup()
    said: list[Message[Any]] = []
    for message in case.messages():
        if isinstance(message.payload, Waveform):
            said += each(operator.on_waveforms(message))
        elif isinstance(message.payload, Numeric):
            said += each(operator.on_numerics(message))
    said += each(operator.finish())
    shown: dict[str, dict[int, float]] = {}
    for message in said:
        if isinstance(message.payload, Numeric):
            shown.setdefault(message.payload.channel, {})[round((message.time - zero) / 1e9)] = message.payload.value
    return shown, [message.payload for message in said if isinstance(message.payload, AlertCondition)]


def test_around_the_real_episodes_the_baselines_are_always_there(shared_data: Path) -> None:
    shown, said = play(VitalReader(shared_data / "or_intellivue" / "or_case1.vital"), publish="model")
    assert said == []
    present = shown["Vigil/MAP"]
    assert all(set(values) == set(present) for values in shown.values())
    assert 90 <= len(present) <= 100, "every 20 s for the 1974 s that the monitor is there"
    # From the first episode's end at 430 s to the second's onset at 609 s pressure stands just above the limit.
    between = [second for second in present if 440 < second < 600]
    assert all(63.5 <= present[second] <= 68 for second in between)
    chance = shown["Vigil/HYPOTENSION_15MIN"]
    assert [second for second in between if math.isfinite(chance[second])]
    assert all(math.isnan(chance[second]) for second in present if present[second] < 65), "it is there already"
    # In the episodes, where nobody needs a forecast, pressure itself is published all the same.
    assert sum(math.isfinite(present[second]) for second in present if 700 < second < 1900) >= 55


def test_two_plays_say_the_same(shared_data: Path) -> None:
    case = VitalReader(shared_data / "or_intellivue" / "or_case1.vital")
    one, two = (play(case, publish="model", advise=True) for _ in range(2))
    assert repr(one) == repr(two)
    assert all(condition.kind == "advisory" and condition.priority == "low" for condition in one[1])


TOPOLOGY = """
operators:
  monitor: {use: monitor.vital, with: {path: "${CASE}"}}
  forecast:
    use: monitor.forecast
    from: {numerics: monitor.numerics, waveforms: monitor.waveforms}
    with: {publish: model, advise: true}
  alerts: {use: alerts, from: forecast.conditions}
"""


async def test_in_the_engine_it_says_the_same_and_its_advice_is_an_alert(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "or_intellivue" / "or_case1.vital"
    shown, said = play(VitalReader(path), publish="model", advise=True)
    replay = Replay(VitalReader(path), loads(TOPOLOGY, values={"CASE": str(path)}), data=tmp_path)
    given: list[Message[Any]] = []
    alerts: list[Message[Any]] = []
    replay.engine.listen("forecast", "forecasts", given.extend)
    replay.engine.listen("alerts", "alerts", alerts.extend)
    await replay.run()
    assert len(given) == sum(len(values) for values in shown.values())
    assert {m.stream for m in given} == {f"forecast.forecasts/{channel}" for channel in shown}
    told = [m.payload.condition for m in alerts if m.payload.phase == "start"]
    assert [(c.code, c.onset) for c in told] == [(c.code, c.onset) for c in said if c.present]
