"""Simulated operations for the bleeding rule, and its figures: event recall, time to detect, false alarms an hour.

Every world is used on one side only: thresholds were set on ``DEVELOPMENT`` and frozen, figures come from ``HELD_OUT``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from operators.perception.bleeding.rule import Bleeding
from operators.rules import RuleOperator
from operators.theatre import steps
from operators.theatre.blood import Pools, pool
from operators.theatre.camera import VIEWS
from operators.theatre.case import Case
from operators.theatre.renderer import Picture, Renderer
from operators.video.colour import from_rgb
from pipeline.message import NANOSECONDS, AlertCondition, Array, Mask, Message, VideoFrame

DEVELOPMENT = tuple(range(6000, 6012))
HELD_OUT = tuple(range(7000, 7060))
SIZE, RATE = (160, 120), 5.0
"""Pictures of the evaluation: the rule works at this size and rate whatever it is given."""
SHOWN = 0.02
"""Share of the field that an event's blood covers within 4 s of its onset for the event to count as one in view."""


class Irrigation(Pools):
    """Blood as in every case, and beside it rinsing fluid that floods from a site and runs off, tinged with blood."""

    water: tuple[tuple[steps.Bleeding, float], ...] = ()
    """Each flood, with how much blood is in it, 0..1."""

    def cover(self, seconds: float, u: Array, v: Array) -> Array | None:
        blood = super().cover(seconds, u, v)
        self.wet: list[tuple[Array, float]] = []
        own, self.bleedings = self.bleedings, []
        for flood, tinge in self.water:
            if pool(flood, seconds) > 0:
                self.bleedings = [flood]
                found = super().cover(seconds, u, v)
                if found is not None:
                    self.wet.append((found, tinge))
        self.bleedings = own
        return np.zeros(u.shape, np.float32) if blood is None and self.wet else blood

    def stain(self, blood: Array, albedo: Array, slope: Array, gloss: Array) -> tuple[Array, Array, Array]:
        for cover, tinge in self.wet:
            share = (0.8 * cover * tinge)[..., None]
            albedo = albedo * (1 - share) + share * np.array([0.30, 0.045, 0.040], np.float32)
            slope = slope * (1 - 0.6 * cover[..., None])
            gloss = gloss * (1 - cover) + 0.97 * cover
        return super().stain(blood, albedo, slope, gloss)


@dataclasses.dataclass
class Operation:
    """A case, the floods of rinsing fluid in it, and the bleedings that must be found. Seconds."""

    case: Case
    water: tuple[tuple[steps.Bleeding, float], ...] = ()
    begin: float = 0.0
    """From when it is filmed: what bled before is an old pool."""

    def renderer(self, size: tuple[int, int] = SIZE) -> Renderer:
        """The renderer, with the rinsing fluid."""
        made = Renderer(self.case, self.case.seed, size)
        if self.water:
            pools = Irrigation(self.case, self.case.seed, made.world)
            pools.water = self.water
            made.pools = pools
        return made

    @property
    def events(self) -> list[steps.Bleeding]:
        """The bleedings that begin while it is filmed."""
        return [step for step in self.case.steps(steps.Bleeding) if self.begin <= step.at < self.case.duration]

    def short(self, seconds: float) -> Operation:
        """The first seconds of it."""
        case = self.case.model_copy(update={"duration": min(self.case.duration, self.begin + seconds)})
        return dataclasses.replace(self, case=case)


def _case(seed: int, seconds: float, phases: list[Any], script: list[Any]) -> Case:
    return Case.model_validate({"theatre": 1, "seed": seed, "duration": seconds, "phases": phases, "script": script})


def _tools(random: np.random.Generator, seconds: float) -> list[dict[str, Any]]:
    found = []
    for side in ("left", "right"):
        at = float(random.uniform(0, 10))
        while at < seconds - 8:
            lasts = float(random.uniform(8, 30))
            tool = ["grasper", "hook", "scissors", "suction", "clipper"][int(random.integers(5))]
            found.append({"at": at, "do": "instrument", "tool": tool, "side": side, "lasts": lasts})
            at += lasts + float(random.uniform(0, 8))
    return found


