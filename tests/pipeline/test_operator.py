from __future__ import annotations

from typing import Any

import pydantic
import pytest

from operators.basic import PassThrough
from pipeline.message import Message, Numeric, VideoFrame, Waveform
from pipeline.operator import Config, Input, Operator, Output, Outputs
from pipeline.testing import run_operator


class Both(Operator):
    """Two handlers, one output of two types, an optional input."""

    class Config(Config):
        gain: float = 2.0

    numbers: Input[Numeric]
    video: Input[VideoFrame] | None
    output: Output[Numeric | Waveform]
    not_a_port: int

    def on_numbers(self, message: Message[Numeric]) -> Outputs:
        yield self.output.emit(message.payload, message, channel="a")
        yield self.output.emit(message.payload, message, channel="a")
        yield self.output.emit(message.payload, message)

    def on_video(self, message: Message[VideoFrame]) -> Outputs:
        return None


def number(value: float, time: int = 0) -> Message[Numeric]:
    return Message("s.output", time, 0, Numeric("n", "", "1", value), "recorded")


def test_ports_come_from_annotations() -> None:
    assert list(Both.inputs) == ["numbers", "video"]
    assert (Both.inputs["numbers"].required, Both.inputs["video"].required) == (True, False)
    assert Both.outputs["output"].types == (Numeric, Waveform)
    assert Both.handlers() == {"numbers": "on_numbers", "video": "on_video"}
    assert PassThrough.handlers() == {"input": "process"}


def test_an_annotation_that_cannot_be_resolved_is_named() -> None:
    with pytest.raises(TypeError, match=r"Wrong.input: 'Input\[Nowhere\]' cannot be resolved"):
        type("Wrong", (Operator,), {"__annotations__": {"input": "Input[Nowhere]"}, "__module__": __name__})


def test_options_are_checked_frozen_and_part_of_the_rule() -> None:
    with pytest.raises(pydantic.ValidationError):
        Both(gian=3)
    one, same, other = Both(gain=1), Both(gain=1.0), Both(gain=3)
    assert one.rule() == same.rule() != other.rule()
    assert one.rule().name == "both"


def test_outputs_count_each_stream_and_keep_origin_time_and_trace() -> None:
    answers = run_operator(Both(name="b"), [number(1.0, 5)], port="numbers")
    assert [(m.stream, m.sequence) for m in answers] == [("b.output/a", 0), ("b.output/a", 1), ("b.output", 0)]
    assert {(m.time, m.origin) for m in answers} == {(5, "recorded")}
    assert answers[0].trace is not answers[1].trace


def test_a_pass_through_is_ten_lines() -> None:
    import inspect

    assert len(inspect.getsource(PassThrough).strip().splitlines()) <= 10
    message: Message[Any] = number(1.0)
    assert run_operator(PassThrough(), [message]) == [message]
