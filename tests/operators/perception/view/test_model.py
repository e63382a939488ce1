"""The shipped model: which one is the default and why, what it refuses, and that fitting gives the same every time."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from operators.perception.view import NAMES, ViewState, features, in_body, model, rules
from operators.perception.view.bench import rows
from operators.perception.view.data import CLASSES, TRAIN_SEEDS, UNKNOWN, Sample, script, truth
from operators.perception.view.evaluate import labels_of, leave_one_out, report
from operators.perception.view.fit import Options, fit
from operators.runtime import weights
from operators.theatre.effects import Air
from operators.video.colour import from_rgb
from pipeline.bench import BenchOptions
from pipeline.errors import VigilError
from tests.operators.perception.view.pictures import covered, inside, outside


def test_the_default_is_the_one_that_was_better_on_operations_it_had_not_seen() -> None:
    _, metadata = weights.load(model.WEIGHTS)
    difference, (low, high) = json.loads(metadata["leave_one_out"])["macro_f1"]["difference"]
    assert low <= difference <= high
    assert ViewState.Config().model == ("learnt" if low > 0 else "rules")


def test_the_weights_say_how_they_were_made_and_are_small() -> None:
    _, metadata = weights.load(model.WEIGHTS)
    assert metadata["command"] == "python -m operators.perception.view.train"
    assert metadata["measures"] == " ".join(NAMES)
    assert model.WEIGHTS.stat().st_size < 20_000
    assert model.WEIGHTS.with_name("MODEL.md").is_file()


def test_views_of_a_theatre_it_has_not_seen() -> None:
    judge = model.load().classify
    found = [judge(from_rgb(draw(3))).view for draw in (inside, outside, covered)]
    assert found == ["in_body", "out_of_body", "obstructed"]


def test_evidence_for_privacy_is_high_inside_and_low_elsewhere() -> None:
    assert in_body(from_rgb(inside(2))) > 0.8
    assert in_body(from_rgb(outside(2))) < 0.3
    assert in_body(from_rgb(inside(2), "gray")) == 0
    assert in_body(from_rgb(np.zeros((90, 120, 3), np.uint8))) == 0


@pytest.mark.parametrize("judge", ["learnt", "rules"])
def test_scores_are_shares_of_one(judge: str) -> None:
    which = model.load().judge if judge == "learnt" else rules.judge
    for draw in (inside, outside, covered):
        view = which(features(from_rgb(draw(1))))
        assert sum(view.scores.values()) == pytest.approx(1)
        assert view.view in view.scores


def test_weights_for_other_measures_are_refused(tmp_path: Path) -> None:
    tensors, metadata = weights.load(model.WEIGHTS)
    path = tmp_path / "other.safetensors"
    weights.save(path, tensors, command="c", seed=0, data="d", measures="dark blue")
    with pytest.raises(VigilError, match="not a view model for these measures"):
        model.load(path)
    tensors["view"] = tensors["view"][:2]
    weights.save(path, tensors, command="c", seed=0, data="d", measures=metadata["measures"])
    with pytest.raises(VigilError, match="not a view model for these measures"):
        model.load(path)
    path.write_bytes(model.WEIGHTS.read_bytes()[:100])
    with pytest.raises(VigilError, match="not a safetensors file"):
        model.load(path)


def made_up(group: str, count: int, seed: int) -> list[Sample]:
    """Samples whose view is written in one measure, with noise in all."""
    random = np.random.default_rng(seed)
    found = []
    for index in range(count):
        view = int(random.integers(4))
        measured = random.normal(0.3, 0.1, len(NAMES))
        measured[NAMES.index("dark")] = measured[NAMES.index("blue")] = measured[NAMES.index("roughness")] = 0.1
        measured[NAMES.index("detail_fine")] = view + random.normal(0, 0.15)
        name = f"{group} {index}"
        found.append(Sample(measured, np.zeros((0,), np.uint8), view, UNKNOWN, index % 2, group, "real", name))
    return found


def test_fitting_twice_gives_the_same_weights_and_learns_what_is_there() -> None:
    samples = made_up("a", 200, 1)
    one, two = fit(samples, Options()), fit(samples, Options())
    for field in dataclasses.fields(one):
        assert np.array_equal(getattr(one, field.name), getattr(two, field.name))
    unseen = made_up("b", 200, 2)
    said = labels_of([one.judge(sample.measured) for sample in unseen])
    assert np.mean(said == [sample.view for sample in unseen]) > 0.85


def test_an_operation_has_no_say_in_the_model_that_judges_it() -> None:
    groups = [made_up(name, 24, seed) for seed, name in enumerate("abc")]
    before = leave_one_out([one for group in groups for one in group], [], Options())
    turned = [dataclasses.replace(one, view=3 - one.view) for one in groups[0]]
    after = leave_one_out([*turned, *groups[1], *groups[2]], [], Options())
    assert [one.learnt for one in before if one.sample.group == "a"] == [
        one.learnt for one in after if one.sample.group == "a"
    ]
    assert [one.learnt for one in before if one.sample.group == "b"] != [
        one.learnt for one in after if one.sample.group == "b"
    ]
    figures = report(before, draws=50)
    assert figures["macro_f1"]["learnt"][0] > figures["macro_f1"]["rules"][0]


def test_the_truth_of_a_script_follows_its_steps() -> None:
    case = script(TRAIN_SEEDS[0])
    air = Air((32, 32), 0)
    out = next(step for step in case.script if step.do == "out_of_body")
    assert CLASSES[truth(case, air, out.at + 3)[0]] == "out_of_body"
    assert CLASSES[truth(case, air, out.at + 0.8)[0]] == "trocar"
    assert truth(case, air, out.at + 0.1)[0] == UNKNOWN
    assert truth(case, air, 1.0) == (0, 0)
    smoke = next(step for step in case.script if step.do == "smoke")
    assert truth(case, air, smoke.at + 3)[1] == (1 if smoke.density >= 0.25 else UNKNOWN)


@pytest.mark.slow
def test_the_quick_bench_has_every_row() -> None:
    found = rows(BenchOptions(quick=True))
    names = " ".join(row.name for row in found)
    assert "1280x720" in names
    assert "view, simulated: macro f1" in names
    assert all(row.value == row.value for row in found), "no NaN"
    assert all("simulated" in row.data for row in found if "simulated" in row.name)