def bleeding(seed: int) -> Operation:
    """Three bleedings of varied size and place, each in view of its phase, with instruments at work."""
    random = np.random.default_rng([seed, 31])
    names = list(VIEWS)
    phases, script = [], _tools(random, 90)
    for number in range(3):
        view = names[int(random.integers(len(names)))]
        (x, y, _), _ = VIEWS[view]
        begin = 30.0 * number
        phases.append({"at": begin, "name": "a", "view": view})
        script.append({
            "at": begin + float(random.uniform(6, 12)), "do": "bleeding", "amount": float(random.uniform(0.3, 0.9)),
            "lasts": float(random.uniform(7, 10)), "washed": 5.0,
            "site": [float(np.clip(x + random.uniform(-22, 22), -60, 60)), float(y + random.uniform(-18, 18))],
        })  # fmt: skip
    return Operation(_case(seed, 90, phases, script))


def quiet(seed: int) -> Operation:
    """Two minutes with an old pool and nothing to alarm for, but all that looks like it.

    The camera pans between views, smoke comes and clears, the lens is fouled (with blood too) and wiped, the field is
    rinsed with fluid that is more or less bloody, the pool is sucked away in the end, the camera is pulled out.
    """
    random = np.random.default_rng([seed, 32])
    begin, seconds = 8.0, 128.0
    names = list(VIEWS)
    phases, at = [{"at": 0, "name": "a", "view": names[int(random.integers(5))]}], begin
    while (at := at + float(random.uniform(6, 16))) < seconds - 4:
        phases.append({"at": at, "name": "a", "view": names[int(random.integers(5))]})
    script = _tools(random, seconds)
    site = [float(random.uniform(-25, 40)), float(random.uniform(-35, 30))]
    lasts = 6.0 if random.random() < 0.5 else 2.0
    # It has stopped before filming begins; suction takes it away between 60 and 110 s, or never.
    script.append({"at": 0, "do": "bleeding", "amount": float(random.uniform(0.2, 0.7)), "lasts": lasts,
                   "washed": float(random.choice([60, 100, 5000])), "site": site})  # fmt: skip
    for start, kind in zip(np.linspace(begin + 2, seconds - 18, 7), random.permutation(7), strict=True):
        at = float(start + random.uniform(0, 4))
        if kind in (0, 1):
            script.append({"at": at, "do": "smoke", "lasts": float(random.uniform(2, 5)),
                           "density": float(random.uniform(0.1, 0.6))})  # fmt: skip
        elif kind in (2, 3, 4):
            how = ("blood", "droplets", "fog")[kind - 2]
            script.append({"at": at, "do": "fouling", "how": how, "lasts": float(random.uniform(2, 6)),
                           "amount": float(random.uniform(0.3, 0.8))})  # fmt: skip
        elif kind == 5:
            script.append({"at": at, "do": "out_of_body", "lasts": float(random.uniform(4, 8))})
    water = []
    for start in (35.0, 75.0, 105.0):
        place = (float(random.uniform(-30, 40)), float(random.uniform(-30, 30)))
        flood = steps.Bleeding(do="bleeding", at=start + float(random.uniform(0, 8)), lasts=4.0, washed=3.0,
                               amount=float(random.uniform(0.4, 1.0)), site=place)  # fmt: skip
        water.append((flood, float(random.uniform(0, 0.6))))
    return Operation(_case(seed, seconds, phases, script), tuple(water), begin)


# ---------------------------------------------------------------------------------------------- playing


@dataclasses.dataclass
class Event:
    """One planted bleeding. Seconds from the start of its case."""

    onset: float
    end: float
    shown: bool
    detected: float | None = None

    @property
    def delay(self) -> float | None:
        """From planted onset to the alert, s."""
        return None if self.detected is None else self.detected - self.onset


@dataclasses.dataclass
class Outcome:
    """What one rule made of one operation."""

    seed: int
    hours: float
    """Filmed time outside planted bleedings and the 5 s after each."""
    events: list[Event]
    false: list[float]
    """When alerts were raised that nothing planted explains, s."""
    suppressed: list[str]
    """Why candidates were rejected."""


Masker = Callable[[Picture, Message[VideoFrame]], Mask]


