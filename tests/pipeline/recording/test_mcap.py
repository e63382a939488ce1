"""Recordings written and read: round trips, order, seeking, cuts, damage, and what other readers make of them."""

from __future__ import annotations

import errno
import json
import random
import struct
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from pipeline.errors import MessageError, RecordingError
from pipeline.message import NANOSECONDS, Event, Message, Numeric, SyntheticFrame, VideoFrame
from pipeline.reader import Reader
from pipeline.recording import McapReader, McapWriter, protobuf
from pipeline.registry import open_reader
from tests.pipeline.recording import samples
from tests.pipeline.recording.samples import T0

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def record(path: Path, messages: list[Message[Any]], **options: Any) -> Path:
    with McapWriter(path, overwrite=True, **options) as writer:
        for message in messages:
            writer.write(message)
    return path


def read(path: Path, *span: int | None) -> list[Message[Any]]:
    with McapReader(path) as reader:
        return list(reader.messages(*span))


def alike(one: Message[Any], other: Message[Any]) -> bool:
    """Equal, but for the pixels of pictures."""
    if (one.order, one.origin) != (other.order, other.origin):
        return False
    if isinstance(one.payload, VideoFrame):
        first, second = one.payload, other.payload
        return [plane.shape for plane in first.planes] == [plane.shape for plane in second.planes]
    return samples.same(one.payload, other.payload)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Message[Any]]]:
    messages = samples.case()
    return record(tmp_path_factory.mktemp("mcap") / "case.mcap", messages, case="17", room="2"), messages


def test_what_is_read_is_what_was_written(recorded: tuple[Path, list[Message[Any]]]) -> None:
    path, messages = recorded
    reader = open_reader(path)
    assert isinstance(reader, McapReader)
    assert isinstance(reader, Reader)
    found = list(reader.messages())
    assert len(found) == len(messages)
    assert all(map(alike, found, messages))
    assert (reader.case, reader.room, reader.truncated, reader.warnings) == ("17", "2", "", [])
    assert reader.origin == "simulated"  # one of its streams is
    info = {info.stream: info for info in reader.streams()}
    assert info["camera.video"].count == 30
    assert info["camera.video"].rate == pytest.approx(10)
    wave = info["monitor.waveforms/ABP"]
    assert (wave.code, wave.unit, wave.rate, wave.start) == ("MDC_PRESS_BLD_ART_ABP", "mm[Hg]", 100.0, T0)
    assert wave.end == T0 + 3 * NANOSECONDS
    assert list(reader.messages())[5].order == messages[5].order  # may be called again
    reader.close()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2**62), st.integers(0, 99), samples.payloads), max_size=8)
)
@settings(quick, max_examples=60)
def test_any_messages_in_any_order_come_back_in_the_total_order(tmp_path: Path, made: list[Any]) -> None:
    messages = [Message(f"n.{stream}", at, number, payload, "recorded") for stream, at, number, payload in made]
    found = read(record(tmp_path / "a.mcap", messages))
    assert [message.order for message in found] == sorted(message.order for message in messages)
    left = list(messages)
    for message in found:
        del left[next(index for index, other in enumerate(left) if alike(message, other))]
    assert left == []


def test_live_comes_back_as_recorded_and_the_file_still_knows(tmp_path: Path) -> None:
    path = record(
        tmp_path / "a.mcap", [Message("a.b", T0, 0, Event("x"), "live"), Message("a.b", T0, 1, Event("y"), "composed")]
    )
    with McapReader(path) as reader:
        assert [message.origin for message in reader.messages()] == ["recorded", "composed"]
        assert reader.origins() == {"a.b": ["composed", "live"]}
        assert reader.origin == "composed"


def test_the_same_messages_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = (record(tmp_path / name, samples.case(1.0)) for name in ("a.mcap", "b.mcap"))
    assert one.read_bytes() == two.read_bytes()


