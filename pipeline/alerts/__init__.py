"""The alert: its state machine, its digest, its wire form, and its words in other standards."""

from __future__ import annotations

from pipeline.alerts.digest import Digest
from pipeline.alerts.machine import AlertMachine, Origins, Policy

__all__ = ["AlertMachine", "Digest", "Origins", "Policy"]
