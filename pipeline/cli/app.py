"""The commands of `vigil`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from pipeline import registry
from pipeline.cli import show
from pipeline.errors import TopologyError, VigilError, nearest
from pipeline.message import Alert, Message
from pipeline.reader import Reader

app = typer.Typer(
    name="vigil", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Streams of the operating room in, defended alerts out. Vigil informs; it is never the only alarm.",
)  # fmt: skip

Json = Annotated[bool, typer.Option("--json", help="Write JSON, one document a line, for programs.")]
Setting = Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE for ${NAME} in the topology.")]
TopologyName = Annotated[str, typer.Option("--topology", "-t", help="A topology file, or the name of a shipped one.")]


def values_of(settings: list[str] | None) -> dict[str, str]:
    """``--set NAME=VALUE`` as a mapping. Raises ``VigilError``."""
    pairs = [setting.partition("=") for setting in settings or []]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise VigilError(f"--set {name} has no value", mend="write --set NAME=VALUE")
    return {name: value for name, _, value in pairs}


def topology_path(name: str) -> Path:
    """A file as it is given, or a shipped topology by its name. Raises ``TopologyError``."""
    path = Path(name)
    if path.is_file():
        return path
    folder = Path(str(importlib.resources.files("topologies")))
    shipped = {file.stem: file for file in folder.glob("*.yaml")}
    if name in shipped:
        return shipped[name]
    raise TopologyError("there is no such topology", where=name, mend=nearest(path.stem, shipped))


def _speed(text: str) -> float:
    try:
        speed = float("inf") if text == "max" else float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise VigilError(f"--speed {text!r} is not a speed", mend="write 1, 10, 0.5 or max")
    return speed


def _teller(*, json: bool) -> Callable[[Alert], None]:
    """How one revision of an alert is told on standard output."""

    def tell(alert: Alert) -> None:
        if json:
            show.json_line({"alert": alert})
            return
        show.out.print(show.alert_line(alert), soft_wrap=True)
        if alert.phase == "start" and (evidence := show.evidence_line(alert)):
            show.out.print(f"[dim]{evidence}[/]", soft_wrap=True)

    return tell


def _listener(*, json: bool) -> Callable[[Sequence[Message[Any]]], None]:
    tell = _teller(json=json)

    def listen(batch: Sequence[Message[Any]]) -> None:
        for message in batch:
            tell(message.payload)

    return listen


def _interval(reader: Reader, start: str, end: str) -> tuple[int | None, int | None]:
    """``--from`` and ``--to`` as event times (ns), None where not given. Raises ``VigilError``."""
    from pipeline.replay import parse_moment

    begin = min((info.start for info in reader.streams()), default=0)
    return parse_moment(start, begin) if start else None, parse_moment(end, begin) if end else None


def _stop_on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


def _alert_nodes(graph: Any) -> list[str]:
    return [
        name for name, node in graph.nodes.items()
        if "alerts" in node.operator.outputs and Alert in node.operator.outputs["alerts"].types
    ]  # fmt: skip


@app.command()
def replay(
    source: Annotated[Path, typer.Argument(help=".mcap, .vital, WFDB (.hea), .csv, a video, or a theatre case.")],
    topology: TopologyName = "",
    speed: Annotated[str, typer.Option(help="Times real time, or max.")] = "1",
    start: Annotated[str, typer.Option("--from", help="605, 10m5s, 0:10:05 after the start, or an ISO time.")] = "",
    end: Annotated[str, typer.Option("--to", help="As --from.")] = "",
    digest: Annotated[bool, typer.Option("--digest", help="Print only the digest of the alerts.")] = False,
    settings: Setting = None,
    json: Json = False,
) -> None:
    """Play a recorded case through a topology: the same alerts, bit for bit, at any speed.

    Nothing leaves the run: no broker is told and no journal is written.
    """
    from pipeline.alerts import Digest
    from pipeline.replay import Replay, topology_for
    from pipeline.topology import load

    times = _speed(speed)
    reader = registry.open_reader(source)
    path = topology_path(topology or topology_for(reader))
    values = {"CASE": str(source), "VIDEO": str(source), **values_of(settings)}
    graph = load(path, values)
    first, last = _interval(reader, start, end)
    found = Digest()
    with tempfile.TemporaryDirectory(prefix="vigil-replay-") as folder:
        command = f"vigil replay {source.name} --topology {path.stem}"
        play = Replay(
            reader, graph, speed=times, start=first, end=last, data=Path(folder), command=command
        )  # fmt: skip
        for node in _alert_nodes(graph):
            play.engine.listen(node, "alerts", found)
            if not digest:
                play.engine.listen(node, "alerts", _listener(json=json))

        async def run() -> Any:
            _stop_on_signals(play.engine.stop)
            return await play.run(found.result)

        summary = asyncio.run(run())
    reader.close()
    if digest and not json:
        print(summary.digest)
    elif json:
        show.json_line({"summary": summary, "suppressed": found.suppressed})
    else:
        show.out.print(
            f"{summary.messages:,} messages, {summary.event_seconds:,.0f} s of {source.name} in "
            f"{summary.wall_seconds:.1f} s ({summary.times_real_time:,.0f}x real time): "
            f"[bold]{summary.alerts} alerts[/], {found.suppressed} withheld\ndigest {summary.digest}"
        )
        for warning in summary.warnings:
            show.err.print(f"[yellow]note:[/] {warning}", soft_wrap=True)
    if play.engine.stopped:
        sys.exit(130)


@app.command()
def launch(
    topology: Annotated[str, typer.Argument(help="A topology file, or the name of a shipped one.")],
    room: Annotated[str, typer.Option(help="Name of the room; the topology's own where not given.")] = "",
    data: Annotated[Path, typer.Option(help="Where recordings are written.")] = Path("data"),
    port: Annotated[int, typer.Option(help="Loopback port of /healthz, /readyz, /metrics, /status; 0 any.")] = 9464,
    kafka: Annotated[str, typer.Option(help="host:port of a broker that alerts are carried to.")] = "",
    settings: Setting = None,
    json: Json = False,
) -> None:
    """Run a topology on this machine until its sources end, or until Ctrl-C or SIGTERM."""
    from pipeline.alerts import Digest
    from pipeline.engine import Engine, RunOptions
    from pipeline.health import served
    from pipeline.topology import load

    values = ({"KAFKA": kafka} if kafka else {}) | values_of(settings)
    graph = load(topology_path(topology), values)
    engine = Engine(graph, RunOptions(room=room, data=data))
    found = Digest()
    for node in _alert_nodes(graph):
        engine.listen(node, "alerts", found)
        engine.listen(node, "alerts", _listener(json=json))

    async def run() -> None:
        _stop_on_signals(engine.stop)
        async with served(engine, port=port) as bound:
            if not json:
                show.err.print(f"{show.NOTICE}  {graph.name} in {engine.room}, http://127.0.0.1:{bound}/status")
            await engine.run()

    asyncio.run(run())
    if json:
        show.json_line({"summary": {"alerts": found.count, "suppressed": found.suppressed}})
    else:
        show.err.print(f"{found.count} alerts, {found.suppressed} withheld")


@app.command()
def demo(
    case: Annotated[str, typer.Argument(help="A shipped case (eventful, uneventful) or a case file.")] = "eventful",
    json: Json = False,
) -> None:
    """A simulated operation in real time, alerts told over a genuine Apache Kafka broker, and the score.

    Exit code 1 where a planted event was missed or an alert was false.
    """
    from pipeline.topology import load

    def say(line: str) -> None:
        show.err.print(f"[dim]{line}[/]", soft_wrap=True)

    run = registry.names("demos")["theatre"].load()
    say(f"{show.NOTICE} Everything in this demo is simulated.")
    found = asyncio.run(run(case, lambda values: load(topology_path("theatre"), values), _teller(json=json), say))
    if json:
        show.json_line({"summary": found})
    else:
        rows = [
            [m["kind"], m["code"], "yes" if m["found"] else "NO", _cell(m["delay_seconds"])] for m in found["matches"]
        ]
        show.table("\nplanted", ["event", "told as", "found", "seconds after onset"], rows)
        plain = {name: value for name, value in found.items() if not isinstance(value, list)}
        show.table("\nsummary", ["", ""], [[name.replace("_", " "), value] for name, value in plain.items()])
    sys.exit(1 if found["missed"] or found["false"] else 0)


broker_app = typer.Typer(no_args_is_help=True, help="A genuine Apache Kafka broker on this machine (Java and Maven).")
app.add_typer(broker_app, name="broker")
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


@app.command()
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


@app.command()
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
    tell = _teller(json=json)
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

    tell = _teller(json=json)

    async def run() -> None:
        async for alert in alerts(KafkaSettings(bootstrap=bootstrap), beginning=beginning):
            tell(alert)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


@app.command()
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


@app.command()
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
        if value not in ("", None, [], {}):
            show.out.print(f"[bold]{name.replace('_', ' ')}[/]: {value}", soft_wrap=True)
    if streams:
        columns = [name for name in ("stream", "payload", "messages", "messages_per_second", "gaps", "code", "unit")
                   if name in streams[0]]  # fmt: skip
        show.table("", columns, [[row[name] for name in columns] for row in streams])


@app.command()
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
    first, last = _interval(reader, start, end)
    summary = write(
        reader, target, start=first, end=last, streams=tuple(streams or ["*"]), overwrite=overwrite
    )  # fmt: skip
    if json:
        show.json_line(summary)
    else:
        show.out.print(f"wrote {target}: {msgspec.to_builtins(summary)}", soft_wrap=True)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="engine, theatre")],
    quick: Annotated[bool, typer.Option("--quick", help="Seconds instead of minutes; figures are rougher.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    json: Json = False,
) -> None:
    """Measure, beside a named baseline in the same run. Exit code 1 where a goal is not met."""
    from pipeline.bench import BenchOptions
    from pipeline.bench.document import document

    entry = registry.names("benches").get(name)
    if entry is None:
        raise VigilError(f"there is no bench {name!r}", mend=nearest(name, registry.names("benches")))
    with show.err.status("measuring") if show.err.is_terminal else contextlib.nullcontext():
        rows = entry.load()(BenchOptions(quick=quick, seed=seed))
    found = document(name, ["vigil", *sys.argv[1:]], seed, rows)
    if json:
        show.json_line(found)
    else:
        cells = [
            [row.name, f"{row.value:,.4g} {row.unit}", row.baseline_name, _cell(row.baseline), _cell(row.ratio),
             row.goal, {True: "met", False: "NOT MET", None: ""}[row.met]]
            for row in rows
        ]  # fmt: skip
        show.table(f"{name} on {found['machine']}", ["what", "value", "beside", "", "ratio", "goal", ""], cells)
    sys.exit(1 if any(row.met is False for row in rows) else 0)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


@app.command()
def schema() -> None:
    """JSON Schema of topology files, for editors."""
    from pipeline.topology import schema as topology_schema

    print(msgspec.json.format(msgspec.json.encode(topology_schema()), indent=2).decode())
