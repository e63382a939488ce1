"""OpenTelemetry spans from the hops that every message carries. Needs the extra ``tracing``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.errors import VigilError
from pipeline.message import Alert, Message
from pipeline.time import wall_from_stamp

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer


def provider(exporter: str, endpoint: str = "") -> TracerProvider:
    """Where spans go: ``console`` (JSON on standard output) or ``otlp`` (HTTP, to ``endpoint``).

    Raises:
        VigilError: where the packages are missing.
    """
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

        sink: SpanExporter
        if exporter == "otlp":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            sink = OTLPSpanExporter(endpoint=endpoint or None)
        else:
            sink = ConsoleSpanExporter()
    except ImportError as error:
        raise VigilError(f"tracing needs {error.name}", mend="pip install 'vigil[tracing]'") from None
    made = TracerProvider(resource=Resource.create({"service.name": "vigil"}))
    made.add_span_processor(BatchSpanProcessor(sink))
    return made


def attributes(message: Message[Any]) -> dict[str, str | int]:
    """What a span says of its message: never a value, a text, or anything of a patient."""
    found: dict[str, str | int] = {
        "vigil.stream": message.stream, "vigil.sequence": message.sequence, "vigil.origin": message.origin,
        "vigil.event_time": message.time,
    }  # fmt: skip
    payload = message.payload
    if isinstance(payload, Alert):
        found |= {
            "vigil.alert.id": payload.alert_id, "vigil.alert.revision": payload.revision,
            "vigil.alert.phase": payload.phase, "vigil.alert.code": payload.condition.code,
            "vigil.alert.priority": payload.condition.priority, "vigil.room": payload.room,
        }  # fmt: skip
    return found


def record(tracer: Tracer, message: Message[Any]) -> None:
    """One span from the message's arrival in the process to its last hop, and one below it for each hop."""
    from opentelemetry import trace

    if not message.trace:
        return
    # One pair of clocks for the whole message, so that its spans keep their order.
    shift = wall_from_stamp(0)
    payload = message.payload
    name = f"alert {payload.condition.code}" if isinstance(payload, Alert) else message.stream
    first, last = message.trace[0], message.trace[-1]
    root = tracer.start_span(name, start_time=shift + first.entered, attributes=attributes(message))
    context = trace.set_span_in_context(root)
    for hop in message.trace:
        span = tracer.start_span(hop.node, context=context, start_time=shift + hop.entered)
        span.end(end_time=shift + hop.left)
    root.end(end_time=shift + last.left)
