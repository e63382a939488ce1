"""The view on real operations, by eye labelled: the rules' figures, the learnt model's, and which one is shipped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operators.perception.view import ViewState, data, features, metrics, model, rules
from operators.perception.view.evaluate import labels_of, leave_one_out, report
from operators.perception.view.train import samples
from operators.perception.view.view import CLASSES
from operators.runtime import weights
from operators.video.file import VideoReader
from pipeline.message import Detection, Message, VideoFrame
from pipeline.testing import run_operator

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def frames(shared_data: Path) -> list[data.Sample]:
    return [one for one in data.real(shared_data) if one.kind == "real"]


@pytest.fixture(scope="module")
def clip(shared_data: Path) -> list[Message[VideoFrame]]:
    return list(VideoReader(shared_data / "laparoscopy_clip" / "endo.mp4").messages())


@pytest.fixture
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_rules_give_their_recorded_figures(frames: list[data.Sample]) -> None:
    truth = np.array([one.view for one in frames])
    said = labels_of([rules.judge(one.measured) for one in frames])
    _, metadata = weights.load(model.WEIGHTS)
    recorded = json.loads(metadata["leave_one_out"])
    assert metrics.macro_f1(truth, said) == pytest.approx(recorded["macro_f1"]["rules"][0], abs=1e-3)
    for label in (CLASSES.index(name) for name in ("in_body", "black", "no_signal")):
        assert metrics.recall(truth, said, label) >= 0.95


def test_the_clip_is_in_the_body_all_along_and_raises_nothing(clip: list[Message[VideoFrame]]) -> None:
    answers = run_operator(ViewState(name="view"), clip)
    assert {m.payload.label for m in answers if isinstance(m.payload, Detection)} == {"in_body"}
    assert all(isinstance(m.payload, Detection) for m in answers)
    assert 10 <= len(answers) <= 11, "ten seconds: once a second"


def test_every_frame_of_the_clip_is_in_the_body_for_both(clip: list[Message[VideoFrame]]) -> None:
    measured = [features(message.payload) for message in clip]
    judge = model.load().judge
    assert np.mean([judge(one).view == "in_body" for one in measured]) >= 0.99
    assert np.mean([rules.judge(one).view == "in_body" for one in measured]) >= 0.99


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_shipped_figures_are_measured_again(shared_data: Path, one_thread: Any) -> None:
    found = report(leave_one_out(*samples(shared_data)))
    _, metadata = weights.load(model.WEIGHTS)
    recorded = json.loads(metadata["leave_one_out"])
    assert found.keys() == recorded.keys()
    for name in ("macro_f1", "recall_in_body", "recall_out_of_body", "colour_fault_balanced_accuracy"):
        for which in ("learnt", "rules", "difference"):
            assert found[name][which][0] == pytest.approx(recorded[name][which][0], abs=0.02)
    assert (found["macro_f1"]["difference"][1][0] > 0) == (ViewState.Config().model == "learnt")
