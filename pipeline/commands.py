"""How people's commands reach a running Vigil on the same machine, and how hostile ones do not.

A launch listens on the Unix socket ``commands.sock`` in its data folder; whoever may open that file (its owner) may
command. One connection carries one JSON ``Command`` on one line and is answered with one line: the ``Outcome``, once
it is in the journal, or ``{"error": ...}``. Commands over Kafka take the same way from ``decode`` on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import socketserver
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from pipeline.errors import MessageError, VigilError
from pipeline.journal import JournalReader
from pipeline.message import Command, Outcome

log = logging.getLogger("vigil.commands")

SOCKET = "commands.sock"
LONGEST = 4096
"""Bytes of a command."""
LONGEST_NAME = 100
"""Characters of who gives it, of its room, and of its ids."""
ANSWER_SECONDS = 5.0
CONNECTIONS = 8
"""At once; more wait."""


def decode(body: bytes) -> Command:
    """A command from its JSON.

    Raises:
        MessageError: where it is none; names the field that is at fault.
    """
    if len(body) > LONGEST:
        raise MessageError(f"has {len(body)} bytes, a command has at most {LONGEST}", where="command")
    try:
        command = msgspec.json.decode(body, type=Command)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"is no command: {error}", where="command") from None
    for field in ("room", "by", "alert_id", "command_id"):
        text = getattr(command, field)
        if len(text) > LONGEST_NAME or (text and not text.isprintable()):
            raise MessageError(f"is not at most {LONGEST_NAME} printable characters", where=field)
    return command


def issue(command: str, room: str, by: str, *, alert_id: str = "", seconds: float | None = None) -> Command:
    """A command that is given now. Raises ``MessageError`` for a word that is none."""
    plain = {
        "command": command, "room": room, "by": by, "alert_id": alert_id, "seconds": seconds,
        "command_id": uuid.uuid4().hex, "issued": time.time_ns(),
    }  # fmt: skip
    return decode(msgspec.json.encode(plain))


@contextlib.contextmanager
def _reachable(folder: Path) -> Iterator[str]:
    """A name for the socket in ``folder`` that fits the 107 bytes of a Unix address, however long the folder's is."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


def send(folder: Path, command: Command, seconds: float = ANSWER_SECONDS) -> Outcome:
    """Give a command to the launch that writes to the data folder ``folder``; its outcome is on the disk already.

    Raises:
        VigilError: where none runs there, or it does not answer in time. A command that is refused is an ``Outcome``.
        MessageError: where it says that this is no command.
    """
    try:
        with _reachable(folder) as address, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(address)
            connection.sendall(msgspec.json.encode(command) + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
    except PermissionError:
        raise VigilError("only the user who launched it may command it", where=str(folder)) from None
    except TimeoutError:
        raise VigilError(f"has not answered for {seconds:g} s", where=str(folder / SOCKET)) from None
    except OSError:
        raise VigilError("no vigil runs there", where=str(folder), mend="give the --data of `vigil launch`") from None
    try:
        answer = msgspec.json.decode(line, type=dict[str, Any])
        if "error" in answer:
            raise MessageError(str(answer["error"]), where="command")
        return msgspec.convert(answer, Outcome)
    except msgspec.MsgspecError:
        raise VigilError("ended without an answer", where=str(folder / SOCKET)) from None


class Inbox:
    """Listens on the socket of a data folder, in threads of its own.

    Args:
        folder: the run's data folder; the socket is made in it, for its owner alone.
        journal: where the outcomes are written.
        take: is given each command; its outcome has to appear in the journal.
    """

    def __init__(self, folder: Path, journal: Path, take: Callable[[Command], None]) -> None:
        self.folder, self.journal, self.take = folder, journal, take
        self.refused = 0
        slots = threading.BoundedSemaphore(CONNECTIONS)
        inbox = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = 2.0

            def handle(self) -> None:
                with slots, contextlib.suppress(OSError):
                    self.wfile.write(inbox._answer(self.rfile.readline(LONGEST + 1)) + b"\n")

        (folder / SOCKET).unlink(missing_ok=True)  # the journal's lock says that no other run is alive here
        with _reachable(folder) as address:
            self._server = _Server(address, Handler, bind_and_activate=False)
            self._server.server_bind()
        (folder / SOCKET).chmod(0o600)  # nobody can connect before server_activate
        self._server.server_activate()
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="vigil-commands", daemon=True
        )
        self._thread.start()

    def _answer(self, line: bytes) -> bytes:
        try:
            if not line.endswith(b"\n"):
                raise MessageError(f"is not one line of at most {LONGEST} bytes", where="command")
            command = decode(line)
            if not command.command_id:
                command = msgspec.structs.replace(command, command_id=uuid.uuid4().hex)
        except MessageError as error:
            self.refused += 1
            return msgspec.json.encode({"error": str(error)})
        reader = JournalReader(self.journal)
        try:
            until = time.monotonic() + ANSWER_SECONDS
            after = reader.last()
            self.take(command)
            for entry in reader.follow(after, lambda: time.monotonic() > until, seconds=0.01):
                if entry.kind == "command" and entry.outcome.command.command_id == command.command_id:
                    return entry.body
        finally:
            reader.close()
        return msgspec.json.encode({"error": "the disk takes nothing, or the run is ending"})

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        (self.folder / SOCKET).unlink(missing_ok=True)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.warning("a connection broke off", exc_info=True)
