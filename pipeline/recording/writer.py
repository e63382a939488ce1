"""Writes a recording: messages in, an MCAP file out."""

from __future__ import annotations

import contextlib
import errno
import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec

from pipeline.errors import MessageError, RecordingError, VigilError
from pipeline.message import Message, Numeric, SyntheticFrame, VideoFrame, Waveform
from pipeline.recording import payloads, protobuf
from pipeline.recording.container import ContainerWriter
from pipeline.recording.video import Layout, VideoEncoder

FORMAT = "1"
"""Version of what Vigil puts into an MCAP file."""
OPEN_ENCODERS = 16
"""Encoders kept at a time; one that is put away begins again with a key frame."""


class _Video(msgspec.Struct):
    """Where the pictures of one stream and layout go."""

    channel: int
    segment: int
    last: tuple[int, int] = (0, 0)
    """Time and sequence of the last picture."""


class McapWriter:
    """A recording being written. Not thread-safe: write from one thread at a time.

    A stream becomes one channel for each type of payload and origin it carries, video also for each picture size and
    format. Pictures become ``foxglove.CompressedVideo`` (H.264, Annex B), so their pixels are read back close to, not
    equal to, what was written, unless ``lossless``. Everything else is read back equal: ``vigil.<Payload>`` as JSON,
    with its JSON Schema in the file. Traces are not recorded: monotonic clocks mean nothing later.

    The same messages give the same bytes. Messages may come out of order across streams; readers order them.

    Args:
        path: the file, which must not exist.
        case: name of the case; never that of the patient.
        room: name of the room.
        simulated: True where no patient was involved, so that the file says so even while empty.
        overwrite: write over an existing file.
        lossless: keep every pixel, in a profile that few other players decode.
        quality: x264's constant rate factor where not ``lossless``: 0 best, 51 worst.
        preset: x264's preset: speed against size.
        chunk_seconds: event time after which messages are handed to the operating system.
        metadata: further text about the whole recording.

    Raises:
        RecordingError: for a file that exists or cannot be written; from any method, when the disk is full.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        case: str = "",
        room: str = "",
        simulated: bool = False,
        overwrite: bool = False,
        lossless: bool = False,
        quality: float = 18.0,
        preset: str = "superfast",
        chunk_seconds: float = 1.0,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.lossless, self.quality, self.preset = lossless, quality, preset
        self.counts: dict[str, int] = {}
        """Messages written, by stream."""
        self._channels: dict[tuple[str, type, str], int] = {}
        self._schemas: dict[str, int] = {}
        self._videos: dict[tuple[str, str, Layout], _Video] = {}
        self._encoders: OrderedDict[int, VideoEncoder] = OrderedDict()
        self._failure: RecordingError | None = None
        self._closed = False
        about = dict(metadata or {}) | {"format": FORMAT, "case": case, "room": room}
        about |= {"simulated": "true" if simulated else "false"}
        try:
            self._file: BinaryIO = self.path.open("wb" if overwrite else "xb")
        except FileExistsError:
            mend = "choose another name, or say that it may be overwritten"
            raise RecordingError("there is a file of that name", where=str(path), mend=mend) from None
        except OSError as error:
            raise self._cannot(error) from None
        try:
            self._container = ContainerWriter(self._file, about, chunk_nanoseconds=round(chunk_seconds * 1e9))
        except OSError as error:
            raise self._fail(error) from None

    def write(self, message: Message[Any]) -> None:
        """Record one message.

        Raises:
            MessageError: for a message that cannot be recorded; the recording goes on without it.
            RecordingError: where the file cannot be written any more; what was written stays readable.
        """
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise RecordingError("is closed", where=str(self.path))
        if not (0 <= message.time < 2**63 and 0 <= message.sequence < 2**32):
            where = f"{message.stream} #{message.sequence}"
            raise MessageError(f"time {message.time} or sequence is outside what a recording holds", where=where)
        try:
            if isinstance(message.payload, (VideoFrame, SyntheticFrame)):
                channel, data = self._video(message)
            else:
                data = payloads.encode(message.payload)
                channel = self._channel(message)
            self._container.add(channel, message.sequence, message.time, data)
        except OSError as error:
            raise self._fail(error) from None
        except (VigilError, ValueError) as error:
            text = error.message if isinstance(error, VigilError) else str(error)
            raise MessageError(text, where=f"{message.stream} #{message.sequence}") from None
        self.counts[message.stream] = self.counts.get(message.stream, 0) + 1

    @property
    def waiting(self) -> bool:
        """True where messages are not in the file yet."""
        return not self._closed and self._failure is None and self._container.waiting

    @property
    def bytes_written(self) -> int:
        return self._container.offset

    def flush(self, *, sync: bool = False) -> None:
        """Hand everything to the operating system; with ``sync`` also to the disk. Raises ``RecordingError``."""
        if self._closed or self._failure is not None:
            return
        try:
            self._container.flush()
            if sync:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise self._fail(error) from None

    def close(self) -> None:
        """Write the closing index and close. May be called again. Raises ``RecordingError`` when the disk is full."""
        if self._closed:
            return
        self._closed = True
        self._encoders.clear()
        if self._failure is not None:
            return
        try:
            self._container.finish()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise self._fail(error) from None

    def __enter__(self) -> McapWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        with contextlib.suppress(RecordingError):  # the error under way is the one to hear of
            self.close()

    # ------------------------------------------------------------------------------------ private

    def _channel(self, message: Message[Any]) -> int:
        payload = message.payload
        kind: Any = type(payload)
        key = (message.stream, kind, message.origin)
        channel = self._channels.get(key)
        if channel is None:
            about = {"payload": kind.__name__, "origin": message.origin}
            if isinstance(payload, (Numeric, Waveform)):
                about |= {"channel": payload.channel, "code": payload.code, "unit": payload.unit}
            if isinstance(payload, Waveform):
                about["rate"] = repr(float(payload.rate))
            schema = self._schema(f"vigil.{kind.__name__}", "jsonschema", payloads.schema(kind))
            channel = self._channels[key] = self._container.channel(message.stream, "json", schema, about)
        return channel

    def _schema(self, name: str, encoding: str, data: bytes) -> int:
        if name not in self._schemas:
            self._schemas[name] = self._container.schema(name, encoding, data)
        return self._schemas[name]

    def _video(self, message: Message[VideoFrame | SyntheticFrame]) -> tuple[int, bytes]:
        layout = Layout.of(message.payload, self.lossless)
        key = (message.stream, message.origin, layout)
        place = self._videos.get(key)
        now = (message.time, message.sequence)
        if place is None or now < place.last:
            # Readers decode in time order, so a picture from the past begins a channel of its own.
            segment = 0 if place is None else place.segment + 1
            schema = self._schema(protobuf.NAME, "protobuf", protobuf.descriptor())
            about = {"origin": message.origin, "segment": str(segment), **layout.metadata()}
            place = _Video(self._container.channel(message.stream, "protobuf", schema, about), segment)
            self._videos[key] = place
        encoder = self._encoders.pop(place.channel, None) or VideoEncoder(layout, self.quality, self.preset)
        picture = encoder.encode(message.payload, message.time)
        self._encoders[place.channel] = encoder
        while len(self._encoders) > OPEN_ENCODERS:
            self._encoders.popitem(last=False)
        place.last = now
        return place.channel, protobuf.encode(message.time, message.stream, picture)

    def _cannot(self, error: OSError) -> RecordingError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return RecordingError("the disk is full", where=str(self.path), mend="free space; what was written is kept")
        return RecordingError(f"cannot be written: {error.strerror or error}", where=str(self.path))

    def _fail(self, error: OSError) -> RecordingError:
        self._failure = self._cannot(error)
        with contextlib.suppress(OSError):
            self._file.close()
        return self._failure