@given(st.integers(-5, 35), st.integers(-5, 35))
@quick
def test_a_stretch_is_the_part_of_the_whole(recorded: tuple[Path, list[Message[Any]]], first: int, last: int) -> None:
    path, messages = recorded
    start, end = T0 + first * NANOSECONDS // 10, T0 + last * NANOSECONDS // 10
    found = read(path, start, end)
    wanted = [message for message in messages if start <= message.time < end]
    assert len(found) == len(wanted)
    assert all(map(alike, found, wanted))


def test_a_picture_is_the_same_after_a_seek(recorded: tuple[Path, list[Message[Any]]]) -> None:
    path, _ = recorded
    whole = {message.order: message.payload for message in read(path) if isinstance(message.payload, VideoFrame)}
    for start in (T0 + 1, T0 + 1_700_000_000, T0 + 2_000_000_000):
        for message in read(path, start):
            if isinstance(message.payload, VideoFrame):
                assert np.array_equal(message.payload.planes[0], whole[message.order].planes[0])


def test_video_that_is_not_asked_for_is_left_alone(recorded: tuple[Path, list[Message[Any]]]) -> None:
    with McapReader(recorded[0]) as reader:
        assert {message.stream for message in reader.messages(streams=("monitor.n*",))} == {"monitor.numerics/HR"}


# --------------------------------------------------------------------------------- video


@pytest.mark.parametrize("form", ["yuv420p", "nv12", "rgb24", "gray"])
@pytest.mark.parametrize("size", [(64, 48), (33, 17), (1, 1), (2, 5)])
@pytest.mark.parametrize("lossless", [False, True])
def test_pictures_of_any_form_and_size(tmp_path: Path, form: str, size: tuple[int, int], lossless: bool) -> None:
    messages = [
        Message("c.video", T0 + i * 40_000_000, i, samples.frame(form, *size, i), "recorded") for i in range(30)
    ]
    found = read(record(tmp_path / "a.mcap", messages, lossless=lossless))
    assert len(found) == len(messages)
    for one, other in zip(messages, found, strict=True):
        assert (other.payload.format, other.payload.width, other.payload.height) == (form, *size)
        for plane, back in zip(one.payload.planes, other.payload.planes, strict=True):
            assert plane.shape == back.shape
            off = np.abs(plane.astype(int) - back.astype(int)).mean()
            assert off == 0 if lossless else off < 6


def test_what_a_picture_says_of_itself_is_kept(tmp_path: Path) -> None:
    planes = samples.frame("gray", 16, 16).planes
    made = [VideoFrame(16, 16, "gray", planes, True, True), VideoFrame(16, 16, "gray", planes, True, False)]
    generated = SyntheticFrame(16, 16, "gray", planes, "a model")
    messages = [Message("c.video", T0 + i, i, payload, "recorded") for i, payload in enumerate([*made, generated])]
    found = [message.payload for message in read(record(tmp_path / "a.mcap", messages))]
    assert [(frame.full_range, frame.corrupt) for frame in found[:2]] == [(True, True), (True, False)]
    assert isinstance(found[2], SyntheticFrame)
    assert found[2].model == "a model"


def test_pictures_that_go_back_in_time_and_change_size(tmp_path: Path) -> None:
    order = [0, 5, 2, 3, 6, 1, 7, 4]
    messages = [
        Message("c.video", T0 + at * 40_000_000, i, samples.frame("gray", 32 + 16 * (at % 2), 16, at), "recorded")
        for i, at in enumerate(order)
    ]
    found = read(record(tmp_path / "a.mcap", messages, lossless=True))
    wanted = sorted(messages, key=lambda message: message.order)
    assert [message.order for message in found] == [message.order for message in wanted]
    for one, other in zip(wanted, found, strict=True):
        assert np.array_equal(one.payload.planes[0], other.payload.planes[0])


