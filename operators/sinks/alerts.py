"""Where every rule's conditions become alerts."""

from __future__ import annotations

import uuid
from typing import Any

from pipeline.alerts import AlertMachine, Origins, Policy
from pipeline.journal import Journal
from pipeline.kafka import KafkaSettings, Publisher
from pipeline.message import Alert, AlertCondition, Message
from pipeline.operator import Config, Input, Operator, Output
from pipeline.time import stamp


class Alerts(Operator):
    """The alert state machine as an operator: conditions in, revisions of alerts out. It informs, no more."""

    class Config(Config):
        policy: Policy = Policy()
        """Latching, escalation, pauses."""
        journal: str = "journal.db"
        """File in the run's data folder that every alert is written to before anyone is told; empty for none."""
        kafka: KafkaSettings = KafkaSettings()
        """The broker that the journal is carried to; none where ``bootstrap`` is empty."""

    conditions: Input[AlertCondition]
    alerts: Output[Alert]

    def setup(self) -> None:
        context = self.context
        # Two launches of one simulated case are two runs; two replays of it are one and the same.
        run = "" if context.replaying else uuid.uuid4().hex[:12]
        origins = Origins(context.room, context.case, context.topology, run, context.replay)
        self.machine = AlertMachine(origins, self.config.policy)
        self.last: Message[Any] | None = None
        self.journal: Journal | None = None
        self.publisher: Publisher | None = None
        if self.config.journal and not context.replaying:
            self.journal = Journal(context.data / self.config.journal)
            if self.config.kafka.bootstrap:
                self.publisher = Publisher(self.journal, self.config.kafka)

    def process(self, message: Message[AlertCondition]) -> list[Message[Alert]]:
        self.last = message
        processing = stamp() - message.trace[0].entered if message.trace else 0
        return self._emit(self.machine.condition(message.payload, message.time, message.origin, processing))

    def on_time(self, time: int) -> list[Message[Alert]]:
        return self._emit(self.machine.advance(time))

    def _emit(self, revisions: list[Alert]) -> list[Message[Alert]]:
        self.wake(self.machine.due())
        if self.journal is not None:
            for alert in revisions:
                kind = "suppressed" if alert.condition.suppressed_by and alert.revision == 1 else "alert"
                self.journal.append(kind, alert)
        if self.last is None:
            return []
        return [self.alerts.emit(alert, self.last, time=alert.time) for alert in revisions]

    def teardown(self) -> None:
        if self.journal is not None:
            self.journal.close()  # first, so that its last entries are there to be published
            self.journal = None
        if self.publisher is not None:
            self.publisher.close()
            self.publisher = None

    def state(self) -> dict[str, Any]:
        return self.machine.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.machine.load_state(state)
        self.wake(self.machine.due())
