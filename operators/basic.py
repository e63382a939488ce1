"""Operators that do nothing clever: the ones to read first."""

from __future__ import annotations

import fnmatch
from typing import Any

from pipeline.message import Message
from pipeline.operator import Config, Input, Operator, Output, Outputs


class PassThrough(Operator):
    """Hands every message on unchanged."""

    accepts_synthetic = True
    input: Input[Any]
    output: Output[Any]

    def process(self, message: Message[Any]) -> Outputs:
        return message


class Select(Operator):
    """Hands on the messages whose stream name matches one of the patterns."""

    accepts_synthetic = True

    class Config(Config):
        streams: tuple[str, ...] = ("*",)
        """Shell patterns over stream names, e.g. ``monitor.numerics/*ABP*``."""

    input: Input[Any]
    output: Output[Any]

    def process(self, message: Message[Any]) -> Outputs:
        return message if any(fnmatch.fnmatchcase(message.stream, pattern) for pattern in self.config.streams) else None


class Print(Operator):
    """Prints one line a message: event time, stream and payload type."""

    accepts_synthetic = True
    input: Input[Any]

    def process(self, message: Message[Any]) -> Outputs:
        print(f"{message.time / 1e9:.3f} {message.stream} #{message.sequence} {type(message.payload).__name__}")
        return None
