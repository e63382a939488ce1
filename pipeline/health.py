"""What a running engine shows: a snapshot for people, metrics for Prometheus, health for supervisors.

Served on the loopback interface only, unless the launcher is told otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pipeline.engine import Engine
from pipeline.errors import VigilError
from pipeline.metrics import EngineCollector, Histogram
from pipeline.time import stamp

UNHEALTHY_SECONDS = 5.0
"""The event loop has not turned for this long: the process is up, but does nothing."""


class NodeState(msgspec.Struct, frozen=True):
    """One operator: counts since the start, times in milliseconds."""

    name: str
    operator: str
    placement: str
    messages: int
    process_p50_ms: float
    process_p99_ms: float
    end_to_end_p99_ms: float
    errors: int
    restarts: int
    abstained: int
    lost: int


class EdgeState(msgspec.Struct, frozen=True):
    name: str
    policy: str
    waiting: int
    capacity: int
    messages: int
    dropped: int
    late: int
    wait_p99_ms: float


class StreamState(msgspec.Struct, frozen=True):
    name: str
    messages: int
    age_seconds: float


class Snapshot(msgspec.Struct, frozen=True):
    """A running graph at one moment; ``vigil top`` draws two of them."""

    topology: str
    room: str
    origin: str
    uptime_seconds: float
    ready: bool
    event_time: int
    nodes: tuple[NodeState, ...]
    edges: tuple[EdgeState, ...]
    streams: tuple[StreamState, ...]
    conditions: tuple[str, ...]
    """Technical conditions that are true now, in words."""
    notes: tuple[str, ...]


def _milliseconds(histogram: Histogram, q: float) -> float:
    return round(histogram.quantile(q) / 1e6, 4)


def snapshot(engine: Engine) -> Snapshot:
    """What the engine is doing now."""
    nodes = tuple(
        NodeState(
            name=step.name, operator=step.node.operator.__name__, placement=step.node.placement,
            messages=step.metrics.processed, process_p50_ms=_milliseconds(step.metrics.process, 0.5),
            process_p99_ms=_milliseconds(step.metrics.process, 0.99),
            end_to_end_p99_ms=_milliseconds(step.metrics.end_to_end, 0.99), errors=step.metrics.errors,
            restarts=step.metrics.restarts, abstained=step.metrics.abstained, lost=step.metrics.lost,
        )
        for step in engine.steps.values()
    )  # fmt: skip
    edges = tuple(
        EdgeState(
            name=edge.name, policy=edge.policy, waiting=edge.size, capacity=edge.capacity,
            messages=edge.metrics.pushed, dropped=edge.metrics.dropped, late=edge.metrics.late,
            wait_p99_ms=_milliseconds(edge.metrics.wait, 0.99),
        )
        for edge in engine.edges
    )  # fmt: skip
    return Snapshot(
        topology=engine.graph.name, room=engine.room, origin=engine.origin(),
        uptime_seconds=round((stamp() - engine.started) / 1e9, 3), ready=engine.ready, event_time=engine.clock.now(),
        nodes=nodes, edges=edges,
        streams=tuple(StreamState(name, count, round(age, 3)) for name, age, count in engine.stream_ages()),
        conditions=tuple(message.payload.text for message in engine.active.values()), notes=tuple(engine.notes),
    )  # fmt: skip


def application(engine: Engine) -> Starlette:
    """``/healthz``, ``/readyz``, ``/metrics`` and ``/status`` of one engine."""
    registry = CollectorRegistry()
    registry.register(EngineCollector(engine))

    async def healthz(_: Request) -> Response:
        behind = (stamp() - engine.beat) / 1e9 if engine.ready else 0.0
        if behind > UNHEALTHY_SECONDS:
            return JSONResponse({"status": "held up", "seconds": round(behind, 1)}, 503)
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        if not engine.ready:
            return JSONResponse({"status": "starting" if not engine.stopped else "stopping"}, 503)
        return JSONResponse({"status": "ready", "conditions": [m.payload.text for m in engine.active.values()]})

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    async def status(_: Request) -> Response:
        return Response(msgspec.json.encode(snapshot(engine)), media_type="application/json")

    routes = [("/healthz", healthz), ("/readyz", readyz), ("/metrics", metrics), ("/status", status)]
    return Starlette(routes=[Route(path, handler) for path, handler in routes])


@contextlib.asynccontextmanager
async def served(engine: Engine, host: str = "127.0.0.1", port: int = 9464) -> AsyncIterator[int]:
    """Serve while inside; gives the port (0 asks for any free one). Raises ``VigilError`` where it is taken."""
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        mend = "another vigil is running here? give --port"
        raise VigilError(f"cannot listen on {host}:{port}: {error.strerror}", mend=mend) from None
    config = uvicorn.Config(application(engine), log_level="warning", lifespan="off", access_log=False)
    server = _Quiet(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="health")
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait({task}, timeout=2.0)
        task.cancel()
        listener.close()


class _Quiet(uvicorn.Server):
    """A server that leaves the process's signals alone: ending the run is the launcher's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield
