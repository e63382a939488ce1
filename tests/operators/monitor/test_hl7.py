"""HL7 v2: what gateways send becomes the right messages; what strangers send becomes an answer."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
import socket
from collections.abc import Callable
from datetime import UTC
from typing import Any

import hl7 as other_parser
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.monitor.hl7 import Hl7Listener
from operators.monitor.hl7_message import moment, parse, time_text
from operators.monitor.hl7_report import read
from operators.monitor.mllp import MllpClient
from pipeline import registry
from pipeline.engine import Engine, RunOptions
from pipeline.errors import MessageError, VigilError
from pipeline.message import AlertCondition, Event, Message, Numeric, Waveform
from pipeline.operator import Context
from pipeline.time import ReplayClock, WallClock
from pipeline.topology import loads
from tests.operators.monitor.hl7_samples import PATIENT, T0, S, alert, header, observations

SECRETS = ("mustermann", "erika", "mrn4711", "heidestrasse", "19700101")


class Room:
    """A listener whose clock the test sets, fed without a network."""

    def __init__(self, **options: Any) -> None:
        self.listener = Hl7Listener(name="gateway", **options)
        self.clock = ReplayClock(T0, float("inf"))
        self.listener.context = Context(clock=self.clock)

    def hear(self, data: bytes, at: int = T0) -> str:
        """The acknowledgement's code and text."""
        self.clock.reached = at
        answer = self.listener.answer(data)
        if answer is None:
            return ""
        lines = {line[:3]: line.split("|") for line in answer.decode().split("\r")}
        return " ".join((lines["MSA"][1], *(lines["ERR"][7:8] if "ERR" in lines else ())))

    def said(self, kind: type) -> list[Message[Any]]:
        found = [message for message in self.listener._waiting if isinstance(message.payload, kind)]
        return found

    def values(self) -> dict[str, float]:
        return {message.payload.channel: message.payload.value for message in self.said(Numeric)}


def test_numerics_come_with_codes_units_and_device_time() -> None:
    room = Room()
    assert room.hear(observations()) == "CA"
    found = {message.payload.channel: message for message in room.said(Numeric)}
    assert set(found) == {"GATEWAY/ABP_MEAN", "GATEWAY/HR", "GATEWAY/PLETH_SAT_O2"}
    pressure = found["GATEWAY/ABP_MEAN"]
    assert pressure.payload == Numeric("GATEWAY/ABP_MEAN", "MDC_PRESS_BLD_ART_ABP_MEAN", "mm[Hg]", 58.0)
    assert pressure.stream == "gateway.numerics/GATEWAY/ABP_MEAN"
    assert pressure.time == T0
    assert (found["GATEWAY/HR"].payload.unit, found["GATEWAY/PLETH_SAT_O2"].payload.unit) == ("/min", "%")


def test_numbers_alone_name_what_was_measured() -> None:
    room = Room()
    room.hear(observations({"150039": ("1.1.2.1", "61", "mm[Hg]^^UCUM"), "999999^^MDC": ("1.1.2.2", "1", "")}))
    assert room.values() == {"GATEWAY/ABP_MEAN": 61.0, "GATEWAY/MDC_999999": 1.0}


@pytest.mark.parametrize(("value", "tail"), [("", ""), ('""', ""), ("0", "INV"), ("12", "NAV~L")])
def test_no_value_is_no_value_and_never_zero(value: str, tail: str) -> None:
    room = Room()
    line = f"OBX|9|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.1.3.1|{value}|262688^MDC_DIM_PERCENT^MDC||{tail}|||R"
    assert room.hear(observations({}, extra=(line,))) == "CA"
    assert math.isnan(room.values()["GATEWAY/PLETH_SAT_O2"])


def test_a_bad_value_is_named_and_the_rest_is_taken() -> None:
    room = Room()
    said = room.hear(observations(extra=("OBX|7|NM|151708^MDC_CONC_AWAY_CO2_ET^MDC|1.1.4.1|thirty|||||||R",)))
    assert said.startswith("CA")
    assert "segment 9 OBX-5" in said
    assert len(room.values()) == 3


