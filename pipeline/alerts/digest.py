"""One number for all alerts of a run: equal for equal content and event times, whatever the order of arrival."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from pipeline.message import Alert, Message

VOLATILE = ("alert_id", "room", "case", "origin", "replay", "processing_ns")
"""Fields of an alert that say which run it was, not what was found."""


class Digest:
    """Collects alerts: a listener of ``alerts.alerts``."""

    def __init__(self) -> None:
        self.count = 0
        """Alerts that were signalled, not their revisions."""
        self.suppressed = 0
        self._lines: list[bytes] = []

    def __call__(self, batch: Sequence[Message[Any]]) -> None:
        for message in batch:
            self.add(message.payload)

    def add(self, alert: Alert) -> None:
        """Take one revision in."""
        if alert.revision == 1:
            if alert.condition.suppressed_by or alert.signal.withheld:
                self.suppressed += 1
            else:
                self.count += 1
        content = {
            name: getattr(alert, name) for name in alert.__struct_fields__ if name not in VOLATILE
        }  # fmt: skip
        key = (alert.condition.onset, alert.condition.source, alert.condition.code, alert.condition.subject)
        line = msgspec.json.encode([*key, alert.time, alert.revision, content], order="deterministic")
        self._lines.append(hashlib.sha256(line).digest())

    def hexdigest(self) -> str:
        """SHA-256 in hexadecimal digits."""
        return hashlib.sha256(b"".join(sorted(self._lines))).hexdigest()

    def result(self) -> tuple[int, str]:
        """Number of alerts and digest, as ``Replay.run`` wants them."""
        return self.count, self.hexdigest()
