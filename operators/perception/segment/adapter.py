"""The probabilistic vision-language adapter of MedCLIPSeg (arXiv 2602.20423; code HealthX-Lab/MedCLIPSeg).

Keys and values of the cross-attention are Gaussians. A key that is unsure of itself is attended less; values are drawn
anew in each pass, so that passes differ and their spread is an uncertainty.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

BETA = 2.35
"""Weight of a key's uncertainty in the score, as published."""
SMALLEST_VARIANCE = 1e-6


class ProbabilisticCrossAttention(nn.Module):
    """Single-head cross-attention from a query to Gaussian keys and values.

    ``score = q·mean_k / sqrt(C) - beta * sqrt(q²·var_k / C)``, ``value = mean_v + sqrt(var_v) * noise``, and
    ``out = g * project(softmax(score)·value) + (1 - g) * query`` with a learnt gate ``g``. Parameters have the released
    names, so that released tensors fit.
    """

    def __init__(self, width: int, beta: float = BETA, gate: float = 0.0) -> None:
        super().__init__()
        self.width, self.beta = width, beta
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, 2 * width)
        self.v_proj = nn.Linear(width, 2 * width)
        self.out_proj = nn.Linear(width, width)
        self.norm_k = nn.LayerNorm(width)
        self.norm_v = nn.LayerNorm(width)
        self.gate = nn.Parameter(torch.tensor(float(gate)))

    def weights(self, query: Tensor, mean: Tensor, variance: Tensor, padding: Tensor | None = None) -> Tensor:
        """Attention (b, q, k), rows sum to 1, of projected queries (b, q, C) to keys of mean and variance (b, k, C).

        ``padding`` (b, k) bool is True where a key is padding and must not be attended.
        """
        score = query @ mean.transpose(1, 2) / math.sqrt(self.width)
        unsure = query.square() @ variance.transpose(1, 2) / self.width
        # The root has no slope at nought: a floor keeps the gradient finite where a query is all zeros.
        score = score - self.beta * torch.sqrt(unsure.clamp_min(1e-12))
        if padding is not None:
            score = score.masked_fill(padding[:, None, :], torch.finfo(score.dtype).min)
        return score.softmax(-1)

    def forward(
        self, query: Tensor, context: Tensor, padding: Tensor | None = None,
        noise: torch.Generator | bool | None = None,
    ) -> Tensor:  # fmt: skip
        """(b, q, C) of queries (b, q, C) and context (b, k, C).

        ``noise``: a generator draws the values reproducibly, True draws them from torch's own, None takes their means.
        """
        mean_k, spread_k = self.k_proj(context).chunk(2, -1)
        mean_v, spread_v = self.v_proj(context).chunk(2, -1)
        variance_k = functional.softplus(spread_k) + SMALLEST_VARIANCE
        attention = self.weights(self.q_proj(query), self.norm_k(mean_k), variance_k, padding)
        value = self.norm_v(mean_v)
        if noise is not None and noise is not False:
            deviation = torch.sqrt(functional.softplus(spread_v) + SMALLEST_VARIANCE)
            generator = noise if isinstance(noise, torch.Generator) else None
            value = value + deviation * torch.randn(value.shape, generator=generator, device=value.device)
        gate = torch.sigmoid(self.gate)
        return gate * self.out_proj(attention @ value) + (1 - gate) * query


class TwoWay(nn.Module):
    """Image queries read text; then text queries read the image as just updated."""

    def __init__(self, width: int, beta: float, gate: float) -> None:
        super().__init__()
        self.cross_attn_img_to_txt = ProbabilisticCrossAttention(width, beta, gate)
        self.cross_attn_txt_to_img = ProbabilisticCrossAttention(width, beta, gate)

    def forward(
        self, image: Tensor, text: Tensor, padding: Tensor | None, noise: torch.Generator | bool | None
    ) -> tuple[Tensor, Tensor]:
        image = self.cross_attn_img_to_txt(image, text, padding, noise)
        return image, self.cross_attn_txt_to_img(text, image, None, noise)


class Adapter(nn.Module):
    """What is added to both streams before a block of both towers: down to ``width``, two-way attention, up again."""

    def __init__(
        self, image_width: int, text_width: int, width: int = 256, beta: float = BETA, gate: float = 0.0
    ) -> None:
        super().__init__()
        self.proj_vis_down = nn.Sequential(nn.Linear(image_width, width, bias=False))
        self.proj_txt_down = nn.Linear(text_width, width, bias=False)
        self.proj_vis_up = nn.Linear(width, image_width, bias=False)
        self.proj_txt_up = nn.Linear(width, text_width, bias=False)
        self.two_way = TwoWay(width, beta, gate)

    def forward(
        self, image: Tensor, text: Tensor, padding: Tensor | None = None,
        noise: torch.Generator | bool | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """What to add to image tokens (b, t, image_width) and to text tokens (b, w, text_width).

        ``padding`` (b, w) bool is True on padding words. The released model lets the image attend padding
        (``compat_pad_attention`` of the model): then it is None here.
        """
        image, text = self.two_way(self.proj_vis_down(image), self.proj_txt_down(text), padding, noise)
        return self.proj_vis_up(image), self.proj_txt_up(text)