def play(
    operation: Operation, rules: Sequence[RuleOperator], masker: Masker | None = None, *,
    rate: float = RATE, size: tuple[int, int] = SIZE, progress: Callable[[str], None] = lambda line: None,
) -> list[Outcome]:  # fmt: skip
    """Run rules over the same pictures. ``masker`` gives masks to rules whose name begins with ``masks``."""
    renderer = operation.renderer(size)
    told: list[list[tuple[float, AlertCondition]]] = [[] for _ in rules]
    areas: list[tuple[float, float]] = []
    for message, picture in _film(operation, renderer, rate):
        second = message.time / NANOSECONDS
        seen = np.isfinite(picture.depth)
        areas.append((second, float((picture.labels == 2).sum() / max(seen.sum(), 1))))
        mask = masker(picture, message) if masker is not None else None
        for number, rule in enumerate(rules):
            if mask is not None and rule.name.startswith("masks"):
                rule.on_masks(message.derive(mask, "segment.masks", message.sequence))  # type: ignore[attr-defined]
            answer = rule.on_video(message)  # type: ignore[attr-defined]
            if answer is not None:
                told[number].append((second, answer.payload))
    progress(f"case {operation.case.seed}")
    return [_outcome(operation, areas, said) for said in told]


def _film(operation: Operation, renderer: Renderer, rate: float) -> Iterator[tuple[Message[VideoFrame], Picture]]:
    for index, second in enumerate(np.arange(operation.begin, operation.case.duration, 1 / rate)):
        picture = renderer.picture(float(second))
        frame = from_rgb(picture.rgb, "rgb24")
        yield Message("theatre.video", round(float(second) * NANOSECONDS), index, frame, "simulated"), picture


def _outcome(
    operation: Operation, areas: list[tuple[float, float]], said: list[tuple[float, AlertCondition]]
) -> Outcome:
    events = []
    for step in operation.events:
        soon = max((area for at, area in areas if step.at <= at <= step.at + 4), default=0.0)
        events.append(Event(step.at, step.end, soon >= SHOWN))
    false, suppressed = [], []
    for at, condition in said:
        if condition.suppressed_by:
            suppressed.append(condition.suppressed_by)
        elif condition.present:
            during = [event for event in events if event.onset <= at <= event.end + 5]
            if not during:
                false.append(at)
            for event in during:
                event.detected = at if event.detected is None else event.detected
    busy = sum(min(event.end + 5, operation.case.duration) - event.onset for event in events)
    hours = (operation.case.duration - operation.begin - busy) / 3600
    return Outcome(operation.case.seed, hours, events, false, suppressed)


# ---------------------------------------------------------------------------------------------- figures


@dataclasses.dataclass(frozen=True)
class Figures:
    """Over operations. Delays are those of found events in view, s."""

    events: int
    recall: float
    in_time: float
    """Share of events in view that were found within 3 s of the planted onset."""
    recall_all: float
    """Recall over all planted events, those that never came into view too."""
    median: float
    p95: float
    false: int
    hours: float

    @property
    def per_hour(self) -> float:
        """False alarms an hour."""
        return self.false / self.hours if self.hours else float("nan")


def figures(outcomes: Sequence[Outcome]) -> Figures:
    """The figures of a rule over its operations."""
    events = [event for outcome in outcomes for event in outcome.events]
    shown = [event for event in events if event.shown]
    delays = sorted(event.delay for event in shown if event.delay is not None)

    def share(part: int, whole: int) -> float:
        return part / whole if whole else float("nan")

    return Figures(
        len(shown), share(len(delays), len(shown)), share(sum(delay <= 3 for delay in delays), len(shown)),
        share(sum(event.detected is not None for event in events), len(events)),
        float(np.median(delays)) if delays else float("nan"),
        delays[max(0, int(np.ceil(0.95 * len(delays))) - 1)] if delays else float("nan"),
        sum(len(outcome.false) for outcome in outcomes), sum(outcome.hours for outcome in outcomes),
    )  # fmt: skip


def interval(outcomes: Sequence[Outcome], figure: Callable[[Figures], float], seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval over operations."""
    random = np.random.default_rng(seed)
    drawn = [figure(figures([outcomes[i] for i in random.integers(len(outcomes), size=len(outcomes))]))
             for _ in range(400)]  # fmt: skip
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def both(**options: Any) -> list[RuleOperator]:
    """The rule and its trivial baseline."""
    return [Bleeding(name="bleeding", rate=RATE, **options), Bleeding(name="baseline", rate=RATE, baseline=True)]
