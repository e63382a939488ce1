"""Fusion and explanation: a small rule language over aligned signals, and slow verification of fast alerts."""

from operators.reasoning.rules import Rules
from operators.reasoning.verify import Verify

__all__ = ["Rules", "Verify"]
