"""The probabilistic adapter does what the published one does, and its published size is met to the last number."""

from __future__ import annotations

import math

import pytest
import torch

from operators.perception.segment.adapter import Adapter, ProbabilisticCrossAttention
from operators.perception.segment.model import MedClipSeg, ScaleBlock


@pytest.fixture
def attention() -> ProbabilisticCrossAttention:
    torch.manual_seed(0)
    return ProbabilisticCrossAttention(16)


def parts() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return (
        torch.randn(2, 5, 16, generator=random), torch.randn(2, 7, 16, generator=random),
        torch.rand(2, 7, 16, generator=random) + 0.5,
    )  # fmt: skip


def test_weights_are_those_computed_by_hand() -> None:
    attention = ProbabilisticCrossAttention(2, beta=2.0)
    query, mean = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    variance = torch.tensor([[[1.0, 1.0], [4.0, 0.25]]])
    scores = [1 / math.sqrt(2) - 2 * math.sqrt((1 + 4) / 2), 2 / math.sqrt(2) - 2 * math.sqrt((4 + 1) / 2)]
    wanted = torch.tensor(scores).softmax(0)
    assert torch.allclose(attention.weights(query, mean, variance)[0, 0], wanted, atol=1e-6)


def test_an_unsure_key_is_attended_less_by_every_query(attention: ProbabilisticCrossAttention) -> None:
    query, mean, variance = parts()
    before = attention.weights(query, mean, variance)
    unsure = variance.clone()
    unsure[:, 3] *= 9
    after = attention.weights(query, mean, unsure)
    assert (after[..., 3] < before[..., 3]).all()
    assert torch.allclose(after.sum(-1), torch.ones(2, 5), atol=1e-6)


def test_without_beta_and_with_equal_variances_uncertainty_plays_no_part() -> None:
    query, mean, variance = parts()
    plain = ProbabilisticCrossAttention(16, beta=0.0)
    ignoring = plain.weights(query, mean, variance)
    assert torch.equal(ignoring, plain.weights(query, mean, 9 * variance))
    even = ProbabilisticCrossAttention(16).weights(query, mean, torch.full_like(variance, 0.7))
    assert torch.allclose(even, ignoring, atol=1e-6)


def test_padding_is_not_attended_and_does_not_change_the_answer(attention: ProbabilisticCrossAttention) -> None:
    query, context, _ = parts()
    padded = torch.cat([context, torch.randn(2, 3, 16)], 1)
    padding = torch.arange(10).expand(2, 10) >= 7
    assert torch.allclose(attention(query, padded, padding), attention(query, context), atol=1e-6)
    assert not torch.allclose(attention(query, padded), attention(query, context), atol=1e-3)


def test_values_are_drawn_from_the_generator_alone(attention: ProbabilisticCrossAttention) -> None:
    query, context, _ = parts()
    one = attention(query, context, noise=torch.Generator().manual_seed(3))
    torch.randn(100)
    again = attention(query, context, noise=torch.Generator().manual_seed(3))
    other = attention(query, context, noise=torch.Generator().manual_seed(4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(attention(query, context), attention(query, context))


def test_the_error_of_the_mean_falls_with_the_root_of_the_samples(attention: ProbabilisticCrossAttention) -> None:
    query, context, _ = parts()
    with torch.no_grad():
        centre = attention(query, context)
        noise = torch.Generator().manual_seed(0)
        drawn = torch.stack([attention(query, context, noise=noise) for _ in range(1024)])
    scaled = []
    for count in (4, 16, 64):
        means = drawn.reshape(-1, count, *centre.shape).mean(1)
        scaled.append(((means - centre).square().mean().sqrt() * math.sqrt(count)).item())
    assert max(scaled) / min(scaled) < 1.1


def test_gradients_reach_every_parameter_and_none_is_broken_by_a_query_of_nought() -> None:
    torch.manual_seed(0)
    adapter = Adapter(12, 10, 8)
    for image in (torch.randn(2, 9, 12), torch.zeros(2, 9, 12)):
        adapter.zero_grad()
        more_image, more_text = adapter(image, torch.randn(2, 4, 10), noise=torch.Generator().manual_seed(0))
        (more_image.square().sum() + more_text.square().sum()).backward()
        for name, parameter in adapter.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
    more_image, more_text = adapter(torch.randn(2, 9, 12), torch.randn(2, 4, 10), noise=torch.Generator())
    adapter.zero_grad()
    (more_image.square().sum() + more_text.square().sum()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in adapter.parameters())  # type: ignore[union-attr]


def test_text_reads_the_image_as_it_was_just_updated() -> None:
    torch.manual_seed(0)
    adapter = Adapter(12, 10, 8)
    image, text = torch.randn(1, 9, 12), torch.randn(1, 4, 10)
    _, before = adapter(image, text)
    with torch.no_grad():
        adapter.two_way.cross_attn_img_to_txt.out_proj.bias += 1.0
    _, after = adapter(image, text)
    assert not torch.allclose(before, after)


def test_published_sizes_are_met_exactly() -> None:
    class Towers(torch.nn.Module):
        width, text_width, joint, stages, has_class_token = 768, 768, 512, 12, True

    with torch.device("meta"):
        model = MedClipSeg(Towers())
        adapter, block = Adapter(768, 768), ScaleBlock(512)
    assert sum(p.numel() for p in adapter.parameters()) == 1_577_986
    assert sum(p.numel() for p in model.mask_head.parameters()) == 787_968
    assert 2 * sum(p.numel() for p in block.parameters()) == 2_109_440
    assert sum(p.numel() for p in model.trainable()) == 18_677_268
