"""The one kind of message, and the payloads it carries.

Messages and payloads are frozen ``msgspec`` structs: slotted, immutable, and created in about 0.1 microseconds,
which is what lets every message carry its trace without a fast path that does not.

Times are integer nanoseconds. *Event time* (``Message.time``) counts from the Unix epoch and is when the thing
happened in the room; *stamps* in a trace are ``time.monotonic_ns`` readings and say how long our own work took.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

import msgspec
import numpy as np

NANOSECONDS = 1_000_000_000
"""Nanoseconds in a second."""

Payload = TypeVar("Payload")
NewPayload = TypeVar("NewPayload")

Origin = Literal["live", "recorded", "simulated", "composed"]
"""Where a message's data came from. Anything but ``live`` is shown to people wherever the message is."""

Priority = Literal["high", "medium", "low", "info"]
Kind = Literal["physiological", "technical", "advisory"]

Verdict = Literal["", "confirmed", "enriched", "demoted", "unverified"]
"""What a slower check says of an alert afterwards."""

Array = np.ndarray[Any, np.dtype[Any]]


class Hop(msgspec.Struct, frozen=True, gc=False):
    """One operator's handling of a message. Stamps are ``time.monotonic_ns``."""

    node: str
    entered: int
    left: int


class Message(msgspec.Struct, Generic[Payload], frozen=True, gc=False):
    """What travels on every edge.

    ``(time, stream, sequence)`` is the total order that replay uses, so it must be unique within a run.
    A message passed on unchanged keeps its trace; ``derive`` gives a new message its own copy, so that the
    traces of siblings never mix (branches that share one message tell their hops apart by node name).
    """

    stream: str
    """``node.port``, or ``node.port/channel`` where one port carries several channels."""
    time: int
    """Event time, nanoseconds since the Unix epoch."""
    sequence: int
    """Counts up within the stream."""
    payload: Payload
    origin: Origin = "live"
    trace: list[Hop] = msgspec.field(default_factory=list)

    def derive(self, payload: NewPayload, stream: str, sequence: int, time: int | None = None) -> Message[NewPayload]:
        """A new message caused by this one: same event time unless given, same origin, a copy of the trace."""
        return Message(stream, self.time if time is None else time, sequence, payload, self.origin, self.trace.copy())

    @property
    def order(self) -> tuple[int, str, int]:
        """The key of the total order: event time, stream, sequence."""
        return (self.time, self.stream, self.sequence)


class Bound(msgspec.Struct, frozen=True, gc=False):
    """A promise on an edge: nothing with an event time before ``time`` will follow.

    It is what lets a join go on when one of its inputs is silent (the timestamp bound of MediaPipe's
    synchronisation). Bounds travel in the edges but are never seen by an operator's ``process``.
    """

    time: int


# --------------------------------------------------------------------------------------------- video

PixelFormat = Literal["yuv420p", "nv12", "rgb24", "gray"]


class VideoFrame(msgspec.Struct, frozen=True):
    """One picture, kept in the planes it was decoded to so that nothing is converted that nobody asks for.

    ``planes`` are uint8 arrays that may be strided views of the decoder's own memory: yuv420p has Y (h, w),
    U and V (h/2, w/2); nv12 has Y (h, w) and UV (h/2, w/2, 2); rgb24 has one (h, w, 3); gray one (h, w).
    Treat them as read-only. Use ``operators.video.colour`` for RGB.
    """

    width: int
    height: int
    format: PixelFormat
    planes: tuple[Array, ...]
    full_range: bool = False
    """True where luma uses 0..255 rather than 16..235."""
    corrupt: bool = False
    """True where the decoder says that it concealed damage in this picture."""


class SyntheticFrame(msgspec.Struct, frozen=True):
    """A picture made by a generative model. Deliberately unrelated to ``VideoFrame``: generated is never measured."""

    width: int
    height: int
    format: PixelFormat
    planes: tuple[Array, ...]
    model: str


class Mask(msgspec.Struct, frozen=True):
    """A per-pixel class map. ``labels`` is (h, w) uint8, ``classes[i]`` names value ``i``; 0 is background."""

    labels: Array
    classes: tuple[str, ...]
    confidence: Array | None = None
    """(h, w) float32 in 0..1, or None where the operator has none."""


