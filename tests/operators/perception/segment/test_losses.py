"""Loss values, computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from operators.perception.segment.losses import contrastive_loss, dice_loss, soft_targets, total_loss


def test_dice_is_that_computed_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])  # four halves
    target = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
    assert dice_loss(logits, target).item() == pytest.approx(1 - 2 * 1.5 / (2 + 3), abs=1e-5)
    assert dice_loss(200 * target - 100, target).item() == pytest.approx(0, abs=1e-5)


def test_soft_targets_are_nearly_even() -> None:
    text = torch.nn.functional.normalize(torch.randn(24, 512, generator=torch.Generator().manual_seed(0)), dim=-1)
    targets = soft_targets(text)
    assert torch.allclose(targets.sum(-1), torch.ones(24), atol=1e-6)
    # A row of unit length has at most one 1: e / (e + 23) at best.
    assert 0.09 < targets.diag().mean() < math.e / (math.e + 23) + 1e-6
    assert math.e / (math.e + 23) == pytest.approx(0.106, abs=1e-3)


def test_contrastive_loss_of_two_opposite_pairs_is_that_computed_by_hand() -> None:
    text = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    patches = text[:, None, :].repeat(1, 3, 1)
    # likeness/0.2 is [[5, -5], [-5, 5]]; of unit length [[0.7071, -0.7071], ...]
    high = math.exp(math.sqrt(0.5)) / (math.exp(math.sqrt(0.5)) + math.exp(-math.sqrt(0.5)))
    agree, differ = -math.log(1 / (1 + math.exp(-10))), -math.log(1 / (1 + math.exp(10)))
    wanted = high * agree + (1 - high) * differ
    assert contrastive_loss(patches, text).item() == pytest.approx(wanted, rel=1e-5)


def test_targets_carry_no_gradient() -> None:
    text = torch.nn.functional.normalize(torch.randn(4, 8), dim=-1).requires_grad_()
    assert not soft_targets(text.detach()).requires_grad


def test_the_sum_has_the_published_weights() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(6, 8, 8), (torch.rand(6, 8, 8) > 0.5).float()
    patches = torch.nn.functional.normalize(torch.randn(6, 4, 5), dim=-1)
    text = torch.nn.functional.normalize(torch.randn(6, 5), dim=-1)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
    wanted = 0.5 * dice_loss(logits, target) + 0.5 * entropy + 0.1 * contrastive_loss(patches, text)
    assert torch.allclose(total_loss(logits, target, patches, text), wanted)


def test_dice_over_the_pictures_of_a_prompt_does_not_punish_pictures_without_it() -> None:
    sure = torch.full((2, 2, 4, 4), -20.0)  # two pictures, each asked for two prompts
    target = torch.zeros(2, 2, 4, 4)
    target[0, 0], target[1, 1] = 1, 1
    sure[target > 0] = 20.0
    text = torch.nn.functional.normalize(torch.ones(4, 5), dim=-1)
    patches = text[:, None]
    logits, truth = sure.flatten(0, 1), target.flatten(0, 1)
    together = total_loss(logits, truth, patches, text, prompts=2) - 0.1 * contrastive_loss(patches, text)
    each = total_loss(logits, truth, patches, text) - 0.1 * contrastive_loss(patches, text)
    assert together.item() == pytest.approx(0, abs=1e-4)
    assert each.item() < 0.5
