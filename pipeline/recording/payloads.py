"""Payloads as JSON and back, without loss, with the JSON Schema that a recording carries for them.

JSON has no NaN, no arrays of bytes and no tuples. What it lacks is written as an object with one key that begins
with ``$``: ``{"$float": "NaN"}``, ``{"$array": {"dtype", "shape", "data"}}`` (little endian, base64), ``{"$bytes"}``,
``{"$int"}`` beyond 64 bits, and ``{"$tuple"}``, ``{"$dict"}`` and ``{"$struct"}`` where the type of the field does not
say so already. A waveform's samples are plain numbers, null where missing, so that any tool can draw them.
"""

from __future__ import annotations

import base64
import enum
import functools
import math
from typing import Any

import msgspec
import numpy as np

from pipeline.errors import MessageError, RecordingError
from pipeline.message import PAYLOADS, Array, Numeric, Waveform

DTYPES = frozenset(("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"))
"""Types of array elements that are written and read."""
FAULTS = (msgspec.MsgspecError, ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""What decoding raises for bytes that make no sense."""

_encoder = msgspec.json.Encoder()
_numeric = msgspec.json.Decoder(Numeric)


class _Samples(msgspec.Struct):
    channel: str
    code: str
    unit: str
    rate: float
    values: list[float | None]


_samples = msgspec.json.Decoder(_Samples)


def register(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Make a further payload type readable from recordings, by its class name. Usable as a decorator.

    Raises:
        ValueError: where another type has that name.
    """
    known = PAYLOADS.setdefault(kind.__name__, kind)
    if known is not kind:
        raise ValueError(f"there is another payload named {kind.__name__}")
    return kind


# ------------------------------------------------------------------------------------------- writing


def encode(payload: Any) -> bytes:
    """A payload as JSON. Raises ``MessageError`` for what has no JSON form here."""
    kind = type(payload)
    try:
        if kind is Numeric and math.isfinite(payload.value):
            return _encoder.encode(payload)
        if kind is Waveform and _drawable(payload.values):
            plain = {"channel": payload.channel, "code": payload.code, "unit": payload.unit}
            return _encoder.encode({**plain, "rate": _plain(payload.rate), "values": _numbers(payload.values)})
        if not isinstance(payload, msgspec.Struct):
            raise TypeError("it is not a msgspec.Struct")
        return _encoder.encode(_plain_struct(payload))
    except FAULTS as error:
        raise MessageError(f"a {kind.__name__} that cannot be recorded: {error}") from None


def _drawable(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.dtype == np.float32 and values.ndim == 1


def _numbers(values: Array) -> list[Any]:
    numbers: list[Any] = values.tolist()
    if np.isfinite(values).all():
        return numbers
    return [None if math.isnan(number) else _plain(number) for number in numbers]


@functools.cache
def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, str, bool], ...]:
    """Each field's name, its name in JSON, and whether its type says nothing of what is in it."""
    return tuple((field.name, field.encode_name, field.type is Any) for field in msgspec.structs.fields(kind))


def _plain_struct(value: msgspec.Struct) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    config = value.__struct_config__
    if config.array_like:
        raise TypeError("array_like structs are not recorded")
    if config.tag_field:
        plain[config.tag_field] = config.tag
    for name, key, untyped in _fields(type(value)):
        plain[key] = _plain(getattr(value, name), untyped)
    return plain


def _plain(value: Any, untyped: bool = False) -> Any:  # noqa: PLR0911 - one line a type
    if value is None or isinstance(value, (bool, str)):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, (np.generic, enum.Enum)):
        return _plain(value.item() if isinstance(value, np.generic) else value.value, untyped)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": _name(value)}
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else {"$int": str(value)}
    if isinstance(value, np.ndarray):
        return {"$array": _plain_array(value)}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, msgspec.Struct):
        plain = _plain_struct(value)
        if untyped and PAYLOADS.get(type(value).__name__) is not type(value):
            raise TypeError(f"{type(value).__name__} is not a registered payload")
        return {"$struct": {"type": type(value).__name__, "value": plain}} if untyped else plain
    if isinstance(value, dict):
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: _plain(item, True) for key, item in value.items()}
        return {"$dict": [[_plain(key, True), _plain(item, True)] for key, item in value.items()]}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [_plain(item, untyped) for item in value]
        return {"$tuple": items} if untyped and isinstance(value, tuple) else items
    return msgspec.to_builtins(value)