def units(data: bytes) -> list[int]:
    """Types of the NAL units of an Annex B picture, which must begin with a start code."""
    assert data.startswith((b"\0\0\0\1", b"\0\0\1"))
    return [part[0] & 31 for part in data.split(b"\0\0\1")[1:]]


@given(st.lists(st.integers(1, 1500), min_size=1, max_size=60))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_video_is_annex_b_with_groups_of_a_second_at_most(tmp_path: Path, pauses: list[int]) -> None:
    moments = [T0 + sum(pauses[:i]) * 1_000_000 for i in range(len(pauses))]
    messages = [Message("c.video", at, i, samples.frame("gray", 16, 16, i)) for i, at in enumerate(moments)]
    path = record(tmp_path / "a.mcap", messages)
    key = -NANOSECONDS * 9
    with path.open("rb") as file:
        for schema, channel, message in make_reader(file).iter_messages():
            assert (schema.name, schema.encoding) == ("foxglove.CompressedVideo", "protobuf")
            assert channel.message_encoding == "protobuf"
            picture = protobuf.decode(message.data)
            kinds = units(picture.data)
            assert (5 in kinds) is picture.keyframe
            if picture.keyframe:
                assert {7, 8} <= set(kinds)  # decodable from here, alone
                key = message.log_time
            assert message.log_time - key < NANOSECONDS