def test_a_waveform_comes_in_chunks_with_its_gaps() -> None:
    samples = [f"{80 + i % 7}" for i in range(125)]
    samples[25:55] = [""] * 30
    room = Room()
    wave = f"OBX|9|NA|150016^MDC_PRESS_BLD_ART_ABP^MDC|1.1.2.5|{'^'.join(samples)}|266016^MDC_DIM_MMHG^MDC|||||R"
    rate = "OBX|10|NM|67981^MDC_ATTR_SAMP_RATE^MDC|1.1.2.5.1|125|264608^MDC_DIM_PER_SEC^MDC|||||R"
    assert room.hear(observations({}, extra=(wave, rate))) == "CA"
    found = room.said(Waveform)
    assert {message.stream for message in found} == {"gateway.waveforms/GATEWAY/ABP"}
    assert found[0].payload.rate == 125
    assert found[0].payload.unit == "mm[Hg]"
    assert all(len(message.payload.values) <= 12 for message in found)
    there = np.concatenate([message.payload.values for message in found])
    assert np.isfinite(there).sum() == 95
    assert not (there == 0).any()
    # Chunks of 12 samples: number 3 (samples 36 to 47) held nothing, and there is no message for it.
    assert T0 + 36 * S // 125 not in {message.time for message in found}


