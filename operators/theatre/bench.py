"""`vigil bench theatre`: how fast the simulated theatre is on one core."""

from __future__ import annotations

import time

import cv2
import numpy as np

from operators.monitor.tracks import merged
from operators.theatre.case import load
from operators.theatre.renderer import Renderer
from operators.theatre.tracks import tracks
from operators.theatre.world import build
from pipeline.bench import BenchOptions, Row, limit

SIZES = ((320, 240), (640, 480))


def run(options: BenchOptions) -> list[Row]:
    """Frames a second over the whole eventful case, and simulated seconds of patient a second of the long one."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        rows = [row for size in SIZES for row in _frames(options, size)]
    finally:
        cv2.setNumThreads(threads)
    return [*rows, _patient(options)]


def _frames(options: BenchOptions, size: tuple[int, int]) -> list[Row]:
    case = load("eventful")
    options.progress(f"building the world for {size[0]}x{size[1]}")
    build.cache_clear()
    begin = time.perf_counter()
    renderer = Renderer(case, options.seed or case.seed, size)
    built = time.perf_counter() - begin
    # Every moment of the case in turn, so that quick (black) and slow (smoke, blood) pictures count as they come.
    moments = np.linspace(0, case.duration, 40 if options.quick else 400, endpoint=False)
    renderer.picture(30.0)  # floods the pools once
    taken = []
    for number, moment in enumerate(moments):
        begin = time.perf_counter()
        renderer.picture(float(moment))
        taken.append(time.perf_counter() - begin)
        if number % 100 == 0:
            options.progress(f"picture {number} of {len(moments)} at {size[0]}x{size[1]}")
    label = f"{size[0]}x{size[1]}"
    return [
        limit(
            f"pictures {label}, one core",
            len(taken) / sum(taken),
            "frames/s",
            at_least=15 if size == SIZES[0] else None,
        ),
        Row(f"slowest picture {label}, p99", float(np.percentile(taken, 99)) * 1e3, "ms"),
        Row(f"building the world {label}", built, "s"),
    ]


def _patient(options: BenchOptions) -> Row:
    case = load("long")
    hours = 0.5 if options.quick else 6.0
    options.progress(f"{hours:g} hours of waveforms and numerics")
    begin = time.perf_counter()
    count = sum(
        1
        for _ in merged(tracks(case, options.seed or case.seed, video=False), None, case.ns(hours * 3600), "simulated")
    )
    spent = time.perf_counter() - begin
    options.progress(f"{count:,} messages")
    return limit("patient and monitor, messages made", hours * 3600 / spent, "x real time", at_least=1000)
