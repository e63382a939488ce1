"""Video as sources: files played in event time, and RTSP cameras."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import av
import pydantic

from operators.video.decode import FAULTS, MAXIMUM_PIXELS, Hardware, Tally, open_decoder, pictures, reason, video_stream
from operators.video.file import VideoReader
from operators.video.live import LiveConfig, LiveVideo, Pictures
from pipeline.errors import VigilError
from pipeline.message import Message, VideoFrame
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Output, Source


class VideoFile(Source):
    """Plays a video file. Not live: the engine paces it, lets it wait, and nothing is lost.

    Raises ``RecordingError`` when it runs, where the file cannot be read.
    """

    live: ClassVar[bool] = False

    class Config(BaseConfig):
        path: Path
        """The file: MP4, MOV, MKV, AVI, TS or H.264."""
        hardware: Hardware = "none"
        """Where to decode. `none`, the processor, decodes the same on every machine."""

    video: Output[VideoFrame]

    def run(self) -> Iterator[Message[VideoFrame]]:
        """The pictures of the file in order, each once, at the times the file gives them."""
        reader = VideoReader(self.config.path, hardware=self.config.hardware)
        try:
            for message in reader.messages():
                if self.stopping.is_set():
                    return
                stream = f"{self.name}.{message.stream}"
                yield Message(stream, message.time, message.sequence, message.payload, message.origin)
        finally:
            reader.close()


def without_credentials(url: str) -> str:
    """An address as it may be logged: no user, no password, no query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


class RtspVideo(LiveVideo):
    """An RTSP camera or encoder. The first picture comes as soon as the camera sends one: nothing is probed."""

    class Config(LiveConfig):
        url: str = pydantic.Field(pattern=r"^rtsps?://[^\s/]+")
        """Address of the stream, `rtsp://host:port/path`; it may carry `user:password@`, which is never logged."""
        transport: str = pydantic.Field(default="tcp", pattern="^(tcp|udp)$")
        """How pictures travel. Over `udp` pictures can be lost."""

    @property
    def where(self) -> str:
        return without_credentials(self.config.url)

    def connect(self, halted: Callable[[], bool]) -> Pictures:
        """One session with the camera. Raises ``VigilError`` where it cannot be reached or falls silent."""
        config = self.config
        options = {
            "rtsp_transport": config.transport,
            "protocol_whitelist": "rtsp,rtsps,rtp,srtp,tcp,udp,tls,crypto",
            # The session description names codec and size; probing would only wait (measured: 4.9 s).
            "analyzeduration": "1",
            "fpsprobesize": "0",
            "probesize": "500000",
            "max_pixels": str(MAXIMUM_PIXELS),
            "allowed_media_types": "video",
        }

        def attempt(accelerator: Any) -> Any:
            timeout = (config.open_seconds, config.silent_after_seconds)
            return av.open(config.url, options=options, timeout=timeout, metadata_errors="replace", hwaccel=accelerator)

        try:
            container, self.intake.statistics.decoder = open_decoder(attempt, config.hardware)
        except FAULTS as error:
            raise VigilError(f"cannot be opened: {reason(error)}", where=self.where) from None
        tally = Tally()
        try:
            stream = video_stream(container, self.where)
            for item in pictures(container, stream, tally):
                yield item
                if halted():
                    return
        except FAULTS as error:
            raise VigilError(f"broke off: {reason(error)}", where=self.where) from None
        finally:
            container.close()
        if tally.cut:
            raise VigilError(f"broke off after {tally.pictures} pictures: {tally.cut}", where=self.where)