def test_a_waveform_goes_on_without_a_seam_where_its_stamps_jitter() -> None:
    room = Room()
    for second in range(3):
        wave = (
            f"OBX|9|NA|150016^MDC_PRESS_BLD_ART_ABP^MDC|1.1.2.5|{'^'.join(['80'] * 100)}|266016^MDC_DIM_MMHG^MDC|||||R"
        )
        rate = "OBX|10|NM|67981^MDC_ATTR_SAMP_RATE^MDC|1.1.2.5.1|100|||||R"
        sent = T0 + second * S + (second % 2) * 8_000_000
        room.hear(observations({}, extra=(wave, rate), control=str(second), time=sent), at=sent + 30_000_000)
    times = [message.time for message in room.said(Waveform)]
    assert {b - a for a, b in itertools.pairwise(times)} == {S // 10}


def test_a_wrong_clock_is_put_right_and_nothing_comes_from_the_future() -> None:
    room = Room()
    hour = 3600 * S
    for second in range(30):
        sent = T0 + second * S
        room.hear(observations(control=str(second), time=sent + hour), at=sent + 40_000_000)
    found = [message for message in room.said(Numeric) if message.payload.channel.endswith("HR")]
    assert len(found) == 30
    assert all(abs(message.time - (T0 + second * S)) <= 50_000_000 for second, message in enumerate(found))
    events = [message.payload for message in room.said(Event)]
    assert [event.kind for event in events] == ["clock"]
    assert events[0].data["ahead_seconds"] == pytest.approx(3600, abs=0.1)
    # Two hundred years ahead is a clock, too.
    other = Room()
    other.hear(observations(time=T0 + 180 * 365 * 24 * hour))
    assert all(message.time <= T0 for message in other.said(Numeric))


@pytest.mark.parametrize("change", [-3600, 3600, 90])
def test_a_clock_that_is_set_loses_nothing(change: int) -> None:
    room = Room()
    for second in range(40):
        sent = T0 + second * S + (change * S if second >= 20 else 0)
        room.hear(observations(control=str(second), time=sent), at=T0 + second * S + 40_000_000)
    found = [message.time for message in room.said(Numeric) if message.payload.channel.endswith("HR")]
    assert len(found) == 40
    assert all(abs(time - (T0 + second * S)) <= 100_000_000 for second, time in enumerate(found))
    assert [event.payload.kind for event in room.said(Event)] == ["clock", "clock"]


def test_sent_again_is_taken_once_and_answered_twice() -> None:
    room = Room()
    assert [room.hear(observations()), room.hear(observations())] == ["CA", "CA"]
    assert len(room.said(Numeric)) == 3
    assert room.hear(observations(control="2", time=T0 + S, observed=time_text(T0))) == "CA"
    assert len(room.said(Numeric)) == 3  # the same measurement in a new message
    assert room.listener.counts["repeated"] == 4


def test_old_and_late_values_are_counted_not_given() -> None:
    room = Room()
    room.hear(observations())
    room.hear(observations(control="2", time=T0 + 5 * S, observed=time_text(T0 - S)), at=T0 + 5 * S)
    room.hear(observations(control="3", time=T0 + 6 * S, observed=time_text(T0 - 300 * S)), at=T0 + 6 * S)
    assert len(room.said(Numeric)) == 3
    assert (room.listener.counts["late"], room.listener.counts["old"]) == (3, 3)


def test_two_patients_never_mix() -> None:
    room = Room()
    assert room.hear(observations()) == "CA"
    assert room.hear(observations(control="2", bed="OR^2^A")).startswith("CR PV1-3: comes from a second bed")
    room = Room(bed="2")
    assert room.hear(observations()).startswith("CR")
    assert room.hear(observations(control="2", bed="OR^2^A")) == "CA"


def test_two_places_that_measure_the_same_are_two_channels() -> None:
    room = Room()
    twice = {"150344^MDC_TEMP^MDC": ("1.1.5.1", "36.5", "268192^MDC_DIM_DEGC^MDC"),
             "150344^MDC_TEMP^MDC^x": ("1.2.5.1", "35.9", "268192^MDC_DIM_DEGC^MDC")}  # fmt: skip
    room.hear(observations(twice))
    assert room.values() == {"GATEWAY/TEMP": 36.5, "GATEWAY/TEMP~2": 35.9}


def test_demo_mode_is_not_live() -> None:
    room = Room()
    room.hear(observations({}, extra=("OBX|9|NM|147842^MDC_ECG_HEART_RATE^MDC|1.1.1.1|60|||DEMO|||R",)))
    assert [message.origin for message in room.said(Numeric)] == ["simulated"]


@pytest.mark.parametrize("old", [False, True])
def test_both_dialects_of_alerts(old: bool) -> None:
    room = Room()
    for number, (phase, priority) in enumerate(
        (("start", "PM"), ("continue", "PM"), ("escalate", "PH"), ("end", "PH"))
    ):
        at = T0 + number * 5 * S
        assert room.hear(alert(phase, control=str(number), time=at, priority=priority, old=old), at=at) == "CA"
    said = [message.payload for message in room.said(AlertCondition)]
    assert [(c.present, c.priority, c.kind) for c in said] == [
        (True, "medium", "physiological"), (True, "high", "physiological"), (False, "high", "physiological"),
    ]  # fmt: skip
    assert {(c.code, c.subject, c.onset) for c in said} == {("mdc_evt_lo_val_lt_lim", "GATEWAY/PLETH_SAT_O2", T0)}
    assert (said[0].value, said[0].unit, said[2].ended) == (88.0, "%", T0 + 15 * S)
    assert "90-100" in said[0].text
    assert said[0].evidence[0].stream == "gateway.numerics/GATEWAY/PLETH_SAT_O2"
    phases = [message.payload.data["phase"] for message in room.said(Event) if message.payload.kind == "device_alarm"]
    assert phases == ["start", "continue", "escalate", "end"]


def test_an_end_without_a_start_is_nothing_and_a_late_comer_is_told() -> None:
    room = Room()
    room.hear(alert("end"))
    assert room.said(AlertCondition) == []
    room.hear(alert("continue", control="10"))
    assert [message.payload.present for message in room.said(AlertCondition)] == [True]


def test_a_watchdog_is_a_sign_of_life() -> None:
    lines = (header("R40", "5", T0), "OBR|1||W1^GW|196616^MDC_EVT_ALARM^MDC",
             "OBX|1|NM|67860^MDC_ATTR_CONFIRM_TIMEOUT^MDC|1.0.0.0.1|30||||||R",
             "OBX|2|ST|68484^MDC_ATTR_ALARM_PRIORITY^MDC|1.0.0.0.6|PN||||||R",
             "OBX|3|ST|68481^MDC_ATTR_EVENT_PHASE^MDC|1.0.0.0.3|tpoint||||||R")  # fmt: skip
    room = Room()
    assert room.hear("\r".join(lines).encode()) == "CA"
    assert "watchdog" in [message.payload.kind for message in room.said(Event)]
    assert room.said(AlertCondition) == []


def test_no_patient_leaves_the_parser(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    room = Room()
    local = "OBX|8|NM|MRN4711^Mustermann pressure^99LOCAL|1.9.9.1|5|mmHg|||||R"
    words = "OBX|9|ST|184504^MDC_NOTE^MDC|1.9.9.2|Erika Mustermann is well||||||R"
    bad = "OBX|10|NM|147842^MDC_ECG_HEART_RATE^MDC|1.1.1.9|Mustermann|||||||R"
    room.hear(observations(extra=(local, words, bad)))
    room.hear(alert("start", text="Erika MUSTERMANN (mrn4711): SpO2 low"))
    room.hear(b"MSH|^~\\&|Mustermann|||||ADT^A01|1|P|2.6\r" + PATIENT.encode())
    room.hear(
        header("R01", "3", T0, sender="Mustermann").encode() + b"\r" + PATIENT.encode() + b"\rOBX|1|NM|147842|1|5"
    )
    for text in (caplog.text, repr(list(room.listener._waiting)), repr(room.listener._alarms)):
        assert not [secret for secret in SECRETS if secret in text.lower()]
    assert "SpO2 low" in room.said(AlertCondition)[0].payload.text


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "AR"), (b"PID|1", "AR"), (b"MSH|^~\\&|a\0b", "AR"), (b"MSH||||||||", "AR"), (b"MSHHHHHHHHHHH", "AR"),
        (b"MSH|^~\\&|A|B|C|D||P|ADT^A01|1|P|2.6\rPID|1", "AR segment 1 MSH-9"),
        (b"MSH|^~\\&|A|B|C|D||P||ORU^R01|1|P|3\rOBX", "AR segment 1 MSH-9"),
        (b"MSH|^~\\&|A|B|C|D|||ORU^R01|1|P|3.0\rOBX|1", "AR segment 1 MSH-12"),
        (b"MSH|^~\\&|A|B|C|D|||ORU^R01||P|2.6\rOBX|1", "AR segment 1 MSH-10"),
        (b"MSH|^~\\&|A|B|C|D|||ORU^R01|1|P|2.6\rPID|1", "AR message"),
        (b"MSH|^~\\&|A|B|C|D|||ORU^R01|1|P|2.6\rOBX|1\r\x07\x08|", "AR segment 3"),
        (b"MSH|^~\\&|A|B|C|D|||ORU^R01|1|P|2.6\rMSH|^~\\&", "AR message"),
        (b"MSH|^~\\&|A|B|C|D|||ORU^R01|1|P|2.6||||||KLINGON\rOBX|1", "AR segment 1 MSH-18"),
        (b"MSH|^~\\&|A|B|C|D|||ORU^R01|1|P|2.6\r" + b"OBX|\r" * 20_000, "AR message"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_place(data: bytes, expected: str) -> None:
    room = Room()
    assert room.hear(data).startswith(expected)
    assert not room.said(Numeric)


def test_acknowledgements_follow_the_senders_mode() -> None:
    room = Room()
    assert room.hear(observations(acks="|")) == "AA"
    assert room.hear(observations(acks="NE|NE", control="2")) == ""
    answer = room.listener.answer(observations(control="<3>"))
    assert answer is not None
    fields = answer.decode().split("\r")[0].split("|")
    assert fields[8] == "ACK^R01^ACK"
    assert fields[4] == "GATEWAY^0012210000000A01^EUI-64"
    assert answer.decode().split("\r")[1] == "MSA|CA|<3>"


def test_our_parser_agrees_with_the_hl7_library() -> None:
    for data in (observations(), alert("start"), alert("end", old=True)):
        ours, theirs = parse(data), other_parser.parse(data.decode())
        assert [segment.name for segment in ours.segments] == [str(segment[0]) for segment in theirs]
        for mine, other in zip(ours.segments, theirs, strict=True):
            for number in range(1, min(len(mine.fields), 18) + 1):
                assert mine.field(number) == str(other[number])
    ours, escaped = parse(b"MSH|^~\\&|A\r"), "5 \\T\\ 6 \\X41\\ \\F\\ \\S\\ \\E\\"
    assert ours.text(escaped) == "5 & 6 A | ^ \\"
    assert other_parser.parse("MSH|^~\\&|A\r").unescape(escaped).replace("\\X41\\", "A") == ours.text(escaped)


@given(st.integers(0, 7_999_999_999_999))
def test_times_round_trip(milliseconds: int) -> None:
    time = milliseconds * 1_000_000
    assert moment(time_text(time), UTC) == time


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is so; the caller's timeout bounds it."""
    while not true():  # noqa: ASYNC110 - what is waited for lies behind a socket
        await asyncio.sleep(0.01)


def listening(port: int) -> bool:
    """True where the port cannot be taken because somebody listens on it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_over_the_network_from_connection_to_condition() -> None:
    """The real server, a real client, and a graph's side: messages, answers, hostile bytes, and the lost link."""
    listener = Hl7Listener(name="gateway", port=0, link_seconds=0.3, message_bytes=4096)
    listener.context = Context(clock=WallClock())
    heard: list[Message[Any]] = []

    async def listen() -> None:
        async for message in listener.run():
            heard.append(message)

    task = asyncio.create_task(listen())
    async with asyncio.timeout(10):
        await until(lambda: listener.address is not None)
        assert listener.address is not None
        now = listener.context.clock.now()
        async with MllpClient(*listener.address) as client:
            assert b"MSA|CA|1" in await client.send(observations(time=now))
            assert b"MSA|AR|" in await client.send(b"nonsense")
            assert b"MSA|CA|9" in await client.send(alert("start", time=now))
            async with MllpClient(*listener.address) as stranger:
                answer = await stranger.send(b"x" * 8192)
                assert b"MSA|AR|" in answer
                assert b"longer than 4,096 bytes" in answer
                with pytest.raises(ConnectionError):
                    await stranger.send(observations())
            assert b"MSA|CA|3" in await client.send(observations(control="3", time=now + S))
        await until(lambda: "gateway_disconnected" in repr(heard))
        async with MllpClient(*listener.address) as client:
            await client.send(observations(control="4", time=now + 2 * S))
            await until(lambda: len([m for m in heard if isinstance(m.payload, AlertCondition)]) == 3)
        codes = [(m.payload.code, m.payload.present) for m in heard if isinstance(m.payload, AlertCondition)]
        assert codes == [
            ("mdc_evt_lo_val_lt_lim", True), ("gateway_disconnected", True), ("gateway_disconnected", False),
        ]  # fmt: skip
        assert len([m for m in heard if isinstance(m.payload, Numeric)]) == 9
    task.cancel()
    await asyncio.wait({task})
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection(*listener.address)


async def test_in_a_running_graph_from_the_wire_to_the_rule() -> None:
    """A gateway's low pressure, over the network, through the engine, becomes our own alert; the run ends cleanly."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    topology = f"""
name: live
operators:
  monitor: {{use: monitor.hl7, with: {{port: {port}}}}}
  hypotension:
    use: monitor.hypotension
    from: {{numerics: monitor.numerics, waveforms: monitor.waveforms}}
    with: {{delay_seconds: 1, severe_mmhg: 0}}
  show: {{use: print, from: [hypotension.conditions, monitor.conditions]}}
"""
    engine = Engine(loads(topology, "live.yaml"), RunOptions())
    heard: list[Message[Any]] = []
    engine.listen("hypotension", "conditions", heard.extend)
    engine.listen("monitor", "conditions", heard.extend)
    task = asyncio.create_task(engine.run())
    async with asyncio.timeout(20):
        await until(lambda: task.done() or listening(port))
        async with MllpClient("127.0.0.1", port) as client:
            for number in range(16):  # the sender's clock is half a minute late
                sent = WallClock().now() - 30 * S
                assert b"MSA|CA" in await client.send(observations(control=str(number), time=sent))
                await asyncio.sleep(0.1)
            await client.send(alert("start", time=WallClock().now() - 30 * S))
            await until(lambda: len(heard) >= 2)
        engine.stop()
        await task
    assert [message.payload.code for message in heard[:2]] == ["hypotension", "mdc_evt_lo_val_lt_lim"]
    assert not listening(port)


async def test_a_port_that_is_taken_is_said() -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    listener = Hl7Listener(port=server.sockets[0].getsockname()[1])
    with pytest.raises(VigilError, match="cannot listen"):
        await anext(listener.run())
    server.close()
    await server.wait_closed()


# ------------------------------------------------------------------------------------------- hostile

SEEDS = (observations(), alert("start"), alert("end", old=True), observations(
    {}, extra=("OBX|9|NA|150016^MDC_PRESS_BLD_ART_ABP^MDC|1.1.2.5|1^2^^4|266016^MDC_DIM_MMHG^MDC|||||R",
               "OBX|10|NM|67981^MDC_ATTR_SAMP_RATE^MDC|1.1.2.5.1|125|||||R")))  # fmt: skip
PIECES = (b"|", b"^", b"~", b"\\", b"&", b"\r", b"\n", b"\0", b"\x0b", b"\x1c", b"\xff\xfe", b"OBX|",
          b"\\X0Z\\", b"1e999", b"-", b"nan", b"99999999999999999999", b"MSH|", b"OBR|", b"PID|", b"\\" * 50,
          b"^" * 300, b"20260230250000")  # fmt: skip


def attack(room: Room, chance: random.Random) -> None:
    data = bytearray(chance.choice(SEEDS))
    for _ in range(chance.randrange(1, 8)):
        at = chance.randrange(len(data) + 1)
        what = chance.randrange(4)
        if what == 0 and data:
            data[at % len(data)] = chance.randrange(256)
        elif what == 1:
            data[at:at] = chance.choice(PIECES)
        elif what == 2:
            del data[at : at + chance.randrange(30)]
        else:
            data[at:at] = data[: chance.randrange(200)]
    answered(room, bytes(data))


def answered(room: Room, data: bytes) -> None:
    """Every message is answered, refused ones with a place, and what comes out is in order and sane."""
    try:
        read(parse(data), room.listener.zone)
    except MessageError as error:
        assert error.where
    answer = room.listener.answer(data)
    assert answer is None or b"\rMSA" in answer
    last: dict[str, tuple[int, int]] = {}
    for message in room.listener._waiting:
        assert message.order[::2] >= last.get(message.stream, (0, -1))
        last[message.stream] = (message.time, message.sequence)
        assert message.time <= room.clock.now() + 10 * S
        if isinstance(message.payload, Numeric):
            assert math.isnan(message.payload.value) or abs(message.payload.value) < 1e120
        assert len(repr(message.payload)) < 20_000
    room.listener._waiting.clear()


def unhandled(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "not handled" in record.getMessage()]


@settings(max_examples=200, deadline=2000)
@given(st.one_of(st.binary(max_size=400), st.binary(max_size=300).map(lambda tail: b"MSH|^~\\&|" + tail)))
def test_any_bytes_get_an_answer(data: bytes) -> None:
    answered(Room(), data)


def test_damaged_messages_get_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(20261124)
    for _ in range(60):
        room = Room()
        for _ in range(10):
            attack(room, chance)
    assert not unhandled(caplog)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_damaged_messages(caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(20261125)
    for _ in range(5_000):
        room = Room()
        for _ in range(20):
            attack(room, chance)
    assert not unhandled(caplog)


def test_a_topology_finds_it_by_name() -> None:
    assert registry.names("operators")["monitor.hl7"].load() is Hl7Listener
