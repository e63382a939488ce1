"""The command that judges alerts: score."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import registry
from pipeline.cli import show
from pipeline.cli.common import Json, Setting, TopologyName, alert_nodes, topology_path, values_of
from pipeline.errors import VigilError

if TYPE_CHECKING:
    from pipeline.alerts.truth import ResolvedTruth
    from pipeline.message import Alert
    from pipeline.reader import Reader


def score(
    source: Annotated[Path, typer.Argument(help="What `vigil replay` takes, a recording with alerts, or a journal.")],
    truth: Annotated[
        Path | None, typer.Option("--truth", help="YAML or JSON: what happened. A theatre case brings its own.")
    ] = None,
    topology: TopologyName = "",
    settings: Setting = None,
    json: Json = False,
) -> None:
    """Judge alerts by what happened: found, missed, false, how early, and the burden. Exit code 1 where one was missed.

    Alerts that a recording or journal holds are judged as they are; any other recording, and any with --topology, is
    replayed as fast as it goes.
    """
    from pipeline.alerts.truth import load

    given = load(truth) if truth is not None else None
    if source.suffix == ".db":
        if topology:
            raise VigilError("a journal cannot be replayed", where=str(source), mend="leave --topology out")
        alerts, span, how = _journal(source)
        if given is None:
            raise VigilError("says nothing of what happened", where=str(source), mend="--truth FILE")
        if given.relative or given.monitored is None:
            mend = "give `start:` and `monitored:` in the truth file"
            raise VigilError("a journal does not say when its recording began and ended", where=str(source), mend=mend)
        resolved = given.resolve(*span)
    else:
        with contextlib.closing(registry.open_reader(source)) as reader:
            resolved = _truth_of(reader, source, given)
            held = any(info.payload == "Alert" for info in reader.streams())
            alerts, how = _held(reader) if held and not topology else _replayed(reader, source, topology, settings)
    _tell(resolved, alerts, {"recording": source.name, "truth": truth.name if truth else source.name} | how, json=json)


def _truth_of(reader: Reader, source: Path, given: Any) -> ResolvedTruth:
    if given is None:
        own = getattr(reader, "truth", None)
        if own is None:
            raise VigilError("says nothing of what happened", where=str(source), mend="--truth FILE")
        found: ResolvedTruth = own()
        return found
    infos = [info for info in reader.streams() if info.payload != "Alert"]
    if not infos and (given.relative or given.monitored is None):
        mend = "give `start:` and `monitored:` in the truth file"
        raise VigilError("holds alerts only, and not when it began and ended", where=str(source), mend=mend)
    start, end = min((info.start for info in infos), default=0), max((info.end for info in infos), default=0)
    resolved: ResolvedTruth = given.resolve(start, end)
    return resolved


def _journal(path: Path) -> tuple[list[Alert], tuple[int, int], dict[str, Any]]:
    from pipeline.journal import JournalReader

    reader = JournalReader(path)
    alerts = [entry.alert for entry in reader.entries() if entry.kind in ("alert", "suppressed")]
    reader.close()
    return alerts, (0, 0), {"alerts_from": "journal", "topology": _topologies(alerts), "origin": _origins(alerts)}


def _held(reader: Reader) -> tuple[list[Alert], dict[str, Any]]:
    from pipeline.message import Alert

    alerts = [message.payload for message in reader.messages() if isinstance(message.payload, Alert)]
    return alerts, {"alerts_from": "recording", "topology": _topologies(alerts), "origin": reader.origin}


def _replayed(
    reader: Reader, source: Path, topology: str, settings: list[str] | None
) -> tuple[list[Alert], dict[str, Any]]:
    from pipeline.alerts import Digest
    from pipeline.replay import Replay, topology_for
    from pipeline.topology import load

    path = topology_path(topology or topology_for(reader))
    graph = load(path, {"CASE": str(source), "VIDEO": str(source), **values_of(settings)})
    alerts: list[Alert] = []
    found = Digest()
    nodes = alert_nodes(graph)
    if not nodes:
        raise VigilError("has no operator that gives alerts", where=str(path), mend="add one with `use: alerts`")
    with tempfile.TemporaryDirectory(prefix="vigil-score-") as folder:
        play = Replay(reader, graph, data=Path(folder))
        for node in nodes:
            play.engine.listen(node, "alerts", lambda batch: alerts.extend(message.payload for message in batch))
            play.engine.listen(node, "alerts", found)
        asyncio.run(play.run(found.result))
    how = {"alerts_from": "replay", "topology": graph.name, "origin": reader.origin, "digest": found.hexdigest()}
    return alerts, how


def _topologies(alerts: list[Alert]) -> str:
    return ", ".join(sorted({alert.topology for alert in alerts}))


def _origins(alerts: list[Alert]) -> str:
    return ", ".join(sorted({alert.origin for alert in alerts}))


def _tell(truth: ResolvedTruth, alerts: list[Alert], about: dict[str, Any], *, json: bool) -> None:
    from pipeline.alerts.score import told_of

    found = truth.score(told_of(alerts))
    missed = found.matching.missed
    if json:
        show.json_line({"score": about | found.plain()})
        sys.exit(1 if missed else 0)
    zero = min((span[0] for span in truth.monitored), default=0)
    events = [
        [item.event.name or item.event.code, _second(item.event.onset, zero), "yes" if item.episode else "NO",
         show.cell(item.lead_seconds)]
        for item in found.matching.matches
    ]  # fmt: skip
    show.table("events", ["event", "onset, s", "found", "told before onset, s"], events)
    unexplained = [[e.code, e.subject, _second(e.onset, zero)] for e in found.matching.false]
    if unexplained:
        show.table("\nfalse alerts", ["alert", "about", "onset, s"], unexplained)
    plain = found.plain()
    rows = [[name.replace("_", " "), show.cell(value), show.cell(plain["merged"][name])]
            for name, value in plain["raw"].items()]  # fmt: skip
    show.table("\nfigures", ["", "raw", f"merged within {found.refractory_seconds:g} s"], rows)
    burden = {name: plain[name] for name in ("flips_per_hour", "alarm_minutes_per_hour")}
    lead = {f"lead {name}": value for name, value in plain["lead_seconds"].items()}
    show.table("", ["", ""], [[name.replace("_", " "), show.cell(value)] for name, value in (burden | lead).items()])
    show.err.print(f"[dim]{about['origin']} data, one patient: no interval can be given[/]", soft_wrap=True)
    sys.exit(1 if missed else 0)


def _second(time: int, zero: int) -> str:
    return f"{(time - zero) / 1e9:,.1f}"
