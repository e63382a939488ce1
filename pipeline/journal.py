"""The journal: every alert is on the disk before anyone outside the process is told.

SQLite in WAL mode with ``synchronous=FULL``: a commit returns after fsync, so what a follower sees survives a power
cut. One thread writes and commits whatever has come in meanwhile as one group, so the alarm path never waits for the
disk. Each entry carries the SHA-256 of itself and of the entry before it: a chain in which nothing can be changed or
removed unseen (unless its end is cut off, which the chain alone cannot show).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from pipeline.errors import RecordingError, VigilError
from pipeline.message import Alert, Outcome, Status
from pipeline.metrics import Histogram
from pipeline.time import stamp

log = logging.getLogger("vigil.journal")

EntryKind = Literal["alert", "suppressed", "command"]
Item = tuple[EntryKind | Literal["status"], Alert | Outcome | Status, int]
"""What waits for the disk: kind, content, and the stamp at which it came."""
GROUP = 4096
"""Entries that are committed together at most."""
CAPACITY = 200_000
"""Entries that may wait for a disk that does not take them."""
RETRY_SECONDS = 0.5

TABLES = """
CREATE TABLE IF NOT EXISTS entries (
    sequence INTEGER PRIMARY KEY, kind TEXT NOT NULL, alert_id TEXT NOT NULL, revision INTEGER NOT NULL,
    journaled INTEGER NOT NULL, body BLOB NOT NULL, digest BLOB NOT NULL, UNIQUE (alert_id, revision));
