"""What several commands share: options, and how alerts are told."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import registry
from pipeline.cli import show
from pipeline.errors import TopologyError, VigilError, nearest
from pipeline.message import Alert, Message
from pipeline.reader import Reader

if TYPE_CHECKING:
    from pipeline.replay import Replay

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


def open_readers(sources: Sequence[Path], *, repeat: bool = False) -> Reader:
    """One recording, or several as a composition. Raises ``RecordingError``."""
    from pipeline.recording.composition import Composition

    readers = [registry.open_reader(source) for source in sources]
    return readers[0] if len(readers) == 1 else Composition(readers, repeat=repeat)


@contextlib.contextmanager
def replay_progress(play: Replay, reader: Reader, first: int | None, last: int | None) -> Iterator[None]:
    """A bar over the replay's event time, where somebody can see it; alerts pass above it."""
    infos = reader.streams()
    if not (show.err.is_terminal and infos):
        yield
        return
    begin = first if first is not None else min(info.start for info in infos)
    span = max(1, (last if last is not None else max(info.end for info in infos)) - begin)
    stopping = threading.Event()

    def draw() -> None:
        with show.progress(reader.path.name) as bar:
            task = bar.add_task("", total=1.0)
            while not stopping.wait(0.2):
                bar.update(task, completed=max(0.0, min(1.0, (play.last - begin) / span)))

    thread = threading.Thread(target=draw, name="vigil-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def parse_speed(text: str) -> float:
    try:
        speed = float("inf") if text == "max" else float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise VigilError(f"--speed {text!r} is not a speed", mend="write 1, 10, 0.5 or max")
    return speed


def teller(*, json: bool) -> Callable[[Alert], None]:
    """How one revision of an alert is told on standard output."""

    def tell(alert: Alert) -> None:
        if json:
            show.json_line({"alert": alert})
            return
        show.out.print(show.alert_line(alert), soft_wrap=True)
        if alert.phase == "start" and (evidence := show.evidence_line(alert)):
            show.out.print(f"[dim]{evidence}[/]", soft_wrap=True)

    return tell


def listener(*, json: bool) -> Callable[[Sequence[Message[Any]]], None]:
    tell = teller(json=json)

    def listen(batch: Sequence[Message[Any]]) -> None:
        for message in batch:
            tell(message.payload)

    return listen


def interval(reader: Reader, start: str, end: str) -> tuple[int | None, int | None]:
    """``--from`` and ``--to`` as event times (ns), None where not given. Raises ``VigilError``."""
    from pipeline.replay import parse_moment

    begin = min((info.start for info in reader.streams()), default=0)
    return parse_moment(start, begin) if start else None, parse_moment(end, begin) if end else None


def stop_on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


def alert_nodes(graph: Any) -> list[str]:
    return [
        name for name, node in graph.nodes.items()
        if "alerts" in node.operator.outputs and Alert in node.operator.outputs["alerts"].types
    ]  # fmt: skip


@contextlib.contextmanager
def told_from(journal: Path, tell: Callable[[Alert], None]) -> Iterator[None]:
    """While inside, tell every alert that comes into a journal, which may not exist yet; at the end, what is left."""
    from pipeline.journal import JournalReader

    stopping = threading.Event()
    after = JournalReader(journal).last() if journal.is_file() else 0

    def follow() -> None:
        nonlocal after
        while not journal.is_file():
            if stopping.wait(0.05):
                return
        reader = JournalReader(journal)
        ended = False
        while not ended:
            ended = stopping.wait(0.05)  # looks once more after the end
            for entry in reader.entries(after):
                after = entry.sequence
                if entry.kind == "alert":
                    tell(entry.alert)
        reader.close()

    thread = threading.Thread(target=follow, name="vigil-tell", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(10.0)
