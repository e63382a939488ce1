"""How the command line speaks: to people by rich on standard error and output, to programs by JSON lines."""

from __future__ import annotations

import datetime
import os
import sys
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.errors import VigilError
from pipeline.message import Alert, Status

PIPED_WIDTH = 160
"""Columns where nobody's terminal says how many there are."""


def _console(*, stderr: bool) -> Console:
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if terminal or "COLUMNS" in os.environ else PIPED_WIDTH
    return Console(stderr=stderr, highlight=False, width=width)


out, err = _console(stderr=False), _console(stderr=True)

NOTICE = "Vigil informs. It is never the only alarm."
SILENT_SECONDS = 10.0
"""A stream that has given nothing for so long is shown as silent."""
COLOURS = {"high": "bold red", "medium": "yellow", "low": "cyan", "info": "dim"}
PHASES = {"start": "ALERT", "update": "update", "escalate": "UNANSWERED", "signal": "signal", "end": "ended"}


def fail(error: VigilError) -> int:
    """Say what is wrong, where, and what would mend it; gives the exit code."""
    where = f"{escape(error.where)}: " if error.where else ""
    err.print(f"[bold red]error:[/] {where}{escape(error.message)}", soft_wrap=True)
    if error.mend:
        err.print(f"  [dim]{escape(error.mend)}[/]", soft_wrap=True)
    return 2


def json_line(value: Any) -> None:
    """One document on one line of standard output."""
    print(msgspec.json.encode(value).decode(), flush=True)


def moment(time: int) -> str:
    """Event time in UTC, to a tenth of a second."""
    text = datetime.datetime.fromtimestamp(time // 1_000_000_000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{time % 1_000_000_000 // 100_000_000}"


def alert_line(alert: Alert) -> str:
    """One revision of an alert for people, in rich's markup, with its evidence."""
    condition = alert.condition
    parts = [f"[dim]{moment(alert.time)}[/]"]
    if alert.origin != "live":
        parts.append(f"[magenta]{alert.origin.upper()}[/]")
    colour = COLOURS[condition.priority]
    withheld = condition.suppressed_by or alert.signal.withheld
    word = "withheld" if withheld else PHASES[alert.phase]
    parts.append(f"[{colour}]{word:<10} {condition.priority:<6}[/] {escape(condition.text)}")
    if alert.phase == "end" and condition.ended is not None:
        parts.append(f"[dim]after {(condition.ended - condition.onset) / 1e9:.0f} s[/]")
    if alert.signal.inactivation != "none" or alert.signal.presence in ("latched", "acknowledged"):
        parts.append(f"[blue]{alert.signal.presence} {alert.signal.inactivation.replace('none', '')}[/]")
    if withheld:
        parts.append(f"[dim]({escape(withheld)})[/]")
    return " ".join(parts)


def evidence_line(alert: Alert) -> str:
    """On what an alert stands, for people; empty where it has no evidence."""
    pieces = []
    for piece in alert.condition.evidence:
        values = ", ".join(f"{value:g}" for value in piece.values[:6])
        seconds = (piece.end - piece.start) / 1e9
        pieces.append(f"{piece.stream} {seconds:.0f} s {values} {piece.unit} {piece.note}".rstrip())
    rule = alert.condition.rule
    return escape(f"    {rule.name} {rule.version} ({rule.digest})  " + "; ".join(pieces)) if pieces else ""


def status_line(status: Status) -> str:
    """A room's heartbeat for people, in rich's markup."""
    silent = [stream.name for stream in status.streams if stream.age_seconds > SILENT_SECONDS]
    parts = [
        f"[dim]{moment(status.at)}[/] {escape(status.room)} {status.state}", f"{len(status.streams)} streams",
        f"{len(status.active)} active alerts",
    ]  # fmt: skip
    if status.alarms_per_hour is not None:
        parts.append(f"{status.alarms_per_hour:.1f} alarms an hour")
    if status.origin != "live":
        parts.insert(1, f"[magenta]{status.origin.upper()}[/]")
    if silent:
        parts.append(f"[yellow]silent: {escape(', '.join(silent[:3]))}{' ...' if len(silent) > 3 else ''}[/]")
    parts.extend(f"[bold red]{escape(fault)}[/]" for fault in status.faults)
    if status.pause:
        parts.append(f"[blue]{status.pause.replace('_', ' ')}[/]")
    return ", ".join(parts)


def progress(label: str) -> Progress:
    """A bar below what is printed; shown only where somebody can see it, and never in a file or a pipe."""
    return Progress(
        TextColumn(label), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(),
        TimeRemainingColumn(), console=below(), transient=True, disable=not err.is_terminal,
    )  # fmt: skip


def below() -> Console:
    """The console for what moves below the printed lines: the one that they are printed on, where that is seen."""
    return out if out.is_terminal else err


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """A table for people."""
    grid = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        grid.add_row(*(escape(str(cell)) for cell in row))
    out.print(grid)


def cell(value: float | None) -> str:
    """A figure in a table: four digits, empty where there is none."""
    return "" if value is None else f"{value:,.4g}"
