"""A case script opened as if it were a recording, so that it can be replayed, inspected and written down."""

from __future__ import annotations

from pathlib import Path

from operators.monitor.tracks import TrackReader
from operators.theatre.case import load
from operators.theatre.score import events_of
from operators.theatre.tracks import tracks
from pipeline.alerts.truth import ResolvedTruth
from pipeline.message import Origin


class TheatreReader(TrackReader):
    """The reader of ``.yaml``: streams ``video``, ``waveforms/...``, ``numerics/...``, ``events/...``, ``truth/...``.

    Raises ``RecordingError`` for topologies and whatever else is not a case script, naming the line.
    """

    origin: Origin = "simulated"

    def __init__(self, path: Path | str) -> None:
        super().__init__()
        self.path = Path(path)
        self.case = load(self.path)
        self.tracks = tracks(self.case, self.case.seed)

    def truth(self) -> ResolvedTruth:
        """What the script plants, for ``vigil score``."""
        return ResolvedTruth(events_of(self.case.truth()), [(self.case.origin_ns, self.case.end_ns)])
