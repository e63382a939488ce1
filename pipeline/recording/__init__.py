"""Recordings of a case: MCAP files that Foxglove and Rerun open too, and that a cut leaves readable."""

from __future__ import annotations

from pipeline.recording.payloads import register
from pipeline.recording.reader import McapReader
from pipeline.recording.writer import McapWriter

__all__ = ["McapReader", "McapWriter", "register"]
