"""The operator: numbers, messages and alerts from the text that devices draw into the picture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import pydantic

from operators.perception.overlay import layout, models
from operators.perception.overlay.baseline import nearest
from operators.perception.overlay.grammar import MESSAGES, QUANTITIES, Kind, MessageKind
from operators.perception.overlay.layout import Box, Layout, Seen, cut
from operators.perception.overlay.reader import Memory, Reading, read, read_spot
from operators.perception.overlay.screen import Screen, from_state, readable
from operators.perception.overlay.strokes import brightest, strokes
from operators.perception.overlay.watch import Watch
from operators.rules import NOT_WATCHED, RuleOperator, figure, seconds
from operators.video.colour import luma
from pipeline.message import (
    NANOSECONDS,
    AlertCondition,
    Array,
    Detection,
    Event,
    Evidence,
    Message,
    Numeric,
    Priority,
    Rule,
    VideoFrame,
)
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Output, Outputs

FLAT = 24
"""Grey levels between the darkest and the brightest pixel of a picture in which no text is looked for."""

PRESSURE, GAS_OFF, LOST = "insufflator_pressure_high", "insufflator_gas_off", "lost_device"
"""Codes of the conditions."""


class _Value(NamedTuple):
    """A number that was read, where it stands, and its strokes."""

    reading: Reading
    box: Box
    crop: Array | None


class Overlay(RuleOperator):
    """Reads the insufflator's overlay once a second of event time, and alerts on what it says.

    Outputs: ``numerics`` (``Overlay/PATIENT_PRESSURE`` and ``Overlay/SET_PRESSURE`` in mm[Hg], ``Overlay/GAS_FLOW`` in
    L/min; no code), one for every value read, none where a value cannot be read for certain; ``readings``, the same
    values and the messages with confidence, box and frame as evidence, and with the number's strokes as a small grey
    picture (``attributes["crop"]``, uint8: the letters alone, nothing of the scene behind them); ``events``:
    ``overlay_found``, ``overlay_lost`` and devices' messages (``gas_off``, ``gas_on``, ``lost_device``), each when it
    was seen twice.

    Conditions: ``insufflator_pressure_high``, ``insufflator_gas_off`` while in the body, ``lost_device``. None begins
    or ends on one reading alone. A candidate that does not last, and gas off outside the body, is said with
    ``suppressed_by``.

    Place it with ``placement: thread`` behind an edge with policy ``latest``: a search of the whole picture takes up
    to a second; it is made at once, then at most every ``search_seconds``, and not at all in an even picture.

    ``setup`` raises ``VigilError`` where the text models are missing or are not the ones that were measured.
    """

    class Config(BaseConfig):
        period_seconds: float = pydantic.Field(default=1.0, gt=0, le=60)
        """Event time between readings."""
        search_seconds: float = pydantic.Field(default=30.0, ge=1, le=3600)
        """Event time between searches of the whole picture, while no number is found or can be read."""
        sweep_seconds: float = pydantic.Field(default=30.0, ge=0, le=3600)
        """Event time between looks at the whole picture for messages and menus; 0: none."""
        lost_readings: int = pydantic.Field(default=5, ge=1, le=1000)
        """Readings one after another without any number, after which the overlay is looked for again."""
        prefix: str = "Overlay"
        """First part of the channels' names."""
        crops: bool = True
        """Give the strokes of each number as evidence."""
        limit_mmhg: float = pydantic.Field(default=15.0, gt=0, le=50)
        """Patient pressure above this raises an alert."""
        hysteresis_mmhg: float = pydantic.Field(default=0.0, ge=0, le=20)
        """How far below the limit it must come for the alert to end; at the limit itself it ends by default, because
        the overlay shows whole numbers and a pressure set to 15 is meant to stay at 15."""
        delay_seconds: float = pydantic.Field(default=10.0, ge=0, le=600)
        """Seconds that it must stay above."""
        clear_seconds: float = pydantic.Field(default=5.0, ge=0, le=600)
        """Seconds that it must stay below, or that a message must be gone, for the alert to end."""
        hold_seconds: float = pydantic.Field(default=10.0, gt=0, le=600)
        """Seconds that a reading stands for. A longer silence restarts a delay that is running; it ends no alert."""
        agree_mmhg: float = pydantic.Field(default=2.0, ge=0, le=20)
        """Two readings one after another are in agreement where they differ by no more."""
        in_body: Literal["view", "always"] = "view"
        """Where gas off counts: while the picture shows the inside of the body by its colours, or always."""
        pressure_priority: Priority = "medium"
        gas_off_priority: Priority = "medium"
        lost_device_priority: Priority = "low"
        baseline: bool = False
        """Read the whole picture each time and take the nearest number instead: what this operator has to beat."""

    input: Input[VideoFrame]
    numerics: Output[Numeric]
    readings: Output[Detection]
    events: Output[Event]

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self._screens: dict[str, Screen] = {}
        self._reader: models.Reader | None = None
        self._finder: models.Finder | None = None
        self._in_body: Callable[[VideoFrame], float] | None = None

    def setup(self) -> None:
        self._reader = models.Reader()
        self._finder = models.Finder(self._reader)
        if self.config.in_body == "view":
            from operators.perception.view.rules import in_body

            self._in_body = in_body

    def teardown(self) -> None:
        self._reader = self._finder = self._in_body = None

    def rule(self) -> Rule:
        """Options and both models' SHA-256 give the digest."""
        found = super().rule()
        whole = hashlib.sha256(f"{found.digest} {models.fingerprint()}".encode()).hexdigest()[:16]
        return Rule(found.name, found.version, whole)

    def process(self, message: Message[VideoFrame]) -> Outputs:
        """Read the overlay where a reading is due; frames between readings cost one comparison."""
        screen = self._screens.setdefault(message.stream, Screen())
        if message.time < screen.next_reading:
            return None
        self.now, self.origin = max(self.now, message.time), message.origin
        frame = message.payload
        if not readable(frame):
            return None
        screen.next_reading = message.time + ns(self.config.period_seconds)
        return list(self._look(message, screen, brightest(frame)))

    def finish(self) -> Outputs:
        said = []
        for stream, screen in self._screens.items():
            for code, watch in screen.watches.items():
                if watch.present:
                    said.append(self._say(code, watch, stream, max(self.now, watch.onset), None, ended=self.now))
        return said

    # ------------------------------------------------------------------------------------ private

    def _look(self, message: Message[VideoFrame], screen: Screen, picture: Array) -> Iterator[Message[Any]]:
        if self.config.baseline:
            seen, values = [], self._baseline(picture)
        else:
            seen = self._find(message.time, screen, picture)
            values = self._values(screen, picture)
            # Messages are white: in luma they stand out from red tissue, whose red alone is nearly as bright.
            seen += self._spots(screen, np.ascontiguousarray(luma(message.payload)))
        yield from self._presence(message, screen, bool(values))
        for kind, value in values.items():
            yield from self._told(message, kind, value)
        yield from self._messages(message, screen, seen)
        read = {kind: value.reading.value for kind, value in values.items()}
        yield from self._pressure(message, screen, read.get("patient_pressure"))
        yield from self._gas(message, screen, read.get("gas_flow"))
        yield from self._step(LOST, screen, message, LOST in screen.messages, 0.0)
        screen.last.update({kind: (message.time, value) for kind, value in read.items()})

    def _baseline(self, picture: Array) -> dict[Kind, _Value]:
        assert self._finder is not None, "setup() was not called"
        found = nearest(self._finder.find(picture))
        return {kind: _Value(Reading(value, f"{value:g}", 1.0), box, None) for kind, (value, box) in found.items()}

    def _find(self, time: int, screen: Screen, picture: Array) -> list[Seen]:
        """Search or sweep where one is due. What was found before and can still be read stays."""
        assert self._finder is not None, "setup() was not called"
        height, width = picture.shape
        if screen.layout is not None and (screen.layout.width, screen.layout.height) != (width, height):
            screen.forget()
        known = screen.layout
        lost = known is None or not known.fields or screen.failures >= self.config.lost_readings
        due = time >= screen.next_search if lost else bool(self.config.sweep_seconds) and time >= screen.next_sweep
        if not due or int(picture.max()) - int(picture.min()) < FLAT:
            return []
        screen.next_search = time + ns(self.config.search_seconds)
        screen.next_sweep = time + ns(self.config.sweep_seconds)
        found, seen = layout.search(picture, self._finder, thorough=lost)
        if known is None:
            screen.layout = found
            return seen
        readable_now = [field for field in known.fields if _read_last(screen, field.kind)]
        kinds = {field.kind for field in readable_now}
        new = [field for field in found.fields if field.kind not in kinds]
        kept = [field for field in known.fields if field.kind not in kinds | {field.kind for field in new}]
        for field in new:
            screen.memories.pop(field.kind, None)
        spots = found.spots
        if not any(spot.standing for spot in spots):
            spots = spots + [spot for spot in known.spots if spot.standing]
        screen.layout = Layout(width, height, readable_now + kept + new, spots)
        screen.layout.fields.sort(key=lambda field: field.kind)
        return seen

    def _values(self, screen: Screen, picture: Array) -> dict[Kind, _Value]:
        assert self._reader is not None, "setup() was not called"
        values: dict[Kind, _Value] = {}
        for field in screen.layout.fields if screen.layout is not None else ():
            reading = read(picture, field, self._reader, screen.memories.setdefault(field.kind, Memory()))
            if reading is not None:
                crop = None
                if self.config.crops:
                    crop = np.clip(strokes(cut(picture, field.line), field.height), 0, 255).astype(np.uint8)
                values[field.kind] = _Value(reading, field.line, crop)
        return values

    def _spots(self, screen: Screen, picture: Array) -> list[Seen]:
        assert self._reader is not None, "setup() was not called"
        seen = []
        for spot in screen.layout.spots if screen.layout is not None else ():
            found = read_spot(picture, spot, self._reader)
            if found is not None and found[1] >= layout.SURE:
                seen.append(Seen(found[0], found[1], spot.box))
        return seen

    def _presence(self, message: Message[VideoFrame], screen: Screen, any_value: bool) -> Iterator[Message[Event]]:
        """Count failures, and tell when the overlay was found and when it was lost."""
        lost = self.config.lost_readings
        if any_value:
            if not screen.last or screen.failures >= lost:
                yield self.events.emit(Event("overlay_found", "The overlay can be read."), message)
            screen.failures = 0
            return
        screen.failures += 1
        if screen.failures == lost and screen.last:
            text = f"The overlay was not readable {lost} times in a row."
            yield self.events.emit(Event("overlay_lost", text), message)

    def _told(self, message: Message[VideoFrame], kind: Kind, value: _Value) -> Iterator[Message[Any]]:
        quantity, reading = QUANTITIES[kind], value.reading
        channel = f"{self.config.prefix}/{quantity.channel}"
        yield self.numerics.emit(Numeric(channel, "", quantity.unit, reading.value), message, channel=channel)
        attributes: dict[str, Any] = {
            "value": reading.value, "unit": quantity.unit, "text": reading.text, "unchanged": reading.reused,
        }  # fmt: skip
        if value.crop is not None:
            attributes["crop"] = value.crop
        box = tuple(float(side) for side in value.box)
        yield self.readings.emit(Detection(kind, reading.confidence, box, message.sequence, attributes), message)

    def _messages(self, message: Message[VideoFrame], screen: Screen, seen: list[Seen]) -> Iterator[Message[Any]]:
        """A message counts when it stands in two readings one after another."""
        best: dict[MessageKind, Seen] = {}
        for one in seen:
            if one.kind not in best or one.score > best[one.kind].score:
                best[one.kind] = one
        counts: dict[str, tuple[int, int]] = {}
        for kind, one in best.items():
            times, since = screen.messages.get(kind, (0, message.time))
            counts[kind] = (times + 1, since)
            box, attributes = tuple(float(side) for side in one.box), {"text": MESSAGES[kind]}
            yield self.readings.emit(Detection(kind, round(one.score, 4), box, message.sequence, attributes), message)
            if times == 1:
                yield self.events.emit(Event(kind, MESSAGES[kind], {"since": since}), message)
        screen.messages = counts

    def _pressure(
        self, message: Message[VideoFrame], screen: Screen, value: float | None
    ) -> Iterator[Message[AlertCondition]]:
        """Above the limit counts from the first of two readings in agreement; one that stands alone is passed over."""
        if value is None:
            return
        config, watch = self.config, screen.watch(PRESSURE)
        time, before = screen.last.get("patient_pressure", (-1, 0.0))
        fresh = time >= 0 and message.time - time <= ns(config.hold_seconds)
        if not fresh:
            if not watch.present:
                watch.reset()
            return
        was_high = before > config.limit_mmhg
        if was_high and value <= config.limit_mmhg and watch.onset < 0:
            watch.onset, watch.frame, watch.worst = time, message.sequence, before
            yield self._say(
                PRESSURE, watch, message.stream, message.time, message, suppressed="seen once", value=before
            )
            watch.reset()
        if abs(value - before) > config.agree_mmhg:
            return
        inside = value > config.limit_mmhg - (config.hysteresis_mmhg if watch.present else 0.0)
        if inside and watch.onset < 0 and was_high:
            watch.onset, watch.times, watch.frame = time, 1, message.sequence
        watch.worst = max(watch.worst, value, before if was_high else value) if inside else watch.worst
        yield from self._step(PRESSURE, screen, message, inside, config.delay_seconds, value)

    def _gas(
        self, message: Message[VideoFrame], screen: Screen, flow: float | None
    ) -> Iterator[Message[AlertCondition]]:
        """Gas is off from the second sight of its message until flow is read twice, or "Gas On" is.

        The message is a notice that goes by itself, so its going alone does not say that gas is on, where flow is
        shown. Where it is not shown, it has to do.
        """
        off, last = screen.messages.get("gas_off"), screen.last.get("gas_flow", (-1, 0.0))
        fresh = last[0] >= 0 and message.time - last[0] <= ns(self.config.hold_seconds)
        flows = flow is not None and flow > 0 and fresh and last[1] > 0
        if off is not None:
            screen.gas_off = screen.gas_off or off[0] >= 2
        elif flows or "gas_on" in screen.messages or not (fresh or flow is not None):
            screen.gas_off = False
        watch, inside = screen.watch(GAS_OFF), screen.gas_off
        watch.refused = watch.refused and inside
        if inside and not self._inside_body(message.payload):
            if not watch.present and not watch.refused:
                watch.onset, watch.frame = off[1] if off is not None else message.time, message.sequence
                yield self._say(GAS_OFF, watch, message.stream, message.time, message, suppressed="out of the body")
                watch.reset()
                watch.refused = True
            inside = False
        elif inside and watch.onset < 0 and off is not None:
            watch.onset, watch.times, watch.frame = off[1], 1, message.sequence
        yield from self._step(GAS_OFF, screen, message, inside, 0.0)

    def _inside_body(self, frame: VideoFrame) -> bool:
        if self._in_body is None:
            return True
        try:
            return self._in_body(frame) > 0.5
        except ValueError:  # a picture that lacks its colour shows nothing
            return False

    def _step(
        self, code: str, screen: Screen, message: Message[VideoFrame], inside: bool, delay: float,
        value: float | None = None,
    ) -> Iterator[Message[AlertCondition]]:  # fmt: skip
        watch = screen.watch(code)
        if inside and watch.onset < 0:
            watch.frame = message.sequence
        what = watch.step(message.time, inside, delay, self.config.clear_seconds)
        if what == "begin":
            yield self._say(code, watch, message.stream, message.time, message, value=value)
        elif what == "end":
            yield self._say(code, watch, message.stream, message.time, message, ended=watch.gone, value=value)
        elif what == "drop":
            reason = f"lasted {seconds(watch.seen - watch.onset)}" if watch.times > 1 else "seen once"
            yield self._say(code, watch, message.stream, message.time, message, suppressed=reason, value=watch.worst)
            watch.reset()

    def _say(
        self, code: str, watch: Watch, stream: str, time: int, cause: Message[VideoFrame] | None, *,
        ended: int | None = None, suppressed: str = "", value: float | None = None,
    ) -> Message[AlertCondition]:  # fmt: skip
        end, unit = time if ended is None else ended, "mm[Hg]" if code == PRESSURE else ""
        text = self._text(code, watch, end, ended is not None, value)
        proof = Evidence(
            stream, watch.onset, end, values=(watch.worst,) if code == PRESSURE else (), unit=unit, frame=watch.frame,
            note=f"read by {models.fingerprint()}",
        )  # fmt: skip
        onset = watch.onset
        if ended is not None:
            watch.reset()
        return self.say(
            time, cause, code=code, subject=stream.partition("/")[2] or stream, present=ended is None,
            priority={PRESSURE: self.config.pressure_priority, GAS_OFF: self.config.gas_off_priority,
                      LOST: self.config.lost_device_priority}[code],
            kind="physiological" if code == PRESSURE else "technical",
            text=text if cause is not None else f"{text} {NOT_WATCHED}", onset=onset, ended=ended,
            value=value if code == PRESSURE else None, limit=self.config.limit_mmhg if code == PRESSURE else None,
            unit=unit, evidence=(proof,), suppressed_by=suppressed,
        )  # fmt: skip

    def _text(self, code: str, watch: Watch, end: int, over: bool, value: float | None) -> str:
        lasted = seconds(end - watch.onset)
        if code == PRESSURE:
            limit = f"{figure(self.config.limit_mmhg)} mmHg"
            if over:
                return f"Insufflator pressure was above {limit} for {lasted}, worst {figure(watch.worst)}."
            return f"Insufflator pressure {figure(value or watch.worst)} mmHg, above {limit} for {lasted}."
        said = "The insufflator says that gas is off" if code == GAS_OFF else "The screen says that a device is lost"
        return f"{said}, over after {lasted}." if over else f"{said}."

    def state(self) -> dict[str, Any]:
        return {"now": self.now, "screens": {stream: one.to_state() for stream, one in self._screens.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        self.now = state.get("now", 0)
        self._screens = {stream: from_state(plain) for stream, plain in state.get("screens", {}).items()}


def _read_last(screen: Screen, kind: Kind) -> bool:
    memory = screen.memories.get(kind)
    return memory is not None and memory.reading is not None


def ns(duration: float) -> int:
    """Seconds as nanoseconds."""
    return round(duration * NANOSECONDS)
