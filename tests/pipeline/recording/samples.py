"""Payloads, frames and comparisons that the tests of recordings share."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st

from pipeline.message import (
    NANOSECONDS,
    Abstain,
    AlertCondition,
    Caption,
    Detection,
    Event,
    Evidence,
    Mask,
    Message,
    Numeric,
    Rule,
    ScenePatch,
    VideoFrame,
    Waveform,
)

T0 = 1_700_000_000 * NANOSECONDS

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
floats = st.floats()
times = st.integers(0, 2**62)
arrays = st.integers(0, 40).map(lambda count: np.arange(count, dtype=np.float32) / 3)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | floats | words | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(words | st.just("$float"), inner, max_size=3)
        | st.dictionaries(st.integers(), inner, max_size=2)
    ),
    max_leaves=8,
)
objects = st.dictionaries(words | st.just("$array"), plain | arrays, max_size=3)
samples = st.lists(st.floats(width=32), max_size=30).map(lambda values: np.array(values, np.float32))
evidence = st.builds(
    Evidence, words, times, times, words, st.lists(floats, max_size=3).map(tuple), words, st.none() | times, words
)
payloads = st.one_of(
    st.builds(Numeric, words, words, words, floats),
    st.builds(Waveform, words, words, words, floats, samples),
    st.builds(Waveform, words, words, words, floats, samples.map(lambda values: values.astype(np.float64))),
    st.builds(Event, words, words, objects),
    st.builds(Caption, words, times, times, objects),
    st.builds(
        Detection, words, floats, st.none() | st.tuples(*[floats] * 4), st.none() | times, objects
    ),
    st.builds(
        AlertCondition, words, st.booleans(), st.sampled_from(["high", "medium", "low", "info"]),
        st.sampled_from(["physiological", "technical", "advisory"]), words, times, words,
        st.builds(Rule, words, words, words), words, st.none() | times, st.none() | floats, st.none() | floats, words,
        st.lists(evidence, max_size=2).map(tuple), words,
    ),
    st.builds(Abstain, words, words, words),
    st.builds(
        Mask, st.just(np.eye(5, 7, dtype=np.uint8)), st.lists(words, max_size=3).map(tuple),
        st.none() | st.just(np.full((5, 7), np.nan, np.float32)),
    ),
    st.builds(
        ScenePatch, st.just(np.ones((4, 3), np.float32)), st.just(np.zeros((4, 3), np.uint8)),
        st.just(np.eye(4)[::-1]), st.sampled_from(["mm", "unscaled"]),
    ),
)  # fmt: skip


def same(one: Any, other: Any) -> bool:  # noqa: PLR0911 - one line a type
    """Equal, of the same types all through, NaN being equal to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, msgspec.Struct):
        return all(same(getattr(one, name), getattr(other, name)) for name in one.__struct_fields__)
    if isinstance(one, np.ndarray):
        equal = one.tobytes() == other.tobytes() or np.array_equal(one, other, equal_nan=True)
        return one.dtype == other.dtype and one.shape == other.shape and equal
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


def frame(form: Any, width: int, height: int, number: int = 0) -> VideoFrame:
    """A smooth picture that moves with ``number``."""
    rows, columns = np.mgrid[0:height, 0:width]
    luma = ((columns * 3 + rows * 2 + number * 2) % 200 + 20).astype(np.uint8)
    half = (height + 1) // 2, (width + 1) // 2
    blue, red = np.full(half, 100, np.uint8), np.full(half, 150, np.uint8)
    planes = {
        "yuv420p": (luma, blue, red), "nv12": (luma, np.stack((blue, red), -1)), "gray": (luma,),
        "rgb24": (np.stack((luma, luma // 2, 255 - luma), -1),),
    }  # fmt: skip
    return VideoFrame(width, height, form, planes[form])


def case(seconds: float = 3.0, size: tuple[int, int] = (32, 24)) -> list[Message[Any]]:
    """A little case with video, a waveform, a numeric with gaps, and a condition, in the total order."""
    made: list[Message[Any]] = []
    for number in range(int(seconds * 10)):
        time = T0 + number * NANOSECONDS // 10
        picture = frame("yuv420p", *size, number)
        made.append(Message("camera.video", time, number, picture, "recorded"))
        values = np.sin(np.arange(10, dtype=np.float32) + number)
        wave = Waveform("ABP", "MDC_PRESS_BLD_ART_ABP", "mm[Hg]", 100.0, values)
        made.append(Message("monitor.waveforms/ABP", time, number, wave, "recorded"))
        if number % 5 == 0:
            value = math.nan if number % 10 else float(number)
            made.append(
                Message("monitor.numerics/HR", time, number // 5, Numeric("HR", "", "/min", value), "simulated")
            )
    rule = Rule("hypotension", "1", "abc")
    condition = AlertCondition("hypotension", True, "high", "physiological", "MAP 50", T0, "hypotension", rule)
    made.append(Message("hypotension.conditions", T0 + NANOSECONDS, 0, condition, "recorded"))
    return sorted(made, key=lambda message: message.order)