CREATE TABLE IF NOT EXISTS status (room TEXT PRIMARY KEY, body BLOB NOT NULL);
"""


class Entry(msgspec.Struct, frozen=True):
    """One line of the journal."""

    sequence: int
    kind: EntryKind
    journaled: int
    """Wall-clock nanoseconds at which its group was handed to the disk."""
    body: bytes
    """The alert, or what became of the command, as JSON."""
    digest: bytes

    @property
    def alert(self) -> Alert:
        """The alert itself."""
        return msgspec.json.decode(self.body, type=Alert)

    @property
    def outcome(self) -> Outcome:
        """What became of a command."""
        return msgspec.json.decode(self.body, type=Outcome)


def chained(previous: bytes, sequence: int, kind: str, journaled: int, body: bytes) -> bytes:
    """Digest of an entry, given that of the entry before it (empty for the first)."""
    return hashlib.sha256(b"%s%d:%s:%d:%s" % (previous, sequence, kind.encode(), journaled, body)).digest()


class Journal:
    """The writing end. One process at a time may have it.

    Raises:
        VigilError: where another process writes to it, or the file cannot be made or is not a journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.durable = Histogram()
        """Nanoseconds from ``append`` to the end of the commit."""
        self.committed = 0
        self.error = ""
        """Why the disk takes nothing now; empty while it does."""
        self._listeners: list[Callable[[int], None]] = []
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = path.with_name(path.name + ".lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise VigilError("another vigil writes to it", where=str(path), mend="give --data another folder") from None
        except OSError as error:
            raise VigilError(f"cannot be written: {error.strerror}", where=str(path)) from None
        try:
            if not path.exists():
                _create(path)
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(TABLES)
            row = self._database.execute("SELECT sequence, digest FROM entries ORDER BY sequence DESC LIMIT 1")
            found: tuple[int, bytes] = row.fetchone() or (0, b"")
            self._sequence, self._digest = found
        except sqlite3.Error as error:
            self._lock.close()
            mend = "move it away; vigil then begins a new one"
            raise VigilError(f"is not a journal: {error}", where=str(path), mend=mend) from None
        self._thread = threading.Thread(target=self._serve, name="vigil-journal", daemon=True)
        self._thread.start()

    def append(self, kind: EntryKind, content: Alert | Outcome) -> None:
        """Hand an entry to the writer; never waits. Raises ``VigilError`` where the disk has failed for too long."""
        if self._queue.qsize() >= CAPACITY:
            raise VigilError(f"takes nothing: {self.error}", where=str(self.path), mend="make room on the disk")
        self._queue.put((kind, content, stamp()))

    def note_status(self, status: Status) -> None:
        """Keep the newest status of the room beside the entries; it is no part of the chain."""
        self._queue.put(("status", status, stamp()))

    @property
    def sequence(self) -> int:
        """Of the newest entry on the disk."""
        return self._sequence

    def on_commit(self, listener: Callable[[int], None]) -> None:
        """Call ``listener`` with the last sequence after every commit, from the writer's thread."""
        self._listeners.append(listener)

    def close(self, seconds: float = 3.0) -> None:
        """Write what is there and give the file back."""
        self._queue.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            log.error("%s: closed with entries unwritten: %s", self.path, self.error)
            return
        self._database.close()
        self._lock.close()

    def _serve(self) -> None:
        while (item := self._queue.get()) is not None:
            group, ended = [item], False
            while len(group) < GROUP and not ended:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    ended = True
                else:
                    group.append(more)
            self._commit(group)
            if ended:
                return

    def _commit(self, group: list[Item]) -> None:
        statuses = [
            (content.room, msgspec.json.encode(content)) for _, content, _ in group if isinstance(content, Status)
        ]
        entries = [(kind, content, entered) for kind, content, entered in group if not isinstance(content, Status)]
        encoded = [(kind, content, msgspec.json.encode(content)) for kind, content, _ in entries]
        while True:
            sequence, digest, rows, now = self._sequence, self._digest, [], time.time_ns()
            for kind, content, body in encoded:
                sequence += 1
                digest = chained(digest, sequence, kind, now, body)
                # A command may come twice, an alert's revision may not.
                alert_id, revision = (
                    (content.alert_id, content.revision) if isinstance(content, Alert) else ("", sequence)
                )
                rows.append((sequence, kind, alert_id, revision, now, body, digest))
            try:
                self._database.execute("BEGIN IMMEDIATE")
                self._database.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
                self._database.executemany("INSERT OR REPLACE INTO status VALUES (?, ?)", statuses)
                self._database.execute("COMMIT")
                break
            except sqlite3.Error as error:
                # Nothing is given up: the group waits until the disk takes it, and the error can be seen.
                if not self.error:
                    log.error("%s takes nothing: %s", self.path, error)
                self.error = str(error)
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                time.sleep(RETRY_SECONDS)
        self._sequence, self._digest, self.error = sequence, digest, ""
        self.committed += len(entries)
        done = stamp()
        for _, _, entered in entries:
            self.durable.observe(done - entered)
        for listener in self._listeners if entries else ():
            listener(sequence)


def _create(path: Path) -> None:
    """An empty journal that is there all at once: a reader never meets a file without its tables."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    database = sqlite3.connect(partial, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.executescript(TABLES)
    finally:
        database.close()
    partial.replace(path)


class JournalReader:
    """A reading end, in any process, beside the writer.

    Raises:
        RecordingError: where the file is missing or is not a journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise RecordingError("there is no journal", where=str(path), mend="`vigil launch` makes one in --data")
        try:
            self._database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
            self.last()
        except sqlite3.Error as error:
            raise RecordingError(f"is not a journal: {error}", where=str(path)) from None

    def last(self) -> int:
        """Sequence of the newest entry, 0 where there is none."""
        found: int = self._database.execute("SELECT coalesce(max(sequence), 0) FROM entries").fetchone()[0]
        return found

    def entries(self, after: int = 0, limit: int = -1) -> Iterator[Entry]:
        """Entries behind sequence ``after``, in order."""
        query = (
            "SELECT sequence, CAST(kind AS TEXT), CAST(journaled AS INTEGER), CAST(body AS BLOB), CAST(digest AS BLOB) "
            "FROM entries WHERE sequence > ? ORDER BY sequence LIMIT ?"
        )
        try:
            for row in self._database.execute(query, (after, limit)):
                yield Entry(*row)
        except sqlite3.Error as error:
            raise RecordingError(f"is damaged: {error}", where=f"{self.path}:{after}") from None

    def follow(self, after: int, stopped: Callable[[], bool] = lambda: False, seconds: float = 0.05) -> Iterator[Entry]:
        """Entries behind ``after`` and all that come, until ``stopped``. Looks ``1 / seconds`` times a second."""
        while not stopped():
            for entry in list(self.entries(after, 1000)):
                after = entry.sequence
                yield entry
            if self.last() == after:
                time.sleep(seconds)

    def status(self, room: str = "") -> Status | None:
        """The newest heartbeat of a room (any, where not given); None where there is none."""
        try:
            row = self._database.execute(
                "SELECT CAST(body AS BLOB) FROM status WHERE ? IN ('', room) ORDER BY room", (room,)
            ).fetchone()
            return None if row is None else msgspec.json.decode(row[0], type=Status)
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            if "no such table" in str(error):  # written before there were heartbeats
                return None
            raise RecordingError(f"is damaged: {error}", where=f"{self.path}: status") from None

    def verify(self) -> tuple[int, str]:
        """Walk the chain: number of sound entries, and what is wrong behind them (empty where nothing is)."""
        digest, count = b"", 0
        for entry in self.entries():
            count += 1
            if entry.sequence != count:
                return count - 1, f"entry {count} is missing"
            digest = chained(digest, entry.sequence, entry.kind, entry.journaled, entry.body)
            if digest != entry.digest:
                return count - 1, f"entry {count} was changed"
        return count, ""

    def close(self) -> None:
        """Give the file back."""
        self._database.close()