class Detection(msgspec.Struct, frozen=True):
    """One thing seen in one frame. ``box`` is x, y, width, height in pixels of that frame."""

    label: str
    score: float
    box: tuple[float, float, float, float] | None = None
    frame: int | None = None
    """``sequence`` of the frame it was seen in."""
    attributes: dict[str, Any] = {}


class ScenePatch(msgspec.Struct, frozen=True):
    """Measured geometry: ``points`` (n, 3) float32, ``colours`` (n, 3) uint8, camera pose (4, 4) camera-to-world."""

    points: Array
    colours: Array
    pose: Array
    unit: Literal["mm", "unscaled"] = "unscaled"


# ------------------------------------------------------------------------------------------- monitor


class Waveform(msgspec.Struct, frozen=True):
    """A chunk of evenly sampled signal; ``Message.time`` is the time of ``values[0]``.

    Missing samples are NaN, never zero.
    """

    channel: str
    """The vendor's own name, e.g. ``Intellivue/ABP``."""
    code: str
    """ISO/IEEE 11073 reference id, e.g. ``MDC_PRESS_BLD_ART_ABP``; empty where unknown."""
    unit: str
    """UCUM, e.g. ``mm[Hg]``."""
    rate: float
    """Samples per second."""
    values: Array
    """(n,) float32."""


class Numeric(msgspec.Struct, frozen=True):
    """One measured value with its unit. NaN means the device says that it has no value."""

    channel: str
    code: str
    unit: str
    value: float


class Event(msgspec.Struct, frozen=True):
    """Something that happened and has a name: a device's message, a phase of the case, planted truth."""

    kind: str
    text: str = ""
    data: dict[str, Any] = {}


class Caption(msgspec.Struct, frozen=True):
    """Words about an interval of the case, with the facts they were made from."""

    text: str
    start: int
    end: int
    facts: dict[str, Any] = {}


# ------------------------------------------------------------------------------------------- alerting


class Evidence(msgspec.Struct, frozen=True):
    """One piece of what an alert stands on: a stream, an interval of event time, and what was seen there."""

    stream: str
    start: int
    end: int
    channel: str = ""
    values: tuple[float, ...] = ()
    unit: str = ""
    frame: int | None = None
    """``sequence`` of the decisive frame, for video."""
    note: str = ""


class Rule(msgspec.Struct, frozen=True):
    """Which rule or model decided: its registered name, version, and the SHA-256 of its configuration or weights."""

    name: str
    version: str
    digest: str


class AlertCondition(msgspec.Struct, frozen=True):
    """What a rule says about one condition: is it true, since when, and on what evidence.

    A rule sends one with ``present=True`` when the condition becomes true, another when priority, text or evidence
    change, and one with ``present=False`` when it ends. ``(source, code, subject)`` names the condition, ``onset``
    the episode. Whether anybody is told is the business of ``pipeline.alerts``, not of the rule.
    """

    code: str
    """Stable machine name, e.g. ``hypotension`` or ``stream_silent``."""
    present: bool
    priority: Priority
    kind: Kind
    text: str
    """One sentence for people. Carries no patient identifier."""
    onset: int
    """Event time at which the condition became true, also repeated on the message that ends it."""
    source: str
    """Name of the operator that decides."""
    rule: Rule
    subject: str = ""
    """What it is about where one rule watches several things: a stream or a channel."""
    ended: int | None = None
    """Event time at which the condition stopped being true; None while present."""
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    evidence: tuple[Evidence, ...] = ()
    suppressed_by: str = ""
    """Why nobody is to be told, where a candidate was rejected. Logged, never signalled."""
    verified: Verdict = ""
    """A slower check's verdict, where this is one: it revises the alert it is about, and never begins one."""


SignalPresence = Literal["on", "latched", "acknowledged", "off"]
Inactivation = Literal["none", "audio_paused", "audio_off", "alarm_paused", "alarm_off"]
Phase = Literal["start", "update", "escalate", "signal", "end"]
"""Why there is a new revision: the condition began, changed, got worse or waits unanswered, only the signal changed,
the condition ended."""


