"""Bleeding: blood-like area that grows on tissue that is held still, judged by a one-sided CUSUM.

A camera that pans onto an old pool sees more red and the trivial rule alarms. Here the picture before is laid over the
present one (``measure.register``), and only tissue that is believable in both counts: what blood gained on it in a
step, as a share of the field, less a drift, is summed (Page's cumulative sum, 1954). A sum above the limit is a
candidate. It is said with ``suppressed_by`` set, and nobody is told, where it was sudden and then stood still (a lens
fouled), where it reddens without darkening (irrigation), where it shows in scattered spots, or where the view was lost.
In smoke colours say nothing: growth is then taken from the segmentation, or not at all where none is wired.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import cv2
import numpy as np

from operators.perception.bleeding.measure import CLEAR, Look, followed_by, laid_over, look, motion, register
from operators.perception.bleeding.settings import Cusum, Settings
from operators.rules import NOT_WATCHED, RuleOperator, seconds
from pipeline.message import NANOSECONDS, AlertCondition, Array, Evidence, Mask, Message, VideoFrame
from pipeline.operator import Input, Outputs

LONGEST_BLUR = 8 * NANOSECONDS
"""Event time after which a blur is taken for the view itself, ns."""
MEMORY = 16
"""Looks that are kept, for what a candidate is compared with."""


@dataclasses.dataclass
class Step:
    """What one look added. Times are event time, ns."""

    time: int
    sequence: int
    gain: float
    """Share of the field."""
    area: float
    """Blood-like share of the field now."""


class Bleeding(RuleOperator):
    """Raises ``bleeding`` while blood spreads over tissue, and ends it when it no longer does.

    The trivial baseline, ``baseline: true``, is a threshold on the share of the picture that is red like blood.
    Looks at one picture in a fifth of a second; the others cost nothing. Pictures that are dark, damaged, or of
    something outside the body are skipped and counted in ``skipped``.
    """

    version = "1"

    Config = Settings

    video: Input[VideoFrame]
    masks: Input[Mask] | None

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self.skipped: collections.Counter[str] = collections.Counter()
        """Pictures that were not measured, by reason."""
        self._cusum = Cusum(self.config.drift, 2 * self.config.limit)
        self._memory: collections.deque[tuple[Look, Array]] = collections.deque(maxlen=MEMORY)
        """Looks with the affine that takes each to the newest."""
        self._steps: collections.deque[Step] = collections.deque(maxlen=MEMORY)
        self._tissue = self.config.ratio[1] / 0.9
        self._mask: tuple[int, Mask] | None = None
        self._stream = ""
        self._onset, self._grew, self._priority, self._first = -1, -1, "medium", 0
        self._held = 0
        """Event time until which nothing is summed: the field is being rinsed, or the lens was just wiped."""
        self._candidate = -1
        """When a candidate was first believed, ns; -1 while there is none."""
        self._blurred = -1
        """Since when the lens is fouled, ns; -1 while it is not."""

    # -- inputs

    def on_masks(self, message: Message[Mask]) -> None:
        """Remember a segmentation. Needs the classes ``blood`` and ``instrument``; others are ignored."""
        if "blood" in message.payload.classes:
            self._mask = (message.time, message.payload)

    def on_video(self, message: Message[VideoFrame]) -> Outputs:
        """Look at a picture, if it is time for one."""
        self.now, self.origin = max(self.now, message.time), message.origin
        newest = self._memory[-1][0].time if self._memory else None
        if newest is not None and 0 <= message.time - newest < 0.95 / self.config.rate * NANOSECONDS:
            return None
        self._stream = message.stream
        frame = message.payload
        if frame.corrupt or frame.width < 32 or frame.height < 32:
            self.skipped["damaged" if frame.corrupt else "small"] += 1
            return None
        seen = look(frame, message.time, message.sequence)
        if seen.field < 0.12 * seen.grey.size:
            self.skipped["dark"] += 1
            return None
        if seen.foreign > 0.22:
            self.skipped["out of body"] += 1
            return None
        if self.config.baseline:
            return self._baseline(seen, message)
        return self._measure(seen, message)

    def finish(self) -> Outputs:
        """A bleeding that is still there ends here: nobody watches any more."""
        if self._onset < 0:
            return None
        return self._say(self.now, None, ended=self.now, note=NOT_WATCHED)

    # -- measuring

    def _measure(self, seen: Look, cause: Message[VideoFrame]) -> Outputs:
        seen.blood, measurable = self._blood(seen)
        before = self._memory[-1][0] if self._memory else None
        if before is None or seen.time - before.time > 2 * NANOSECONDS or seen.time <= before.time:
            return self._lost(seen, cause, "the view was interrupted")
        followed = self._follow(before, seen)
        if followed is None:
            return self._lost(seen, cause, "the camera moved too far")
        gain, moved = followed
        area = float(seen.blood[seen.valid].sum()) / seen.field
        hidden = self._hidden(seen, measurable)
        if hidden:
            self.skipped[hidden] += 1
            self._steps.append(Step(seen.time, seen.sequence, 0.0, area))
        elif abs(gain) > self.config.jump * (seen.time - before.time) / NANOSECONDS:
            # Blood on the lens stays until it is wiped, and the picture is less sharp for it.
            self._blurred = seen.time if gain > 0 and seen.sharp < 0.95 * before.sharp else -1
            return self._lost(seen, cause, "the lens was fouled or wiped")
        else:
            self._steps.append(Step(seen.time, seen.sequence, gain, area))
        if hidden or seen.time < self._held:
            return self._over(seen, cause)
        # One look alone must never do it.
        capped = min(gain, self.config.limit / 2) - self.config.parallax * max(0.0, moved - 2)
        quiet = self._cusum.add(capped, before.time, seen.time) < 0.3 * self.config.limit
        if quiet and self._onset < 0:
            self._learn(seen)
        return self._decide(seen, cause)

    def _follow(self, before: Look, seen: Look) -> tuple[float, float] | None:
        """What blood gained on the tissue that both looks show, as a share of the field, and by how many pixels the
        camera moved; None where they have too little in common. The memory is carried on to the present view."""
        matrix = register(before, seen)
        if matrix is None:
            return None
        both = (laid_over(before.valid, matrix) > 0.95) & seen.valid
        if both.sum() < self.config.overlap * min(seen.field, before.field):
            return None
        self._memory = collections.deque(((old, followed_by(to, matrix)) for old, to in self._memory), maxlen=MEMORY)
        self._memory.append((seen, np.eye(2, 3)))
        assert before.blood is not None
        assert seen.blood is not None
        gain = float((seen.blood - laid_over(before.blood, matrix))[both].sum()) / seen.field
        return gain, motion(matrix, seen.grey.shape)

    def _blood(self, seen: Look) -> tuple[Array, bool]:
        """(h, w) float32 0..1 how much each pixel is blood, and whether that is believable in this picture."""
        low, high = self.config.ratio
        high = float(np.clip(0.9 * self._tissue, low + 0.015, high))
        colour = np.clip((high - seen.ratio) / (high - low), 0, 1)
        clear = seen.veil <= self.config.veil
        mask = self._fresh(seen)
        if mask is None:
            return colour * seen.valid, clear
        labels = cv2.resize(mask.labels, seen.grey.shape[::-1], interpolation=cv2.INTER_NEAREST)
        if "instrument" in mask.classes:
            tools = (labels == mask.classes.index("instrument")).astype(np.uint8)
            seen.valid = seen.valid & (cv2.dilate(tools, np.ones((5, 5), np.uint8)) == 0)
        blood = (labels == mask.classes.index("blood")).astype(np.uint8)
        if seen.veil <= 3 * CLEAR:
            return colour * seen.valid * cv2.dilate(blood, np.ones((7, 7), np.uint8)), True
        return blood.astype(np.float32) * seen.valid, True

    def _hidden(self, seen: Look, measurable: bool) -> str:
        """Why this look must not count; empty where it may."""
        before = next((old for old, _ in self._memory if seen.time - old.time <= NANOSECONDS), seen)
        if self._blurred < 0 and seen.sharp < self.config.blur * before.sharp:
            self._blurred = seen.time
        elif self._blurred >= 0 and (
            self.config.blur * seen.sharp > before.sharp or seen.time - self._blurred > LONGEST_BLUR
        ):
            self._blurred, self._held = -1, seen.time + NANOSECONDS
            self._cusum.reset()
        if self._blurred >= 0:
            return "blurred"
        return "veiled" if not measurable or (self._fresh(seen) is None and self._clearing(seen)) else ""

    def _clearing(self, seen: Look) -> bool:
        """Whether a veil changes: what then turns red was red before. Smoke thins by a sixth in a second."""
        second = (old for old, _ in self._memory if seen.time - old.time <= NANOSECONDS)
        before = next(second, seen)
        change = abs(seen.veil - before.veil) * NANOSECONDS / max(seen.time - before.time, NANOSECONDS // 5)
        return max(seen.veil, before.veil) > 3 * CLEAR and change > 0.06 * max(seen.veil, before.veil)

    def _fresh(self, seen: Look) -> Mask | None:
        if self._mask is None or abs(seen.time - self._mask[0]) > self.config.mask_seconds * NANOSECONDS:
            return None
        return self._mask[1] if self._mask[1].labels.size else None

    def _learn(self, seen: Look) -> None:
        """What the reddest of the case's tissue looks like while nothing grows, with a memory of half a minute."""
        count = int(seen.valid.sum())
        if seen.veil > self.config.veil or count < 200:
            return
        reddest = float(np.partition(seen.ratio[seen.valid], count // 50)[count // 50])
        share = 1 - np.exp(-1 / (30 * self.config.rate))
        self._tissue += (reddest - self._tissue) * share

    def _lost(self, seen: Look, cause: Message[VideoFrame], why: str) -> Outputs:
        said = self._reject(seen, cause, why) if self._cusum.value >= self.config.limit / 2 else None
        self.skipped["not registered"] += 1
        self._cusum.reset()
        self._candidate = -1
        self._memory.clear()
        self._steps.clear()
        self._memory.append((seen, np.eye(2, 3)))
        return said

    # -- deciding

    def _decide(self, seen: Look, cause: Message[VideoFrame]) -> Outputs:
        config, total = self.config, self._cusum
        growing = self._growing(seen.time)
        if self._onset >= 0:
            if growing and total.value > 0.15 * config.limit:
                self._grew = seen.time
            return self._over(seen, cause)
        if total.value < config.limit:
            self._candidate = -1
        if total.value < config.limit or seen.time - total.since < config.sustained_seconds * NANOSECONDS:
            return None
        if growing:
            why = self._doubt(seen)
        elif self._growth(seen.time, 1.0) > 0.1 * config.limit:
            return None
        else:
            why = "sudden, and then it stood still: the lens is fouled"
        if why:
            return self._reject(seen, cause, why)
        if self._candidate < 0:
            # Two looks must agree: a lens that is being fouled betrays itself in the next one.
            self._candidate = seen.time
            return None
        self._candidate = -1
        self._onset, self._grew, self._first = max(total.since, 0), seen.time, seen.sequence
        self._priority = "high" if self._growth(seen.time, 2.0) >= config.fast else "medium"
        return self._say(seen.time, cause)

    def _growing(self, now: int) -> bool:
        """Whether it grows now: in the last two looks, and in most of the last second."""
        latest = sorted(step.gain for step in self._steps if now - step.time < 0.95 * NANOSECONDS)
        middle = latest[len(latest) // 2] if latest else 0.0
        return (
            self._growth(now, 1.5 / self.config.rate) > 0.1 * self.config.limit
            and middle > self.config.drift / self.config.rate
        )

    def _growth(self, now: int, span: float) -> float:
        return sum(step.gain for step in self._steps if now - step.time < span * NANOSECONDS)

    def _doubt(self, seen: Look) -> str:
        """Why a candidate is not believed; empty where it is. Looks at what is new against a second and more ago."""
        then, matrix = next(
            (pair for pair in self._memory if seen.time - pair[0].time <= 1.6 * NANOSECONDS), self._memory[0]
        )
        assert seen.blood is not None
        assert then.blood is not None
        both = (laid_over(then.valid, matrix) > 0.95) & seen.valid
        new = both & (seen.blood - laid_over(then.blood, matrix) > 0.4)
        count = int(new.sum())
        if count < 0.4 * self._growth(seen.time, (seen.time - then.time) / NANOSECONDS) * seen.field:
            return "no place turned red: the view cleared"
        if self._on_lens(seen, new):
            self._held = seen.time + 2 * NANOSECONDS
            return "it stands still while the tissue moves: it is on the lens"
        darker = float(np.median(laid_over(then.red, matrix)[new] / np.maximum(seen.red[new], 1e-4)))
        if darker < 1.05 and seen.veil < 4 * CLEAR:
            self._held = seen.time + round(self.config.rinse_seconds * NANOSECONDS)
            return "it reddens without darkening: irrigation"
        closed = cv2.morphologyEx(new.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
        _, _, parts, _ = cv2.connectedComponentsWithStats(closed)
        # A pool grows as a rim round what was blood already, so the rim and the pool count as one.
        whole = cv2.connectedComponentsWithStats(((seen.blood > 0.4) | (closed > 0)).astype(np.uint8))
        largest = max((int(new[whole[1] == part].sum()) for part in range(1, whole[0])), default=0)
        if largest < 0.4 * count:
            return f"scattered in {len(parts) - 1} spots"
        return ""

    def _on_lens(self, seen: Look, new: Array) -> bool:
        """Whether what is newly red on the tissue was red in the same place of the picture before."""
        then, matrix = max(self._memory, key=lambda pair: motion(pair[1], seen.grey.shape))
        if motion(matrix, seen.grey.shape) < 2.5:
            return False
        assert seen.blood is not None
        assert then.blood is not None
        now, fixed, carried = seen.blood > 0.4, then.blood > 0.4, laid_over(then.blood, matrix) > 0.4
        return float(fixed[new].mean()) > 0.4 and _common(now, fixed) > _common(now, carried)

    def _over(self, seen: Look, cause: Message[VideoFrame]) -> Outputs:
        if self._onset >= 0 and seen.time - self._grew >= self.config.clear_seconds * NANOSECONDS:
            said = self._say(seen.time, cause, ended=self._grew)
            self._cusum.reset()
            return said
        return None

    def _baseline(self, seen: Look, cause: Message[VideoFrame]) -> Outputs:
        share = float(((seen.ratio < self.config.ratio[1]) & seen.valid).sum()) / seen.field
        self._memory.append((seen, np.eye(2, 3)))
        self._steps.append(Step(seen.time, seen.sequence, 0.0, share))
        if self._onset < 0 and share >= self.config.baseline_share:
            self._onset, self._grew, self._first = seen.time, seen.time, seen.sequence
            return self._say(seen.time, cause)
        if self._onset >= 0 and share < self.config.baseline_share:
            return self._say(seen.time, cause, ended=seen.time)
        return None

    # -- saying

    def _reject(self, seen: Look, cause: Message[VideoFrame], why: str) -> Message[AlertCondition]:
        onset = max(self._cusum.since, 0)
        said = self.say(
            seen.time, cause, code="bleeding", present=True, priority="medium", kind="physiological",
            text=f"Blood-like area grew, but {why}.", onset=onset, subject=self._subject(), suppressed_by=why,
            value=round(100 * self._cusum.value, 2), limit=100 * self.config.limit, unit="%",
            evidence=(self._evidence(onset, seen.time, seen.sequence),),
        )  # fmt: skip
        self._cusum.reset()
        self._candidate = -1
        return said

    def _say(
        self, time: int, cause: Message[VideoFrame] | None, *, ended: int | None = None, note: str = ""
    ) -> Message[AlertCondition]:
        onset, end = self._onset, time if ended is None else max(ended, self._onset)
        if ended is None:
            grown = self._growth(time, 60)
            text = f"Blood spreads: {100 * grown:.1f} % more of the view within {seconds(end - onset)}."
        else:
            text = f"Blood no longer spreads, after {seconds(end - onset)}. {note}".rstrip()
        value = self._steps[-1].area if self.config.baseline and self._steps else self._cusum.value
        said = self.say(
            time, cause, code="bleeding", present=ended is None, priority=self._priority, kind="physiological",
            text=text, onset=onset, ended=None if ended is None else end, subject=self._subject(),
            value=round(100 * value, 2), unit="%",
            limit=100 * (self.config.baseline_share if self.config.baseline else self.config.limit),
            evidence=(self._evidence(onset, end, self._first),),
        )  # fmt: skip
        if ended is not None:
            self._onset, self._grew = -1, -1
        return said

    def _subject(self) -> str:
        return self._stream.partition("/")[2] or self._stream

    def _evidence(self, start: int, end: int, frame: int) -> Evidence:
        areas = tuple(round(100 * step.area, 2) for step in self._steps if step.time >= start)[-8:]
        return Evidence(
            self._stream, start, end, values=areas, unit="%", frame=frame, note="blood-like share of the field"
        )

    # -- restart

    def state(self) -> dict[str, Any]:
        """The episode and the case's tissue; pictures are looked at anew."""
        return {
            "now": self.now, "onset": self._onset, "grew": self._grew, "first": self._first, "stream": self._stream,
            "priority": self._priority, "tissue": self._tissue, "skipped": dict(self.skipped), "held": self._held,
            "blurred": self._blurred,
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        self.now, self._stream = state.get("now", 0), state.get("stream", "")
        self._onset, self._grew = state.get("onset", -1), state.get("grew", -1)
        self._first, self._priority = state.get("first", 0), state.get("priority", "medium")
        self._tissue, self._held = state.get("tissue", self._tissue), state.get("held", 0)
        self._blurred = state.get("blurred", -1)
        self.skipped = collections.Counter(state.get("skipped", {}))


def _common(one: Array, other: Array) -> float:
    """Intersection over union."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0
