"""The contract with subscribers, made from the structs themselves: JSON Schema, and an AsyncAPI 3 document.

Sources: JSON Schema 2020-12; AsyncAPI 3.0.0; CloudEvents 1.0 Kafka protocol binding, binary mode.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import inspect
from typing import Any

import msgspec

from pipeline import message
from pipeline.kafka.settings import KafkaSettings
from pipeline.message import Alert, Command, Outcome, Status

CONTRACT: dict[str, type] = {"alert": Alert, "command": Command, "outcome": Outcome, "status": Status}
"""What leaves or enters a box, by name."""

NOTICE = (
    "Vigil informs. It is never the only alarm. Anything whose origin is not `live` is recorded, simulated or composed "
    "data and must be shown as such."
)

HEADERS: dict[str, str] = {
    "ce_specversion": "1.0",
    "ce_id": "alert_id:revision; a repetition has the same, so readers drop what they have seen",
    "ce_source": "/or/ROOM/OPERATOR that decided",
    "ce_type": "org.vigil.alert.v1. and the phase: start, update, escalate, signal, end",
    "ce_subject": "the alert_id",
    "ce_time": "event time of the revision, RFC 3339 with nanoseconds",
    "ce_priority": "high, medium, low or info",
    "ce_kind": "physiological, technical or advisory",
    "ce_origin": "live, recorded, simulated or composed",
    "ce_journaled": "wall-clock nanoseconds at which it was handed to the box's disk",
    "content-type": "application/json",
}
"""The headers of an alert and what they say."""


@functools.cache
def _documented() -> dict[tuple[str, str], str]:
    """The docstring under each field of the payloads, by class and field."""
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(message)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, after in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
                and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            ):  # fmt: skip
                found[node.name, field.target.id] = inspect.cleandoc(str(after.value.value)).replace("\n", " ")
    return found


def components() -> dict[str, Any]:
    """The schemas of every struct in the contract, by class name, with the words of their docstrings."""
    _, schemas = msgspec.json.schema_components(CONTRACT.values(), ref_template="#/components/schemas/{name}")
    for name, schema in schemas.items():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
        for field, content in schema.get("properties", {}).items():
            if text := _documented().get((name, field)):
                content["description"] = text
    return schemas


def schema(name: str) -> dict[str, Any]:
    """JSON Schema of one part of the contract (a key of ``CONTRACT``). Raises ``KeyError``."""
    kind = CONTRACT[name]
    text = msgspec.json.encode(components()).decode().replace("#/components/schemas/", "#/$defs/")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Vigil {name}", "$comment": NOTICE,
        "$ref": f"#/$defs/{kind.__name__}", "$defs": msgspec.json.decode(text),
    }  # fmt: skip


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI document of a box's topics."""
    topics = KafkaSettings()
    channels = {
        "alerts": (
            topics.topic,
            Alert,
            "Every revision of every alert, in order per room, at least once, kept a year.",
        ),
        "status": (topics.status_topic, Status, "Each room's newest heartbeat (compacted). Its silence is an alarm."),
        "commands": (topics.commands_topic, Command, "What people want: acknowledge, pause, resume."),
        "outcomes": (topics.outcomes_topic, Outcome, "What became of each command, refused ones with the reason."),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Vigil", "version": importlib.metadata.version("vigil"), "description": NOTICE,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "box": {
                "host": "{bootstrap}", "protocol": "kafka-secure", "description": "The broker of the room's network.",
                "variables": {"bootstrap": {"default": "localhost:9092"}},
                "security": [{"$ref": "#/components/securitySchemes/scram"},
                             {"$ref": "#/components/securitySchemes/certificate"}],
            }
        },
        "channels": {name: _channel(name, *parts) for name, parts in channels.items()},
        "operations": {
            f"{'receive' if name == 'commands' else 'send'}{name.capitalize()}": {
                "action": "receive" if name == "commands" else "send",
                "channel": {"$ref": f"#/channels/{name}"},
            }
            for name in channels
        },
        "components": {
            "schemas": components(),
            "securitySchemes": {"scram": {"type": "scramSha512"}, "certificate": {"type": "X509"}},
        },
    }  # fmt: skip


def _channel(name: str, address: str, kind: type, description: str) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": kind.__name__, "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        "bindings": {"kafka": {"key": {"type": "string", "description": "The room."}, "bindingVersion": "0.5.0"}},
    }  # fmt: skip
    if kind is Alert:
        properties = {header: {"type": "string", "description": text} for header, text in HEADERS.items()}
        content["headers"] = {"type": "object", "properties": properties, "required": list(HEADERS)}
    return {"address": address, "description": description, "messages": {kind.__name__.lower(): content}}
