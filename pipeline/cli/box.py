"""Commands about this machine: top, doctor, broker, bench, schema."""

from __future__ import annotations

import contextlib
import functools
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from pipeline import registry
from pipeline.cli import show
from pipeline.cli.common import Json
from pipeline.errors import VigilError, nearest

broker_app = typer.Typer(no_args_is_help=True, help="A genuine Apache Kafka broker on this machine (Java and Maven).")
BrokerFolder = Annotated[Path, typer.Option(help="Where it keeps its data.")]


@broker_app.command("start")
def broker_start(
    folder: BrokerFolder = Path("data/kafka"),
    port: Annotated[int, typer.Option(help="Of the first node.")] = 9092,
    nodes: Annotated[int, typer.Option(help="1, or 3 for a cluster.", min=1, max=3)] = 1,
) -> None:
    """Start it and leave it running."""
    from pipeline.broker import Broker

    broker = Broker(folder.absolute(), nodes=nodes, port=port)
    with show.err.status("starting Kafka") if show.err.is_terminal else contextlib.nullcontext():
        broker.start()
    show.out.print(f"Kafka is up at {broker.bootstrap}; end it with `vigil broker stop --folder {folder}`")


@broker_app.command("stop")
def broker_stop(folder: BrokerFolder = Path("data/kafka")) -> None:
    """End what `start` left running."""
    from pipeline.broker import stop_running

    show.out.print(f"{stop_running(folder.absolute())} nodes ended")


def bench(
    name: Annotated[str, typer.Argument(help="engine, alerts, recordings, senses, theatre, soak")],
    quick: Annotated[bool, typer.Option("--quick", help="Seconds instead of minutes; figures are rougher.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    hours: Annotated[float, typer.Option(help="Simulated hours of `bench soak`.", min=0.05)] = 8.0,
    json: Json = False,
) -> None:
    """Measure, beside a named baseline in the same run. Exit code 1 where a goal is not met."""
    from pipeline.bench import BenchOptions
    from pipeline.bench.document import document

    entry = registry.names("benches").get(name)
    if entry is None:
        raise VigilError(f"there is no bench {name!r}", mend=nearest(name, registry.names("benches")))
    with show.err.status("measuring") if show.err.is_terminal else contextlib.nullcontext() as line:
        tell = (lambda text: line.update(escape(text))) if line is not None else (lambda _: None)
        rows = entry.load()(BenchOptions(quick=quick, seed=seed, hours=hours, progress=tell))
    found = document(name, ["vigil", *sys.argv[1:]], seed, rows)
    if json:
        show.json_line(found)
    else:
        cells = [
            [row.name, f"{row.value:,.4g} {row.unit}", row.baseline_name, show.cell(row.baseline), show.cell(row.ratio),
             row.goal, {True: "met", False: "NOT MET", None: ""}[row.met]]
            for row in rows
        ]  # fmt: skip
        show.table(f"{name} on {found['machine']}", ["what", "value", "beside", "", "ratio", "goal", ""], cells)
    sys.exit(1 if any(row.met is False for row in rows) else 0)


def schema(
    name: Annotated[str, typer.Argument(help="topology, alert, command, outcome, status, or asyncapi")] = "topology",
) -> None:
    """JSON Schema of topology files (for editors) or of what a box sends and takes; AsyncAPI 3 of its topics."""
    from pipeline.alerts.schema import CONTRACT, asyncapi
    from pipeline.alerts.schema import schema as contract
    from pipeline.topology import schema as topology_schema

    makers = {"topology": topology_schema, "asyncapi": asyncapi} | {
        part: functools.partial(contract, part) for part in CONTRACT
    }
    if name not in makers:
        raise VigilError(f"there is no schema of {name!r}", mend=nearest(name, makers))
    print(msgspec.json.format(msgspec.json.encode(makers[name]()), indent=2).decode())


def top(
    port: Annotated[int, typer.Option(help="The --port of the launch on this machine.")] = 9464,
    url: Annotated[str, typer.Option(help="Of a launch elsewhere, e.g. through an SSH tunnel.")] = "",
    every: Annotated[float, typer.Option(help="Seconds between two pictures.", min=0.1)] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One picture, then end.")] = False,
    json: Json = False,
) -> None:
    """A running graph, live: rates, times, queues, drops, freshness."""
    from pipeline.cli import top as live

    address = url.rstrip("/") or f"http://127.0.0.1:{port}"
    if json:
        show.json_line(live.fetch(address))
    elif once:
        found = live.fetch(address)
        show.out.print(live.picture(found, found))
    else:
        with contextlib.suppress(KeyboardInterrupt):
            live.watch(address, every)


def doctor(
    data: Annotated[Path, typer.Option(help="Where a launch will write.")] = Path("data"),
    port: Annotated[int, typer.Option(help="Where a launch will serve its health.")] = 9464,
    kafka: Annotated[str, typer.Option(help="host:port of the broker that alerts will be carried to.")] = "",
    json: Json = False,
) -> None:
    """Is this machine fit? GPU, decoders, clock, disk, broker, permissions, and what to do. Exit code 1 where not."""
    from pipeline.doctor import examine

    failed = False
    for check in examine(data, port, kafka):
        failed = failed or check.state == "fail"
        if json:
            show.json_line({"check": check})
            continue
        word = {"ok": "[green]ok  [/]", "warn": "[yellow]warn[/]", "fail": "[bold red]FAIL[/]"}[check.state]
        show.out.print(f"{word} {check.name:<14} {escape(check.found)}", soft_wrap=True)
        if check.mend:
            show.out.print(f"     {'':<14} [dim]{escape(check.mend)}[/]", soft_wrap=True)
    sys.exit(1 if failed else 0)
