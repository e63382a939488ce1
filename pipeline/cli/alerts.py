"""Commands about alerts: subscribe, acknowledge, pause, resume, verify."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from pipeline.cli import show
from pipeline.cli.common import Json, teller
from pipeline.errors import VigilError
from pipeline.message import Alert, Status

if TYPE_CHECKING:
    from pipeline.heartbeat import Heartbeats


Room = Annotated[str, typer.Option(help="Only this room.")]
KafkaAddress = Annotated[str, typer.Option("--kafka", help="host:port of a broker; without it, the box's own files.")]
KafkaFile = Annotated[Path | None, typer.Option("--kafka-config", help="YAML with the broker's address, TLS and SASL.")]
By = Annotated[str, typer.Option("--by", help="Your role or station, e.g. anaesthesia. Never a patient.")]
Data = Annotated[Path, typer.Option("--data", help="The --data of `vigil launch`.")]


def kafka_settings(address: str, file: Path | None) -> Any:
    """The broker that the options name, or None. Raises ``VigilError``."""
    if not address and file is None:
        return None
    import pydantic
    import yaml

    from pipeline.kafka import KafkaSettings

    try:
        given = yaml.safe_load(file.read_text()) if file is not None else {}
        return KafkaSettings(**(given or {}) | ({"bootstrap": address} if address else {}))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise VigilError(f"cannot be read: {error}", where=str(file)) from None
    except (pydantic.ValidationError, TypeError) as error:
        mend = f"options: {', '.join(KafkaSettings.model_fields)}"
        raise VigilError(str(error).partition("\n")[2].strip() or str(error), where=str(file), mend=mend) from None


def subscribe(
    kafka: KafkaAddress = "",
    journal: Annotated[Path, typer.Option(help="The journal of a running or ended launch.")] = Path("data/journal.db"),
    beginning: Annotated[bool, typer.Option("--from-beginning", help="Tell what is there already, too.")] = False,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more.")] = True,
    room: Room = "",
    status: Annotated[bool, typer.Option("--status", help="Tell each heartbeat, too.")] = False,
    kafka_config: KafkaFile = None,
    json: Json = False,
) -> None:
    """Follow alerts, from a broker or from a journal. Every alert told here is on the box's disk already.

    A room whose heartbeat stops is told on standard error: then its alerts do not arrive.
    """
    from pipeline.heartbeat import Heartbeats

    tell = teller(json=json)
    beats = Heartbeats(lambda line: show.err.print(f"[bold yellow]warning:[/] {escape(line)}", soft_wrap=True))
    if not json:
        show.err.print(show.NOTICE)

    def hear(beat: Status | None) -> None:
        if beat is not None and status and beats.newest.get(beat.room) != beat:
            show.json_line({"status": beat}) if json else show.out.print(show.status_line(beat), soft_wrap=True)
        beats.hear(beat)

    settings = kafka_settings(kafka, kafka_config)
    with contextlib.suppress(KeyboardInterrupt):
        if settings is not None:
            asyncio.run(_follow_kafka(settings, beginning, room, tell, hear, beats))
        else:
            _follow_journal(journal, beginning, follow, room, tell, hear, beats)


def _follow_journal(
    path: Path, beginning: bool, follow: bool, room: str,
    tell: Callable[[Alert], None], hear: Callable[[Status | None], None], beats: Heartbeats,
) -> None:  # fmt: skip
    from pipeline.journal import JournalReader

    reader = JournalReader(path)
    after = 0 if beginning or not follow else reader.last()
    due = 0.0

    def tick() -> bool:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + 1.0
            hear(reader.status(room))
            beats.check()
        return False

    for entry in reader.follow(after, tick) if follow else reader.entries(after):
        if entry.kind == "alert" and room in ("", entry.alert.room):
            tell(entry.alert)


async def _follow_kafka(
    settings: Any, beginning: bool, room: str,
    tell: Callable[[Alert], None], hear: Callable[[Status | None], None], beats: Heartbeats,
) -> None:  # fmt: skip
    from pipeline.kafka import statuses
    from pipeline.kafka import subscribe as alerts

    async def listen() -> None:
        async for alert in alerts(settings, beginning=beginning, room=room):
            tell(alert)

    async def watch() -> None:
        async for beat in statuses(settings, room=room):
            hear(beat)

    async def check() -> None:
        while True:
            beats.check()
            await asyncio.sleep(1.0)

    try:
        async with asyncio.TaskGroup() as tasks:
            for work in (listen(), watch(), check()):
                tasks.create_task(work)
    except* VigilError as errors:
        raise errors.exceptions[0] from None


def acknowledge(
    alert_id: Annotated[str, typer.Argument(help="Of one alert; all of the room where not given.")] = "",
    by: By = "",
    room: Room = "",
    data: Data = Path("data"),
    kafka: KafkaAddress = "",
    kafka_config: KafkaFile = None,
    json: Json = False,
) -> None:
    """Say that somebody knows: the alert is signalled no more until it gets worse. Exit code 1 where refused."""
    _command("acknowledge", by, room, data, kafka_settings(kafka, kafka_config), json, alert_id=alert_id)


def pause(
    alert_id: Annotated[str, typer.Argument(help="Of one alert; all of the room where not given.")] = "",
    by: By = "",
    seconds: Annotated[float | None, typer.Option(help="How long; the room's longest pause where not given.")] = None,
    alarm: Annotated[bool, typer.Option("--alarm", help="Alarms, not their sound alone: new ones are hidden.")] = False,
    room: Room = "",
    data: Data = Path("data"),
    kafka: KafkaAddress = "",
    kafka_config: KafkaFile = None,
    json: Json = False,
) -> None:
    """Pause the sound of alerts for a while; new ones are still signalled. Exit code 1 where refused."""
    word = "pause_alarm" if alarm else "pause_audio"
    settings = kafka_settings(kafka, kafka_config)
    _command(word, by, room, data, settings, json, alert_id=alert_id, seconds=seconds)


def resume(
    alert_id: Annotated[str, typer.Argument(help="Of one alert; all of the room where not given.")] = "",
    by: By = "",
    room: Room = "",
    data: Data = Path("data"),
    kafka: KafkaAddress = "",
    kafka_config: KafkaFile = None,
    json: Json = False,
) -> None:
    """End a pause before its time. Exit code 1 where refused."""
    _command("resume", by, room, data, kafka_settings(kafka, kafka_config), json, alert_id=alert_id)


def _command(word: str, by: str, room: str, data: Path, settings: Any, json: bool, **options: Any) -> None:
    from pipeline import commands
    from pipeline.journal import JournalReader

    if not by.strip():
        raise VigilError("nobody is named who gives the command", mend="--by ROLE, e.g. --by anaesthesia")
    if not room:
        beat = JournalReader(data / "journal.db").status() if settings is None else None
        if beat is None:
            raise VigilError("no room is named", mend="--room NAME; `vigil subscribe --status` shows the rooms")
        room = beat.room
    command = commands.issue(word, room, by, **options)
    if settings is None:
        outcome = commands.send(data, command)
    else:
        from pipeline.kafka import send_command

        outcome = asyncio.run(send_command(settings, command))
    if json:
        show.json_line({"outcome": outcome})
    elif outcome.done:
        show.out.print(f"done, {len(outcome.alerts)} alerts changed; it is in the journal as by {escape(by)}")
    else:
        show.err.print(f"[bold red]refused:[/] {escape(outcome.reason)}", soft_wrap=True)
    sys.exit(0 if outcome.done else 1)


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
