"""MLLP, the framing of HL7 v2 over TCP: byte 0x0B, the message, 0x1C 0x0D; one answer for each message.

The server is written for an open network port: a message's size, the time it may take, the number of connections and
the bytes between messages are bounded, and a peer that breaks a bound is told so, logged and cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NamedTuple

from pipeline.errors import MessageError

log = logging.getLogger("vigil.mllp")

START, END = b"\x0b", b"\x1c\x0d"
READ = 1 << 16


class Bounds(NamedTuple):
    """What a peer may do."""

    message_bytes: int = 1 << 20
    """Longest message."""
    stray_bytes: int = 1 << 12
    """Bytes outside messages, in all, after which the peer is not speaking MLLP. Line ends do not count."""
    message_seconds: float = 10.0
    """From a message's first byte to its last."""
    answer_seconds: float = 5.0
    """For the peer to take our answer."""
    connections: int = 16
    """At once; one more is closed straight away."""


class Deframer:
    """Cuts a byte stream into messages. Never keeps more than the longest message and one read."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.bounds = bounds or Bounds()
        self.stray = 0
        self._buffer = bytearray()
        self._searched = 0
        """Bytes of the buffer that hold no end."""
        self.inside = False
        """True while a message has begun and not ended."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they come; the messages that are complete now, without their framing.

        A start byte inside a message means that the end was lost: what came before it is stray, the new one counts.

        Raises:
            MessageError: where a message is too long or the bytes are no MLLP. The stream cannot be used any more.
        """
        self._buffer += data
        found = []
        while True:
            if not self.inside and not self._begin():
                return found
            end = self._buffer.find(END, self._searched)
            length = len(self._buffer) if end < 0 else end
            if length > self.bounds.message_bytes:
                raise MessageError(f"a message is longer than {self.bounds.message_bytes:,} bytes", where="MLLP")
            if end < 0:
                self._searched = max(0, len(self._buffer) - 1)
                return found
            body = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            self._searched, self.inside = 0, False
            again = body.rfind(START)
            if again >= 0:
                self._count(again)
                body = body[again + 1 :]
            found.append(body)

    def _begin(self) -> bool:
        start = self._buffer.find(START)
        before = self._buffer if start < 0 else self._buffer[:start]
        self._count(len(before) - before.count(b"\r") - before.count(b"\n"))
        if start < 0:
            self._buffer.clear()
            return False
        del self._buffer[: start + 1]
        self._searched, self.inside = 0, True
        return True

    def _count(self, stray: int) -> None:
        self.stray += stray
        if self.stray > self.bounds.stray_bytes:
            raise MessageError(f"more than {self.bounds.stray_bytes:,} bytes outside messages", where="MLLP")


def frame(message: bytes) -> bytes:
    """A message in its framing."""
    return START + message + END


Answer = Callable[[bytes, int], bytes | None]
"""Takes a message and a number for its connection; gives the answer, or None for none. Must not raise."""


class MllpServer:
    """Listens on one address and gives every message to ``answer``.

    Args:
        answer: called in the event loop for each message, in order per connection.
        refuse: makes the answer to a stream that cannot be read; the connection is closed after it.
        changed: called with the number of open connections when that changes.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        refuse: Callable[[MessageError], bytes],
        changed: Callable[[int], None] = lambda _: None,
        bounds: Bounds | None = None,
    ) -> None:
        self.answer, self.refuse, self.changed, self.bounds = answer, refuse, changed, bounds or Bounds()
        self.refused = 0
        """Connections that were cut off for what they sent or because there were too many."""
        self._server: asyncio.Server | None = None
        self._open: dict[int, asyncio.StreamWriter] = {}
        self._number = 0

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Begin to listen; the address that was bound. Raises ``OSError`` where it cannot be."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=READ)
        name = self._server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    async def stop(self) -> None:
        """Close the door and every connection."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._open.values()):
            writer.transport.abort()
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= self.bounds.connections:
            self.refused += 1
            log.warning("connection refused: %d are open already", len(self._open))
            writer.transport.abort()
            return
        self._number += 1
        number = self._number
        self._open[number] = writer
        self.changed(len(self._open))
        try:
            await self._converse(reader, writer, number)
        except (ConnectionError, TimeoutError) as error:
            log.info("connection %d lost: %s", number, type(error).__name__)
        finally:
            writer.transport.abort()
            del self._open[number]
            self.changed(len(self._open))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        deframer = Deframer(self.bounds)
        loop = asyncio.get_running_loop()
        due: float | None = None
        while True:
            try:
                async with asyncio.timeout_at(due):
                    data = await reader.read(READ)
                if not data:
                    return
                messages = deframer.feed(data)
            except (MessageError, TimeoutError) as error:
                fault = error if isinstance(error, MessageError) else MessageError(
                    f"a message took longer than {self.bounds.message_seconds:g} s", where="MLLP"
                )  # fmt: skip
                self.refused += 1
                log.warning("connection %d cut off: %s", number, fault)
                await self._write(writer, self.refuse(fault))
                return
            for message in messages:
                answer = self.answer(message, number)
                if answer is not None:
                    await self._write(writer, answer)
            if not deframer.inside:
                due = None
            elif due is None or messages:
                due = loop.time() + self.bounds.message_seconds

    async def _write(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        writer.write(frame(answer))
        async with asyncio.timeout(self.bounds.answer_seconds):
            await writer.drain()


class MllpClient:
    """Sends messages and waits for their answers: for tests, and for what speaks HL7 to others."""

    def __init__(self, host: str, port: int, *, timeout_seconds: float = 5.0) -> None:
        self.host, self.port, self.timeout = host, port, timeout_seconds

    async def __aenter__(self) -> MllpClient:
        async with asyncio.timeout(self.timeout):
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        self.deframer = Deframer()
        self.answers: list[bytes] = []
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    async def send(self, message: bytes) -> bytes:
        """Send one message; its answer. Raises ``ConnectionError`` or ``TimeoutError`` where none comes."""
        self.writer.write(frame(message))
        return await self.receive()

    async def receive(self) -> bytes:
        """The next answer."""
        async with asyncio.timeout(self.timeout):
            await self.writer.drain()
            while not self.answers:
                data = await self.reader.read(READ)
                if not data:
                    raise ConnectionResetError("the server closed the connection")
                self.answers += self.deframer.feed(data)
        return self.answers.pop(0)
