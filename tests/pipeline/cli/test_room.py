"""Launch, watch, command and record a room, from the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli.recorder import recording_graph, source_of
from pipeline.errors import VigilError
from pipeline.journal import JournalReader
from tests.pipeline.cli.test_commands import documents, vigil

TOPOLOGY = """\
room: ${ROOM:-seven}
operators:
  theatre: {use: theatre, with: {case: eventful, video: false}}
  freshness:
    use: monitor.freshness
    from: [theatre.numerics]
    with: {watches: [{scope: stream, of: numerics, channels: ["*/ETCO2"], silent_after_seconds: 0.2, priority: low}]}
  alerts: {use: alerts, from: freshness.conditions}
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a launch whose data is in ``data`` and whose output is in ``out``; ended by SIGTERM."""
    folder = tmp_path_factory.mktemp("room")
    (folder / "room.yaml").write_text(TOPOLOGY)
    arguments = ["launch", str(folder / "room.yaml"), "--data", str(folder / "data"), "--port", "0", "--json"]
    with (folder / "out").open("w") as out:
        running = subprocess.Popen(
            [sys.executable, "-c", "from pipeline.cli import main; main()", *arguments], stdout=out, text=True
        )
    until = time.monotonic() + 60
    while not (folder / "out").read_text():
        assert time.monotonic() < until, "no alert was told"
        assert running.poll() is None
        time.sleep(0.1)
    yield folder
    if running.poll() is None:
        running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 0


def test_what_launch_tells_is_in_the_journal(room: Path) -> None:
    first = json.loads((room / "out").read_text().splitlines()[0])["alert"]
    entries = list(JournalReader(room / "data" / "journal.db").entries())
    assert (first["alert_id"], first["revision"]) == (entries[0].alert.alert_id, entries[0].alert.revision)


def test_a_person_acknowledges_pauses_and_resumes(room: Path) -> None:
    data = room / "data"
    for arguments in (["acknowledge"], ["pause", "--seconds", "30"], ["resume"]):
        (said,) = documents(vigil(*arguments, "--by", "anaesthesia", "--data", data, "--json"))
        outcome = said["outcome"]
        assert isinstance(outcome, dict)
        assert outcome["done"], outcome
        assert outcome["command"]["room"] == "seven"
    assert "in the journal as by nurse" in vigil("acknowledge", "--by", "nurse", "--data", data).stdout
    refused = vigil("acknowledge", "nobody", "--by", "nurse", "--data", data, expect=1)
    assert "not active" in refused.stderr
    assert "--by ROLE" in vigil("resume", "--data", data, expect=2).stderr


def test_subscribe_tells_alerts_of_the_room_asked_for(room: Path) -> None:
    journal = room / "data" / "journal.db"
    assert documents(vigil("subscribe", "--journal", journal, "--no-follow", "--json"))
    assert not documents(vigil("subscribe", "--journal", journal, "--no-follow", "--json", "--room", "eight"))


def test_nobody_is_there_to_command(tmp_path: Path) -> None:
    assert "no vigil runs there" in vigil("resume", "--room", "7", "--by", "x", "--data", tmp_path, expect=2).stderr


@pytest.mark.parametrize(
    ("address", "operator", "options"),
    [
        ("rtsp://camera/1", "video.rtsp", {"url": "rtsp://camera/1"}),
        ("/dev/video2", "video.capture", {"device": "v4l2:/dev/video2"}),
        ("srt://10.0.0.1:9000", "video.capture", {"device": "srt://10.0.0.1:9000"}),
        ("mllp:2575", "monitor.hl7", {"port": 2575}),
        ("eventful", "theatre", {"case": "eventful"}),
    ],
)
def test_an_address_names_its_operator(address: str, operator: str, options: dict[str, object]) -> None:
    assert source_of(address) == (operator, options)


def test_what_cannot_be_recorded_is_told(tmp_path: Path) -> None:
    for address in ("nothing.vital", "http://page", "a/b", ""):
        with pytest.raises(VigilError):
            source_of(address)
    with pytest.raises(VigilError, match="nothing to record"):
        recording_graph([], "", {}, tmp_path / "a.mcap")


def test_record_writes_what_the_sources_send_and_says_that_it_is_simulated(tmp_path: Path) -> None:
    (said,) = documents(vigil("record", "uneventful", "--for", "2", "--out", tmp_path / "a.mcap", "--json"))
    found = said["recording"]
    assert isinstance(found, dict)
    (looked,) = documents(vigil("inspect", tmp_path / "a.mcap", "--json"))
    assert looked["simulated"] is True
    assert found["origin"] == "simulated"
    assert {row["stream"].partition("/")[0] for row in looked["streams"]} >= {"theatre.numerics", "theatre.waveforms"}  # type: ignore[attr-defined]
    assert sum(row["count"] for row in looked["streams"]) == found["messages"]  # type: ignore[attr-defined]
