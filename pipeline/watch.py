"""Looks at a running graph every tenth of a second: silent sources, blocked edges, standstills."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pipeline.errors import VigilError
from pipeline.step import WorkerStep
from pipeline.time import stamp

if TYPE_CHECKING:
    from pipeline.drivers import LiveSource
    from pipeline.engine import Engine

log = logging.getLogger("vigil.engine")

TICK = 0.1
LAG = 0.25
"""Seconds by which a tick may be late before the loop counts as held up."""


HEARTBEAT_SECONDS = 5.0
"""Between two statuses."""


class StalledError(VigilError):
    """The run has come to a standstill; the message names the edge that starves."""


class Watch:
    """The watchdog of one run."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.draining = False
        self.progress = (-1, stamp())
        self.beat = stamp()
        self.longest_lag = 0
        self.heartbeat_due = 0

    async def run(self, sources: list[LiveSource]) -> None:
        """Until cancelled. Raises ``StalledError`` where the sources have ended and nothing moves any more."""
        while True:
            await asyncio.sleep(TICK)
            now = stamp()
            self.longest_lag = max(self.longest_lag, now - self.beat - int(TICK * 1e9))
            self.beat = now
            if sources:
                time = self.engine.clock.now()
                for source in sources:
                    source.silent(time)
            self.blocked(now)
            if now >= self.heartbeat_due:
                self.heartbeat_due = now + int(HEARTBEAT_SECONDS * 1e9)
                self.engine.heartbeat(HEARTBEAT_SECONDS)
            if self.draining:
                self.standstill(now)

    def blocked(self, now: int) -> None:
        """An edge that has kept its producer waiting for too long is a technical condition, until it moves."""
        limit = self.engine.options.stall_seconds
        for edge in self.engine.edges:
            since = edge.blocked_since
            if since is not None and (now - since) / 1e9 > limit:
                text = f"the edge {edge.name} has been full for {limit:g} s: what reads it does not keep up"
                self.engine.raise_condition("edge_stalled", edge.name, self.engine.clock.now(), text)
            elif since is None and ("edge_stalled", edge.name) in self.engine.active:
                self.engine.end_condition("edge_stalled", edge.name, self.engine.clock.now())

    def standstill(self, now: int) -> None:
        processed = sum(metrics.processed for metrics in self.engine.node_metrics())
        busy = any(isinstance(step, WorkerStep) and step.busy_since for step in self.engine.steps.values())
        if processed != self.progress[0] or busy:
            self.progress = (processed, now)
            return
        seconds = self.engine.options.stall_seconds
        if (now - self.progress[1]) / 1e9 < seconds:
            return
        starving = [
            edge.name
            for step in self.engine.steps.values()
            for edge in step.edges.values()
            if step.open != -1 and not edge.closed
        ] or [step.name for step in self.engine.steps.values() if step.open != -1 and step.ports]
        raise StalledError(
            f"nothing has moved for {seconds:g} s, though the sources have ended",
            where=", ".join(starving) or self.engine.graph.name,
            mend="the named edge never gets its end: look at what feeds it",
        )
