"""The bleeding rule on rendered operations: the shipped cases, and the rinsing fluid of the evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from operators.perception.bleeding import Bleeding
from operators.perception.bleeding.bench import masker, rows
from operators.perception.bleeding.evaluate import Irrigation, Operation, bleeding, play, quiet
from operators.perception.segment import bench as segmentation
from operators.theatre.case import load, loads
from operators.theatre.steps import Bleeding as Step
from pipeline.bench import BenchOptions


def test_operations_are_the_same_for_a_seed_and_keep_what_they_promise() -> None:
    assert bleeding(3) == bleeding(3)
    assert bleeding(3) != bleeding(4)
    assert len(bleeding(3).events) == 3
    assert quiet(3).events == []
    assert len(quiet(3).water) == 3
    assert bleeding(3).short(20).case.duration == 20


def test_rinsing_fluid_is_seen_and_is_no_blood() -> None:
    case = loads("theatre: 1\nduration: 20\nphases: [{at: 0, name: a, view: wide}]\n")
    flood = Step(do="bleeding", at=2, lasts=4, washed=3, amount=0.8, site=(-20.0, -10.0))
    renderer = Operation(case, ((flood, 0.4),)).renderer()
    assert isinstance(renderer.pools, Irrigation)
    wet = renderer.picture(5.0)
    renderer.pools.water = ()
    dry = renderer.picture(5.0)
    assert (np.abs(wet.rgb.astype(int) - dry.rgb).max(-1) > 12).mean() > 0.02
    assert np.array_equal(wet.labels, dry.labels)


@pytest.mark.slow
def test_the_eventful_case_is_told_within_three_seconds_where_segmentation_is_wired() -> None:
    operation = Operation(load("eventful")).short(9)
    outcome = play(operation, [Bleeding(name="masks")], masker(), size=(320, 240))[0]
    assert outcome.events[0].delay is not None
    assert outcome.events[0].delay <= 3
    assert outcome.false == []


@pytest.mark.slow
def test_the_uneventful_case_raises_nothing() -> None:
    outcome = play(Operation(load("uneventful")), [Bleeding(name="bleeding")])[0]
    assert outcome.false == []
    assert [event.detected for event in outcome.events] == [None]


@pytest.mark.slow
def test_quick_benches_give_rows_that_say_what_they_were_measured_on() -> None:
    for bench in (rows, segmentation.rows):
        found = bench(BenchOptions(quick=True))
        assert len(found) >= 5
        assert all(row.data or row.unit == "frames/s" for row in found)
        assert len({row.name for row in found}) == len(found)
