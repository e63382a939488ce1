"""Spans for OpenTelemetry: of every alert, and of one in so many of everything else."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from pipeline import tracing
from pipeline.message import Alert, Message
from pipeline.operator import Config, Input, Operator


class Traces(Operator):
    """Shows where the time went on the way to an alert. Nothing leaves a replay."""

    class Config(Config):
        exporter: Literal["console", "otlp"] = "console"
        """JSON on standard output, or OTLP over HTTP."""
        endpoint: str = ""
        """Of OTLP, e.g. `http://localhost:4318/v1/traces`; empty takes OpenTelemetry's own environment variables."""
        every: int = pydantic.Field(default=100, ge=1)
        """One in so many messages that are no alerts, e.g. frames."""

    messages: Input[Any]

    def setup(self) -> None:
        self.count = 0
        self.provider = None if self.context.replaying else tracing.provider(self.config.exporter, self.config.endpoint)
        self.tracer = None if self.provider is None else self.provider.get_tracer("vigil")

    def process(self, message: Message[Any]) -> None:
        if self.tracer is None:
            return
        if not isinstance(message.payload, Alert):
            self.count += 1
            if self.count % self.config.every:
                return
        tracing.record(self.tracer, message)

    def teardown(self) -> None:
        if self.provider is not None:
            self.provider.shutdown()  # sends what is waiting
            self.provider = self.tracer = None
