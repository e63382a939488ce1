"""Hypotension ahead: probabilities within 5, 10 and 15 minutes, always beside mean pressure and a straight line."""

from __future__ import annotations

from operators.monitor.forecast.forecast import HypotensionForecast

__all__ = ["HypotensionForecast"]