class Signal(msgspec.Struct, frozen=True):
    """Is anybody being told? The second half of an alert, in the words of IEEE 11073-10207."""

    presence: SignalPresence
    since: int
    """Event time of the last change of presence or inactivation."""
    inactivation: Inactivation = "none"
    until: int | None = None
    """Event time at which the inactivation ends by itself."""
    by: str = ""
    """Role or station that acknowledged, paused or reset."""
    escalation: int = 0
    """How often the alert was signalled anew because nobody acknowledged it."""
    withheld: str = ""
    """Why a new alert is recorded and not signalled, where too many of its low priority came before it."""


class Alert(msgspec.Struct, frozen=True):
    """One revision of an alert: a condition and its signal. ``(alert_id, revision)`` is unique for ever."""

    alert_id: str
    revision: int
    """Counts up from 1 within ``alert_id``."""
    phase: Phase
    time: int
    """Event time of this revision."""
    detected: int
    """Event time at which the rule first said so; ``detected - condition.onset`` is the condition delay."""
    condition: AlertCondition
    signal: Signal
    room: str
    case: str
    topology: str
    origin: Origin
    replay: str = ""
    """The command that replays the moment."""
    processing_ns: int = 0
    """From the decisive message's arrival in this process to this revision. Not part of the digest."""


CommandName = Literal["acknowledge", "pause_audio", "pause_alarm", "audio_off", "alarm_off", "resume"]


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person wants of an alert, or of all alerts of a room."""

    command: CommandName
    room: str
    by: str
    """Role or station, never a patient."""
    alert_id: str = ""
    """Empty: all alerts of the room."""
    seconds: float | None = None
    """How long a pause lasts."""
    command_id: str = ""
    issued: int = 0
    """Wall-clock nanoseconds at which it was given."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a command. Written to the journal before it is told."""

    command: Command
    done: bool
    time: int
    """Event time at which it was decided."""
    reason: str = ""
    """Why it was refused; empty where it was done."""
    alerts: tuple[str, ...] = ()
    """Ids of the alerts that it changed."""


RunState = Literal["running", "stopped"]


class StreamStatus(msgspec.Struct, frozen=True):
    """Is a source stream alive?"""

    name: str
    messages: int
    age_seconds: float
    """Since its last message."""


class ActiveAlert(msgspec.Struct, frozen=True):
    """An alert that is signalled, latched or acknowledged now."""

    alert_id: str
    revision: int
    code: str
    priority: Priority
    presence: SignalPresence
    text: str


class Status(msgspec.Struct, frozen=True):
    """A room's heartbeat: while it comes, Vigil is at work there. Its silence is an alarm of its own."""

    room: str
    case: str
    topology: str
    origin: Origin
    state: RunState
    run: str
    """Tells the runs of one room apart."""
    at: int
    """Wall-clock nanoseconds at which this was said."""
    next_seconds: float
    """The next heartbeat is due after so long; three times that without one is silence."""
    event_time: int
    uptime_seconds: float
    streams: tuple[StreamStatus, ...] = ()
    conditions: tuple[str, ...] = ()
    """Technical conditions of the engine that are true now, in words."""
    active: tuple[ActiveAlert, ...] = ()
    pause: str = ""
    """The room's pause (an ``Inactivation``), empty where there is none."""
    unpublished: int = 0
    """Journal entries that the broker does not have yet."""
    faults: tuple[str, ...] = ()
    """What does not work now in the alert path itself: a disk or a broker that takes nothing."""
    version: str = ""
    alarms_per_hour: float | None = None
    """Alarms per bed-hour over the last two hours of event time; None where nobody counts."""


class Abstain(msgspec.Struct, frozen=True):
    """An operator's answer when it has none in time: it missed its deadline, is restarting, or declines."""

    operator: str
    reason: str
    detail: str = ""


PAYLOADS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        VideoFrame, SyntheticFrame, Mask, Detection, ScenePatch, Waveform, Numeric, Event, Caption, AlertCondition,
        Alert, Command, Outcome, Status, Abstain,
    )
}  # fmt: skip
"""Every payload type by name; recordings and topologies refer to payloads by these names."""
