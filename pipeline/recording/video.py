"""Pictures to H.264 and back: Annex B, no B-frames, every key frame with its parameter sets, a key frame each second.

H.264 in 4:2:0 is lossy: pixels read back are close to what was written, not equal. With ``lossless`` they are equal
(High 4:4:4 Predictive profile, which hardware decoders and browsers mostly refuse), at some ten times the size.
"""

from __future__ import annotations

import fractions
from collections.abc import Mapping
from typing import Any

import av
import av.error
import msgspec
import numpy as np
from av.codec.context import Flags
from av.video.frame import PictureType
from av.video.reformatter import Colorspace

from pipeline.errors import MessageError, RecordingError
from pipeline.message import NANOSECONDS, Array, PixelFormat, SyntheticFrame, VideoFrame
from pipeline.recording.protobuf import Picture

GROUP = NANOSECONDS
"""Longest time from a key frame to the last picture that depends on it, ns of event time."""
LARGEST = 16384
"""Longest side of a picture, pixels: what H.264 level 6.2 reaches."""
MAXIMUM_PIXELS = 8192 * 4352
FAULTS = (av.error.FFmpegError, ValueError, MemoryError, OverflowError, OSError, RuntimeError)
_CHANNELS: dict[str, int] = {"yuv420p": 3, "nv12": 2, "rgb24": 1, "gray": 1}


