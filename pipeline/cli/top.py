"""`vigil top`: a running graph, live."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import Any

import msgspec
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.cli import show
from pipeline.errors import VigilError
from pipeline.health import Snapshot

BAR = 8
"""Characters of a queue's bar."""


def fetch(url: str) -> Snapshot:
    """What a running launch says of itself. Raises ``VigilError`` where nothing answers, or something else."""
    if not url.startswith(("http://", "https://")):
        raise VigilError("is no address", where=url, mend="http://127.0.0.1:9464, as `vigil launch` prints it")
    try:
        with urllib.request.urlopen(f"{url}/status", timeout=5) as answer:  # noqa: S310 - http by the line above
            return msgspec.json.decode(answer.read(1 << 24), type=Snapshot)
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        mend = "is a launch running? give its --port or --url"
        raise VigilError(f"cannot be reached: {reason}", where=url, mend=mend) from None
    except msgspec.MsgspecError as error:
        raise VigilError(f"is no vigil of this version: {error}", where=url) from None


def rates(before: Snapshot, now: Snapshot) -> dict[str, float]:
    """Messages a second of each operator and edge between two snapshots; since the start where both are the same."""
    seconds = now.uptime_seconds - before.uptime_seconds
    earlier: dict[str, int] = {}
    if seconds > 0:
        earlier = {node.name: node.messages for node in before.nodes} | {
            edge.name: edge.messages for edge in before.edges
        }
    seconds = seconds if seconds > 0 else max(now.uptime_seconds, 1e-3)
    counts = {node.name: node.messages for node in now.nodes} | {edge.name: edge.messages for edge in now.edges}
    return {name: (count - earlier.get(name, 0)) / seconds for name, count in counts.items()}


def picture(before: Snapshot, now: Snapshot) -> Group:
    """Two snapshots as a picture for people."""
    rate = rates(before, now)
    origin = "" if now.origin == "live" else f"  [magenta]{now.origin.upper()}[/]"
    head = Text.from_markup(
        f"[bold]{escape(now.topology)}[/] in {escape(now.room)}{origin}  {show.moment(now.event_time)} UTC  "
        f"up {now.uptime_seconds:,.0f} s  {'' if now.ready else '[yellow]not ready[/]'}\n[dim]{show.NOTICE}[/]"
    )
    nodes = _grid("operator", "kind", "placed", "messages/s", "p50 ms", "p99 ms", "end to end p99 ms", "faults")
    for node in now.nodes:
        faults = {"errors": node.errors, "restarts": node.restarts, "abstained": node.abstained, "lost": node.lost}
        told = ", ".join(f"{count} {name}" for name, count in faults.items() if count)
        nodes.add_row(
            escape(node.name), escape(node.operator), node.placement, f"{rate[node.name]:,.1f}",
            f"{node.process_p50_ms:.3f}", f"{node.process_p99_ms:.3f}", f"{node.end_to_end_p99_ms:.1f}",
            f"[red]{told}[/]",
        )  # fmt: skip
    parts: list[Any] = [head, nodes]
    if now.edges:
        edges = _grid("queue", "policy", "messages/s", "full", "wait p99 ms", "dropped", "late")
        for edge in now.edges:
            filled = round(BAR * edge.waiting / edge.capacity) if edge.capacity else 0
            bar = f"{'█' * filled}{'░' * (BAR - filled)} {edge.waiting}/{edge.capacity}"
            dropped = f"[yellow]{edge.dropped:,}[/]" if edge.dropped else "0"
            edges.add_row(
                escape(edge.name), edge.policy, f"{rate[edge.name]:,.1f}", bar, f"{edge.wait_p99_ms:.2f}", dropped,
                f"{edge.late:,}",
            )  # fmt: skip
        parts.append(edges)
    streams = _grid("stream", "messages", "last seen")
    for stream in now.streams:
        colour = "red" if stream.age_seconds > show.SILENT_SECONDS else "yellow" if stream.age_seconds > 2 else "green"
        streams.add_row(escape(stream.name), f"{stream.messages:,}", f"[{colour}]{stream.age_seconds:.1f} s ago[/]")
    parts.append(streams)
    parts.extend(Text.from_markup(f"[yellow]{escape(line)}[/]") for line in now.conditions)
    parts.extend(Text.from_markup(f"[dim]{escape(line)}[/]") for line in now.notes)
    return Group(*parts)


def watch(url: str, seconds: float) -> None:
    """Draw until interrupted, or until the launch ends (``VigilError``)."""
    before = fetch(url)
    with Live(picture(before, before), console=show.out, screen=show.out.is_terminal, auto_refresh=False) as live:
        while True:
            time.sleep(seconds)
            now = fetch(url)
            live.update(picture(before, now), refresh=True)
            before = now


def _grid(*columns: str) -> Table:
    grid = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return grid
