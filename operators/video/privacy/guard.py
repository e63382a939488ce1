"""The privacy guard: the first operator of every video topology.

A scope that is pulled out of the patient films faces, badges and screens. The guard hands on only what is inside the
body and fails closed: blank until enough frames in a row are inside, blank from the first one that is not, and, because
the output is delayed, blank also the frames before it (card 11.1; OoBNet, Lavanchy et al., Sci Rep 2023;13:9235, has
neither delay nor closed start). See ``gate`` for the rule, ``text`` for burned-in text, ``room`` for room cameras.

Where it stands: straight behind the source (or ``video.repair``). Everything that stores, shows or sends pictures
takes ``privacy.video``. What only gives numbers and words about the picture may look at the source itself, to be spared
the delay: ``video.signal``, and ``perception.overlay``, which has to see the text that is filled here. Such an operator
must never emit pixels: no crop, no mask that shows more than the device's words.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time as clock
from typing import Any, Literal

import pydantic

from operators.rules import NOT_WATCHED, RuleOperator, seconds
from operators.video.privacy import classify
from operators.video.privacy.blank import Fill, blanked, sound
from operators.video.privacy.gate import Gate
from operators.video.privacy.report import TEXTS, Report, priority
from operators.video.privacy.room import Faces, FacesConfig
from operators.video.privacy.text import TextConfig, TextRedactor, reader
from pipeline.message import NANOSECONDS, AlertCondition, Event, Evidence, Message, VideoFrame
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Output, Outputs

log = logging.getLogger("vigil.privacy")

Answers = list[Message[Any]]


@dataclasses.dataclass
class _Lane:
    """What is known of one stream."""

    gate: Gate[Message[VideoFrame]]
    report: Report
    text: TextRedactor | None
    faces: Faces | None
    layout: tuple[Any, ...] = ()
    """Size, format and range of its frames."""
    state: str = ""
    """The last state that was told."""
    origin: Any = "live"


class PrivacyGuard(RuleOperator):
    """Hands on the pictures of a stream that may be seen, and blanks all others; one frame out for each frame in.

    A frame out keeps event time and sequence of its frame in. A blanked one keeps size, format and range and holds no
    reference to the pixels that it stands for. Shown frames come ``delay_frames`` late (at least ``delay_seconds``),
    blanked ones at once, always in order. ``states`` tells each change; ``conditions`` one ``privacy_blanked`` while
    blanking lasts. A restart starts closed; frames that the old instance held are lost with it.
    """

    guards_privacy = True

    class Config(BaseConfig):
        kind: Literal["scope", "room"] = "scope"
        """`scope`: inside or outside the body. `room`: a camera in the room, whose faces are hidden."""
        classifier: classify.Named = "learnt"
        """What says whether a frame is inside the body."""
        threshold: float = pydantic.Field(default=0.5, gt=0, le=1)
        """Evidence at or above which a frame counts as inside the body."""
        frames_to_open: int = pydantic.Field(default=10, ge=1, le=250)
        """Frames inside the body in a row before one is shown."""
        open_seconds: float = pydantic.Field(default=1.0, ge=0, le=60)
        """Seconds of event time that they must span."""
        delay_frames: int = pydantic.Field(default=10, ge=0, le=250)
        """Frames that must follow a frame, all inside the body, before it is shown."""
        delay_seconds: float = pydantic.Field(default=0.7, ge=0, le=60)
        """Seconds of event time that they must span."""
        gap_seconds: float = pydantic.Field(default=1.0, gt=0, le=3600)
        """A longer step between frames starts the count again. A stream of less than one frame a second needs more."""
        fill: Fill = "black"
        """What a blanked frame shows."""
        on_error: Literal["blank", "raise"] = "blank"
        """When the classifier fails: blank and go on; or raise, so that the engine restarts the guard, closed."""
        deadline_seconds: float | None = pydantic.Field(default=0.25, gt=0)
        """A classifier that takes longer counts as not having answered. Only for live frames; never in a replay."""
        text: TextConfig = TextConfig()
        """Burned-in text."""
        faces: FacesConfig = FacesConfig()
        """Faces, for `kind: room`."""
        tell_after_seconds: float = pydantic.Field(default=2.0, ge=0)
        """Seconds of blanking before the condition is said."""
        tell_end_after_seconds: float = pydantic.Field(default=3.0, ge=0)
        """Seconds without blanking before its end is said."""

    input: Input[VideoFrame]
    video: Output[VideoFrame]
    states: Output[Event]
    conditions: Output[AlertCondition]

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self._lanes: dict[str, _Lane] = {}
        self._reports: dict[str, dict[str, Any]] = {}
        self.classify: classify.Classifier | None = None
        self.counts = {"shown": 0, "blanked": 0, "failed": 0}
        """Frames so far, and failures of what decides on them."""
        self._kinds: set[str] = set()

    def load_classifier(self) -> classify.Classifier:
        """The classifier that the options name."""
        return classify.load(self.config.classifier)

    def setup(self) -> None:
        """Load the classifier and call it once, for its first call may be slow. Raises what it raises: no start."""
        if self.config.kind == "scope":
            self.classify = self.load_classifier()
            self.classify(blanked(VideoFrame(64, 48, "yuv420p", ())))
        if self.config.text.redact == "unknown":
            with contextlib.suppress(Exception):  # without it no text is freed, and the redactor says so
                reader()

    def process(self, message: Message[VideoFrame]) -> Outputs:
        """Take in a frame; answers with the frames that are decided now, and with what is to be said."""
        self.now, self.origin = max(self.now, message.time), message.origin
        lane = self._lane(message.stream)
        lane.origin = message.origin
        frame = message.payload
        layout = (frame.width, frame.height, frame.format, frame.full_range)
        broken = "time" if lane.gate.broken(message.time) else "size" if layout != lane.layout and lane.layout else ""
        decided = lane.gate.shut() if broken else []
        if layout != lane.layout:
            lane.layout, lane.text = layout, self._text()
        evidence, reason = self._judge(message, lane)
        decided += lane.gate.add(message.time, message, not reason)
        reason = reason or broken
        answers: Answers = [self._give(lane, held, shown) for held, shown in decided]
        first = next((held for held, shown in decided if not shown), message)
        answers += self._tell(lane, message.stream, message.time, message.sequence, evidence, reason, first, message)
        self._set_timer()
        return answers

    def on_time(self, time: int) -> Outputs:
        """No frame came for ``gap_seconds``: what was held will never be decided."""
        answers: Answers = []
        for stream, lane in self._lanes.items():
            gate = lane.gate
            if gate.held and gate.last is not None and gate.last + gate.gap_ns <= time:
                answers += self._shut(lane, stream, time)
        self._set_timer()
        return answers

    def finish(self) -> Outputs:
        """Frames that are not decided are blanked; a condition that is present ends, for nothing is watched now."""
        answers: Answers = []
        for stream, lane in self._lanes.items():
            answers += [self._give(lane, held, False) for held, _ in lane.gate.shut()]
            if lane.report.present:
                answers.append(self._say(lane, stream, max(self.now, lane.report.since), ended=True, note=NOT_WATCHED))
                lane.report.over()
        return answers

    def state(self) -> dict[str, Any]:
        """What was said, so that its end is said too. Nothing of the gate: a restart starts closed."""
        reports = {stream: dataclasses.asdict(lane.report) for stream, lane in self._lanes.items()}
        return {"now": self.now, "reports": {**self._reports, **reports}, "counts": dict(self.counts)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.now = state.get("now", 0)
        self._reports = dict(state.get("reports", {}))
        self.counts |= state.get("counts", {})

    # ------------------------------------------------------------------------------------ deciding

    def _lane(self, stream: str) -> _Lane:
        lane = self._lanes.get(stream)
        if lane is None:
            config, room = self.config, self.config.kind == "room"
            gate: Gate[Message[VideoFrame]] = Gate(
                1 if room else config.frames_to_open, 0.0 if room else config.open_seconds, config.delay_frames,
                config.delay_seconds, config.gap_seconds,
            )  # fmt: skip
            report = Report(
                round(config.tell_after_seconds * NANOSECONDS), round(config.tell_end_after_seconds * NANOSECONDS)
            )
            if stream in self._reports:
                report = Report(**self._reports.pop(stream))
            faces = Faces(config.faces) if room else None
            lane = self._lanes[stream] = _Lane(gate, report, self._text(), faces)
        return lane

    def _text(self) -> TextRedactor | None:
        config = self.config
        longest = (config.delay_frames + 1) * config.gap_seconds + config.delay_seconds
        return TextRedactor(config.text, longest) if config.text.redact != "none" else None

    def _judge(self, message: Message[VideoFrame], lane: _Lane) -> tuple[float, str]:
        """Evidence for the inside of the body, 0..1, and why the frame must not be shown; empty where it may."""
        frame = message.payload
        if not sound(frame):
            return 0.0, "malformed"
        if frame.corrupt:
            return 0.0, "corrupt"
        try:
            if lane.text is not None:
                lane.text.look(frame, message.time)
            if lane.faces is not None:
                lane.faces.look(frame, message.time)
                return 1.0, ""
            return self._ask(message)
        except Exception as error:
            self._failed(error)
            return 0.0, "error"

    def _ask(self, message: Message[VideoFrame]) -> tuple[float, str]:
        assert self.classify is not None
        if classify.nothing(message.payload):
            return 0.0, "out_of_body"
        config = self.config
        began = clock.perf_counter_ns()
        evidence = float(self.classify(message.payload))
        took = clock.perf_counter_ns() - began
        if not 0 <= evidence <= 1:
            raise ValueError(f"the classifier answered {evidence}")
        timed = config.deadline_seconds is not None and message.origin == "live" and not self.context.replaying
        if timed and took > config.deadline_seconds * NANOSECONDS:
            return evidence, "late"
        return evidence, "" if evidence >= config.threshold else "out_of_body"

    def _failed(self, error: Exception) -> None:
        """Count and log a failure, or hand it on to the engine. Its text may hold anything: only its kind is logged."""
        if self.config.on_error == "raise":
            raise error
        self.counts["failed"] += 1
        kind = type(error).__name__
        if kind not in self._kinds:
            self._kinds.add(kind)
            log.warning("%s: the picture is blanked, for what decides on it failed: %s", self.name, kind)

    # ------------------------------------------------------------------------------------ giving on

    def _give(self, lane: _Lane, message: Message[VideoFrame], shown: bool) -> Message[VideoFrame]:
        frame = message.payload
        if shown:
            try:
                if lane.faces is not None:
                    frame = lane.faces.hide(frame, message.time)
                if lane.text is not None:
                    frame = lane.text.hide(frame, message.time)
            except Exception as error:
                self._failed(error)
                shown = False
        if not shown:
            frame = blanked(frame, self.config.fill)
        self.counts["shown" if shown else "blanked"] += 1
        channel = message.stream.partition("/")[2]
        stream = f"{self.video.stream}/{channel}" if channel else self.video.stream
        return message.derive(frame, stream, message.sequence)

    def _shut(self, lane: _Lane, stream: str, time: int) -> Answers:
        held = [message for message, _ in lane.gate.shut()]
        answers: Answers = [self._give(lane, message, False) for message in held]
        return answers + self._tell(lane, stream, time, held[-1].sequence, 0.0, "time", held[0])

    def _set_timer(self) -> None:
        gates = [lane.gate for lane in self._lanes.values() if lane.gate.held]
        dues = [gate.last + gate.gap_ns for gate in gates if gate.last is not None]
        self.wake(min(dues, default=None))

    # ------------------------------------------------------------------------------------ telling

    def _tell(
        self, lane: _Lane, stream: str, time: int, sequence: int, evidence: float, reason: str,
        first: Message[VideoFrame], cause: Message[VideoFrame] | None = None,
    ) -> Answers:  # fmt: skip
        """A state event where the state changed, and the condition where it began, got worse or ended."""
        answers: Answers = []
        blank = not lane.gate.open
        reason = (reason or "opening") if blank else ""
        state = "blanked" if blank else "open"
        if state != lane.state:
            lane.state = state
            channel = stream.partition("/")[2]
            data = {
                "stream": stream, "state": state, "evidence": round(evidence, 4), "reason": reason, "frame": sequence,
                "first_frame": first.sequence, "first_time": first.time,
            }  # fmt: skip
            text = f"{stream}: blanked, {TEXTS[reason]}." if blank else f"{stream}: shown."
            event = Event("privacy_state", text, data)
            answers.append(
                self.states.first(event, time, channel=channel, origin=lane.origin)
                if cause is None
                else self.states.emit(event, cause, time=time, channel=channel)
            )
        said = lane.report.step(time, blank, reason, (first.time, first.sequence))
        if said:
            answers.append(self._say(lane, stream, time, ended=said == "end", evidence=evidence, cause=cause))
            if said == "end":
                lane.report.over()
        return answers

    def _say(
        self,
        lane: _Lane,
        stream: str,
        time: int,
        *,
        ended: bool,
        evidence: float = 0.0,
        note: str = "",
        cause: Message[VideoFrame] | None = None,
    ) -> Message[AlertCondition]:
        report = lane.report
        end = time if not ended or note else report.gone
        lasted = seconds(end - report.since)
        text = (
            f"The picture is shown again after {lasted} of blanking. {note}".rstrip()
            if ended
            else f"The picture has been blanked for {lasted}: {TEXTS[report.told]}."
        )
        if note:
            text = f"The picture was blanked for {lasted}. {note}"
        self.origin = lane.origin
        return self.say(
            time, cause, code="privacy_blanked", subject=stream, present=not ended,
            priority=priority(report.told), kind="technical", text=text, onset=report.since,
            ended=end if ended else None, value=round(evidence, 4), limit=self.config.threshold,
            evidence=(Evidence(stream, report.since, end, frame=report.frame, note=report.told),),
        )  # fmt: skip
