"""Live data from HL7 v2 senders (monitors' gateways) over MLLP: PCD-01 observations and PCD-04 alerts.

One listener takes one bed. Messages are acknowledged when they are in the graph's hands. Event times are the device's,
put on our clock by ``clock.DeviceClock``: a gateway whose clock is an hour off gives right times.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
import zoneinfo
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import numpy as np
import pydantic

from operators.monitor.clock import DeviceClock, plain
from operators.monitor.hl7_message import Hl7Message, acknowledge, parse
from operators.monitor.hl7_report import MOMENTARY, Alarm, Observation, Report, read
from operators.monitor.mllp import Bounds, MllpServer
from pipeline.errors import MessageError, VigilError
from pipeline.message import NANOSECONDS, AlertCondition, Event, Evidence, Message, Numeric, Origin, Waveform
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Output, Source

log = logging.getLogger("vigil.hl7")

MAXIMUM_WAITING = 20_000
"""Messages of ours that may wait for the graph; above it senders are told to come back later."""
MAXIMUM_DEVICES, MAXIMUM_CHANNELS, MAXIMUM_ALARMS, REMEMBERED = 16, 1024, 256, 1024
JITTER = 20_000_000
"""Nanoseconds by which a piece of waveform may miss the end of the last one and still continue it."""
OVERLAP = 500_000_000
"""Nanoseconds of overlap, from a clock that is being learnt, that are closed up rather than dropped."""


class Hl7Listener(Source):
    """Listens for HL7 v2 over MLLP. Gives waveforms, numerics, the devices' own alarms, and events about the link."""

    class Config(BaseConfig):
        host: str = "127.0.0.1"
        """Address to listen on. Anything but loopback opens the port to the network: MLLP has no encryption."""
        port: int = pydantic.Field(default=2575, ge=0, le=65535)
        """TCP port, 2575 by IANA; 0 takes a free one."""
        bed: str = ""
        """Which bed's messages to take: PV1-3 as `POC^ROOM^BED`, or one of its parts. Empty: the first bed that speaks;
        messages of any other are refused, so that two patients never mix."""
        device: str = ""
        """Name of the device in channel names; empty takes the sender's (MSH-3)."""
        chunk_seconds: float = pydantic.Field(default=0.1, gt=0)
        """Length of a waveform chunk, seconds."""
        time_zone: str = "UTC"
        """Zone of time stamps that name none, e.g. `Europe/Berlin`."""
        oldest_seconds: float = pydantic.Field(default=60.0, gt=0)
        """Observations measured longer than this before their message was sent are left out, and counted."""
        link_seconds: float = pydantic.Field(default=10.0, gt=0)
        """Seconds without any connection, after there was one, until a technical alert says so."""
        message_bytes: int = pydantic.Field(default=1 << 18, ge=1024, le=1 << 24)
        """Longest message taken, bytes."""
        connections: int = pydantic.Field(default=8, ge=1, le=64)
        """Connections at once."""

        @pydantic.field_validator("time_zone")
        @classmethod
        def _zone(cls, name: str) -> str:
            try:
                zoneinfo.ZoneInfo(name)
            except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError(f"there is no time zone {name!r}") from None
            return name

    live: ClassVar[bool] = True
    waveforms: Output[Waveform]
    numerics: Output[Numeric]
    events: Output[Event]
    conditions: Output[AlertCondition]

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self.zone = zoneinfo.ZoneInfo(self.config.time_zone)
        self.address: tuple[str, int] | None = None
        """What is listened on, once it is."""
        self.counts: Counter[str] = Counter()
        """messages, refused, repeated, observations, late, old, unused, faults, busy."""
        self.clocks: dict[str, DeviceClock] = {}
        self._waiting: deque[Message[Any]] = deque()
        self._news = asyncio.Event()
        self._bed = ""
        self._seen: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._channels: dict[tuple[str, str, str], str] = {}
        self._reached: dict[str, tuple[int, int]] = {}
        """Stream to (device time, event time) at which its last message ended."""
        self._alarms: dict[str, AlertCondition] = {}
        self._steps: dict[str, int] = {}
        self._open = 0
        self._lost = 0
        """Event time at which the last connection closed; 0 while there is one or never was."""
        self._link: AlertCondition | None = None

    async def run(self) -> AsyncIterator[Message[Any]]:  # type: ignore[override]
        """Listen until stopped. Raises ``VigilError`` where the address cannot be listened on."""
        bounds = Bounds(message_bytes=self.config.message_bytes, connections=self.config.connections)
        server = MllpServer(self.answer, refuse=self._refuse, changed=self._changed, bounds=bounds)
        try:
            self.address = await server.start(self.config.host, self.config.port)
        except OSError as error:
            where = f"{self.name}: {self.config.host}:{self.config.port}"
            raise VigilError(
                f"cannot listen: {error.strerror or error}", where=where, mend="choose another port"
            ) from None
        log.info("%s listens on %s:%d", self.name, *self.address)
        try:
            while not self.stopping.is_set():
                while self._waiting:
                    yield self._waiting.popleft()
                self._news.clear()
                try:
                    async with asyncio.timeout(0.25):
                        await self._news.wait()
                except TimeoutError:
                    self._watch_link()
        finally:
            await server.stop()

    # ----------------------------------------------------------------------------------- messages

    def answer(self, data: bytes, connection: int = 0) -> bytes | None:
        """Take one message; the acknowledgement, or None where the sender wants none. Never raises."""
        now = self.context.clock.now()
        self.counts["messages"] += 1
        message: Hl7Message | None = None
        try:
            if len(self._waiting) > MAXIMUM_WAITING:
                self.counts["busy"] += 1
                raise _BusyError("too much is waiting", mend="send it again later")
            message = parse(data)
            report = read(message, self.zone)
            self._admit(report)
            fault = self._take(report, now)
        except MessageError as error:
            self.counts["refused"] += 1
            self._complain(connection, error)
            busy = isinstance(error, _BusyError)
            return acknowledge(message, now, self.counts["messages"], fault=error, reject=not busy, busy=busy)
        except Exception as error:  # what a stranger sends must never end the listener
            self.counts["refused"] += 1
            spot = traceback.extract_tb(error.__traceback__)[-1]  # not the error's words, which may quote the message
            log.error("%s: not handled: %s in %s:%s", self.name, type(error).__name__, spot.name, spot.lineno)
            fault = MessageError("cannot be handled", where="message")
            return acknowledge(message, now, self.counts["messages"], fault=fault, reject=True)
        return acknowledge(message, now, self.counts["messages"], fault=fault)

    def _admit(self, report: Report) -> None:
        """Raises ``MessageError`` for another bed's messages."""
        if self.config.bed:
            if self.config.bed != report.bed and self.config.bed not in report.bed.split("^"):
                raise MessageError("is about another bed than this listener's", where="PV1-3")
        elif self._bed and report.bed and report.bed != self._bed:
            raise MessageError("comes from a second bed", where="PV1-3", mend="set `bed`, one listener for each")
        else:
            self._bed = self._bed or report.bed

    def _take(self, report: Report, now: int) -> MessageError | None:
        """Put what the report says on its way; what was wrong with part of it."""
        device = self.config.device or report.device or "HL7"
        key = (device, report.control)
        if self._seen.get(key) == report.time and key in self._seen:
            self.counts["repeated"] += 1  # the sender did not get our answer and sends it again
            return None
        self._seen[key] = report.time  # type: ignore[assignment]
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        clock = self._clock(device, report, now)
        sent = clock.estimate.reference(report.time) if clock.estimate and report.time is not None else now
        for observation in report.observations:
            self._observe(device, observation, clock, report.time, sent)
        for alarm in report.alarms:
            self._alarm(device, alarm, clock, sent)
        if report.watchdog:
            self._event(Event("watchdog", "the gateway is alive", {"device": device}), sent)
        self.counts["unused"] += report.unused
        self.counts["faults"] += len(report.faults)
        if report.faults:
            self._complain(0, report.faults[0])
        self._news.set()
        return report.faults[0] if report.faults else None

    def _clock(self, device: str, report: Report, now: int) -> DeviceClock:
        clock = self.clocks.get(device)
        if clock is None:
            if len(self.clocks) >= MAXIMUM_DEVICES:
                raise MessageError(f"is from more than {MAXIMUM_DEVICES} devices", where="segment 1 MSH-3")
            clock = self.clocks[device] = DeviceClock()
        if report.time is not None:
            estimate = clock.observe(report.time, now)
            if self._steps.get(device) != clock.steps:
                self._steps[device] = clock.steps
                for stream, (_, reached) in self._reached.items():  # device times from before the step compare no more
                    if stream.partition("/")[2].startswith(f"{device}/"):
                        self._reached[stream] = (0, reached)
                self._event(Event("clock", "a device's clock was learnt", {"device": device, **plain(estimate)}), now)
        return clock

    # ------------------------------------------------------------------------------- observations

    def _observe(self, device: str, seen: Observation, clock: DeviceClock, message_time: int | None, sent: int) -> None:
        """One observation as messages, in event-time order per stream."""
        self.counts["observations"] += 1
        device_time = seen.time if seen.time is not None else message_time if message_time is not None else sent
        time = clock.estimate.reference(device_time) if clock.estimate is not None else sent
        if time < sent - round(self.config.oldest_seconds * NANOSECONDS):
            self.counts["old"] += 1
            self._complain(0, MessageError("a value is too old to be used", where="OBX-14"))
            return
        channel = self._channel(device, seen)
        origin: Origin = "live" if seen.real else "simulated"
        if seen.rate:
            self._wave(channel, seen, device_time, time, sent, origin)
            return
        reached = self._reached.get(f"numerics/{channel}")
        if reached is not None and device_time <= reached[0]:
            self.counts["repeated" if device_time == reached[0] else "late"] += 1
            if device_time < reached[0]:
                self._complain(0, MessageError("a value is older than the one before it", where="OBX-14"))
            return
        time = max(min(time, sent), reached[1] if reached is not None else 0)
        self._reached[f"numerics/{channel}"] = (device_time, time)
        payload = Numeric(channel, seen.code, seen.unit, seen.values[0])
        self._waiting.append(self.numerics.first(payload, time, channel=channel, origin=origin))

    def _wave(self, channel: str, seen: Observation, device_time: int, time: int, sent: int, origin: Origin) -> None:
        """A piece of waveform as chunks. Chunks without any sample are left out: a gap is no data."""
        values = np.array(seen.values, np.float32)
        length = round(len(values) / seen.rate * NANOSECONDS)
        time = min(time, sent)
        reached = self._reached.get(f"waveforms/{channel}")
        if reached is not None:
            if device_time < reached[0] - JITTER or time < reached[1] - OVERLAP:
                self.counts["late"] += 1
                self._complain(0, MessageError("a piece of waveform overlaps the one before it", where="OBX-14"))
                return
            if time < reached[1] or time - reached[1] <= JITTER:
                time = reached[1]
        self._reached[f"waveforms/{channel}"] = (device_time + length, time + length)
        size = max(1, round(seen.rate * self.config.chunk_seconds))
        for at in range(0, len(values), size):
            piece = values[at : at + size]
            if np.isnan(piece).all():
                continue
            payload = Waveform(channel, seen.code, seen.unit, seen.rate, piece)
            begin = time + round(at / seen.rate * NANOSECONDS)
            self._waiting.append(self.waveforms.first(payload, begin, channel=channel, origin=origin))

    def _channel(self, device: str, seen: Observation) -> str:
        """``device/NAME``; the second place in the device that measures the same thing is ``device/NAME~2``."""
        key = (device, seen.channel, seen.path)
        channel = self._channels.get(key)
        if channel is None:
            if len(self._channels) >= MAXIMUM_CHANNELS:
                raise MessageError(f"names more than {MAXIMUM_CHANNELS:,} channels", where="message")
            same = sum(known[:2] == key[:2] for known in self._channels)
            channel = f"{device}/{seen.channel}" + (f"~{same + 1}" if same else "")
            self._channels[key] = channel
        return channel

    # ------------------------------------------------------------------------------------- alarms

    def _alarm(self, device: str, alarm: Alarm, clock: DeviceClock, sent: int) -> None:
        """The device's alarm as a condition; a point event, which neither lasts nor ends, as an event."""
        time = sent
        if alarm.time is not None and clock.estimate is not None:
            time = min(clock.estimate.reference(alarm.time), sent)
        subject = f"{device}/{alarm.channel}" if alarm.channel else device
        code = alarm.code.lower()
        facts = {"device": device, "code": alarm.code, "phase": alarm.phase, "state": alarm.state,
                 "inactivation": alarm.inactivation, "priority": alarm.priority}  # fmt: skip
        self._event(Event("device_alarm", alarm.text, facts), time)
        if alarm.phase in MOMENTARY:
            return
        known = self._alarms.get(alarm.identity)
        if known is None:
            if not alarm.present:
                return
            if len(self._alarms) >= MAXIMUM_ALARMS:
                raise MessageError(f"there are more than {MAXIMUM_ALARMS} alarms at once", where="message")
            same = sum(
                other.code == code and other.subject.partition("#")[0] == subject for other in self._alarms.values()
            )
            subject += f"#{same + 1}" if same else ""
        else:
            subject, code = known.subject, known.code
        onset = known.onset if known is not None else time
        text = alarm.text or f"{device} reports {code.removeprefix('mdc_evt_').replace('_', ' ')}"
        if alarm.limits:
            text += f" (limits {alarm.limits})"
        stream = f"{self.name}.numerics/{device}/{alarm.channel}" if alarm.channel else f"{self.name}.events"
        values = (alarm.value,) if alarm.value is not None else ()
        proof = Evidence(stream, min(onset, time), time, subject, values, alarm.unit, note="the device's own alarm")
        condition = AlertCondition(
            code=code, present=alarm.present, priority=alarm.priority, kind=alarm.kind, text=text, onset=onset,
            source=self.name, rule=self.rule(), subject=subject, ended=None if alarm.present else max(time, onset),
            value=alarm.value, unit=alarm.unit, evidence=(proof,),
        )  # fmt: skip
        if alarm.present:
            if known is not None and (known.priority, known.text) == (condition.priority, condition.text):
                return  # it goes on
            self._alarms[alarm.identity] = condition
        else:
            del self._alarms[alarm.identity]
        self._condition(condition, time)

    def _condition(self, condition: AlertCondition, time: int) -> None:
        time = max(time, self._reached.get("conditions", (0, 0))[1])
        self._reached["conditions"] = (time, time)
        self._waiting.append(self.conditions.first(condition, time))
        self._news.set()

    def _event(self, event: Event, time: int) -> None:
        time = max(time, self._reached.get("events", (0, 0))[1])
        self._reached["events"] = (time, time)
        self._waiting.append(self.events.first(event, time))
        self._news.set()

    # --------------------------------------------------------------------------------------- link

    def _changed(self, connections: int) -> None:
        now = self.context.clock.now()
        if connections and not self._open:
            self._lost = 0
            if self._link is not None:
                said = self._link_condition(self._link.onset, now, present=False)
                self._link = None
                self._condition(said, now)
        elif not connections:
            self._lost = now
        self._open = connections

    def _watch_link(self) -> None:
        now = self.context.clock.now()
        if self._lost and self._link is None and now - self._lost >= round(self.config.link_seconds * NANOSECONDS):
            self._link = self._link_condition(self._lost, now, present=True)
            self._condition(self._link, now)

    def _link_condition(self, onset: int, now: int, *, present: bool) -> AlertCondition:
        text = "The monitor's gateway is not connected." if present else "The monitor's gateway is connected again."
        if present and self._alarms:
            text += f" {len(self._alarms)} of its alarms may have ended since."
        proof = Evidence(f"{self.name}.events", onset, now, note="no connection in this interval")
        return AlertCondition(
            code="gateway_disconnected", present=present, priority="medium", kind="technical", text=text, onset=onset,
            source=self.name, rule=self.rule(), ended=None if present else now, value=(now - onset) / NANOSECONDS,
            limit=self.config.link_seconds, unit="s", evidence=(proof,),
        )  # fmt: skip

    def _refuse(self, fault: MessageError) -> bytes:
        self.counts["refused"] += 1
        return acknowledge(None, self.context.clock.now(), self.counts["messages"], fault=fault, reject=True) or b""

    def _complain(self, connection: int, error: MessageError) -> None:
        """Log every fault at first and ever fewer of a flood, and say so in the stream of events."""
        count = self.counts["complaints"] = self.counts["complaints"] + 1
        if count <= 10 or count & (count - 1) == 0:
            log.warning("%s: connection %d: %s (fault %d)", self.name, connection, error, count)
            self._event(Event("fault", str(error), {"count": count}), self.context.clock.now())


class _BusyError(MessageError):
    """The graph does not keep up; the sender should come back."""
