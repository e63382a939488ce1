"""Recorded video: any container that FFmpeg reads among those a theatre produces, opened as far as it can be read."""

from __future__ import annotations

import bisect
import datetime
import fnmatch
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from operators.video.decode import (
    FAULTS,
    MAXIMUM_PIXELS,
    Hardware,
    Tally,
    nanoseconds,
    open_decoder,
    pictures,
    reason,
    video_stream,
)
from operators.video.repair import Timeline
from pipeline.errors import RecordingError
from pipeline.message import NANOSECONDS, Message, Origin, VideoFrame
from pipeline.reader import StreamInfo

UNDATED = int(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC).timestamp()) * NANOSECONDS
"""Event time of the first picture of a file that does not say when it was recorded: midnight, 1 January 2000."""
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,h264,hevc,mjpeg"
"""Containers that are opened. Play lists and the like are not: they can name other files and hosts."""
STREAM = "video/video"


class VideoReader:
    """A video file as messages. See ``pipeline.reader.Reader``; its one stream is ``video/video``.

    Event times are ``start`` plus the presentation time from the file's beginning, so a variable frame rate is kept
    as it is. ``start`` is the file's ``creation_time`` where it has one, else ``UNDATED``. Times that go backwards or
    stand still (joined transport streams) are repaired as ``TimestampRepair`` does, and reported in ``warnings``.
    Sequence numbers count the pictures of the file, also after a seek.

    Args:
        path: the file.
        start: event time of the beginning, ns; None reads it from the file.
        hardware: where to decode. ``none`` decodes the same on every machine, damaged files too.

    Raises:
        RecordingError: for a file that is not video, or cut so that no picture can be reached.
    """

    def __init__(self, path: Path | str, *, start: int | None = None, hardware: Hardware = "none") -> None:
        self.path = Path(path)
        self.origin: Origin = "recorded"
        self.warnings: list[str] = []
        self.hardware: Hardware = hardware
        self._index: list[int] | None = None
        container, stream = self._open()
        try:
            # Metadata is text from outside: a broken date is as good as none.
            created = str(container.metadata.get("creation_time") or stream.metadata.get("creation_time") or "")
            self.start = start if start is not None else _creation(created)
            self._zero = nanoseconds(stream.start_time, stream.time_base) if stream.start_time is not None else None
            # AVI counts empty places for pictures that were never there.
            self._frames = 0 if container.format.name == "avi" else max(0, int(stream.frames or 0))
            self._rate = float(stream.average_rate or stream.guessed_rate or 0)
            self._duration = _duration(container, stream)
            first = next(pictures(container, stream, Tally()), None)
        except FAULTS as error:
            raise self._broken(error) from None
        finally:
            container.close()
        if first is None:
            raise RecordingError("not one picture of it can be decoded", where=str(self.path))
        if self._zero is None:
            self._zero = first[0] or 0

    def streams(self) -> list[StreamInfo]:
        """One stream. ``end`` and ``count`` are the index's, or from reading its packets where it has none."""
        count, duration = self._frames, self._duration
        if not count or duration is None:
            times = self._times()
            count = len(times) or -1
            duration = times[-1] + round(NANOSECONDS / self._rate if self._rate else 0) if times else 0
        return [StreamInfo(STREAM, "VideoFrame", count, self.start, self.start + duration, rate=self._rate)]

    def messages(
        self, start: int | None = None, end: int | None = None, *, streams: tuple[str, ...] = ("*",)
    ) -> Iterator[Message[VideoFrame]]:
        """The pictures with ``start <= time < end``. A late ``start`` seeks to the key frame before it."""
        if not any(fnmatch.fnmatchcase(STREAM, pattern) for pattern in streams):
            return
        container, stream = self._open()
        tally, line = Tally(), Timeline()
        repaired = 0
        try:
            sequence, reached = self._seek(container, stream, start)
            for given, frame in pictures(container, stream, tally):
                time = self._event_time(given, line)
                if time < reached:
                    continue  # decoded only because the key frame lies before what was asked for
                time, fault = line.fix(time)
                repaired += fault != ""
                if end is not None and time >= end:
                    break
                if start is None or time >= start:
                    yield Message(STREAM, time, sequence, frame, self.origin)
                sequence += 1
            else:
                self._report(tally, repaired, whole=start is None or reached < 0)
        except FAULTS as error:
            raise self._broken(error) from None
        finally:
            container.close()

    def close(self) -> None:
        """Nothing stays open between reads."""
        self._index = None

    # ------------------------------------------------------------------------------------ private

    def _open(self) -> tuple[Any, Any]:
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file", "max_pixels": str(MAXIMUM_PIXELS)}

        def attempt(accelerator: Any) -> Any:
            return av.open(
                "file:" + str(self.path.absolute()), options=options, metadata_errors="replace", hwaccel=accelerator
            )

        try:
            container, _ = open_decoder(attempt, self.hardware)
        except FAULTS as error:
            raise self._broken(error) from None
        try:
            return container, video_stream(container, str(self.path), RecordingError)
        except RecordingError:
            container.close()
            raise

    def _broken(self, error: BaseException) -> RecordingError:
        mend = ""
        if self.path.suffix.lower() in (".mp4", ".mov") and "nvalid data" in str(error):
            mend = "an MP4 keeps its index at its end: one that was cut short cannot be read; record MCAP, MKV or TS"
        return RecordingError(f"is not video that can be read: {reason(error)}", where=str(self.path), mend=mend)

    def _event_time(self, given: int | None, line: Timeline) -> int:
        if given is None:  # a raw stream has no times: its pictures follow at the rate it states
            step = round(NANOSECONDS / self._rate) if self._rate else line.interval()
            return self.start if line.last_in is None else line.last_in + step
        return self.start + given - (self._zero or 0)

    def _seek(self, container: Any, stream: Any, start: int | None) -> tuple[int, int]:
        """Go to the key frame before ``start``. Returns the sequence and event time of the first picture to count."""
        if start is None or start - self.start < 2 * NANOSECONDS:
            return 0, -1
        times = self._times()
        if not times:
            return 0, -1
        sequence = min(bisect.bisect_left(times, start - self.start), len(times) - 1)
        wanted = times[sequence] + (self._zero or 0)
        base = stream.time_base
        try:
            container.seek(wanted * base.denominator // (base.numerator * NANOSECONDS), stream=stream, backward=True)
        except FAULTS:
            container.seek(0)
            return 0, -1
        return sequence, self.start + times[sequence]

    def _times(self) -> list[int]:
        """Times of all packets from the file's beginning, sorted, ns; empty where they cannot place a picture."""
        if self._index is None:
            container, stream = self._open()
            found: list[int] = []
            try:
                for packet in container.demux(stream):
                    if packet.size == 0:
                        continue
                    if packet.pts is None or packet.is_corrupt:
                        found = []
                        break
                    found.append(nanoseconds(packet.pts, packet.time_base or stream.time_base) - (self._zero or 0))
            except FAULTS:
                pass  # cut: what came before the cut is the index
            finally:
                container.close()
            self._index = [] if _jumps(found) else sorted(found)
        return self._index

    def _report(self, tally: Tally, repaired: int, *, whole: bool) -> None:
        said = tally.warnings()
        if repaired:
            said.append(f"{repaired} times went backwards, stood still or jumped, and were mended")
        if whole and 0 < tally.pictures < self._frames and not said:
            said.append(f"holds {tally.pictures} of the {self._frames} pictures that its index names")
        self.warnings.extend(line for line in said if line not in self.warnings)


def _jumps(times: list[int]) -> bool:
    """True where the times in file order cannot be told from a jump: a display order reaches 16 pictures at most."""
    ordered = sorted(times)
    place = {time: index for index, time in enumerate(ordered)}
    return len(place) < len(times) or any(abs(place[time] - index) > 32 for index, time in enumerate(times))


def _creation(text: str) -> int:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return UNDATED
    moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    # 1904 and 1970 are the zeros of clocks that were never set.
    return round(moment.timestamp() * 1_000_000) * 1000 if moment.year > 1970 else UNDATED


def _duration(container: Any, stream: Any) -> int | None:
    if stream.duration:
        length = nanoseconds(stream.duration, stream.time_base)
    elif container.duration:
        length = int(container.duration) * 1000
    else:
        return None
    return length if 0 < length < 2**60 else None
