"""What moves at the bottom of the terminal while a graph runs: streams with their freshness, alerts, delays."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from pipeline.cli import show
from pipeline.engine import Engine
from pipeline.health import Snapshot, StreamState, snapshot
from pipeline.message import Alert, Message

SHOWN = 8
"""Groups of streams that are named; more are counted."""
SPORADIC = ("events", "truth")
"""Ports that speak only when something happens: their silence means nothing."""


class Signalled:
    """The alerts that people are being told of now, by priority."""

    def __init__(self, engine: Engine, nodes: Iterable[str]) -> None:
        self.active: dict[str, Alert] = {}
        for node in nodes:
            engine.listen(node, "alerts", self.hear)

    def hear(self, batch: Sequence[Message[Any]]) -> None:
        for message in batch:
            alert: Alert = message.payload
            if alert.signal.presence == "off" or alert.condition.suppressed_by:
                self.active.pop(alert.alert_id, None)
            else:
                self.active[alert.alert_id] = alert

    def line(self) -> str:
        """In rich's markup: how many there are of each priority."""
        counts = Counter(alert.condition.priority for alert in self.active.values())
        parts = [f"[{colour}]{counts[name]} {name}[/]" for name, colour in show.COLOURS.items() if counts[name]]  # type: ignore[index]
        return ", ".join(parts) or "[green]none[/]"


def groups(streams: Iterable[StreamState]) -> dict[str, tuple[int, float]]:
    """Streams of one port of one device together: their number, and the age in seconds of the oldest."""
    found: dict[str, tuple[int, float]] = {}
    for stream in streams:
        head, _, channel = stream.name.partition("/")
        name = f"{head}/{channel.partition('/')[0]}" if "/" in channel else head
        number, age = found.get(name, (0, 0.0))
        found[name] = (number + 1, max(age, stream.age_seconds))
    return found


def picture(now: Snapshot, alerts: str) -> Group:
    """Three lines: where we are, which streams are fresh, which alerts there are and how long they take."""
    origin = "" if now.origin == "live" else f"[magenta]{now.origin.upper()}[/] "
    head = f"{origin}[bold]{escape(now.topology)}[/] in {escape(now.room)}  {show.moment(now.event_time)} UTC"
    parts = []
    found = groups(now.streams)
    for name, (number, age) in sorted(found.items())[:SHOWN]:
        colour = "red" if age > show.SILENT_SECONDS else "yellow" if age > 2 else "green"
        if name.partition("/")[0].rpartition(".")[2] in SPORADIC:
            colour = "dim"
        parts.append(f"{escape(name)}{f' ({number})' if number > 1 else ''} [{colour}]{age:.1f} s[/]")
    if len(found) > SHOWN:
        parts.append(f"and {len(found) - SHOWN} more")
    slowest = max((node.end_to_end_p99_ms for node in now.nodes), default=0.0)
    dropped = sum(edge.dropped for edge in now.edges)
    last = f"alerts: {alerts}  [dim]path p99 {slowest:.1f} ms{f', {dropped:,} dropped' if dropped else ''}[/]"
    lines = [head, "streams: " + (", ".join(parts) or "none yet"), last]
    lines += [f"[yellow]{escape(line)}[/]" for line in now.conditions]
    return Group(*(Text.from_markup(line, overflow="ellipsis") for line in lines))


@contextlib.asynccontextmanager
async def strip(engine: Engine, signalled: Signalled, *, seconds: float = 0.5) -> AsyncIterator[None]:
    """While inside, the picture stands below what is printed; nothing where nobody looks at a terminal."""
    console = show.below()
    if not console.is_terminal:
        yield
        return

    async def draw(live: Live) -> None:
        while True:
            live.update(picture(snapshot(engine), signalled.line()), refresh=True)
            await asyncio.sleep(seconds)

    with Live(console=console, auto_refresh=False, transient=True) as live:
        task = asyncio.create_task(draw(live), name="terminal")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@contextlib.asynccontextmanager
async def nothing(_: Engine) -> AsyncIterator[None]:
    """In place of ``strip`` where a program reads."""
    yield
