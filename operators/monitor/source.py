"""Recorded monitor data as sources: ``.vital``, WFDB and CSV files, played in event time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from operators.monitor.csv import CsvReader
from operators.monitor.vital import VitalReader
from operators.monitor.waveform_database import WfdbReader
from pipeline.message import Event, Message, Numeric, Waveform
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Output, Source


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

    waveforms: Output[Waveform]
    numerics: Output[Numeric]
    events: Output[Event]

    def run(self) -> Iterator[Message[Any]]:
        """The recording's messages in the total order, under this node's stream names."""
        reader = self.reader(
            self.config.path, chunk_seconds=self.config.chunk_seconds, channels=tuple(self.config.channels)
        )
        names = {info.stream: f"{self.name}.{info.stream}" for info in reader.streams()}
        try:
            for message in reader.messages():
                yield Message(names[message.stream], message.time, message.sequence, message.payload, message.origin)
        finally:
            reader.close()


class VitalFile(MonitorFile):
    """Plays a ``.vital`` recording. Raises ``RecordingError`` when it runs, where the file cannot be read."""

    reader = VitalReader


class WfdbFile(MonitorFile):
    """Plays a WFDB record (``.hea`` and the files it names)."""

    reader = WfdbReader


class CsvFile(MonitorFile):
    """Plays a CSV file with a time column."""

    reader = CsvReader
