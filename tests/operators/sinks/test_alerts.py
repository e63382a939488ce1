"""The alerts operator in a running graph: people's commands, the heartbeat, and what is kept of both."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from operators.sinks.alerts import Alerts
from pipeline import commands
from pipeline.engine import Engine, RunOptions
from pipeline.errors import MessageError, VigilError
from pipeline.graph import Graph
from pipeline.journal import JournalReader
from pipeline.message import AlertCondition, Message, Outcome, Rule
from pipeline.metrics import EngineCollector
from pipeline.operator import Output, Source


def metrics(engine: Engine) -> str:
    registry = CollectorRegistry()
    registry.register(EngineCollector(engine))
    return generate_latest(registry).decode()


class Patient(Source):
    """One condition that stays true, in a live run that ends when it is stopped."""

    conditions: Output[AlertCondition]

    async def run(self) -> AsyncIterator[Message[Any]]:
        now = time.time_ns()
        condition = AlertCondition(
            code="hypotension", present=True, priority="high", kind="physiological", text="Mean pressure is low",
            onset=now, source="patient", rule=Rule("patient", "1", "0"),
        )  # fmt: skip
        yield self.conditions.first(condition, now)
        while not self.stopping.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


class Room:
    """A running launch."""

    def __init__(self, data: Path, **placement: Any) -> None:
        graph = Graph("ward")
        graph.add("patient", Patient)
        graph.add("alerts", Alerts, **placement)
        graph.connect("patient", "alerts")
        self.data = data
        self.engine = Engine(graph, RunOptions(room="7", data=data))
        self.alerts: list[Any] = []
        self.engine.listen("alerts", "alerts", lambda batch: self.alerts.extend(m.payload for m in batch))

    async def __aenter__(self) -> Room:
        self.task = asyncio.create_task(self.engine.run())
        for _ in range(500):
            await asyncio.sleep(0.01)
            if self.alerts and (self.data / commands.SOCKET).exists():
                return self
        raise AssertionError("the room has not begun")

    async def __aexit__(self, *_: object) -> None:
        self.engine.stop()
        await asyncio.wait_for(self.task, 10)

    async def send(self, word: str, **options: Any) -> Outcome:
        command = commands.issue(word, options.pop("room", "7"), options.pop("by", "anaesthesia"), **options)
        return await asyncio.to_thread(commands.send, self.data, command)


@pytest.mark.parametrize("placement", ["inline", "thread"])
async def test_an_acknowledgement_reaches_the_alert_and_is_kept_with_who_and_when(
    tmp_path: Path, placement: str
) -> None:
    async with Room(tmp_path, placement=placement) as room:
        outcome = await room.send("acknowledge", alert_id=room.alerts[0].alert_id)
        assert outcome.done
        assert outcome.alerts == (room.alerts[0].alert_id,)
        for _ in range(100):
            if len(room.alerts) > 1:
                break
            await asyncio.sleep(0.01)
    assert room.alerts[1].signal.presence == "acknowledged"
    assert room.alerts[1].signal.by == "anaesthesia"
    entries = list(JournalReader(tmp_path / "journal.db").entries())
    assert [entry.kind for entry in entries] == ["alert", "alert", "command"]
    assert entries[2].outcome == outcome
    assert entries[2].outcome.command.by == "anaesthesia"
    assert abs(entries[2].outcome.time - time.time_ns()) < 60e9
    assert JournalReader(tmp_path / "journal.db").verify() == (3, "")


async def test_what_cannot_be_done_is_refused_with_the_reason_and_kept(tmp_path: Path) -> None:
    async with Room(tmp_path) as room:
        refused = [
            await room.send("acknowledge", alert_id="nobody"),
            await room.send("acknowledge", room="8"),
            await room.send("alarm_off"),
            await room.send("pause_audio", seconds=-1),
            await room.send("acknowledge", by=" "),
        ]
        late = msgspec.structs.replace(commands.issue("resume", "7", "nurse"), issued=time.time_ns() - 60 * 10**9)
        refused.append(await asyncio.to_thread(commands.send, tmp_path, late))
    assert [outcome.done for outcome in refused] == [False] * 6
    assert [outcome.reason.partition(":")[0] for outcome in refused] == [
        "alert_id", "room", "alarm_off", "seconds", "by", "issued",
    ]  # fmt: skip
    kinds = [entry.kind for entry in JournalReader(tmp_path / "journal.db").entries()]
    assert kinds == ["alert"] + ["command"] * 6


async def test_a_command_told_twice_is_done_once(tmp_path: Path) -> None:
    async with Room(tmp_path) as room:
        command = commands.issue("acknowledge", "7", "surgeon")
        assert (await asyncio.to_thread(commands.send, tmp_path, command)).done
        room.engine.tell("alerts", "commands", command)
        await asyncio.sleep(0.1)
    kinds = [entry.kind for entry in JournalReader(tmp_path / "journal.db").entries()]
    assert kinds == ["alert", "alert", "command"]


async def test_the_socket_is_its_owners_alone_and_goes_with_the_run(tmp_path: Path) -> None:
    async with Room(tmp_path):
        assert stat.S_IMODE((tmp_path / commands.SOCKET).stat().st_mode) == 0o600
    assert not (tmp_path / commands.SOCKET).exists()
    with pytest.raises(VigilError, match="no vigil runs there"):
        commands.send(tmp_path, commands.issue("resume", "7", "nurse"))


async def test_a_folder_with_a_long_name(tmp_path: Path) -> None:
    data = tmp_path / ("x" * 120) / ("y" * 120)
    async with Room(data) as room:
        assert (await room.send("acknowledge")).done


async def test_what_is_no_command_is_answered_with_where_it_is_wrong(tmp_path: Path) -> None:
    async with Room(tmp_path):

        def talk(line: bytes) -> bytes:
            import socket

            with commands._reachable(tmp_path) as address, socket.socket(socket.AF_UNIX) as connection:
                connection.connect(address)
                connection.sendall(line)
                connection.shutdown(socket.SHUT_WR)
                return connection.makefile("rb").readline()

        for line in (
            b"",
            b"\n",
            b"{}\n",
            b"\xff\n",
            b"[" * 5000 + b"\n",
            b'{"command":"explode","room":"7","by":"x"}\n',
        ):
            assert b'"error":"command' in await asyncio.to_thread(talk, line)


async def test_the_heartbeat_says_what_runs_and_that_it_has_ended(tmp_path: Path) -> None:
    async with Room(tmp_path) as room:
        reader = JournalReader(tmp_path / "journal.db")
        for _ in range(200):
            if (status := reader.status("7")) is not None:
                break
            await asyncio.sleep(0.01)
        assert status is not None
        assert (status.room, status.topology, status.state, status.next_seconds) == ("7", "ward", "running", 5.0)
        assert abs(status.at - time.time_ns()) < 60e9
        room.engine.heartbeat(5.0)
        await asyncio.sleep(0.2)
        again = reader.status()
        assert again is not None
        assert [alert.alert_id for alert in again.active] == [room.alerts[0].alert_id]
        assert [stream.name for stream in again.streams] == ["patient.conditions"]
        assert again.alarms_per_hour == pytest.approx(6.0), "one alarm in a run that counts as ten minutes at least"
        assert 'vigil_alarms_per_hour{operator="alerts"} 6.0' in metrics(room.engine)
    ended = reader.status()
    assert ended is not None
    assert ended.state == "stopped"


def test_hostile_commands_are_told_from_good_ones() -> None:
    good = msgspec.json.encode(commands.issue("pause_audio", "7", "nurse", seconds=60))
    assert commands.decode(good).seconds == 60
    for body, where in (
        (b"", "command"), (b"null", "command"), (b"x" * 5000, "command"), (good[:-1], "command"),
        (good.replace(b'"7"', b'7'), "command"), (good.replace(b"nurse", b"n\\u0000"), "by"),
        (good.replace(b"nurse", b"n" * 101), "by"), (good.replace(b'"room"', b'"patient"'), "command"),
        (good.replace(b"60.0", b"1e999"), "command"), (good.replace(b"60.0", b"NaN"), "command"),
    ):  # fmt: skip
        with pytest.raises(MessageError) as caught:
            commands.decode(body)
        assert caught.value.where == where
