"""Payloads to JSON and back, and the schemas that go with them."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import MessageError, RecordingError
from pipeline.message import PAYLOADS, Event, Mask, Numeric, Waveform
from pipeline.recording import register
from pipeline.recording.payloads import decode, encode, schema
from tests.pipeline.recording import samples


@given(samples.payloads)
@settings(max_examples=300, deadline=None)
def test_every_payload_comes_back_equal_and_fits_its_schema(payload: Any) -> None:
    data = encode(payload)
    assert samples.same(decode(type(payload), data), payload)
    jsonschema.validate(json.loads(data), json.loads(schema(type(payload))))


def test_a_schema_is_an_object_at_its_top_and_can_refuse() -> None:
    for name in ("Numeric", "Waveform", "AlertCondition", "Mask", "Event"):
        assert json.loads(schema(PAYLOADS[name]))["type"] == "object"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"channel": "a", "code": "", "unit": "", "value": "high"}, json.loads(schema(Numeric)))


def test_samples_are_plain_numbers_and_null() -> None:
    data = encode(Waveform("a", "", "mV", 100.0, np.array([1.5, np.nan], np.float32)))
    assert json.loads(data)["values"] == [1.5, None]


@given(
    st.sampled_from([Numeric, Waveform, Mask, Event]), st.binary(max_size=60) | samples.plain.map(repr).map(str.encode)
)
@settings(max_examples=200, deadline=None)
def test_other_bytes_are_refused(kind: type, data: bytes) -> None:
    try:
        decode(kind, data)
    except RecordingError as error:
        assert kind.__name__ in str(error)


@pytest.mark.parametrize(
    "labels",
    [
        {"dtype": "|O", "shape": [1], "data": "AAAAAAAAAAA="},
        {"dtype": "|u1", "shape": [99999999999], "data": "AA=="},
        {"dtype": "|u1", "shape": [-1], "data": "AA=="},
        {"dtype": "|u1", "shape": [1], "data": "*"},
        {"dtype": "|u1"},
    ],
)
def test_hostile_arrays_are_refused(labels: dict[str, Any]) -> None:
    data = json.dumps({"labels": {"$array": labels}, "classes": []}).encode()
    with pytest.raises(RecordingError):
        decode(Mask, data)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(RecordingError):
        decode(Event, b'{"kind":"a","data":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}")


def test_what_has_no_form_is_refused_by_name() -> None:
    with pytest.raises(MessageError, match="Event"):
        encode(Event("a", "", {"x": object()}))
    with pytest.raises(MessageError, match="dict"):
        encode({"a": 1})


def test_further_payloads_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.recording.payloads.PAYLOADS", dict(PAYLOADS))

    class Announcement(msgspec.Struct, frozen=True):
        text: str
        parts: tuple[float, ...] = ()

    first = Announcement
    assert register(first) is first
    made = Announcement("a", (1.0, float("nan")))
    assert samples.same(decode(Announcement, encode(made)), made)

    class Announcement(msgspec.Struct):  # type: ignore[no-redef]
        other: int

    with pytest.raises(ValueError, match="another payload"):
        register(Announcement)
