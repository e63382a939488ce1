"""The losses of MedCLIPSeg: ``0.5 Dice + 0.5 cross-entropy + 0.1 soft contrastive``.

The released training calls MONAI's Dice on (b, h, w) without a channel axis, which makes each row of a picture a class
and leaves the first out (read from its code, not run). Here Dice is over the whole picture.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

DICE, ENTROPY, CONTRASTIVE = 0.5, 0.5, 0.1
TEMPERATURE = 0.2


def dice_loss(logits: Tensor, target: Tensor, smooth: float = 1e-5) -> Tensor:
    """1 - soft Dice, mean over pictures; logits (b, h, w), target the same shape in 0..1.

    A picture without the thing asked for costs nearly 1 whatever is answered. Published sets have none such; where
    there are some, put the pictures of one prompt side by side first.
    """
    probability = logits.sigmoid().flatten(1)
    truth = target.flatten(1).to(probability.dtype)
    both = (probability * truth).sum(1)
    return (1 - (2 * both + smooth) / (probability.sum(1) + truth.sum(1) + smooth)).mean()


def soft_targets(text: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """(b, b) rows that sum to 1, of texts (b, d) of unit length.

    Rows are brought to unit length before the softmax, as published, so they stay nearly even: at 24 texts no entry
    can exceed 0.106 where an even row has 0.042. This regularises; it does not match pairs.
    """
    likeness = text @ text.T / temperature
    return (likeness / likeness.norm(dim=-1, keepdim=True)).softmax(-1)


def contrastive_loss(patches: Tensor, text: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Symmetric cross-entropy of pictures (b, t, d: unit patches) and texts (b, d) with soft targets."""
    target = soft_targets(text.detach(), temperature)
    logits = patches.mean(1) @ text.T / temperature
    to_text = -(target * logits.log_softmax(-1)).sum(-1).mean()
    to_image = -(target.T * logits.T.log_softmax(-1)).sum(-1).mean()
    return (to_text + to_image) / 2


def total_loss(logits: Tensor, target: Tensor, patches: Tensor, text: Tensor, prompts: int = 0) -> Tensor:
    """The published sum. Logits are brought to the size of ``target``.

    ``prompts``: where pictures come in groups of so many, each asked for all prompts in turn, Dice is taken over all
    pictures of a prompt together; 0 takes it over each picture, as published.
    """
    if logits.shape[-2:] != target.shape[-2:]:
        logits = functional.interpolate(logits[:, None], target.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    truth = target.to(logits.dtype)
    if prompts:
        beside = [x.unflatten(0, (-1, prompts)).transpose(0, 1).flatten(1, 2) for x in (logits, truth)]
        overlap = dice_loss(*beside)
    else:
        overlap = dice_loss(logits, truth)
    return (
        DICE * overlap
        + ENTROPY * functional.binary_cross_entropy_with_logits(logits, truth)
        + CONTRASTIVE * contrastive_loss(patches, text)
    )
