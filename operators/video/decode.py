"""From packets to pictures: what files, RTSP and capture share.

Pictures stay in the planes that the decoder wrote; numpy looks at that memory, and the decoder's reference count
keeps it alive for as long as any plane does (17 to 30 % of a decode is saved against a conversion to RGB).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from typing import Any, Literal

import av
import av.error
import numpy as np
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.reformatter import ColorRange, VideoReformatter

from pipeline.errors import VigilError
from pipeline.message import NANOSECONDS, Array, PixelFormat, VideoFrame

log = logging.getLogger("vigil.video")

Hardware = Literal["none", "auto", "cuda", "vaapi", "qsv", "videotoolbox", "d3d11va"]
"""Where to decode. ``auto`` takes the first of the machine's devices that opens."""

MAXIMUM_PIXELS = 8192 * 4352
"""Largest picture that is decoded: 8K. Refuses the gigabytes that a few hostile bytes can ask for."""
NATIVE: dict[str, tuple[PixelFormat, bool]] = {
    "yuv420p": ("yuv420p", False), "yuvj420p": ("yuv420p", True), "nv12": ("nv12", False),
    "gray": ("gray", True), "rgb24": ("rgb24", True),
}  # fmt: skip
"""Decoder's format to ours, and whether it is full range by its nature."""
FAULTS = (av.error.FFmpegError, ValueError, MemoryError, OverflowError, OSError, RuntimeError, UnicodeError)
"""What PyAV raises for bytes that make no sense."""


@dataclasses.dataclass
class Tally:
    """What was lost while decoding."""

    pictures: int = 0
    """Pictures decoded."""
    rejected: int = 0
    """Packets that the decoder could not use."""
    damaged: int = 0
    """Pictures in which the decoder concealed damage."""
    cut: str = ""
    """Why reading stopped before the end; empty where it did not."""

    def warnings(self) -> list[str]:
        """The losses as sentences."""
        said = []
        if self.rejected:
            said.append(f"{self.rejected} corrupted packets were left out")
        if self.damaged:
            said.append(f"{self.damaged} pictures are damaged")
        if self.cut:
            said.append(f"reading stopped after {self.pictures} pictures: {self.cut}")
        return said


def picture(frame: Any, reformatter: VideoReformatter | None = None) -> VideoFrame:
    """A decoded ``av.VideoFrame`` as planes, without a copy where the format is one of ours.

    Planar and semi-planar 4:2:0, gray and RGB24 are taken as they are. Other RGB and palette formats become rgb24,
    other gray ones gray, all the rest yuv420p.
    """
    name = frame.format.name
    if name not in NATIVE or any(plane.line_size <= 0 for plane in frame.planes):
        frame = (reformatter or VideoReformatter()).reformat(frame, format=_nearest(frame.format))
        name = frame.format.name
    form, full = NATIVE[name]
    planes = tuple(_plane(plane, form, index) for index, plane in enumerate(frame.planes))
    full = full or frame.color_range == ColorRange.JPEG
    return VideoFrame(frame.width, frame.height, form, planes, full, bool(frame.is_corrupt))


def _nearest(form: Any) -> str:
    if form.is_rgb or form.has_palette:
        return "rgb24"
    return "gray" if len(form.components) <= 1 or form.name.startswith(("gray", "ya")) else "yuv420p"


def _plane(plane: Any, form: PixelFormat, index: int) -> Array:
    whole = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    if form == "rgb24":
        view = whole[:, : plane.width * 3].reshape(plane.height, plane.width, 3)
    elif form == "nv12" and index == 1:
        view = whole[:, : plane.width * 2].reshape(plane.height, plane.width, 2)
    else:
        view = whole[:, : plane.width]
    view.flags.writeable = False
    return view


def video_stream(container: Any, where: str, fail: type[VigilError] = VigilError) -> Any:
    """The video stream to show, set up to decode. Raises ``fail`` where there is none that can be decoded."""
    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    if not streams:
        raise fail("holds no video that can be decoded", where=where)
    stream = streams[0]
    # Slices, not frames, are decoded side by side: it adds no delay, and a damaged stream decodes the same each time.
    stream.codec_context.thread_type = "SLICE"
    stream.codec_context.options = {"max_pixels": str(MAXIMUM_PIXELS)}
    return stream


def nanoseconds(ticks: int, base: Any) -> int:
    """Ticks of a time base as nanoseconds, exactly, rounded down."""
    return int(ticks * base.numerator * NANOSECONDS // base.denominator)


def pictures(container: Any, stream: Any, tally: Tally) -> Iterator[tuple[int | None, VideoFrame]]:
    """Each picture in display order with its time in the container, ns; None where the container gives none.

    A packet that the decoder rejects is counted and left out; reading that fails ends the stream, with the reason
    in ``tally.cut``. Nothing else is raised for bad data.
    """
    reformatter = VideoReformatter()
    for packet in _packets(container, stream, tally):
        try:
            frames = stream.codec_context.decode(packet)
        except EOFError:
            return
        except FAULTS as error:
            tally.rejected += 1
            log.debug("packet left out: %s", error)
            continue
        damaged = packet is not None and packet.is_corrupt
        for frame in frames:
            try:
                image = picture(frame, reformatter)
            except FAULTS as error:
                tally.rejected += 1
                log.debug("picture left out: %s", error)
                continue
            tally.pictures += 1
            tally.damaged += image.corrupt or damaged
            yield _time(frame, stream), image


def _packets(container: Any, stream: Any, tally: Tally) -> Iterator[Any]:
    """The stream's packets, then None, which empties the decoder."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, EOFError):
            break
        except FAULTS as error:
            tally.cut = reason(error)
            break
        if packet.size:
            yield packet
    yield None


def _time(frame: Any, stream: Any) -> int | None:
    ticks = frame.pts if frame.pts is not None else frame.dts
    base = frame.time_base or stream.time_base
    if ticks is None or not base:
        return None
    return nanoseconds(ticks, base)


def reason(error: BaseException) -> str:
    """What went wrong, without PyAV's decoration and without the address it happened at."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).strip()


def accelerators(hardware: Hardware) -> Iterator[Any]:
    """The decoders to try, best first; None, the processor itself, is always the last."""
    if hardware != "none":
        present = [
            name for name in hwdevices_available() if name in ("cuda", "vaapi", "qsv", "videotoolbox", "d3d11va")
        ]
        for name in present if hardware == "auto" else [hardware]:
            try:
                yield HWAccel(name, allow_software_fallback=True)
            except FAULTS as error:
                log.info("no %s here: %s", name, reason(error))
    yield None


def open_decoder(open_container: Any, hardware: Hardware) -> tuple[Any, str]:
    """Open a container with the best decoder that works here.

    Args:
        open_container: called with an ``HWAccel`` or None; returns the container or raises.
        hardware: what was asked for.

    Returns:
        The container, and the name of the decoder in use: a device or ``software``.
    """
    for accelerator in accelerators(hardware):
        try:
            container = open_container(accelerator)
        except PermissionError as error:
            if accelerator is None:
                raise
            level = logging.INFO if hardware == "auto" else logging.WARNING
            log.log(level, "hardware decode is not possible here (%s): the processor decodes", reason(error))
            continue
        streams = container.streams.video
        used = bool(streams) and streams[0].codec_context is not None and streams[0].codec_context.is_hwaccel
        if hardware not in ("none", "auto") and not used:
            log.warning("hardware decode (%s) was asked for and is not present: the processor decodes", hardware)
        return container, "hardware" if used else "software"
    raise AssertionError("the processor is always tried")
