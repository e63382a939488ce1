"""A case as tracks: when each stream has a message, and how its payload is made when it is asked for.

Stands on ``operators.monitor.tracks``: one merge for recordings and simulations. Nothing is drawn or rendered before
somebody takes the message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from operators.monitor.tracks import EventTrack, NumericTrack, Track
from operators.theatre.case import Case, Filming
from operators.theatre.renderer import CLASSES, Picture, Renderer
from operators.theatre.signals import BLOCK, NUMERICS, WAVEFORMS, Channel, Monitor
from operators.theatre.steps import Instrument, SpongeCount, VideoFault
from pipeline.message import NANOSECONDS, Event, Mask, ScenePatch, VideoFrame, Waveform

CHUNKS = 10
"""Chunks of waveform a second."""


def tracks(case: Case, seed: int, *, video: bool = True, truth: bool = False) -> list[Track]:
    """All tracks of a case.

    Args:
        case: the script.
        seed: what everything random follows from.
        video: whether there are pictures.
        truth: whether each picture brings its mask and its points in space.
    """
    monitor = Monitor(case, seed)
    found: list[Track] = [WaveTrack(case, monitor, channel) for channel in WAVEFORMS]
    found += _numerics(case, monitor)
    found += _events(case)
    found += [TruthTrack(kind, case) for kind in sorted({planted.kind for planted in case.truth()})]
    if video:
        studio = Studio(case, seed, monitor)
        found.append(FrameTrack("video/video", "VideoFrame", studio, studio.frame))
        if truth:
            found.append(FrameTrack("masks", "Mask", studio, studio.mask))
            found.append(FrameTrack("scene", "ScenePatch", studio, studio.scene))
    return [track for track in found if len(track.times)]


def prepare(found: Sequence[Track]) -> None:
    """Build what pictures are made with, so that the first one comes no later than the others."""
    for track in found:
        if isinstance(track, FrameTrack):
            track.studio.renderer()


# ------------------------------------------------------------------------------------------- monitor


class WaveTrack(Track):
    """A waveform in chunks of 100 ms; none while its sensor is off."""

    payload = "Waveform"

    def __init__(self, case: Case, monitor: Monitor, channel: Channel) -> None:
        count = int(case.duration * CHUNKS + 1e-6)
        begin = np.arange(count) / CHUNKS
        self.present = np.nonzero(_heard(begin, monitor.off(channel.sensor)))[0]
        times = case.origin_ns + self.present * (NANOSECONDS // CHUNKS)
        super().__init__(f"waveforms/{channel.name}", times.astype(np.int64), channel.code, channel.unit)
        self.channel, self.monitor, self.rate = channel, monitor, channel.rate

    def make(self) -> Callable[[int], Waveform]:
        """Blocks are drawn as they are come to, and one is kept: messages are taken in time order."""
        channel, monitor, chunks = self.channel, self.monitor, self.present.tolist()
        size, per_block = round(channel.rate / CHUNKS), round(BLOCK * CHUNKS)
        kept = -1
        values: Any = None

        def make(i: int) -> Waveform:
            nonlocal kept, values
            block, chunk = divmod(chunks[i], per_block)
            if block != kept:
                kept, values = block, monitor.waveform(channel, block)
                values.flags.writeable = False
            return Waveform(
                channel.name, channel.code, channel.unit, channel.rate, values[chunk * size : (chunk + 1) * size]
            )

        return make

    def end(self) -> int:
        return int(self.times[-1]) + NANOSECONDS // CHUNKS


def _heard(seconds: Any, off: list[tuple[float, float]]) -> Any:
    heard = np.ones(seconds.shape, bool)
    for start, end in off:
        heard &= (seconds < start) | (seconds >= end)
    return heard


def _numerics(case: Case, monitor: Monitor) -> list[Track]:
    seconds, values = monitor.numerics()
    times = case.origin_ns + np.round(seconds * NANOSECONDS).astype(np.int64)
    found: list[Track] = []
    for channel in NUMERICS:
        heard = _heard(seconds, monitor.off(channel.sensor))
        found.append(NumericTrack(channel.name, times[heard], values[channel.name][heard], channel.code, channel.unit))
    return found


# -------------------------------------------------------------------------------------------- events


class TruthTrack(EventTrack):
    """What was planted of one kind, each told at its onset with its end and the alerts that it ought to raise."""

    payload = "Event"

    def __init__(self, kind: str, case: Case) -> None:
        planted = [item for item in case.truth() if item.kind == kind]
        events = [
            Event(
                kind, item.text, {"onset": item.onset, "end": item.end, "expect": [wish.code for wish in item.expect]}
            )
            for item in planted
        ]
        super().__init__(kind, np.array([item.onset for item in planted], np.int64), events)
        self.stream = f"truth/{kind}"


def _events(case: Case) -> list[Track]:
    """What people and devices in the room say by themselves: phases, instruments in and out, sponge counts."""
    said: dict[str, list[tuple[float, Event]]] = {}
    for phase in case.phases:
        said.setdefault("phase", []).append((phase.at, Event("phase", phase.name)))
    for step in case.steps(SpongeCount):
        text = f"{step.given} sponges given, {step.counted} counted"
        event = Event("sponge_count", text, {"given": step.given, "counted": step.counted})
        said.setdefault("sponge_count", []).append((step.at, event))
    for step in case.steps(Instrument):
        said.setdefault("instrument", []).append((step.at, Event("instrument_in", step.tool, {"side": step.side})))
        if step.end < case.duration:
            said["instrument"].append((step.end, Event("instrument_out", step.tool, {"side": step.side})))
    return [
        EventTrack(name, np.array([case.ns(at) for at, _ in events], np.int64), [event for _, event in events])
        for name, events in sorted(said.items())
    ]


# --------------------------------------------------------------------------------------------- video


class FrameTrack(Track):
    """Something that comes with each picture."""

    def __init__(self, stream: str, payload: str, studio: Studio, make: Callable[[int], Any]) -> None:
        super().__init__(stream, studio.times, "", "")
        self.payload, self.rate, self._make, self.studio = payload, studio.case.video.rate, make, studio

    def make(self) -> Callable[[int], Any]:
        return self._make


class Studio:
    """Renders the pictures of a case. The renderer is built at the first one, the latest picture is kept."""

    def __init__(self, case: Case, seed: int, monitor: Monitor) -> None:
        self.case, self.seed, self.monitor = case, seed, monitor
        self.seconds = frame_times(
            case.video, case.duration, [(f.at, f.end) for f in case.steps(VideoFault) if f.how == "lost"]
        )
        self.times = case.origin_ns + np.round(self.seconds * NANOSECONDS).astype(np.int64)
        self._renderer: Renderer | None = None
        self._latest: tuple[int, Picture] | None = None

    def renderer(self) -> Renderer:
        """The one renderer of the case; the first call takes seconds."""
        if self._renderer is None:
            self._renderer = Renderer(self.case, self.seed, self.case.video.size, self.monitor.patient)
        return self._renderer

    def picture(self, i: int) -> Picture:
        """Picture ``i`` with its truth."""
        if self._latest is None or self._latest[0] != i:
            self._latest = i, self.renderer().picture(self._shown(float(self.seconds[i])))
        return self._latest[1]

    def _shown(self, seconds: float) -> float:
        """A frozen picture is the last one from before the fault, to the last bit."""
        for fault in self.case.steps(VideoFault):
            if fault.how == "frozen" and fault.at <= seconds < fault.end:
                before = self.seconds[self.seconds < fault.at]
                return float(before[-1]) if before.size else 0.0
        return seconds

    def frame(self, i: int) -> VideoFrame:
        """The picture as encoders want it: yuv420p, full range is not used."""
        width, height = self.case.video.size
        packed = cv2.cvtColor(self.picture(i).rgb, cv2.COLOR_RGB2YUV_I420)
        packed.flags.writeable = False
        chroma = packed.reshape(-1)[width * height :].reshape(2, height // 2, width // 2)
        return VideoFrame(width, height, "yuv420p", (packed[:height], chroma[0], chroma[1]))

    def mask(self, i: int) -> Mask:
        """Instruments and blood."""
        return Mask(self.picture(i).labels, CLASSES)

    def scene(self, i: int) -> ScenePatch:
        """Every pixel's point in space, row by row, with the camera's pose; NaN where the abdomen is not seen."""
        picture = self.picture(i)
        height, width = picture.depth.shape
        column, row = np.meshgrid(np.arange(width), np.arange(height))
        focal, cx, cy = picture.intrinsics[0, 0], picture.intrinsics[0, 2], picture.intrinsics[1, 2]
        local = (
            np.stack([(column - cx) / focal, (row - cy) / focal, np.ones((height, width))], -1)
            * picture.depth[..., None]
        )
        points = (local @ picture.pose[:3, :3].T + picture.pose[:3, 3]).astype(np.float32)
        return ScenePatch(points.reshape(-1, 3), picture.rgb.reshape(-1, 3), picture.pose, "mm")


def frame_times(filming: Filming, duration: float, lost: Sequence[tuple[float, float]] = ()) -> Any:
    """When pictures are taken, (n,) float64 s: at the case's rate, within bursts at theirs, never while it is lost."""
    times = np.arange(int(np.ceil(duration * filming.rate - 1e-9))) / filming.rate
    for burst in filming.bursts:
        end = min(burst.at + burst.lasts, duration)
        times = times[(times < burst.at) | (times >= end)]
        count = max(0, int(np.ceil((end - burst.at) * burst.rate - 1e-9)))
        times = np.concatenate([times, burst.at + np.arange(count) / burst.rate])
    times = np.unique(np.round(times, 9))
    return times[_heard(times, list(lost)) & (times < duration)]
