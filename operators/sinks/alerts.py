"""Where every rule's conditions become alerts, and where people's commands meet them."""

from __future__ import annotations

import logging
import time
import uuid
from collections import OrderedDict
from typing import Any

import msgspec
import pydantic

from pipeline.alerts import AlertMachine, Origins, Policy
from pipeline.commands import Inbox
from pipeline.errors import MessageError
from pipeline.journal import Journal
from pipeline.kafka import CommandReader, KafkaSettings, Publisher
from pipeline.message import NANOSECONDS, ActiveAlert, Alert, AlertCondition, Command, Message, Outcome, Status
from pipeline.operator import Config, Input, Operator, Output
from pipeline.time import stamp

log = logging.getLogger("vigil.alerts")

REMEMBERED = 4096
"""Newest command ids by which repetitions are told."""


class Alerts(Operator):
    """The alert state machine as an operator: conditions and commands in, revisions of alerts out.

    It informs, no more. Every revision and what became of every command is in the journal before anyone is told.
    """

    class Config(Config):
        policy: Policy = Policy()
        """Latching, escalation, pauses."""
        journal: str = "journal.db"
        """File in the run's data folder that every alert is written to before anyone is told; empty for none."""
        kafka: KafkaSettings = KafkaSettings()
        """The broker that the journal is carried to; none where ``bootstrap`` is empty."""
        command_valid_seconds: float = pydantic.Field(default=30.0, gt=0)
        """A command that was given longer ago, by the wall clock, is refused: the moment it was meant for is gone."""

    told = ("commands", "status")

    conditions: Input[AlertCondition]
    commands: Input[Command] | None
    status: Input[Status] | None
    alerts: Output[Alert]

    def setup(self) -> None:
        context = self.context
        # Two launches of one simulated case are two runs; two replays of it are one and the same.
        run = "" if context.replaying else uuid.uuid4().hex[:12]
        origins = Origins(context.room, context.case, context.topology, run, context.replay)
        self.machine = AlertMachine(origins, self.config.policy)
        self.last: Message[Any] | None = None
        self.heard: OrderedDict[str, None] = OrderedDict()
        self.newest: Status | None = None
        self.journal: Journal | None = None
        self.publisher: Publisher | None = None
        self.inbox: Inbox | None = None
        self.reader: CommandReader | None = None
        if self.config.journal and not context.replaying:
            self._open(self.config.kafka)

    def _open(self, kafka: KafkaSettings) -> None:
        context = self.context
        self.journal = Journal(context.data / self.config.journal)
        if kafka.bootstrap:
            self.publisher = Publisher(self.journal, kafka)
        tell = context.tell
        if tell is None:
            log.warning("%s takes no commands and gives no heartbeat where it is placed in a process", self.name)
            return
        self.inbox = Inbox(context.data, self.journal.path, lambda command: tell("commands", command))
        if kafka.bootstrap:
            self.reader = CommandReader(kafka, context.room, lambda command: tell("commands", command))

    # -- what comes in

    def on_conditions(self, message: Message[AlertCondition]) -> list[Message[Alert]]:
        processing = stamp() - message.trace[0].entered if message.trace else 0
        revisions = self.machine.condition(message.payload, message.time, message.origin, processing)
        return self._emit(revisions, message)

    def on_commands(self, message: Message[Command]) -> list[Message[Alert]]:
        command = message.payload
        if command.command_id and command.command_id in self.heard:
            return []  # the broker has told it again
        self.heard[command.command_id] = None
        if len(self.heard) > REMEMBERED:
            self.heard.popitem(last=False)
        try:
            self._refuse_stale(command)
            revisions = self.machine.command(command, message.time)
        except MessageError as error:
            log.warning("command refused: %s", error)
            self._note(Outcome(command, done=False, time=message.time, reason=str(error)))
            return []
        answers = self._emit(revisions, message)
        changed = tuple(alert.alert_id for alert in revisions)
        self._note(Outcome(command, done=True, time=message.time, alerts=changed))
        return answers

    def on_status(self, message: Message[Status]) -> None:
        self.machine.burden.reach(message.payload.event_time)
        if self.journal is None:
            return
        self.newest = self._completed(message.payload)
        self._tell_status(self.newest)

    def on_time(self, time: int) -> list[Message[Alert]]:
        return self._emit(self.machine.advance(time), self.last)

    # -- what goes out

    def _emit(self, revisions: list[Alert], cause: Message[Any] | None) -> list[Message[Alert]]:
        self.wake(self.machine.due())
        if self.journal is not None:
            for alert in revisions:
                kind = "suppressed" if alert.condition.suppressed_by and alert.revision == 1 else "alert"
                self.journal.append(kind, alert)
        if cause is None:
            return []
        self.last = cause
        return [self.alerts.emit(alert, cause, time=alert.time) for alert in revisions]

    def _note(self, outcome: Outcome) -> None:
        if self.journal is not None:
            self.journal.append("command", outcome)

    def _refuse_stale(self, command: Command) -> None:
        if self.context.replaying:
            return  # it was taken when it was recorded
        age = (time.time_ns() - command.issued) / NANOSECONDS
        valid = self.config.command_valid_seconds
        if not -valid <= age <= valid:
            age_text = "does not say when it was given" if not command.issued else f"was given {age:.0f} s ago"
            raise MessageError(f"{age_text}, more than {valid:g} s apart from now", where="issued")

    def _completed(self, status: Status) -> Status:
        """The engine's status with what only the alert path knows."""
        assert self.journal is not None
        machine, publisher = self.machine, self.publisher
        active = tuple(
            ActiveAlert(
                alert.alert_id, alert.revision, alert.condition.code, alert.condition.priority, alert.signal.presence,
                alert.condition.text,
            )
            for alert in (entry.alert for entry in machine.active.values())
        )  # fmt: skip
        faults = {
            "the journal": self.journal.error,
            "the broker": publisher.error if publisher is not None else "",
        }
        return msgspec.structs.replace(
            status, run=machine.origins.run, active=active,
            pause=machine.pause.inactivation if machine.pause is not None else "",
            unpublished=self.journal.sequence - publisher.position if publisher is not None else 0,
            faults=tuple(f"{what} takes nothing: {why}" for what, why in faults.items() if why),
            alarms_per_hour=self.alarms_per_hour,
        )  # fmt: skip

    @property
    def alarms_per_hour(self) -> float | None:
        """Alarms per bed-hour over the last two hours of event time, also for Prometheus."""
        per_hour = self.machine.burden.per_hour
        return None if per_hour is None else round(per_hour, 2)

    def _tell_status(self, status: Status) -> None:
        assert self.journal is not None
        self.journal.note_status(status)
        if self.publisher is not None:
            self.publisher.heartbeat(status)

    # -- the end

    def teardown(self) -> None:
        for listener in (self.inbox, self.reader):
            if listener is not None:
                listener.close()
        self.inbox = self.reader = None
        if self.journal is not None:
            if self.newest is not None:
                ended = self._completed(msgspec.structs.replace(self.newest, state="stopped", at=time.time_ns()))
                self._tell_status(ended)
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
