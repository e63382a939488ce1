"""The guard's own classifier, the others by name, and the guard as topologies name it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from operators.perception.view.data import Sample
from operators.perception.view.features import NAMES
from operators.perception.view.view import CLASSES
from operators.runtime import weights
from operators.video.colour import from_rgb
from operators.video.privacy import classify, model, train
from pipeline.bench import BenchOptions
from pipeline.errors import VigilError
from pipeline.topology import loads as topology
from tests.operators.video.privacy.helpers import picture


@pytest.mark.parametrize("name", ["learnt", "view", "rules", "redness"])
@pytest.mark.parametrize("form", ["yuv420p", "nv12", "rgb24", "gray"])
def test_every_classifier_answers_between_0_and_1_for_every_format(name: Any, form: Any) -> None:
    judge = classify.load(name)
    random = np.random.default_rng(3)
    for image in (random.integers(0, 256, (48, 64, 3), np.uint8), np.full((33, 47, 3), (180, 60, 50), np.uint8)):
        assert 0 <= judge(from_rgb(image, form)) <= 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e12, 1e12), min_size=len(NAMES), max_size=len(NAMES)))
def test_any_measures_give_evidence(values: list[float]) -> None:
    assert 0 < model.load().judge(np.array(values)) < 1


def test_a_frame_that_is_not_whole_is_refused() -> None:
    frame = picture(200)
    with pytest.raises(ValueError, match="cannot have planes"):
        model.load()(type(frame)(frame.width, frame.height, "yuv420p", frame.planes[:1]))


def test_the_weights_say_how_they_were_made_and_others_are_refused(tmp_path: Path) -> None:
    tensors, metadata = weights.load(model.WEIGHTS)
    assert metadata["command"] == "python -m operators.video.privacy.train"
    assert json.loads(metadata["shown_when_held_out"])["out_of_body"][1] == 8
    assert model.WEIGHTS.stat().st_size < 10_000
    weights.save(tmp_path / "other.safetensors", tensors, command="c", seed=0, data="d", measures="other")
    with pytest.raises(VigilError, match="not the guard's classifier"):
        model.load(tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(model.WEIGHTS.read_bytes()[:300])
    with pytest.raises(VigilError):
        model.load(tmp_path / "cut.safetensors")


def samples(count: int = 40) -> list[Sample]:
    """Frames of two operations in which four measures tell inside from outside."""
    random = np.random.default_rng(0)
    found = []
    for i in range(count):
        view = ("in_body", "out_of_body", "trocar", "obstructed")[i % 4]
        measured = random.normal(0, 0.1, len(NAMES))
        measured[NAMES.index("dark")] = measured[NAMES.index("blue")] = measured[NAMES.index("roughness")] = 0.1
        for name in ("red", "warm", "saturation", "detail_fine"):
            measured[NAMES.index(name)] = 1.0 if view == "in_body" else 0.0
        found.append(
            Sample(measured, np.zeros((48, 64, 3), np.uint8), CLASSES.index(view), -1, 0, f"operation {i // 20}",
                   "real", str(i))
        )  # fmt: skip
    return found


def test_the_fit_learns_what_tells_inside_from_outside_and_judges_only_what_was_held_out() -> None:
    judged = train.leave_one_out(samples(), [])
    assert len(judged) == 40
    for sample, value in judged:
        if CLASSES[sample.view] != "obstructed":
            assert (value >= 0.5) == (CLASSES[sample.view] == "in_body")
    one, two = train.fit(samples()), train.fit(samples())
    assert np.array_equal(one.weight, two.weight)


def test_labels() -> None:
    inside, outside, trocar, covered = samples(4)
    assert [train.label(one) for one in (inside, outside, trocar, covered)] == [0, 1, 1, -1]
    black = Sample(np.where(np.array(NAMES) == "dark", 1.0, 0.0), inside.picture, 4, -1, 0, "a", "real", "b")
    assert train.label(black) == -1


TOPOLOGY = """\
name: guarded
operators:
  camera: {use: video.file, with: {path: case.mp4}}
  privacy:
    use: video.privacy
    from: camera.video
    with:
      kind: scope
      frames_to_open: 12
      text: {redact: unknown, allow: [pressure, mmhg]}
  signal: {use: video.signal, from: camera.video}
  recorder: {use: recorder, from: [privacy.video, privacy.states]}
  alerts: {use: alerts, from: [privacy.conditions, signal.conditions]}
"""


def test_a_topology_names_the_guard_and_its_options() -> None:
    graph = topology(TOPOLOGY)
    graph.check()
    config = graph.nodes["privacy"].config
    assert (config.frames_to_open, config.text.allow, config.classifier) == (12, ("pressure", "mmhg"), "learnt")
    with pytest.raises(VigilError, match="privacy"):
        topology(TOPOLOGY.replace("frames_to_open: 12", "frames_to_open: 0")).check()
    with pytest.raises(VigilError, match="redact"):
        topology(TOPOLOGY.replace("redact: unknown", "redact: some")).check()


@pytest.mark.slow
def test_the_bench_gives_rows_that_say_what_they_stand_on() -> None:
    from operators.video.privacy import bench

    rows = bench.rows(BenchOptions(quick=True))
    named = {row.name: row for row in rows}
    assert named["privacy: leaked frames per transition"].met
    assert named["privacy: leaked frames per transition"].baseline > 0
    for row in rows:
        assert row.data
        assert row.value == row.value
