"""Signal quality of each monitored waveform, second by second."""

from operators.monitor.quality.operator import SignalQuality

__all__ = ["SignalQuality"]
