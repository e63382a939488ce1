"""Lethal arrhythmia: detected from waveforms, and alarms of the monitor judged against what the other signals show."""

from operators.monitor.rhythm.operator import Rhythm

__all__ = ["Rhythm"]
