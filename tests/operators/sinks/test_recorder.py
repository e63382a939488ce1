"""The recorder in and out of a graph."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from operators.sinks.recorder import Recorder
from pipeline.engine import Engine, RunOptions
from pipeline.errors import RecordingError
from pipeline.graph import Graph
from pipeline.message import NANOSECONDS, Event, Message, Numeric
from pipeline.operator import Context
from pipeline.recording import McapReader
from pipeline.testing import run_operator
from pipeline.time import WallClock
from tests.pipeline.helpers import Count, Frames
from tests.pipeline.recording import samples
from tests.pipeline.recording.samples import T0


def read(path: Path) -> list[Message[Any]]:
    with McapReader(path) as reader:
        assert reader.truncated == ""
        return list(reader.messages())


def test_everything_it_gets_is_in_the_file(tmp_path: Path) -> None:
    messages = samples.case()
    assert run_operator(Recorder(capacity=3), messages, data=tmp_path, room="2") == []
    assert [message.order for message in read(tmp_path / "recording.mcap")] == [message.order for message in messages]
    with McapReader(tmp_path / "recording.mcap") as reader:
        assert (reader.room, reader.case) == ("2", "case")


def test_pictures_that_wait_are_bounded(tmp_path: Path) -> None:
    messages = samples.case()
    run_operator(Recorder(capacity_megabytes=0.001), messages, data=tmp_path)
    assert len(read(tmp_path / "recording.mcap")) == len(messages)


async def test_in_a_graph(tmp_path: Path) -> None:
    graph = Graph("recorded")
    graph.add("camera", Frames, count=20)
    graph.add("monitor", Count, count=50)
    graph.add("recorder", Recorder, path="room/a.mcap", unguarded=True)
    graph.connect("camera", "recorder")
    graph.connect("monitor", "recorder")
    await Engine(graph, RunOptions(speed=float("inf"), deterministic=True, data=tmp_path)).run()
    found = read(tmp_path / "room" / "a.mcap")
    assert sum(message.stream == "camera.video" for message in found) == 20
    assert sum(message.stream == "monitor.output" for message in found) == 50


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    message = Message("a.b", T0, 0, Event("x"))
    for _ in range(3):
        run_operator(Recorder(), [message], data=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "recording-2.mcap",
        "recording-3.mcap",
        "recording.mcap",
    ]


def test_what_cannot_be_recorded_is_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    bad = Message("a.b", T0, 0, Event("x", "", {"a": object()}))
    run_operator(recorder, [bad, Message("a.b", T0 + 1, 1, Event("y"))], data=tmp_path)
    assert recorder.refused == 1
    assert "a.b #0" in caplog.text
    assert len(read(tmp_path / "recording.mcap")) == 1


class NoRoom:
    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class OnFullDisk(Recorder):
    def setup(self) -> None:
        super().setup()
        assert self._writer is not None
        self._writer._container.file = NoRoom(self._writer._container.file)  # type: ignore[assignment]


def test_a_full_disk_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    messages = [Message("a.b", T0 + i * NANOSECONDS, i, Numeric("a", "", "", 1.0)) for i in range(2000)]
    with pytest.raises(RecordingError, match="the disk is full"):
        run_operator(OnFullDisk(capacity=16), messages, data=tmp_path)


async def test_a_lone_message_reaches_the_disk_while_nothing_follows(tmp_path: Path) -> None:
    recorder = Recorder(flush_seconds=0.02)
    recorder.context = Context(clock=WallClock(), data=tmp_path)
    recorder.setup()
    try:
        await recorder.process(Message("alerts.out", T0, 0, Event("alert")))
        for _ in range(200):
            await asyncio.sleep(0.01)
            with McapReader(tmp_path / "recording.mcap") as reader:
                if list(reader.messages()):
                    break
        else:
            pytest.fail("the message stayed in memory")
    finally:
        await recorder.teardown()


async def test_a_replay_writes_only_into_its_own_folder(tmp_path: Path) -> None:
    recorder = Recorder(path=tmp_path / "elsewhere" / "a.mcap")
    recorder.context = Context(clock=WallClock(), data=tmp_path / "run", replaying=True)
    recorder.setup()
    await recorder.teardown()
    assert (tmp_path / "run" / "a.mcap").exists()
    assert not (tmp_path / "elsewhere").exists()
