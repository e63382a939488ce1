"""Commands about alerts: subscribe, verify."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import show
from pipeline.cli.common import Json, teller


def subscribe(
    kafka: Annotated[str, typer.Option(help="host:port of a broker; without it the journal is followed.")] = "",
    journal: Annotated[Path, typer.Option(help="The journal of a running or ended launch.")] = Path("data/journal.db"),
    beginning: Annotated[bool, typer.Option("--from-beginning", help="Tell what is there already, too.")] = False,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more.")] = True,
    json: Json = False,
) -> None:
    """Follow alerts, from a broker or from a journal. Every alert told here is on the box's disk already."""
    from pipeline.journal import JournalReader

    if kafka:
        _subscribe_kafka(kafka, beginning=beginning, json=json)
        return
    reader = JournalReader(journal)
    tell = teller(json=json)
    if not json:
        show.err.print(show.NOTICE)
    after = 0 if beginning or not follow else reader.last()
    with contextlib.suppress(KeyboardInterrupt):
        for entry in reader.follow(after) if follow else reader.entries(after):
            if entry.kind == "alert":
                tell(entry.alert)


def _subscribe_kafka(bootstrap: str, *, beginning: bool, json: bool) -> None:
    from pipeline.kafka import KafkaSettings
    from pipeline.kafka import subscribe as alerts

    tell = teller(json=json)

    async def run() -> None:
        async for alert in alerts(KafkaSettings(bootstrap=bootstrap), beginning=beginning):
            tell(alert)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


def verify(
    journal: Annotated[Path, typer.Argument(help="A journal.")] = Path("data/journal.db"), json: Json = False
) -> None:
    """Check a journal's hash chain: was anything changed, removed or put in between? Exit code 1 where it was."""
    from pipeline.journal import JournalReader

    count, fault = JournalReader(journal).verify()
    if json:
        show.json_line({"entries": count, "fault": fault})
    else:
        show.out.print(f"{count} entries, " + (f"[bold red]{fault}[/]" if fault else "the chain is whole"))
    sys.exit(1 if fault else 0)