@pytest.mark.parametrize("rate", [25, 30, 50, 60])
def test_key_frames_of_even_video_are_a_second_apart_at_most(tmp_path: Path, rate: int) -> None:
    messages = [
        Message("c.video", T0 + i * NANOSECONDS // rate, i, samples.frame("gray", 16, 16, i)) for i in range(4 * rate)
    ]
    path = record(tmp_path / "a.mcap", messages)
    with path.open("rb") as file:
        keys = [m.log_time for _, _, m in make_reader(file).iter_messages() if protobuf.decode(m.data).keyframe]
    assert max(np.diff(keys)) <= NANOSECONDS
    assert len(keys) <= 5  # and not more of them than that takes


# --------------------------------------------------------------------------------- other readers


def test_the_mcap_library_reads_it_and_its_schemas_hold(recorded: tuple[Path, list[Message[Any]]]) -> None:
    path, messages = recorded
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        assert summary.statistics.message_count == len(messages)
        assert summary.statistics.message_start_time == messages[0].time
        assert summary.statistics.message_end_time == messages[-1].time
        found = list(reader.iter_messages(log_time_order=False))
        rates = list(reader.iter_messages(topics=["monitor.numerics/HR"]))
        assert next(iter(reader.iter_metadata())).metadata["case"] == "17"
    assert len(rates) == 6
    assert sorted((m.log_time, c.topic, m.sequence) for _, c, m in found) == [message.order for message in messages]
    for schema, channel, message in found:
        assert schema is not None
        if channel.message_encoding == "json":
            assert schema.encoding == "jsonschema"
            jsonschema.validate(json.loads(message.data), json.loads(schema.data))


# --------------------------------------------------------------------------------- cuts and damage


@given(st.data())
@quick
def test_a_file_cut_anywhere_opens_up_to_the_cut(
    recorded: tuple[Path, list[Message[Any]]], tmp_path: Path, data: st.DataObject
) -> None:
    path, messages = recorded
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    target = tmp_path / "cut.mcap"
    target.write_bytes(whole[:cut])
    if cut < 8:
        with pytest.raises(RecordingError):
            McapReader(target)
        return
    with McapReader(target) as reader:
        assert reader.truncated
        assert reader.warnings
        found = list(reader.messages())
        assert sum(info.count for info in reader.streams()) == len(found)
    assert all(map(alike, found, messages))  # a prefix


def test_a_cut_loses_a_second_at_most(recorded: tuple[Path, list[Message[Any]]], tmp_path: Path) -> None:
    path, messages = recorded
    whole = path.read_bytes()
    with McapReader(path) as reader:
        chunks = list(reader._scan.chunks)
    assert len(chunks) == 3
    target = tmp_path / "cut.mcap"
    for index, chunk in enumerate(chunks):
        target.write_bytes(whole[: chunk.data_offset + chunk.data_length])
        found = read(target)
        assert found[-1].time == chunk.end
        target.write_bytes(whole[: chunk.data_offset + chunk.data_length - 1])
        assert len(read(target)) >= sum(m.time < chunks[index - 1].end for m in messages) * (index > 0)


def test_a_recording_is_readable_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with McapWriter(path) as writer:
        for number in range(50):
            writer.write(Message("m.n", T0 + number * NANOSECONDS // 10, number, Numeric("HR", "", "", 60.0)))
        assert 40 <= len(read(path)) < 50
        assert writer.waiting
        writer.flush(sync=True)
        assert len(read(path)) == 50
        assert not writer.waiting


def test_a_damaged_chunk_is_left_out_and_named(recorded: tuple[Path, list[Message[Any]]], tmp_path: Path) -> None:
    path, messages = recorded
    whole = bytearray(path.read_bytes())
    with McapReader(path) as reader:
        chunk = reader._scan.chunks[1]
        gone = {(reader._scan.channels[r.channel].topic, r.sequence) for r in reader._scan.read(chunk)}
    whole[chunk.data_offset + chunk.data_length // 2] ^= 0x55
    target = tmp_path / "damaged.mcap"
    target.write_bytes(whole)
    with McapReader(target) as reader:
        found = list(reader.messages())
        assert any(f"chunk at byte {chunk.offset} is lost" in warning for warning in reader.warnings)
    # Video begins again at a key frame, so that some more of it may be missing.
    wanted = [m.order for m in messages if (m.stream, m.sequence) not in gone and not isinstance(m.payload, VideoFrame)]
    assert 20 < len(gone) < 40
    assert [m.order for m in found if not isinstance(m.payload, VideoFrame)] == wanted


def mutated(whole: bytes, rng: random.Random) -> bytes:
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at : at + 8] = rng.choice((b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7))
            case 2:
                del data[at : at + rng.randrange(1, 64)]
            case 3:
                data[at:at] = rng.randbytes(rng.randrange(1, 32))
        if not data:
            return b""
    return bytes(data)


def fuzz(path: Path, whole: bytes, cases: int, seed: int) -> int:
    """Opens and reads mutations of a recording; how many were refused."""
    rng = random.Random(seed)
    refused = 0
    for _ in range(cases):
        path.write_bytes(mutated(whole, rng))
        began = time.monotonic()
        try:
            with McapReader(path) as reader:
                reader.streams()
                reader.times()
                for _message in reader.messages():
                    pass
        except RecordingError as error:
            assert str(path) in str(error)
            refused += 1
        assert time.monotonic() - began < 5
    return refused


def small(path: Path, *, compressed: bool) -> bytes:
    """A recording whose mutations reach into its messages where it is not compressed (no checksums either)."""
    whole = record(path, samples.case(1.3, (16, 16))).read_bytes()
    if compressed:
        return whole
    with path.open("wb") as out:
        writer = Writer(out, chunk_size=2000, compression=CompressionType.NONE, enable_crcs=False)
        writer.start()
        source = path.with_suffix(".source")
        source.write_bytes(whole)
        channels: dict[int, int] = {}
        with source.open("rb") as file:
            for schema, channel, message in make_reader(file).iter_messages():
                assert schema is not None
                if channel.id not in channels:
                    number = writer.register_schema(schema.name, schema.encoding, schema.data)
                    channels[channel.id] = writer.register_channel(
                        channel.topic, channel.message_encoding, number, channel.metadata
                    )
                writer.add_message(
                    channels[channel.id], message.log_time, message.data, message.publish_time, message.sequence
                )
        writer.finish()
    return path.read_bytes()


@pytest.mark.parametrize("compressed", [True, False])
def test_hostile_bytes_are_read_as_far_as_they_go_or_refused(tmp_path: Path, compressed: bool) -> None:
    whole = small(tmp_path / "small.mcap", compressed=compressed)
    assert len(read(tmp_path / "small.mcap")) == len(samples.case(1.3))
    assert fuzz(tmp_path / "fuzz.mcap", whole, 200, seed=1) < 200


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("compressed", [True, False])
def test_hostile_bytes_at_length(tmp_path: Path, compressed: bool) -> None:
    whole = small(tmp_path / "small.mcap", compressed=compressed)
    fuzz(tmp_path / "fuzz.mcap", whole, 50_000, seed=2)


@pytest.mark.parametrize("data", [b"", b"MCAP", b"\x89MCAP0\r\x0b" + b"\0" * 100])
def test_what_is_not_mcap_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(data)
    with pytest.raises(RecordingError, match="byte 0"):
        McapReader(path)


def test_a_chunk_that_unfolds_without_end_is_refused(tmp_path: Path) -> None:
    bomb = zstandard.ZstdCompressor(level=3, write_content_size=False).compressobj()
    packed = b"".join(bomb.compress(b"\0" * (1 << 20)) for _ in range(64)) + bomb.flush()
    body = struct.pack("<QQQII", 0, 9, 1000, 0, 4) + b"zstd" + struct.pack("<Q", len(packed)) + packed
    path = tmp_path / "a.mcap"
    path.write_bytes(b"\x89MCAP0\r\n" + struct.pack("<BQ", 6, len(body)) + body)
    with McapReader(path) as reader:
        assert list(reader.messages()) == []
        assert any("unpacks to" in warning for warning in reader.warnings)


# --------------------------------------------------------------------------------- writing


def test_a_file_is_not_written_over(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mcap", [])
    with pytest.raises(RecordingError, match="there is a file of that name"):
        McapWriter(path)
    assert read(path) == []


@pytest.mark.parametrize(
    "message",
    [
        Message("a.b", -1, 0, Event("x")),
        Message("a.b", T0, -1, Event("x")),
        Message("a.b", T0, 0, Event("x", "", {"a": object()})),
        Message("a.b", T0, 0, VideoFrame(4, 4, "gray", (np.zeros((3, 4), np.uint8),))),
        Message("a.b", T0, 0, VideoFrame(0, 4, "gray", (np.zeros((4, 0), np.uint8),))),
    ],
)
def test_a_message_that_cannot_be_recorded_is_refused_alone(tmp_path: Path, message: Message[Any]) -> None:
    with McapWriter(tmp_path / "a.mcap") as writer:
        with pytest.raises(MessageError, match=r"a\.b #"):
            writer.write(message)
        writer.write(Message("a.b", T0, 1, Event("fine")))
    assert [found.payload.kind for found in read(tmp_path / "a.mcap")] == ["fine"]


class FullDisk:
    """A file on a disk with room for ``room`` bytes more."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: bytes) -> int:
        if self.room < len(data):
            self.file.write(data[: self.room])
            self.room = 0
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(data)
        return int(self.file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def write_all(writer: McapWriter, messages: list[Message[Any]]) -> None:
    for message in messages:
        writer.write(message)


def test_a_full_disk_is_said_and_what_was_written_is_kept(tmp_path: Path) -> None:
    messages = samples.case()
    writer = McapWriter(tmp_path / "a.mcap")
    writer._container.file = FullDisk(writer._container.file, 9000)  # type: ignore[assignment]
    with pytest.raises(RecordingError, match="the disk is full"):
        write_all(writer, messages)
    with pytest.raises(RecordingError, match="the disk is full"):
        writer.write(messages[-1])
    writer.close()
    found = read(tmp_path / "a.mcap")
    assert 0 < len(found) < len(messages)
    assert all(map(alike, found, messages))


def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with pytest.raises(RecordingError, match="the disk is full"):
        McapWriter("/dev/full", overwrite=True)