class Layout(msgspec.Struct, frozen=True):
    """What all pictures of one encoder share; kept in the metadata of its channel."""

    payload: str
    """``VideoFrame`` or ``SyntheticFrame``."""
    width: int
    height: int
    format: PixelFormat
    full_range: bool = False
    model: str = ""
    lossless: bool = False

    @classmethod
    def of(cls, frame: VideoFrame | SyntheticFrame, lossless: bool) -> Layout:
        """The layout of a frame. Raises ``MessageError`` where its planes are not what it says."""
        _check(frame)
        if isinstance(frame, SyntheticFrame):
            return cls("SyntheticFrame", frame.width, frame.height, frame.format, False, frame.model, lossless)
        return cls("VideoFrame", frame.width, frame.height, frame.format, bool(frame.full_range), "", lossless)

    @classmethod
    def read(cls, metadata: Mapping[str, str]) -> Layout:
        """The layout in a channel's metadata. Raises ``RecordingError``."""
        try:
            found = msgspec.convert(
                {name: metadata[name] for name in cls.__struct_fields__ if name in metadata}, cls, strict=False
            )
        except msgspec.ValidationError as error:
            raise RecordingError(f"the channel does not say what its pictures are: {error}") from None
        if not (0 < found.width <= LARGEST and 0 < found.height <= LARGEST):
            raise RecordingError(f"pictures of {found.width} x {found.height} are not read")
        if found.width * found.height > MAXIMUM_PIXELS:
            raise RecordingError(f"pictures of {found.width} x {found.height} are larger than 8K")
        return found

    def metadata(self) -> dict[str, str]:
        """As text, for the channel."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}

    @property
    def coded(self) -> tuple[int, int]:
        """Width and height as encoded: even, by repeating the last column and row."""
        return self.width + self.width % 2, self.height + self.height % 2


def _check(frame: VideoFrame | SyntheticFrame) -> None:
    wide, high, planes = frame.width, frame.height, frame.planes
    if not (0 < wide <= LARGEST and 0 < high <= LARGEST) or wide * high > MAXIMUM_PIXELS:
        raise MessageError(f"a picture of {wide} x {high} cannot be recorded")
    half = (high + 1) // 2, (wide + 1) // 2
    expected: dict[str, list[tuple[int, ...]]] = {
        "yuv420p": [(high, wide), half, half], "nv12": [(high, wide), (*half, 2)],
        "rgb24": [(high, wide, 3)], "gray": [(high, wide)],
    }  # fmt: skip
    shapes = [getattr(plane, "shape", ()) for plane in planes]
    if expected.get(frame.format) != shapes or any(plane.dtype != np.uint8 for plane in planes):
        raise MessageError(f"a {frame.format} picture of {wide} x {high} cannot have planes of shapes {shapes}")


class VideoEncoder:
    """Encodes the pictures of one layout, one packet a picture at once (no look-ahead).

    Args:
        quality: x264's constant rate factor, 0 (best) to 51; 18 is hard to tell from the original.
        preset: x264's preset, speed against size.
    """

    def __init__(self, layout: Layout, quality: float = 18.0, preset: str = "superfast") -> None:
        self.layout = layout
        self.count = 0
        self._key = self._last = 0
        rgb = layout.lossless and layout.format == "rgb24"
        self._format = "rgb24" if rgb else "yuv420p"
        context: Any = av.CodecContext.create("libx264rgb" if rgb else "libx264", "w")
        context.width, context.height = layout.coded
        context.pix_fmt = self._format
        context.time_base, context.framerate = fractions.Fraction(1, 30), 30
        context.thread_count = 1
        if not rgb:
            context.color_range = 2 if layout.full_range else 1
            context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.options = {
            "preset": preset, "tune": "zerolatency", "forced-idr": "1",
            "x264-params": "keyint=infinite:scenecut=0:bframes=0:repeat-headers=1:annexb=1",
            **({"qp": "0"} if layout.lossless else {"crf": f"{quality:g}"}),
        }  # fmt: skip
        self._context = context

    def encode(self, frame: VideoFrame | SyntheticFrame, time: int) -> Picture:
        """One picture at event time ``time``, which never goes back. Raises ``MessageError`` where x264 fails."""
        # A key frame where waiting for the next picture, at the present pace, would make the group too long.
        due = time + min(time - self._last, GROUP // 2) - self._key > GROUP or time - self._key >= GROUP
        keyframe = self.count == 0 or due
        try:
            picture = av_picture(frame, self.layout, keep_rgb=self._format == "rgb24")
            picture.pts = self.count
            picture.pict_type = PictureType.I if keyframe else PictureType.NONE
            packets = self._context.encode(picture)
        except FAULTS as error:
            raise MessageError(f"a picture cannot be encoded: {error}") from None
        if len(packets) != 1 or bool(packets[0].is_keyframe) is not keyframe:
            raise MessageError("the encoder did not give one picture for one")
        if keyframe:
            self._key = time
        self._last = time
        number, self.count = self.count, self.count + 1
        return Picture(bytes(packets[0]), keyframe, number, bool(getattr(frame, "corrupt", False)))


def av_picture(frame: VideoFrame | SyntheticFrame, layout: Layout, *, keep_rgb: bool = False) -> Any:
    """A frame as an ``av.VideoFrame`` in yuv420p (or, where asked for and it is so, rgb24) of even width and height.

    RGB becomes BT.709 in the range that the layout says; gray gets neutral colour. The time is left to the caller.
    """
    wide, high = layout.coded
    if frame.format == "rgb24":
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(_fit(frame.planes[0], high, wide)), "rgb24")
        if keep_rgb:
            return picture
        return picture.reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=2 if layout.full_range else 1
        )
    planes = frame.planes
    if frame.format == "nv12":
        planes = (planes[0], planes[1][..., 0], planes[1][..., 1])
    elif frame.format == "gray":
        planes = (planes[0], *[np.full((high // 2, wide // 2), 128, np.uint8)] * 2)
    picture = av.VideoFrame(wide, high, "yuv420p")
    for index, plane in enumerate(planes):
        target: Any = picture.planes[index]
        rows, columns = (high, wide) if index == 0 else (high // 2, wide // 2)
        whole = np.frombuffer(target, np.uint8).reshape(-1, target.line_size)
        whole[:rows, :columns] = _fit(plane, rows, columns)
    return picture


def _fit(plane: Array, rows: int, columns: int) -> Array:
    missing = rows - plane.shape[0], columns - plane.shape[1]
    if missing == (0, 0):
        return plane
    return np.pad(plane, ((0, missing[0]), (0, missing[1]), (0, 0))[: plane.ndim], mode="edge")


class VideoDecoder:
    """Decodes what one ``VideoEncoder`` made, on the processor with one thread: the same everywhere."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.expected = -1
        """Number of the picture that can be decoded next; -1 where only a key frame can."""
        context: Any = av.CodecContext.create("h264", "r")
        context.thread_count = 1
        context.flags |= Flags.low_delay
        wide, high = layout.coded
        context.options = {"max_pixels": str((wide + 64) * (high + 64))}
        self._context = context

    def decode(self, picture: Picture) -> VideoFrame | SyntheticFrame | None:
        """The frame; None where what it depends on is missing or it is damaged beyond decoding."""
        if picture.number != self.expected and not picture.keyframe:
            self.expected = -1
            return None
        try:
            frames = self._context.decode(av.Packet(picture.data)) if picture.data else []
            found = self._frame(frames[0], picture.corrupt) if len(frames) == 1 else None
        except FAULTS:
            found = None
        self.expected = -1 if found is None else picture.number + 1
        return found

    def _frame(self, frame: Any, corrupt: bool) -> VideoFrame | SyntheticFrame | None:
        layout = self.layout
        if (frame.width, frame.height) != layout.coded:
            return None
        planes = self._planes(frame)
        if planes is None:
            return None
        for plane in planes:
            plane.flags.writeable = False
        if layout.payload == "SyntheticFrame":
            return SyntheticFrame(layout.width, layout.height, layout.format, planes, layout.model)
        corrupt = corrupt or bool(frame.is_corrupt)
        return VideoFrame(layout.width, layout.height, layout.format, planes, layout.full_range, corrupt)

    def _planes(self, frame: Any) -> tuple[Array, ...] | None:
        wide, high = self.layout.width, self.layout.height
        half = (high + 1) // 2, (wide + 1) // 2
        name = frame.format.name
        if name == "gbrp" and self.layout.format == "rgb24":
            green, blue, red = (_view(plane)[:high, :wide] for plane in frame.planes)
            return (np.stack((red, green, blue), axis=-1),)
        if name not in ("yuv420p", "yuvj420p"):
            return None
        if self.layout.format == "rgb24":
            full = 2 if self.layout.full_range else 1
            frame = frame.reformat(
                format="rgb24", src_colorspace=Colorspace.ITU709, src_color_range=full, dst_color_range=2
            )
            return (frame.to_ndarray()[:high, :wide],)
        luma, *chroma = (_view(plane) for plane in frame.planes)
        blue, red = (plane[: half[0], : half[1]] for plane in chroma)
        match self.layout.format:
            case "gray":
                return (luma[:high, :wide],)
            case "nv12":
                return luma[:high, :wide], np.stack((blue, red), axis=-1)
        return luma[:high, :wide], blue, red


def _view(plane: Any) -> Array:
    whole: Array = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return whole[:, : plane.width]
