"""The state of a camera's view over time: what it shows, whether smoke veils it, whether its colour is wrong."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter, deque
from typing import Any, Literal

import pydantic

from operators.perception.view import model, rules
from operators.perception.view.features import check, measure, small
from operators.perception.view.view import View
from operators.rules import NOT_WATCHED, RuleOperator, seconds
from operators.runtime.weights import digest
from operators.video.signal import Limits, Watch, change, look
from pipeline.message import NANOSECONDS, AlertCondition, Array, Detection, Evidence, Kind, Message, Rule, VideoFrame
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Output, Outputs

STILL = 1.0
"""Change in grey levels at or below which a picture is the one before it (``operators.video.signal``)."""
MEMORY = 300
"""Seconds of a stream's own view, one figure each, that smoke has to rise above."""
LEARNING = 20
"""Figures that are needed before it is known how a stream usually looks."""

Name = Literal["smoke", "obstructed", "colour_fault"]
TEXTS: dict[Name, tuple[Kind, str]] = {
    "smoke": ("advisory", "Smoke or fog veils the view"),
    "obstructed": ("technical", "The lens is covered or fogged"),
    "colour_fault": ("technical", "The camera's colour is wrong"),
}
NO_RISE = "the scene has been as pale for minutes"
UNFAMILIAR = "this stream is not known long enough to tell smoke from a pale scene"


@dataclasses.dataclass
class _Watch(Watch):
    """One condition of one stream."""

    suppressed_by: str = ""


@dataclasses.dataclass
class _Stream:
    """What is known of one stream."""

    view: str = ""
    since: int = -1
    told: int = -1
    """Event time of the latest message on ``views``."""
    now: int = 0
    """Event time of its latest frame; never goes back."""
    recent: deque[tuple[int, str, float, float, float]] = dataclasses.field(default_factory=deque)
    """Time, view, smoke, colour fault and veil of the frames of the last second."""
    usual: deque[float] = dataclasses.field(default_factory=lambda: deque(maxlen=MEMORY))
    """``rules.veil`` inside the body, one a second."""
    counted: int = -1
    """Event time of the latest of them."""
    anchor: Array | None = None
    """Lines of the picture that standing still is judged against; not kept over a restart."""
    moved: int = -1
    """Event time of that picture."""
    watches: dict[Name, _Watch] = dataclasses.field(default_factory=lambda: {name: _Watch() for name in TEXTS})


