"""Recorded monitor data as sources: ``.vital``, WFDB and CSV files, played in event time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pydantic

from operators.monitor.clock import AVERAGES, BREATHS, ClockEstimate, correct, plain, series, shared_signal
from operators.monitor.csv import CsvReader
from operators.monitor.vital import VitalReader
from operators.monitor.waveform_database import WfdbReader
from pipeline.errors import RecordingError, nearest
from pipeline.message import NANOSECONDS, Event, Message, Numeric, Waveform
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Output, Source

log = logging.getLogger("vigil.monitor")


class DeviceTime(BaseConfig):
    """A device's clock where it is known."""

    ahead_seconds: float
    """Seconds by which the device's time stamps are ahead of the reference at the recording's start."""
    drift_ppm: float = pydantic.Field(default=0.0, ge=-1000, le=1000)
    """Seconds that it gains in a million."""


class Shared(BaseConfig):
    """Two channels of two devices that show the same thing; the lag between them gives the clock."""

    channel: str
    """Channel of the device whose clock is to be corrected, e.g. `DraegerRT/AWP`."""
    reference: str
    """Channel of the device whose clock is kept, e.g. `Intellivue/CVP`."""
    kind: Literal["breaths", "averages"] = "breaths"
    """`breaths`: waveforms that both swing with ventilation. `averages`: numerics of one quantity; their lag includes
    what the device's own averaging takes."""


class MonitorFile(Source):
    """A recording's waveforms, numerics and events. Not live: the engine paces it and lets it wait."""

    live: ClassVar[bool] = False
    reader: ClassVar[type[VitalReader] | type[WfdbReader] | type[CsvReader]]

    class Config(BaseConfig):
        path: Path
        """The recording."""
        chunk_seconds: float = 0.1
        """Length of a waveform chunk, seconds; chunks hold a whole number of samples."""
        channels: tuple[str, ...] = ("*",)
        """Shell patterns over channel names such as `Intellivue/ABP*`; other channels are not read."""
        clocks: dict[str, DeviceTime] = {}
        """Device (the channel's part before the slash) to its clock; its times are corrected."""
        align: tuple[Shared, ...] = ()
        """Clocks to be found from shared signals of the whole recording; where too little is shared, the device's
        times stay as they are, and an event says so."""

    waveforms: Output[Waveform]
    numerics: Output[Numeric]
    events: Output[Event]

    def run(self) -> Iterator[Message[Any]]:
        """The recording's messages in the total order, under this node's stream names."""
        reader = self.reader(
            self.config.path, chunk_seconds=self.config.chunk_seconds, channels=tuple(self.config.channels)
        )
        told = self._correct(reader)
        begin = min((info.start for info in reader.streams()), default=0)
        names = {info.stream: f"{self.name}.{info.stream}" for info in reader.streams()}
        try:
            for event in told:
                yield self.events.first(event, begin, channel="clock", origin=reader.origin)
            for message in reader.messages():
                yield Message(names[message.stream], message.time, message.sequence, message.payload, message.origin)
        finally:
            reader.close()

    def _correct(self, reader: VitalReader | WfdbReader | CsvReader) -> list[Event]:
        """Put the devices' times on one clock; what was done, for the record."""
        begin = min((info.start for info in reader.streams()), default=0)
        clocks = {
            device: ClockEstimate(round(known.ahead_seconds * NANOSECONDS), known.drift_ppm * 1e-6, begin)
            for device, known in self.config.clocks.items()
        }
        tracks = {track.stream.partition("/")[2]: track for track in reader.tracks}
        told = []
        for pair in self.config.align:
            for name in (pair.channel, pair.reference):
                if name not in tracks:
                    raise RecordingError(f"has no channel {name!r}", where=str(reader.path), mend=nearest(name, tracks))
            device = pair.channel.partition("/")[0]
            search = BREATHS if pair.kind == "breaths" else AVERAGES
            found = shared_signal(series(tracks[pair.reference]), series(tracks[pair.channel]), search)
            if found is None:
                told.append(Event("clock", f"{device}: too little is shared to tell its clock", {"device": device}))
                log.warning("%s: %s", self.name, told[-1].text)
                continue
            clocks[device] = found
        correct(reader.tracks, clocks)
        for device, clock in clocks.items():
            told.append(Event("clock", f"{device}: times corrected", {"device": device, **plain(clock)}))
        return told


class VitalFile(MonitorFile):
    """Plays a ``.vital`` recording. Raises ``RecordingError`` when it runs, where the file cannot be read."""

    reader = VitalReader


class WfdbFile(MonitorFile):
    """Plays a WFDB record (``.hea`` and the files it names)."""

    reader = WfdbReader


class CsvFile(MonitorFile):
    """Plays a CSV file with a time column."""

    reader = CsvReader
