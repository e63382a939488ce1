"""Durable before told: the journal."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.alerts import AlertMachine, Origins
from pipeline.errors import RecordingError, VigilError
from pipeline.journal import Journal, JournalReader
from pipeline.message import Alert, AlertCondition, Rule


def alert(number: int, run: str = "") -> Alert:
    condition = AlertCondition(
        "low", True, "high", "physiological", "pressure is low", number, "limits", Rule("limit", "1", "0")
    )  # fmt: skip
    return AlertMachine(Origins("room", "case", "test", run)).condition(condition, number, "live")[0]


def written(path: Path) -> list[Alert]:
    reader = JournalReader(path)
    found = [entry.alert for entry in reader.entries()]
    reader.close()
    return found


def test_what_is_appended_is_there_in_order_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    path, alerts = tmp_path / "new" / "journal.db", [alert(number) for number in range(50)]
    for half in (alerts[:25], alerts[25:]):
        journal = Journal(path)
        for one in half:
            journal.append("alert", one)
        journal.close()
        assert journal.committed == 25
    assert written(path) == alerts
    reader = JournalReader(path)
    assert reader.verify() == (50, "")
    reader.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE entries SET body = replace(body, 'low', 'fine') WHERE sequence = 4", (3, "entry 4 was changed")),
        ("UPDATE entries SET kind = 'suppressed' WHERE sequence = 4", (3, "entry 4 was changed")),
        ("DELETE FROM entries WHERE sequence = 4", (3, "entry 4 is missing")),
        ("DELETE FROM entries WHERE sequence = 1", (0, "entry 1 is missing")),
    ],
)
def test_the_chain_shows_what_was_changed(tmp_path: Path, change: str, said: tuple[int, str]) -> None:
    journal = Journal(tmp_path / "journal.db")
    for number in range(8):
        journal.append("alert", alert(number))
    journal.close()
    database = sqlite3.connect(journal.path)
    assert database.execute(change).rowcount == 1
    database.commit()
    database.close()
    reader = JournalReader(journal.path)
    assert reader.verify() == said
    reader.close()


def test_only_one_writes_and_many_may_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    with pytest.raises(VigilError, match="another vigil writes"):
        Journal(journal.path)
    readers = [JournalReader(journal.path) for _ in range(3)]
    journal.append("alert", alert(1))
    for reader in readers:
        assert next(reader.follow(0)).sequence == 1
        reader.close()
    journal.close()


def test_a_follower_sees_what_comes(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    reader = JournalReader(journal.path)
    threading.Timer(0.1, lambda: [journal.append("alert", alert(n)) for n in range(20)]).start()
    following = reader.follow(0)
    assert [next(following).sequence for _ in range(20)] == list(range(1, 21))
    following.close()  # type: ignore[attr-defined]
    reader.close()
    journal.close()


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"SQLite format 3\0" + b"\xff" * 4000])
def test_what_is_no_journal_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"journal\.db"):
        JournalReader(path)
    if content:
        with pytest.raises(VigilError, match="is not a journal"):
            Journal(path)
        assert path.read_bytes() == content, "nothing is lost"


def test_a_missing_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="there is no journal"):
        JournalReader(tmp_path / "journal.db")


CHILD = """
import sys
from pathlib import Path
from pipeline.journal import Journal
from tests.pipeline.test_journal import alert
journal = Journal(Path(sys.argv[1]))
journal.on_commit(lambda last: print(last, flush=True))
for number in range(10**9):
    journal.append("alert", alert(number, sys.argv[2]))
    if number % 50 == 0:
        journal._queue.qsize() > 1000 and __import__("time").sleep(0.01)
"""


def killed(path: Path, run: str, commits: int) -> int:
    """Run a writer, kill it with SIGKILL after some commits; gives the last sequence it said was durable."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path), run], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    last = 0
    for _ in range(commits):
        last = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read().split()
    child.stdout.close()
    child.wait()
    return int(rest[-1]) if rest else last


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_nothing_that_was_told_is_lost_when_the_process_is_killed(tmp_path: Path, kills: int) -> None:
    path = tmp_path / "journal.db"
    for run in range(kills):
        told = killed(path, str(run), 1 + run * 7 % 13)
        reader = JournalReader(path)
        assert reader.last() >= told
        assert reader.verify() == (reader.last(), "")
        reader.close()
    alerts = written(path)
    assert len({(one.alert_id, one.revision) for one in alerts}) == len(alerts)


def test_a_reader_that_waits_for_the_file_never_meets_half_a_journal(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / f"{number}.db"
        faults: list[Exception] = []

        def read(path: Path = path, faults: list[Exception] = faults) -> None:
            while not path.is_file():
                pass
            try:
                assert JournalReader(path).last() == 0
            except Exception as error:
                faults.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        Journal(path).close()
        thread.join(10)
        assert faults == []
