"""Silence is an alert: streams, devices and whole sources that should be giving data and do not.

Each ``Watch`` says what is expected to speak and how long it may be silent. Watching *each stream* and *each device*
side by side would make one unplugged monitor twenty alerts, so a narrower silence is not announced while a wider one
that contains it is present.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pydantic

from operators.rules import NOT_WATCHED, RuleOperator, rank, seconds
from pipeline.message import NANOSECONDS, AlertCondition, Evidence, Message, Numeric, Priority, Waveform
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Outputs, to_plain

Scope = Literal["source", "device", "stream"]
WIDTH: dict[str, int] = {"source": 0, "device": 1, "stream": 2}


class Watch(BaseConfig):
    """What may not be silent, and for how long."""

    channels: tuple[str, ...] = ("*",)
    """Shell patterns over channel names, e.g. `Intellivue/ABP`."""
    of: Literal["waveforms", "numerics", "any"] = "any"
    """Which kind of stream. A waveform chunk or numeric that is all NaN says that the device has no value, and does
    not count; frames, events and other payloads count for `any`."""
    scope: Scope = "stream"
    """`stream`: each channel for itself; `device`: all matching channels of a device (the part of the name before the
    slash) together; `source`: everything that matches together."""
    silent_after_seconds: float = pydantic.Field(gt=0)
    """Seconds without data until the alert begins. Keep it above the longest pause of a healthy device."""
    priority: Priority = "low"
    """Priority of the alert."""
    expect: bool = False
    """True: the alert also begins when nothing has come since the run began (needs `scope: source`, or channels
    without wildcards). False: only what was once heard can fall silent."""

    @pydantic.model_validator(mode="after")
    def _expectable(self) -> Watch:
        if self.expect and self.scope != "source" and any(set(name) & set("*?[") for name in self.channels):
            raise ValueError("expect needs channels without wildcards, or scope: source")
        return self


DEFAULT = (
    Watch(scope="source", silent_after_seconds=10, priority="medium", expect=True),
    Watch(of="waveforms", scope="device", silent_after_seconds=1, priority="medium"),
    Watch(of="numerics", scope="device", silent_after_seconds=15, priority="low"),
)


@dataclasses.dataclass(slots=True)
class _Ear:
    """One thing that is listened for. Times are event time, ns."""

    watch: Watch
    subject: str
    streams: str
    """For evidence: the stream, or a pattern where there are several."""
    last: int
    """End of the latest data."""
    heard: bool = True
    silent: bool = False
    onset: int = 0

    @property
    def allowed(self) -> int:
        return round(self.watch.silent_after_seconds * NANOSECONDS)

    def key(self) -> str:
        return f"{self.watch.scope}|{self.watch.of}|{self.subject}"


class Freshness(RuleOperator):
    """Raises a technical alert when a stream, a device or the whole source is silent; ends it when data comes again."""

    class Config(BaseConfig):
        watches: tuple[Watch, ...] = DEFAULT
        """What is listened for. Of the watches of one scope and kind, the first that matches a channel takes it."""

    input: Input[Any]

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self._streams: dict[str, tuple[_Ear, ...]] = {}
        self._ears: dict[str, _Ear] = {}
        self._wider: dict[str, set[str]] = {}
        """Key of an ear to the keys of wider ears that hear everything it hears."""
        self._loaded: dict[str, dict[str, Any]] = {}

    def process(self, message: Message[Any]) -> Outputs:
        """Note that the stream speaks. Costs a dictionary look-up and an assignment a watch."""
        time = message.time
        if time > self.now:
            self.now = time
        ears = self._streams.get(message.stream)
        if ears is None:
            ears = self._meet(message)
        if not ears:
            return None
        payload = message.payload
        if type(payload) is Waveform:
            values = payload.values
            if len(values) == 0 or (values[0] != values[0] and values[-1] != values[-1]):
                return None
            time += int(len(values) / payload.rate * NANOSECONDS)
        elif type(payload) is Numeric and payload.value != payload.value:
            return None
        said = None
        for ear in ears:
            if ear.silent:
                said = [*(said or ()), self._end(ear, message.time, message)]
            if time > ear.last:
                ear.last = time
            ear.heard = True
        if said is not None:
            self._rearm(after=message.time)  # what the wider silence covered gets its own time again
        return said

    def on_time(self, time: int) -> Outputs:
        """Some deadline was reached; deadlines are looked at only here, so that a message costs nothing but a note."""
        due = [ear for ear in self._ears.values() if not ear.silent and ear.last + ear.allowed <= time]
        due.sort(key=lambda ear: (WIDTH[ear.watch.scope], ear.key()))
        said = []
        for ear in due:
            if not self._covered(ear):
                ear.silent, ear.onset = True, ear.last
                said.append(self._condition(ear, time, None, present=True))
        self._rearm(after=time)
        return said

    def finish(self) -> Outputs:
        silent = [ear for ear in self._ears.values() if ear.silent]
        return [self._end(ear, max(self.now, ear.onset), None, NOT_WATCHED) for ear in silent]

    # ------------------------------------------------------------------------------------ private

    def _meet(self, message: Message[Any]) -> tuple[_Ear, ...]:
        """Find or make the ears of a stream that was not known yet."""
        if not self._streams:
            self.origin = message.origin
            self._expect(message.time)
        channel = getattr(message.payload, "channel", None) or message.stream
        kind = {Waveform: "waveforms", Numeric: "numerics"}.get(type(message.payload), "other")
        ears: dict[tuple[str, str], _Ear] = {}
        for watch in self.config.watches:
            slot = (watch.scope, watch.of)
            if slot in ears or watch.of not in (kind, "any") or rank(channel, watch.channels) < 0:
                continue
            device = channel.partition("/")[0] if "/" in channel else message.stream.partition(".")[0]
            subject = {"source": "", "device": device, "stream": channel}[watch.scope]
            streams = message.stream if watch.scope == "stream" else f"{message.stream.partition('/')[0]}/{device}/*"
            if watch.scope == "source":
                streams = f"{message.stream.partition('.')[0]}.*"
            ears[slot] = self._ear(watch, subject, streams, message.time)
        found = tuple(ears.values())
        for ear in found:
            wider = {o.key() for o in found if WIDTH[o.watch.scope] < WIDTH[ear.watch.scope]}
            key = ear.key()
            self._wider[key] = self._wider.get(key, wider) & wider
        self._streams[message.stream] = found
        self._rearm()
        return found

    def _expect(self, time: int) -> None:
        for watch in self.config.watches:
            for channel in watch.channels if watch.expect else ():
                if watch.scope == "stream":
                    self._ear(watch, channel, channel, time).heard = False
                elif watch.scope == "device":
                    self._ear(watch, channel.partition("/")[0], channel, time).heard = False
                else:
                    self._ear(watch, "", "*", time).heard = False

    def _ear(self, watch: Watch, subject: str, streams: str, time: int) -> _Ear:
        new = _Ear(watch, subject, streams, time)
        key = new.key()
        if key not in self._ears:
            for field, value in self._loaded.pop(key, {}).items():
                setattr(new, field, value)
            self._ears[key] = new
        ear = self._ears[key]
        ear.streams = streams
        return ear

    def _covered(self, ear: _Ear) -> bool:
        return any(self._ears[key].silent for key in self._wider.get(ear.key(), ()))

    def _rearm(self, after: int = -1) -> None:
        deadlines = []
        for ear in self._ears.values():
            if ear.silent:
                continue
            due = ear.last + ear.allowed
            # A deadline that has passed belongs to a silence covered by a wider one: look again after its own time.
            deadlines.append(due if due > after else after + ear.allowed)
        self.wake(min(deadlines, default=None))

    def _end(self, ear: _Ear, time: int, cause: Message[Any] | None, note: str = "") -> Message[AlertCondition]:
        said = self._condition(ear, time, cause, present=False, note=note)
        ear.silent = False
        return said

    def _condition(
        self, ear: _Ear, time: int, cause: Message[Any] | None, *, present: bool, note: str = ""
    ) -> Message[AlertCondition]:
        watch = ear.watch
        what = {"any": "data", "waveforms": "waveforms", "numerics": "values"}[watch.of]
        whom = {"source": "any device", "device": ear.subject, "stream": ear.subject}[watch.scope]
        passed = seconds(time - ear.onset)
        if present:
            text = f"No {what} from {whom} for {passed}."
            if not ear.heard:
                text = f"No {what} from {whom} since the run began, {passed} ago."
        else:
            text = f"No {what} came from {whom} for {passed}."
        return self.say(
            time, cause, code=f"{watch.scope}_silent", subject=f"{ear.subject} {watch.of}".strip(), present=present,
            priority=watch.priority, kind="technical", text=f"{text} {note}".rstrip(), onset=ear.onset,
            ended=None if present else time, value=(time - ear.onset) / NANOSECONDS, limit=watch.silent_after_seconds,
            unit="s", evidence=(Evidence(ear.streams, ear.onset, time, note="no data in this interval"),),
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        kept = ("last", "heard", "silent", "onset")
        found = {ear.key(): {field: getattr(ear, field) for field in kept} for ear in self._ears.values()}
        return {"now": self.now, "ears": to_plain({**self._loaded, **found})}

    def load_state(self, state: dict[str, Any]) -> None:
        self.now, self._loaded = state.get("now", 0), dict(state.get("ears", {}))
