"""MLLP: messages come out of the bytes however the network cuts them; what is no MLLP is cut off."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.monitor.mllp import Bounds, Deframer, MllpClient, MllpServer, frame
from pipeline.errors import MessageError

BODY = st.binary(max_size=60).filter(lambda body: b"\x0b" not in body and b"\x1c" not in body)


@given(st.lists(BODY, max_size=6), st.lists(st.integers(1, 40), max_size=40))
def test_messages_come_out_however_the_bytes_are_cut(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"\r\n".join(frame(body) for body in bodies)
    deframer, found, at = Deframer(), [], 0
    for cut in [*cuts, len(stream)]:
        found += deframer.feed(stream[at : at + cut])
        at += cut
    found += deframer.feed(stream[at:])
    assert found == bodies
    assert not deframer.inside


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=300) | st.sampled_from([b"\x0b", b"\x1c\r", b"\x1c", b"\r"]), max_size=40))
def test_any_bytes_are_bounded(pieces: list[bytes]) -> None:
    bounds = Bounds(message_bytes=512, stray_bytes=256)
    deframer = Deframer(bounds)
    try:
        for piece in pieces:
            for message in deframer.feed(piece):
                assert len(message) <= 512
            assert len(deframer._buffer) <= 512 + 300 + 1
            assert deframer.stray <= 256
    except MessageError as error:
        assert error.where == "MLLP"


def test_a_message_that_lost_its_end_does_not_swallow_the_next() -> None:
    deframer = Deframer()
    assert deframer.feed(b"\x0bfirst, cut off" + frame(b"second")) == [b"second"]
    assert deframer.stray == len("first, cut off")


def test_too_long_and_not_mllp_are_refused() -> None:
    with pytest.raises(MessageError, match="longer than 10 bytes"):
        Deframer(Bounds(message_bytes=10)).feed(b"\x0b" + b"x" * 11)
    with pytest.raises(MessageError, match="outside messages"):
        Deframer(Bounds(stray_bytes=10)).feed(b"GET / HTTP/1.1\r\n")
    assert Deframer(Bounds(stray_bytes=10)).feed(b"\r\n" * 100) == []


class Echo:
    """A server that answers with the message and counts."""

    def __init__(self, bounds: Bounds) -> None:
        self.connections: list[int] = []
        self.server = MllpServer(
            lambda data, _: b"got " + data, refuse=lambda fault: b"no: " + str(fault).encode(),
            changed=self.connections.append, bounds=bounds,
        )  # fmt: skip

    async def __aenter__(self) -> tuple[str, int]:
        return await self.server.start("127.0.0.1", 0)

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop()


async def test_two_clients_and_an_orderly_end() -> None:
    echo = Echo(Bounds())
    async with echo as address, MllpClient(*address) as one, MllpClient(*address) as two:
        for number in range(50):
            text = str(number).encode()
            assert await one.send(text) == b"got " + text
            assert await two.send(text) == b"got " + text
        one.writer.write(frame(b"a") + frame(b"b"))
        assert [await one.receive(), await one.receive()] == [b"got a", b"got b"]
    assert max(echo.connections) == 2


async def test_a_message_that_never_ends_is_cut_off() -> None:
    async with Echo(Bounds(message_seconds=0.1)) as address, MllpClient(*address) as client:
        client.writer.write(b"\x0bMSH|")
        assert b"no: MLLP: a message took longer than 0.1 s" in await client.receive()
        with pytest.raises(ConnectionError):
            await client.receive()


async def test_drip_feeding_does_not_win_time() -> None:
    async with Echo(Bounds(message_seconds=0.3)) as address, MllpClient(*address) as client:
        begun = asyncio.get_running_loop().time()
        client.writer.write(b"\x0b")
        answer = asyncio.create_task(client.receive())
        while not answer.done():
            client.writer.write(b"x")
            await asyncio.sleep(0.02)
        assert b"took longer" in await answer
        assert asyncio.get_running_loop().time() - begun < 2


async def test_one_connection_too_many_is_closed() -> None:
    echo = Echo(Bounds(connections=1))
    async with echo as address, MllpClient(*address) as first:
        assert await first.send(b"a") == b"got a"
        async with MllpClient(*address) as second:
            with pytest.raises(ConnectionError):
                await second.send(b"b")
        assert await first.send(b"c") == b"got c"
        assert echo.server.refused == 1


async def flood(writer: asyncio.StreamWriter) -> None:
    for _ in range(200):
        writer.write(frame(b"x" * (1 << 19)))
        await writer.drain()


async def test_a_client_that_takes_no_answers_is_dropped() -> None:
    async with Echo(Bounds(answer_seconds=0.2)) as address:
        _reader, writer = await asyncio.open_connection(*address, limit=1024)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(flood(writer), 20)
        writer.close()


@pytest.mark.slow
def test_a_hundred_thousand_streams() -> None:
    chance = random.Random(20261124)
    pieces = (b"\x0b", b"\x1c\r", b"\x1c", b"\r", b"MSH|", b"x" * 300, b"\0")
    for _ in range(100_000):
        deframer = Deframer(Bounds(message_bytes=512, stray_bytes=256))
        try:
            for _ in range(chance.randrange(20)):
                for message in deframer.feed(chance.choice(pieces) * chance.randrange(3)):
                    assert len(message) <= 512
                assert len(deframer._buffer) <= 512 + 600
        except MessageError as error:
            assert error.where == "MLLP"