def _name(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _plain_array(value: Array) -> dict[str, Any]:
    little = value.astype(value.dtype.newbyteorder("<"), copy=False)
    if little.dtype.str not in DTYPES:
        raise TypeError(f"an array of {value.dtype} is not recorded")
    data = base64.b64encode(np.ascontiguousarray(little).tobytes()).decode()
    return {"dtype": little.dtype.str, "shape": list(value.shape), "data": data}


# ------------------------------------------------------------------------------------------- reading


def decode(kind: type, data: bytes) -> Any:
    """The payload of type ``kind`` that ``encode`` wrote. Raises ``RecordingError`` for anything else."""
    try:
        if kind is Numeric:
            try:
                return _numeric.decode(data)
            except msgspec.ValidationError:
                pass  # NaN, or not a Numeric
        elif kind is Waveform:
            try:
                found = _samples.decode(data)
                return Waveform(found.channel, found.code, found.unit, found.rate, _floats(found.values))
            except msgspec.ValidationError:
                pass
        raw = _untag(msgspec.json.decode(data))
        if kind is Waveform and isinstance(raw, dict) and isinstance(raw.get("values"), list):
            raw["values"] = _floats(raw["values"])
        return msgspec.convert(raw, kind, dec_hook=_hook)
    except FAULTS as error:
        raise RecordingError(f"not a {kind.__name__}: {error}") from None


def _floats(values: list[float | None]) -> Array:
    with np.errstate(over="ignore"):
        return np.array(values, dtype=np.float32)


def _hook(kind: type, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value
    raise TypeError(f"expected an array, got {type(value).__name__}")


def _untag(value: Any) -> Any:
    if isinstance(value, list):
        return [_untag(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, item),) = value.items()
        if key.startswith("$"):
            return _special(key, item)
    return {key: _untag(item) for key, item in value.items()}


def _special(key: str, item: Any) -> Any:  # noqa: PLR0911 - one line a type
    match key:
        case "$float" if item in ("NaN", "Infinity", "-Infinity"):
            return float(item)
        case "$int" if isinstance(item, str):
            return int(item)
        case "$bytes" if isinstance(item, str):
            return base64.b64decode(item, validate=True)
        case "$array" if isinstance(item, dict):
            return _array(item)
        case "$tuple" if isinstance(item, list):
            return tuple(_untag(part) for part in item)
        case "$dict" if isinstance(item, list):
            return {_untag(name): _untag(part) for name, part in item}
        case "$struct" if isinstance(item, dict) and item.get("type") in PAYLOADS:
            return msgspec.convert(_untag(item["value"]), PAYLOADS[item["type"]], dec_hook=_hook)
    raise ValueError(f"{key} is not understood")


def _array(item: dict[str, Any]) -> Array:
    if item["dtype"] not in DTYPES:
        raise ValueError(f"an array of {item['dtype']!r:.40}")
    shape = tuple(int(length) for length in item["shape"])
    if len(shape) > 8 or any(length < 0 for length in shape):
        raise ValueError("an array of impossible shape")
    return np.frombuffer(base64.b64decode(item["data"], validate=True), item["dtype"]).reshape(shape)


# ------------------------------------------------------------------------------------------- schemas

_NOT_FINITE = {
    "type": "object",
    "properties": {"$float": {"enum": ["NaN", "Infinity", "-Infinity"]}},
    "required": ["$float"],
    "additionalProperties": False,
}
_ARRAY = {
    "type": "object",
    "description": "An array: elements in C order, little endian, base64.",
    "properties": {
        "$array": {
            "type": "object",
            "properties": {
                "dtype": {"enum": sorted(DTYPES)},
                "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                "data": {"type": "string", "contentEncoding": "base64"},
            },
            "required": ["dtype", "shape", "data"],
        }
    },
    "required": ["$array"],
}


@functools.cache
def schema(kind: Any) -> bytes:
    """The JSON Schema (2020-12) of what ``encode`` writes for ``kind``, an object at its top as viewers need it."""
    try:
        whole = msgspec.json.schema(kind, schema_hook=lambda _: _ARRAY)
    except FAULTS:
        whole = {"type": "object"}
    definitions = whole.pop("$defs", {})
    if "$ref" in whole:
        whole = definitions[whole["$ref"].rpartition("/")[2]]
    if kind is Waveform:
        samples = {"type": "array", "items": {"type": ["number", "null"]}, "description": "null: sample missing"}
        whole["properties"]["values"] = {"anyOf": [samples, _ARRAY]}
    plain = _with_not_finite({**whole, "$defs": definitions} if definitions else whole)
    return msgspec.json.encode(plain)


def _with_not_finite(part: Any) -> Any:
    if isinstance(part, list):
        return [_with_not_finite(item) for item in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") == "number":
        return {"anyOf": [part, _NOT_FINITE]}
    if part.get("type") == ["number", "null"]:
        return {"anyOf": [part, _NOT_FINITE]}
    return {key: _with_not_finite(item) for key, item in part.items()}
