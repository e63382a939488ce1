"""Beats of every monitored waveform, and the rates that they agree on."""

from operators.monitor.beats.operator import Beats

__all__ = ["Beats"]
