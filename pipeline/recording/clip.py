"""A stretch of video as a clip that any player opens."""

from __future__ import annotations

import datetime
import fractions
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import av

from pipeline.errors import RecordingError
from pipeline.message import NANOSECONDS, Message, VideoFrame
from pipeline.recording.video import FAULTS, Layout, av_picture

if TYPE_CHECKING:
    from pipeline.export import Subject

_TICK = fractions.Fraction(1, 1_000_000)


class ClipSink:
    """H.264 in Matroska or MP4, pictures at their event times (Matroska keeps milliseconds).

    ``creation_time`` is the event time of the first picture, so that the clip opened as a recording keeps its time.
    A picture of another size than the first is scaled to it. The title says where the data is not a patient's.

    Raises:
        RecordingError: where not exactly one video stream was asked for.
    """

    takes: ClassVar[tuple[type, ...]] = (VideoFrame,)

    def __init__(self, path: Path, subject: Subject, form: str) -> None:
        videos = [info for info in subject.streams if info.payload == "VideoFrame"]
        if len(videos) != 1:
            mend = "choose one of " + ", ".join(info.stream for info in videos) if videos else ""
            raise RecordingError(f"a clip takes one video stream, not {len(videos)}", where=str(path), mend=mend)
        self.rows = 0
        self._rate = max(1, min(240, round(videos[0].rate) or 30))
        self._first = self._last = -1
        self._size = (0, 0)
        self._stream: Any = None
        self._container: Any = av.open(str(path), "w", format=form)
        parts = (subject.label, subject.reader.path.stem, videos[0].stream)
        self._container.metadata["title"] = " - ".join(part for part in parts if part)

    def write(self, message: Message[Any]) -> bool:
        frame = message.payload
        layout = Layout.of(frame, lossless=False)
        try:
            picture = av_picture(frame, layout)
            if self._stream is None:
                self._open(message.time, layout)
            elif self._size != layout.coded:
                picture = picture.reformat(width=self._size[0], height=self._size[1])
            ticks = (message.time - self._first) // 1000
            self._last = max(ticks, self._last + 1)  # two pictures at one time would end the file
            picture.pts, picture.time_base = self._last, _TICK
            self._container.mux(self._stream.encode(picture))
        except FAULTS as error:
            raise RecordingError(f"cannot be encoded: {error}", where=f"{message.stream} #{message.sequence}") from None
        self.rows += 1
        return True

    def close(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def abandon(self) -> None:
        self._container.close()

    def _open(self, time: int, layout: Layout) -> None:
        moment = datetime.datetime.fromtimestamp(time // NANOSECONDS, datetime.UTC)
        moment = moment.replace(microsecond=time % NANOSECONDS // 1000)
        self._container.metadata["creation_time"] = moment.isoformat().replace("+00:00", "Z")
        stream = self._container.add_stream("libx264", rate=self._rate)
        stream.width, stream.height = self._size = layout.coded
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _TICK
        stream.codec_context.color_range = 2 if layout.full_range else 1
        stream.codec_context.thread_count = 2
        stream.options = {"preset": "veryfast", "crf": "18", "g": str(self._rate)}
        self._stream, self._first = stream, time
