"""Figures of the overlay: readings right and wrong on real operations and on drawn overlays, their speed and memory.

Speed is processor time of the whole process, on one core: it does not depend on what else the machine does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import psutil

from operators.perception.overlay import drawn, layout
from operators.perception.overlay.baseline import nearest
from operators.perception.overlay.evaluate import (
    DEVELOPED_ON,
    Frame,
    Score,
    frames,
    judge,
    picture,
    stream,
    values_of,
)
from operators.perception.overlay.grammar import Kind
from operators.perception.overlay.models import Finder, Reader
from operators.perception.overlay.operator import Overlay
from operators.perception.overlay.reader import Memory, read
from operators.perception.overlay.strokes import brightest
from operators.recordings import shared_data
from operators.video.colour import from_rgb
from pipeline.bench import BenchOptions, Row
from pipeline.message import Array, Message
from pipeline.testing import run_operator

REAL = "laparoscopy_intermountain, real frames of 8 operations, labels.csv"
SPLIT = f"limits set on operations {', '.join(one[:5] for one in DEVELOPED_ON)}; the other four held out"
BASELINE = "full-frame OCR, number nearest to the label"
DRAWN = "drawn overlays (simulated)"
LIMIT_MS = 60.0


def rows(options: BenchOptions) -> list[Row]:
    """All rows; those on real recordings only where ``shared/data`` is. On an idle core: 20 s quick, 5 minutes full."""
    memory = _memory()
    found = [memory, *_steady(options), *_drawn(options)]
    folder = shared_data()
    if folder is None:
        options.progress("overlay: the real recordings are not here, so there are no figures on real operations")
        return found
    return [*_real(folder, options), *found]


def _memory() -> Row:
    """Resident memory that both models and their first use add."""
    process = psutil.Process()
    before = process.memory_info().rss
    finder = Finder(Reader())
    finder.find(np.zeros((720, 1280), np.uint8))
    used = (process.memory_info().rss - before) / 2**20
    return Row("overlay: memory of both models, loaded and used once", round(used, 1), "MiB", data="one empty picture")


# ------------------------------------------------------------------------------------------------ real


def _real(folder: Path, options: BenchOptions) -> list[Row]:
    groups: dict[str, list[Frame]] = {}
    for frame in frames(folder):
        groups.setdefault(frame.operation, []).append(frame)
    if options.quick:
        held_out = [operation for operation in groups if operation not in DEVELOPED_ON][:2]
        groups = {operation: groups[operation][:2] for operation in held_out}
    ours: dict[str, Score] = {}
    plain: dict[str, Score] = {}
    whole: list[float] = []
    finder = Finder(Reader())
    for operation, chosen in groups.items():
        options.progress(f"overlay: operation {operation}, {len(chosen)} frames")
        said = run_operator(Overlay(name="overlay"), stream(chosen))
        ours[operation] = judge(chosen, values_of(said, chosen))[0]
        read_plainly: dict[tuple[int, Kind], float] = {}
        for frame in chosen:
            grey = brightest(from_rgb(picture(frame)))
            began = time.process_time()
            values = nearest(finder.find(grey))
            whole.append((time.process_time() - began) * 1000)
            read_plainly |= {(frame.index, kind): value for kind, (value, _) in values.items()}
        plain[operation] = judge(chosen, read_plainly)[0]
    again = _milliseconds_a_frame(groups)
    return _scores(ours, plain, options) + _speed(again, whole)


def _scores(ours: dict[str, Score], plain: dict[str, Score], options: BenchOptions) -> list[Row]:
    found = []
    held_out = [operation for operation in ours if operation not in DEVELOPED_ON]
    for name, chosen in (("all operations", list(ours)), ("the held-out operations", held_out)):
        mine, other = Score(), Score()
        for operation in chosen:
            mine.add(ours[operation])
            other.add(plain[operation])
        share = 100 * mine.right / max(mine.labelled, 1)
        reference = 100 * other.right / max(other.labelled, 1)
        interval = _bootstrap([ours[operation] for operation in chosen], options.seed)
        found.append(Row(
            f"overlay: readings right, {name} ({mine.right} of {mine.labelled})", round(share, 2), "%", BASELINE,
            round(reference, 2), share / reference if reference else None, ">= 99 %", share >= 99, REAL, SPLIT,
            interval,
        ))  # fmt: skip
        found.append(Row(
            f"overlay: wrong readings where there is a label, {name}", mine.wrong, "readings", BASELINE, other.wrong,
            None, "= 0", mine.wrong == 0, REAL, SPLIT,
        ))  # fmt: skip
        found.append(Row(
            f"overlay: wrong readings where there is no label, {name} (right there: {mine.extra_right})",
            mine.extra_wrong, "readings", BASELINE, other.extra_wrong, None, "= 0", mine.extra_wrong == 0, REAL, SPLIT,
        ))  # fmt: skip
    return found


def _bootstrap(scores: list[Score], seed: int, times: int = 2000) -> tuple[float, float]:
    random = np.random.default_rng(seed)
    right = np.array([score.right for score in scores])
    labelled = np.array([score.labelled for score in scores])
    picks = random.integers(0, len(scores), (times, len(scores)))
    shares = 100 * right[picks].sum(axis=1) / np.maximum(labelled[picks].sum(axis=1), 1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return round(float(low), 2), round(float(high), 2)


def _milliseconds_a_frame(groups: dict[str, list[Frame]]) -> list[float]:
    """Every real frame after the first of its operation: the layout is known and every crop has changed."""
    spent = []
    for chosen in groups.values():
        overlay = Overlay(name="overlay", sweep_seconds=0, search_seconds=3600)
        overlay.setup()
        for place, message in enumerate(stream(chosen)):
            began = time.process_time()
            for _ in overlay.process(message) or ():
                pass
            if place and message.payload.planes[0].max() > 40:  # black frames cost nothing and would flatter
                spent.append((time.process_time() - began) * 1000)
    return spent


def _speed(ours: list[float], whole: list[float]) -> list[Row]:
    reference = float(np.median(whole))
    found = []
    for name, value in (("p50", np.percentile(ours, 50)), ("p95", np.percentile(ours, 95))):
        found.append(Row(
            f"overlay: one reading, every crop changed, processor time, {name}", round(float(value), 1), "ms",
            "full-frame OCR of the same frames, p50", round(reference, 1), float(value) / reference,
            f"<= {LIMIT_MS:g} ms", bool(value <= LIMIT_MS), REAL,
        ))  # fmt: skip
    return found


# ----------------------------------------------------------------------------------------------- drawn


def _scenes(count: int) -> list[Array]:
    from operators.theatre.case import Case
    from operators.theatre.renderer import Renderer

    renderer = Renderer(Case(theatre=1, duration=600), 3, (640, 360))
    return [renderer.picture(float(at)).rgb for at in np.linspace(1, 590, count)]


def _steady(options: BenchOptions) -> list[Row]:
    """A minute or two of a picture that moves: pressure changes now and then, flow every third second."""
    options.progress("overlay: steady state on a drawn stream")
    random = np.random.default_rng(options.seed)
    scenes = _scenes(6)
    finder = Finder(Reader())
    overlay = Overlay(name="overlay")
    overlay.setup()
    spent, swept, whole = [], [], []
    pressure, flow = 14, 0.4
    for second in range(12 if options.quick else 120):
        pressure = int(np.clip(pressure + random.choice([0, 0, 0, 0, 1, -1]), 8, 20))
        flow = round(float(random.uniform(0, 4)), 1) if second % 3 == 0 else flow
        scene = np.ascontiguousarray(np.roll(scenes[second % len(scenes)], second, axis=1))
        frame = from_rgb(drawn.draw(_round(scene), drawn.Style(), pressure, flow))
        message = Message("camera.video/scope", second * 1_000_000_000, second, frame, "simulated")
        sweeps = second % 30 == 0
        (swept if sweeps else spent).append(_time(lambda message=message: list(overlay.process(message) or ())))
        if second % 12 == 5:
            whole.append(_time(lambda frame=frame: finder.find(brightest(frame))))
    reference = float(np.median(whole))
    found = []
    for name, value in (("p50", np.percentile(spent, 50)), ("p95", np.percentile(spent, 95))):
        found.append(Row(
            f"overlay: one reading in steady state, processor time, {name}", round(float(value), 1), "ms",
            "full-frame OCR of the same frames, p50", round(reference, 1), float(value) / reference,
            f"<= {LIMIT_MS:g} ms", bool(value <= LIMIT_MS), f"{DRAWN}, flow changes every third second",
        ))  # fmt: skip
    found.append(Row(
        "overlay: the reading with a look at the whole picture, once in 30 s, p50", round(float(np.median(swept)), 1),
        "ms", "full-frame OCR of the same frames, p50", round(reference, 1), float(np.median(swept)) / reference,
        data=DRAWN,
    ))  # fmt: skip
    return found


def _round(scene: Array) -> Array:
    mask = np.zeros(scene.shape[:2], np.uint8)
    cv2.circle(mask, (320, 180), 260, 1, -1)
    return scene * mask[:, :, None]


def _time(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def _drawn(options: BenchOptions) -> list[Row]:
    """Overlays of many looks, four pictures of each, half of them through JPEG."""
    count = 4 if options.quick else 60
    options.progress(f"overlay: {count} drawn overlays")
    random = np.random.default_rng(options.seed + 1000)
    scenes, reader = _scenes(8), Reader()
    finder = Finder(reader)
    right = wrong = missed = 0
    for _ in range(count):
        style = drawn.sample(random)
        known: layout.Layout | None = None
        for _ in range(4):
            scene = drawn.ground(random, scenes[int(random.integers(len(scenes)))])
            pressure = int(random.integers(0, 31))
            flow = round(float(random.uniform(0, 14)), 1)
            grey = brightest(from_rgb(drawn.pressed(drawn.draw(scene, style, pressure, flow), random)))
            known = known if known is not None and known.fields else layout.search(grey, finder)[0]
            truth: tuple[tuple[Kind, float], ...] = (("patient_pressure", pressure), ("gas_flow", flow))
            for kind, true in truth:
                field = known.field(kind)
                reading = read(grey, field, reader, Memory()) if field is not None else None
                right += reading is not None and reading.value == true
                wrong += reading is not None and reading.value != true
                missed += reading is None
    total = right + wrong + missed
    return [
        Row(f"overlay: readings right, {count} drawn overlays", round(100 * right / total, 1), "%", data=DRAWN),
        Row(f"overlay: wrong readings, drawn overlays ({total} numbers)", wrong, "readings", goal="= 0",
            met=wrong == 0, data=DRAWN),
    ]  # fmt: skip
