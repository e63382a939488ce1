"""The contract with subscribers says what is really sent."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import commands
from pipeline.alerts.schema import CONTRACT, HEADERS, asyncapi, schema
from pipeline.kafka import KafkaSettings, headers
from pipeline.message import Alert, AlertCondition, Command, Evidence, Outcome, Rule, Signal

TEXT = st.text(max_size=20)
TIME = st.integers(0, 2**62)
ALERTS = st.builds(
    Alert, alert_id=TEXT, revision=st.integers(1, 1000), phase=st.sampled_from(["start", "update", "end"]), time=TIME,
    detected=TIME, room=TEXT, case=TEXT, topology=TEXT, origin=st.sampled_from(["live", "simulated"]),
    condition=st.builds(
        AlertCondition, code=TEXT, present=st.booleans(), priority=st.sampled_from(["high", "low"]),
        kind=st.sampled_from(["physiological", "technical"]), text=TEXT, onset=TIME, source=TEXT,
        rule=st.builds(Rule, TEXT, TEXT, TEXT), value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        evidence=st.lists(st.builds(Evidence, TEXT, TIME, TIME), max_size=2).map(tuple),
    ),
    signal=st.builds(Signal, st.sampled_from(["on", "latched", "acknowledged", "off"]), TIME, until=st.none() | TIME),
)  # fmt: skip


def validator(name: str) -> Any:
    made = schema(name)
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@given(ALERTS)
def test_every_alert_fits_its_schema(alert: Alert) -> None:
    VALIDATOR.validate(json.loads(msgspec.json.encode(alert)))


VALIDATOR = validator("alert")


@pytest.mark.parametrize(
    "change", [{"alert_id": None}, {"phase": "begin"}, {"revision": "1"}, {"condition": {}}, {"time": 1.5}]
)
def test_what_is_no_alert_does_not_fit(change: dict[str, Any]) -> None:
    rule = Rule("r", "1", "0")
    condition = AlertCondition("c", True, "high", "technical", "t", 0, "s", rule)
    alert = Alert("a", 1, "start", 0, 0, condition, Signal("on", 0), "7", "c", "t", "live")
    plain = json.loads(msgspec.json.encode(alert))
    VALIDATOR.validate(plain)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(plain | change)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({name: value for name, value in plain.items() if name != "room"})


def test_commands_and_their_outcomes_fit() -> None:
    command = commands.issue("pause_audio", "7", "nurse", seconds=30)
    validator("command").validate(json.loads(msgspec.json.encode(command)))
    validator("outcome").validate(json.loads(msgspec.json.encode(Outcome(command, True, 5, alerts=("a",)))))
    with pytest.raises(jsonschema.ValidationError):
        validator("command").validate(json.loads(msgspec.json.encode(command)) | {"patient": "x"})


def test_fields_are_explained() -> None:
    fields = schema("command")["$defs"][Command.__name__]["properties"]
    assert fields["by"]["description"] == "Role or station, never a patient."
    assert "units" not in schema("alert")
    assert "never the only alarm" in schema("status")["$comment"]


def test_the_document_names_the_topics_the_headers_and_nothing_that_is_not_there() -> None:
    document = asyncapi()
    settings = KafkaSettings()
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {settings.topic, settings.status_topic, settings.commands_topic, settings.outcomes_topic}
    condition = AlertCondition("c", True, "high", "technical", "t", 0, "s", Rule("r", "1", "0"))
    alert = Alert("a", 1, "start", 0, 0, condition, Signal("on", 0), "7", "c", "t", "live")
    assert [name for name, _ in headers(alert, 0)] == list(HEADERS)
    required = {"asyncapi", "info", "channels", "operations", "components", "servers", "defaultContentType"}
    assert set(document) == required

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            found = [value["$ref"]] if "$ref" in value else []
            return found + [item for part in value.values() for item in references(part)]
        return [item for part in value for item in references(part)] if isinstance(value, list) else []

    for reference in references(document):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
    assert set(CONTRACT) == {"alert", "command", "outcome", "status"}
