"""Commands on recordings: simulate, inspect, export."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pipeline import registry
from pipeline.cli import show
from pipeline.cli.common import Json, interval


def simulate(
    case: Annotated[str, typer.Argument(help="A shipped case (eventful, uneventful, long) or a case file.")],
    target: Annotated[Path, typer.Option("--out", "-o", help="The .mcap to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the target.")] = False,
) -> None:
    """Write a simulated operation to a recording, as fast as it can be rendered. Simulated data says so."""
    from pipeline.export import export as write

    shipped = Path(str(importlib.resources.files("operators"))) / "theatre" / "cases" / f"{case}.yaml"
    reader = registry.open_reader(shipped if shipped.exists() else Path(case))
    with show.progress(f"simulating {case}") as bar:
        task = bar.add_task("", total=1.0)
        write(reader, target, overwrite=overwrite, progress=lambda part: bar.update(task, completed=part))
    show.out.print(f"wrote {target}")


def inspect(
    source: Annotated[Path, typer.Argument(help="Any recording that `vigil replay` takes.")], json: Json = False
) -> None:
    """What a recording holds: streams, rates, gaps, damage."""
    from pipeline.inspection import inspect as look

    summary = msgspec.to_builtins(look(source))
    if json:
        show.json_line(summary)
        return
    streams = summary.pop("streams")
    for name, value in summary.items():
        if value not in ("", None, [], (), {}):
            told = f"{show.moment(value)} UTC" if name in ("start", "end") else value
            told = show.cell(value) if isinstance(value, float) else told
            show.out.print(f"[bold]{name.replace('_', ' ')}[/]: {told}", soft_wrap=True)
    if streams:
        columns = [name for name in ("stream", "payload", "count", "messages_per_second", "gaps", "code", "unit")
                   if name in streams[0]]  # fmt: skip
        show.table(
            "",
            columns,
            [
                [show.cell(row[name]) if isinstance(row[name], float) else row[name] for name in columns]
                for row in streams
            ],
        )


def export(
    source: Annotated[Path, typer.Argument(help="Any recording that `vigil replay` takes.")],
    target: Annotated[Path, typer.Argument(help="The suffix says what: .mkv .mp4 .parquet .csv .vital .mcap")],
    start: Annotated[str, typer.Option("--from", help="605, 10m5s, 0:10:05 after the start, or an ISO time.")] = "",
    end: Annotated[str, typer.Option("--to", help="As --from.")] = "",
    streams: Annotated[list[str] | None, typer.Option("--stream", help="Only these; * and ? are wildcards.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the target.")] = False,
    json: Json = False,
) -> None:
    """A clip, a table, or a .vital file from a recording."""
    from pipeline.export import export as write

    reader = registry.open_reader(source)
    first, last = interval(reader, start, end)
    with show.progress(f"exporting {source.name}") as bar:
        task = bar.add_task("", total=1.0)
        summary = write(
            reader, target, start=first, end=last, streams=tuple(streams or ["*"]), overwrite=overwrite,
            progress=lambda part: bar.update(task, completed=part),
        )  # fmt: skip
    if json:
        show.json_line(summary)
    else:
        show.out.print(f"wrote {target}: {msgspec.to_builtins(summary)}", soft_wrap=True)
