"""Uncertainty is in nats, and the same seed gives the same answer."""

from __future__ import annotations

import math

import pytest
import torch

from operators.perception.segment import prompts
from operators.perception.segment.model import MedClipSeg, normalise, small
from operators.perception.segment.uncertainty import Answer, calibrated, entropy, minmax, sample, summary


@pytest.fixture(scope="module")
def model() -> MedClipSeg:
    torch.manual_seed(0)
    return small().eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return normalise(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=random))


NUMBERS = torch.tensor([prompts.tokens(text) for text in prompts.PROMPTS.values()])


def test_entropy_is_in_nats() -> None:
    found = entropy(torch.tensor([0.0, 0.5, 1.0, 0.25]))
    assert found[:3].tolist() == pytest.approx([0, math.log(2), 0])
    assert found[3].item() == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))


def test_mutual_information_is_what_the_samples_disagree_about() -> None:
    split = summary(torch.tensor([[0.0], [1.0]]))
    assert [part.item() for part in split] == pytest.approx([0.5, math.log(2), math.log(2)])
    agreed = summary(torch.tensor([[0.5], [0.5]]))
    assert [part.item() for part in agreed] == pytest.approx([0.5, math.log(2), 0])


@torch.inference_mode()
def test_the_same_seed_gives_the_same_answer_whatever_was_asked_before(model: MedClipSeg, images: torch.Tensor) -> None:
    one = sample(model, images, NUMBERS, 3, 5)
    sample(model, images, NUMBERS, 2, 9)
    torch.randn(7)
    again = sample(model, images, NUMBERS, 3, 5)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one.probability, sample(model, images, NUMBERS, 3, 6).probability)


@torch.inference_mode()
@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_the_number_of_samples_changes_no_shape_and_bounds_hold(
    count: int, model: MedClipSeg, images: torch.Tensor
) -> None:
    answer = sample(model, images, NUMBERS, count, 0)
    for plane in answer:
        assert plane.shape == (2, 3, 32, 32)
        assert torch.isfinite(plane).all()
    assert ((answer.entropy >= 0) & (answer.entropy <= math.log(2) + 1e-6)).all()
    assert (answer.information <= answer.entropy + 1e-6).all()
    assert (answer.information.max() > 0) == (count > 1)


@torch.inference_mode()
def test_without_samples_nothing_is_random(model: MedClipSeg, images: torch.Tensor) -> None:
    one, two = (sample(model, images, NUMBERS, 0, seed).probability for seed in (0, 1))
    assert torch.equal(one, two)


@torch.inference_mode()
def test_compat_extra_pass_draws_once_more(model: MedClipSeg, images: torch.Tensor) -> None:
    plain = sample(model, images, NUMBERS, 2, 0)
    extra = sample(model, images, NUMBERS, 2, 0, compat_extra_pass=True)
    assert plain.probability.shape == extra.probability.shape
    assert not torch.equal(plain.probability, extra.probability)


def test_compat_minmax_throws_the_absolute_meaning_away() -> None:
    faint = torch.rand(2, 8, 8) * 0.01
    assert torch.allclose(minmax(faint), minmax(50 * faint), atol=1e-3)
    assert minmax(faint).max() == pytest.approx(1, abs=1e-4)


def test_calibration_keeps_the_side_of_a_half_and_a_temperature_above_one_is_less_sure() -> None:
    p = torch.tensor([0.02, 0.4, 0.6, 0.99]).reshape(1, 1, 2, 2)
    answer = Answer(p, entropy(p), torch.zeros_like(p))
    cooled = calibrated(answer, 2.0, 2)
    assert torch.equal(cooled.probability > 0.5, p > 0.5)
    assert (cooled.entropy >= answer.entropy - 1e-6).all()
    assert calibrated(answer, 1.0, 4).probability.shape == (1, 1, 4, 4)