class ViewState(RuleOperator):
    """Says what each stream of video shows: on ``views`` at every change and once a second between.

    ``label`` is in_body, out_of_body, trocar, obstructed, black, no_signal, noise, frozen, or unknown where the frame
    was not whole. ``score`` is the share of the last second's frames that said so: 0 where they no longer do but agree
    on nothing else, so that the old state stays. ``attributes`` has ``since`` (ns), ``smoke`` and ``colour_fault``
    (0..1, means of the last second, smoke only inside the body), the last frame's own
    ``scores``, and the ``model``.

    Conditions: ``view_smoke``, ``view_obstructed``, ``view_colour_fault``. Black, no signal, noise and standstill are
    alerts of ``video.signal``; here they are only states. Smoke that does not rise above the stream's own last five
    minutes is a candidate with ``suppressed_by``: some scenes are pale without any.

    Frames that come out of order are judged as they come; a stream's time never goes back.
    """

    class Config(BaseConfig):
        model: Literal["learnt", "rules"] = "learnt"
        """Which one decides: the learnt model, or three rules of hue and brightness (`MODEL.md` compares them)."""
        smoothing_seconds: float = pydantic.Field(default=1.0, ge=0, le=60)
        """Length of the window whose frames vote on the state."""
        majority: float = pydantic.Field(default=0.6, gt=0.5, le=1)
        """Share of the votes that a new state needs; with less, the old one stays."""
        frozen_seconds: float = pydantic.Field(default=2.0, gt=0, le=3600)
        """Seconds of standstill after which the view is called frozen."""
        every_seconds: float = pydantic.Field(default=1.0, gt=0, le=3600)
        """Seconds after which an unchanged state is told again."""
        smoke: Limits = Limits(enter=0.5, leave=0.4, delay_seconds=20.0, clear_seconds=5.0, priority="info")
        """Score of smoke. Most smoke is gone in 20 s. Only info: one real frame in five scores as much without any."""
        smoke_rise: float = pydantic.Field(default=0.1, ge=0, le=1)
        """How far the veil (dark channel times paleness, 0..1) must be above the stream's own median; 0: no matter."""
        obstructed: Limits = Limits(enter=0.5, leave=0.5, delay_seconds=10.0, clear_seconds=2.0)
        """The state, as 1 or 0."""
        colour_fault: Limits = Limits(enter=0.5, leave=0.3, delay_seconds=10.0, clear_seconds=5.0)
        """Score of a colour fault."""

    input: Input[VideoFrame]
    views: Output[Detection]

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self._streams: dict[str, _Stream] = {}
        self._judge = rules.judge

    def setup(self) -> None:
        """Load the weights. Raises ``VigilError`` where they cannot be had; ``model: rules`` needs none."""
        self._judge = model.load().judge if self.config.model == "learnt" else rules.judge

    def rule(self) -> Rule:
        """Options, and for the learnt model its weights as well, give the digest."""
        found = super().rule()
        if self.config.model == "rules":
            return found
        return Rule(found.name, found.version, f"{found.digest}+{digest(model.WEIGHTS)}")

    def process(self, message: Message[VideoFrame]) -> Outputs:
        """Judge one frame; answers where the state changes, once a second, and where a condition begins or ends."""
        stream = self._streams.setdefault(message.stream, _Stream())
        stream.now = max(stream.now, message.time)
        self.now, self.origin = max(self.now, stream.now), message.origin
        view, veil = self._look(message.payload, stream)
        changed, share = self._vote(stream, view, veil)
        smoke, fault, veil = (statistics.fmean(one[place] for one in stream.recent) for place in (2, 3, 4))
        inside = stream.view == "in_body"
        said: list[Message[Any]] = []
        if changed or stream.now - stream.told >= self.config.every_seconds * NANOSECONDS:
            said.append(self._tell(stream, view, share, smoke if inside else 0.0, fault, message))
        found: dict[Name, tuple[float, str]] = {
            "smoke": (smoke if inside else 0.0, self._pale(stream, veil) if inside else ""),
            "obstructed": (float(stream.view == "obstructed"), ""),
            "colour_fault": (fault, ""),
        }
        for name, (value, reason) in found.items():
            answer = self._step(name, stream, message, value, reason)
            if answer is not None:
                said.append(answer)
        if inside and view.view == "in_body" and stream.now - stream.counted >= NANOSECONDS:
            stream.usual.append(round(veil, 4))
            stream.counted = stream.now
        return said or None

    def finish(self) -> Outputs:
        return [
            self._say(name, watch, key, max(stream.now, watch.onset), 0.0, note=NOT_WATCHED)
            for key, stream in self._streams.items() for name, watch in stream.watches.items() if watch.present
        ]  # fmt: skip

    # ------------------------------------------------------------------------------------ private

    def _look(self, frame: VideoFrame, stream: _Stream) -> tuple[View, float]:
        """What the frame shows, standstill included, and its veil."""
        try:
            check(frame)
        except ValueError:
            stream.anchor = None
            return View("unknown", {}), 0.0
        seen = look(frame)
        measured = measure(small(frame), seen)
        view = self._judge(measured)
        if stream.anchor is None or change(seen.sample, stream.anchor) > STILL:
            stream.anchor, stream.moved = seen.sample, stream.now
        elif view.view not in ("black", "no_signal") and stream.now - stream.moved >= self._frozen:
            view = View("frozen", view.scores, view.smoke, view.colour_fault)
        return view, rules.veil(measured)

    @property
    def _frozen(self) -> int:
        return round(self.config.frozen_seconds * NANOSECONDS)

    def _vote(self, stream: _Stream, view: View, veil: float) -> tuple[bool, float]:
        """Whether the stream's state changes, and the share of the window's frames that are for it now."""
        recent = stream.recent
        recent.append((stream.now, view.view, view.smoke, view.colour_fault, veil))
        while recent[0][0] <= stream.now - self.config.smoothing_seconds * NANOSECONDS and len(recent) > 1:
            recent.popleft()
        votes = Counter(one[1] for one in recent)
        leader, count = votes.most_common(1)[0]
        changed = leader != stream.view and (not stream.view or count >= self.config.majority * len(recent))
        if changed:
            stream.since = next(one[0] for one in recent if one[1] == leader)
            stream.view = leader
        return changed, votes[stream.view] / len(recent)

    def _tell(
        self, stream: _Stream, view: View, share: float, smoke: float, fault: float, message: Message[VideoFrame]
    ) -> Message[Detection]:
        stream.told = stream.now
        attributes = {
            "since": stream.since, "smoke": round(smoke, 4), "colour_fault": round(fault, 4),
            "scores": {name: round(score, 4) for name, score in view.scores.items()}, "model": self.config.model,
        }  # fmt: skip
        detection = Detection(stream.view, round(share, 4), None, message.sequence, attributes)
        return self.views.emit(detection, message, channel=message.stream.partition("/")[2], time=stream.now)

    def _pale(self, stream: _Stream, veil: float) -> str:
        """Why smoke is not to be told, if so."""
        if not self.config.smoke_rise:
            return ""
        if len(stream.usual) < LEARNING:
            return UNFAMILIAR
        return "" if veil - statistics.median(stream.usual) >= self.config.smoke_rise else NO_RISE

    def _step(
        self, name: Name, stream: _Stream, message: Message[VideoFrame], value: float, reason: str
    ) -> Message[AlertCondition] | None:
        time, limits, watch = stream.now, getattr(self.config, name), stream.watches[name]
        inside = value >= (limits.leave if watch.inside else limits.enter)
        if inside and not watch.inside:
            watch.since, watch.frame = time, message.sequence
        watch.inside = inside
        if inside:
            watch.gone = -1
            lasting = not watch.present and time - watch.since >= limits.delay_seconds * NANOSECONDS
            if lasting or (watch.present and watch.suppressed_by and not reason):
                watch.onset = watch.onset if watch.present else watch.since
                watch.present, watch.suppressed_by = True, reason
                return self._say(name, watch, message.stream, time, value, message)
        elif watch.present:
            watch.gone = time if watch.gone < 0 else watch.gone
            if time - watch.gone >= limits.clear_seconds * NANOSECONDS:
                return self._say(name, watch, message.stream, time, value, message, ended=watch.gone)
        return None

    def _say(
        self, name: Name, watch: _Watch, stream: str, time: int, value: float,
        cause: Message[VideoFrame] | None = None, *, ended: int | None = None, note: str = "",
    ) -> Message[AlertCondition]:  # fmt: skip
        if note and ended is None:
            ended = time
        limits: Limits = getattr(self.config, name)
        kind, what = TEXTS[name]
        end = time if ended is None else ended
        length, onset, frame, reason = seconds(end - watch.onset), watch.onset, watch.frame, watch.suppressed_by
        text = f"{what}, for {length}." if ended is None else f"{what}: over after {length}. {note}".rstrip()
        if ended is not None:
            watch.present, watch.gone, watch.onset, watch.suppressed_by = False, -1, -1, ""
        return self.say(
            time, cause, code=f"view_{name}", subject=stream, present=ended is None,
            priority=limits.priority, kind=kind, text=text, onset=onset, ended=ended, value=round(value, 4),
            limit=limits.enter, evidence=(Evidence(stream, onset, end, frame=frame),), suppressed_by=reason,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        streams = {}
        for key, stream in self._streams.items():
            plain = {field.name: getattr(stream, field.name) for field in dataclasses.fields(stream)}
            plain |= {"anchor": None, "recent": [list(one) for one in stream.recent], "usual": list(stream.usual)}
            streams[key] = plain | {"watches": {name: dataclasses.asdict(one) for name, one in stream.watches.items()}}
        return {"now": self.now, "streams": streams}

    def load_state(self, state: dict[str, Any]) -> None:
        self.now = state.get("now", 0)
        self._streams = {
            key: _Stream(**{
                **plain, "recent": deque(tuple(one) for one in plain["recent"]),
                "usual": deque(plain["usual"], MEMORY),
                "watches": {name: _Watch(**watch) for name, watch in plain["watches"].items()},
            })
            for key, plain in state.get("streams", {}).items()
        }  # fmt: skip
