"""The shipped room, whole: a real film over RTSP, a monitor over MLLP, alerts in the journal, all of it recorded."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

import topologies
from operators.monitor.mllp import MllpClient
from pipeline.engine import Engine, RunOptions
from pipeline.journal import JournalReader
from pipeline.message import Alert
from pipeline.recording import McapReader
from pipeline.topology import load
from tests.operators.monitor.hl7_samples import observations
from tests.video_servers import free_port, kill, need_rtsp, rtsp_server

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


async def test_a_camera_that_dies_is_told_while_the_monitor_goes_on(shared_data: Path, tmp_path: Path) -> None:
    need_rtsp()
    port, mllp = free_port(), free_port()
    values = {"CAMERA": f"rtsp://127.0.0.1:{port}/scope", "MLLP_PORT": str(mllp), "ROOM": "3"}
    graph = load(Path(topologies.__file__).parent / "operating_room.yaml", values)
    engine = Engine(graph, RunOptions(data=tmp_path))
    told: list[Alert] = []
    engine.listen("alerts", "alerts", lambda batch: told.extend(message.payload for message in batch))
    frames = [0]
    engine.listen("camera", "video", lambda batch: frames.__setitem__(0, frames[0] + len(batch)))

    async def monitor() -> None:
        while not engine.ready:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        async with MllpClient("127.0.0.1", mllp) as client:
            for number in range(1000):
                await client.send(observations(control=str(number), time=time.time_ns()))
                await asyncio.sleep(1)

    with rtsp_server(shared_data / "laparoscopy_clip" / "endo.mp4", port) as server:
        running, sending = asyncio.create_task(engine.run()), asyncio.create_task(monitor())
        async with asyncio.timeout(60):
            while frames[0] < 50:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            kill(server)
            while not any(alert.condition.code == "stream_silent" for alert in told):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        engine.stop()
        await asyncio.wait_for(running, 10)
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
    entries = [entry.alert for entry in JournalReader(tmp_path / "journal.db").entries() if entry.kind == "alert"]
    assert entries == told
    silent = next(alert for alert in told if alert.condition.code == "stream_silent")
    assert silent.condition.subject == "camera.video/video any"
    assert "since the run began" not in silent.condition.text
    assert (silent.room, silent.origin, silent.condition.kind) == ("3", "live", "technical")
    assert silent.condition.evidence
    with McapReader(tmp_path / "recording.mcap") as reader:
        streams = {info.stream: info.count for info in reader.streams()}
    assert streams["privacy.video/video"] >= 50
    assert any(name.startswith("monitor.numerics/") and name.endswith("ABP_MEAN") for name in streams)
    assert any(name.startswith("alerts.alerts") for name in streams)
