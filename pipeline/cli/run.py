"""Commands that run a graph: replay, launch, demo."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import registry
from pipeline.cli import show
from pipeline.cli.common import (
    Json,
    Setting,
    TopologyName,
    alert_nodes,
    interval,
    listener,
    open_readers,
    parse_speed,
    replay_progress,
    stop_on_signals,
    teller,
    told_from,
    topology_path,
    values_of,
)


def replay(
    sources: Annotated[
        list[Path],
        typer.Argument(help=".mcap, .vital, WFDB (.hea), .csv, a video, a theatre case; several are composed."),
    ],
    topology: TopologyName = "",
    speed: Annotated[str, typer.Option(help="Times real time, or max.")] = "1",
    start: Annotated[str, typer.Option("--from", help="605, 10m5s, 0:10:05 after the start, or an ISO time.")] = "",
    end: Annotated[str, typer.Option("--to", help="As --from.")] = "",
    repeat: Annotated[bool, typer.Option("--repeat", help="Of several: shorter ones begin again and again.")] = False,
    digest: Annotated[bool, typer.Option("--digest", help="Print only the digest of the alerts.")] = False,
    settings: Setting = None,
    json: Json = False,
) -> None:
    """Play a recorded case through a topology: the same alerts, bit for bit, at any speed.

    Nothing leaves the run: no broker is told and no journal is written. Several sources are played side by side from
    the longest one's beginning; what comes of that is labelled composed.

    Example: vigil replay clip.mp4 case.vital --repeat --topology operating_room --speed max
    """
    from pipeline.alerts import Digest
    from pipeline.replay import Replay, topology_for
    from pipeline.topology import load

    times = parse_speed(speed)
    reader = open_readers(sources, repeat=repeat)
    path = topology_path(topology or topology_for(reader))
    values = {"CASE": str(sources[0]), "VIDEO": str(sources[0]), **values_of(settings)}
    graph = load(path, values)
    first, last = interval(reader, start, end)
    found = Digest()
    with tempfile.TemporaryDirectory(prefix="vigil-replay-") as folder:
        names = " ".join(source.name for source in sources)
        command = f"vigil replay {names}{' --repeat' * repeat} --topology {path.stem}"
        play = Replay(
            reader, graph, speed=times, start=first, end=last, data=Path(folder), command=command
        )  # fmt: skip
        for node in alert_nodes(graph):
            play.engine.listen(node, "alerts", found)
            if not digest:
                play.engine.listen(node, "alerts", listener(json=json))

        async def run() -> Any:
            stop_on_signals(play.engine.stop)
            return await play.run(found.result)

        with replay_progress(play, reader, first, last):
            summary = asyncio.run(run())
    reader.close()
    if digest and not json:
        print(summary.digest)
    elif json:
        show.json_line({"summary": summary, "suppressed": found.suppressed})
    else:
        show.out.print(
            f"{summary.messages:,} messages, {summary.event_seconds:,.0f} s of {reader.path.name} in "
            f"{summary.wall_seconds:.1f} s ({summary.times_real_time:,.0f}x real time): "
            f"[bold]{summary.alerts} alerts[/], {found.suppressed} withheld\ndigest {summary.digest}"
        )
        for warning in summary.warnings:
            show.err.print(f"[yellow]note:[/] {warning}", soft_wrap=True)
    if play.engine.stopped:
        sys.exit(130)


def launch(
    topology: Annotated[str, typer.Argument(help="A topology file, or the name of a shipped one.")],
    room: Annotated[str, typer.Option(help="Name of the room; the topology's own where not given.")] = "",
    data: Annotated[Path, typer.Option(help="Where recordings are written.")] = Path("data"),
    port: Annotated[int, typer.Option(help="Loopback port of /healthz, /readyz, /metrics, /status; 0 any.")] = 9464,
    kafka: Annotated[str, typer.Option(help="host:port of a broker that alerts are carried to.")] = "",
    settings: Setting = None,
    json: Json = False,
) -> None:
    """Run a topology on this machine until its sources end, or until Ctrl-C or SIGTERM.

    What is told here is in the journal already; where an alerts node has none, it is told directly.
    """
    from pipeline.alerts import Digest
    from pipeline.cli.live import Signalled, nothing, strip
    from pipeline.engine import Engine, RunOptions
    from pipeline.health import served
    from pipeline.topology import load

    values = ({"KAFKA": kafka} if kafka else {}) | values_of(settings)
    graph = load(topology_path(topology), values)
    engine = Engine(graph, RunOptions(room=room, data=data))
    found, signalled = Digest(), Signalled(engine, alert_nodes(graph))
    journals = []
    for node in alert_nodes(graph):
        engine.listen(node, "alerts", found)
        journal = getattr(graph.nodes[node].config, "journal", "")
        if journal:
            journals.append(data / journal)
        else:
            engine.listen(node, "alerts", listener(json=json))

    async def run() -> None:
        stop_on_signals(engine.stop)
        async with served(engine, port=port) as bound:
            if not json:
                show.err.print(f"{show.NOTICE}  {graph.name} in {engine.room}, http://127.0.0.1:{bound}/status")
            async with nothing(engine) if json else strip(engine, signalled):
                await engine.run()

    with contextlib.ExitStack() as stack:
        for path in journals:
            stack.enter_context(told_from(path, teller(json=json)))
        asyncio.run(run())
    if json:
        show.json_line({"summary": {"alerts": found.count, "suppressed": found.suppressed}})
    else:
        show.err.print(f"{found.count} alerts, {found.suppressed} withheld")


def record(
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="rtsp://..., srt://..., v4l2:/dev/video0, decklink:0, mllp:2575, a recording, a case."),
    ] = None,
    target: Annotated[Path, typer.Option("--out", "-o", help="The .mcap to write; a taken name gets a number.")] = Path(
        "recording.mcap"
    ),
    topology: Annotated[str, typer.Option("--topology", "-t", help="Record all sources of this topology.")] = "",
    duration: Annotated[str, typer.Option("--for", help="90, 10m, 0:10:00; until Ctrl-C where not given.")] = "",
    room: Annotated[str, typer.Option(help="Name of the room.")] = "room",
    raw: Annotated[
        bool, typer.Option("--raw", help="Keep pictures from outside the body, text and faces, too.")
    ] = False,
    settings: Setting = None,
    json: Json = False,
) -> None:
    """Record streams: what the devices send, with its times. A recording cut off by a crash still opens.

    Pictures pass a privacy guard first: what lies outside the body and burned-in text are blanked, unless --raw.

    Example: vigil record rtsp://camera/stream mllp:2575 --out case.mcap --for 2h
    """
    from pipeline.cli.recorder import recording_graph, run_recording
    from pipeline.replay import parse_moment

    graph = recording_graph(sources or [], topology and topology_path(topology), values_of(settings), target, raw=raw)
    seconds = (parse_moment(duration, 0) or 0) / 1e9 if duration else None
    found = run_recording(graph, target, room, seconds)
    if json:
        show.json_line({"recording": found})
    else:
        show.out.print(
            f"wrote {found['path']}: {found['messages']:,} messages of {len(found['streams'])} streams, "
            f"{found['bytes'] / 1e6:,.1f} MB in {found['seconds']:.0f} s"
        )
    sys.exit(0 if found["messages"] else 1)


def demo(
    case: Annotated[str, typer.Argument(help="A shipped case (eventful, uneventful) or a case file.")] = "eventful",
    json: Json = False,
) -> None:
    """A simulated operation in real time, alerts told over a genuine Apache Kafka broker, and the score.

    Exit code 1 where a planted event was missed or an alert was false.
    """
    from pipeline.cli.live import Signalled, nothing, strip
    from pipeline.topology import load

    def say(line: str) -> None:
        show.err.print(f"[dim]{line}[/]", soft_wrap=True)

    run = registry.names("demos")["theatre"].load()
    say(f"{show.NOTICE} Everything in this demo is simulated.")
    beside = nothing if json else lambda engine: strip(engine, Signalled(engine, alert_nodes(engine.graph)))
    build = lambda values: load(topology_path("theatre"), values)  # noqa: E731
    found = asyncio.run(run(case, build, teller(json=json), say, beside))
    if json:
        show.json_line({"summary": found})
    else:
        rows = [
            [m["kind"], m["code"], "yes" if m["found"] else "NO", show.cell(m["delay_seconds"])]
            for m in found["matches"]
        ]
        show.table("\nplanted", ["event", "told as", "found", "seconds after onset"], rows)
        plain = {name: value for name, value in found.items() if not isinstance(value, list)}
        show.table("\nsummary", ["", ""], [[name.replace("_", " "), value] for name, value in plain.items()])
    sys.exit(1 if found["missed"] or found["false"] else 0)
