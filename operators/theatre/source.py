"""The simulated operating theatre as a source like any other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from operators.monitor.tracks import merged
from operators.theatre.case import Case, load
from operators.theatre.tracks import prepare, tracks
from pipeline.message import Event, Mask, Message, Numeric, ScenePatch, VideoFrame, Waveform
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Output, Source


class Theatre(Source):
    """Plays a case script: a rendered laparoscope and the monitor of a patient who answers to the same script.

    Every message says that it is simulated. The same case and seed give the same messages, bit for bit, on the same
    machine and library versions.
    """

    live = False
    films_people = False

    class Config(BaseConfig):
        case: str = "eventful"
        """A case script's path, or the name of a shipped one: `uneventful`, `eventful`, `long`."""
        seed: int | None = Field(default=None, ge=0, le=2**32 - 1)
        """What everything random follows from; the script's own unless given."""
        video: bool = True
        """Whether pictures are rendered."""
        rate: float | None = Field(default=None, gt=0, le=60)
        """Frames/s; the script's unless given."""
        width: int | None = Field(default=None, ge=32, le=1920, multiple_of=2)
        """Pixels; the script's unless given."""
        height: int | None = Field(default=None, ge=32, le=1080, multiple_of=2)
        """Pixels; the script's unless given."""
        truth: bool = False
        """Whether each picture brings its exact masks and points in space, on `masks` and `scene`."""

    video: Output[VideoFrame]
    waveforms: Output[Waveform]
    numerics: Output[Numeric]
    events: Output[Event]
    truth: Output[Event]
    """What was planted. For scoring a run; never to be wired to a rule."""
    masks: Output[Mask]
    scene: Output[ScenePatch]
    """A point for each pixel, row by row, in mm, with the camera's pose; NaN where the abdomen is not seen."""

    def setup(self) -> None:
        """Read the script and build the world. Raises ``RecordingError`` where it is not one."""
        self.case: Case = adjusted(load(self.config.case), self.config)
        self.seed = self.case.seed if self.config.seed is None else self.config.seed
        self._tracks = tracks(self.case, self.seed, video=self.config.video, truth=self.config.truth)
        prepare(self._tracks)
        for track in self._tracks:
            track.stream = f"{self.name}.{track.stream}"

    def run(self) -> Iterator[Message[Any]]:
        """All messages in the total order."""
        return merged(self._tracks, None, None, "simulated")


def adjusted(case: Case, config: Any) -> Case:
    """The case with the size and rate that the options ask for."""
    width, height = case.video.size
    size = (config.width or width, config.height or height)
    return case.model_copy(
        update={"video": case.video.model_copy(update={"size": size, "rate": config.rate or case.video.rate})}
    )
