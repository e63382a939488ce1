"""Monte-Carlo passes and what their spread says, in nats.

With P the mean of N sampled probabilities of a yes-or-no question, the *predictive entropy* H(P) is all uncertainty,
0 to ln 2; the *mutual information* H(P) - mean of H(p_n) is the part that comes from the model's own spread.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from operators.perception.segment.model import MedClipSeg, Seen, repeat

LARGEST = math.log(2)
"""Entropy of an even chance, nats."""
STREAMING = 4
"""Most samples of a picture in a stream."""


class Answer(NamedTuple):
    """Of b pictures and p prompts: each (b, p, H, W) float32."""

    probability: Tensor
    entropy: Tensor
    """Predictive, nats."""
    information: Tensor
    """Mutual, nats."""


def entropy(probability: Tensor) -> Tensor:
    """Of a yes-or-no question, nats; 0 at 0 and 1, ln 2 at a half."""
    p = probability.clamp(0, 1)
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))


def summary(samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean probability, predictive entropy and mutual information of sampled probabilities (n, ...)."""
    mean = samples.mean(0)
    total = entropy(mean)
    within = entropy(samples).mean(0)
    return mean, total, (total - within).clamp_min(0)


def minmax(values: Tensor) -> Tensor:
    """Each picture (..., h, w) scaled to 0..1, as the released code saves its uncertainty (``compat_minmax_entropy``).

    It throws the absolute meaning away: only for comparing pictures with theirs.
    """
    low, high = values.amin((-2, -1), keepdim=True), values.amax((-2, -1), keepdim=True)
    return (values - low) / (high - low + 1e-8)


def sample(
    model: MedClipSeg, images: Tensor, numbers: Tensor, count: int, seed: int, *, compat_extra_pass: bool = False
) -> Answer:
    """Ask for p prompts of each picture, ``count`` times.

    Args:
        images: (b, 3, h, w) normalised.
        numbers: (p, w) int64, the prompts.
        count: passes; 0 takes the means of the values instead of drawing them (no mutual information then).
        seed: the same seed, picture and prompts give the same answer, whatever was asked before.
        compat_extra_pass: draw one pass more and throw it away, as the released code does.
    """
    noise = torch.Generator(device=images.device).manual_seed(seed) if count else None
    seen = model.see(images)
    passes = max(count, 1)
    if compat_extra_pass:
        _pass(model, seen, numbers, 1, noise)
    samples = _pass(model, seen, numbers, passes, noise)
    return Answer(*summary(samples))


def calibrated(answer: Answer, temperature: float, size: int) -> Answer:
    """The answer at ``size`` by ``size``, its logits divided by a temperature set on development pictures.

    Entropy is that of the calibrated mean; mutual information stays that of the samples, but never above the entropy.
    """
    p = answer.probability
    if temperature != 1:
        p = torch.sigmoid(torch.logit(p, 1e-6) / temperature)
    wide = [
        torch.nn.functional.interpolate(plane, (size, size), mode="bilinear", align_corners=False)
        for plane in (p, answer.information)
    ]
    total = entropy(wide[0])
    return Answer(wide[0], total, torch.minimum(wide[1], total))


def _pass(model: MedClipSeg, seen: Seen, numbers: Tensor, passes: int, noise: torch.Generator | None) -> Tensor:
    """(passes, b, p, H, W) probabilities; prompts and passes are one batch, the pictures' stem is run once."""
    pictures, prompts = len(seen.tokens), len(numbers)
    batch = repeat(seen, prompts * passes)
    logits, _, _ = model(batch, numbers.repeat(pictures * passes, 1), noise)
    return logits.sigmoid().reshape(pictures, passes, prompts, *logits.shape[1:]).transpose(0, 1)
