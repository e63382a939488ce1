"""MedCLIPSeg (arXiv 2602.20423): two towers with adapters between them, and a head that compares patches with words.

The towers are behind one interface (``see``, ``read``, ``step``, ``project``): ``small.SmallEncoder`` is ours,
``backbone.ClipEncoder`` holds CLIP and BERT classes for the published weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from operators.perception.segment.adapter import BETA, Adapter
from operators.perception.segment.small import IMAGENET_DEVIATION, IMAGENET_MEAN, Seen, SmallEncoder


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (b, c, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ScaleBlock(nn.Module):
    """Twice the size: transposed convolution, GELU, depthwise 3x3, norm over channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(width, width, 2, 2)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm = ChannelNorm(width, eps=1e-6)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """(b, c, 2h, 2w) of (b, c, h, w); ``skip`` of the larger size is added before the depthwise convolution."""
        x = self.conv1(x)
        if skip is not None:
            x = x + skip
        return self.norm(self.conv2(self.act(x)))


class MedClipSeg(nn.Module):
    """Text-prompted segmentation.

    Args:
        encoder: the two towers.
        adapter_width: C of the adapters.
        stages: the blocks before which an adapter stands.
        cells: the head answers ``cells`` by ``cells`` logits for each of its pixels. The published head has 1; ours
            has 2, so that thin instruments survive.
        compat_pad_attention: let the image attend padding words, as the released weights were trained.
    """

    def __init__(
        self, encoder: Any, adapter_width: int = 256, stages: Sequence[int] = tuple(range(1, 11)), *,
        beta: float = BETA, gate: float = 0.0, cells: int = 1, compat_pad_attention: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.fusion, self.cells = encoder, tuple(stages), cells
        self.compat_pad_attention = compat_pad_attention
        joint = encoder.joint
        self.pvl_adapters = nn.ModuleList(
            [Adapter(encoder.width, encoder.text_width, adapter_width, beta, gate) for _ in self.fusion]
        )
        self.mask_head = nn.Sequential(
            nn.Linear(joint, joint), nn.GELU(), nn.Linear(joint, joint), nn.GELU(), nn.Linear(joint, cells**2 * joint)
        )
        self.upscale = nn.Sequential(ScaleBlock(joint), ScaleBlock(joint))

    def see(self, images: Tensor) -> Seen:
        """What does not depend on words, and is shared by prompts and samples; images (b, 3, h, w) normalised."""
        seen: Seen = self.encoder.see(images)
        return seen

    def forward(
        self, seen: Seen, numbers: Tensor, noise: torch.Generator | bool | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One pass of pictures, each with its own prompt.

        Args:
            seen: what ``see`` gave for b pictures.
            numbers: (b, w) int64, each picture's prompt as word numbers.
            noise: see ``ProbabilisticCrossAttention``.

        Returns:
            logits (b, H, W) at four times the grid (times ``cells``), patches (b, t, joint) and text (b, joint), both
            of unit length, for the contrastive loss.
        """
        image = seen.tokens
        text, padding = self.encoder.read(numbers)
        hidden = None if self.compat_pad_attention else padding
        for stage in range(self.encoder.stages):
            if stage in self.fusion:
                adapter = self.pvl_adapters[self.fusion.index(stage)]
                more_image, more_text = adapter(image, text, hidden, noise)
                image, text = image + more_image, text + more_text
            image, text = self.encoder.step(stage, image, text, padding)
        patches, whole = self.encoder.project(image, text)
        patches, whole = functional.normalize(patches, dim=-1), functional.normalize(whole, dim=-1)
        if self.encoder.has_class_token:
            patches = patches[:, 1:]
        return self._logits(patches, whole, seen), patches, whole

    def _logits(self, patches: Tensor, whole: Tensor, seen: Seen) -> Tensor:
        rows, columns = seen.grid
        x = patches.transpose(1, 2).reshape(patches.shape[0], -1, rows, columns)
        for number, block in enumerate(self.upscale):
            x = block(x, seen.skips[number] if seen.skips else None)
        queries = self.mask_head(whole).reshape(len(x), self.cells**2, -1)
        logits = torch.einsum("bqc,bchw->bqhw", queries, x)
        return functional.pixel_shuffle(logits, self.cells)[:, 0]

    def trainable(self) -> list[nn.Parameter]:
        """Adapters and head: what the published recipe trains while the towers stay frozen."""
        return [*self.pvl_adapters.parameters(), *self.mask_head.parameters(), *self.upscale.parameters()]


def repeat(seen: Seen, times: int) -> Seen:
    """Each picture ``times`` times in a row: one for each prompt or sample."""
    return Seen(
        seen.tokens.repeat_interleave(times, 0), seen.grid,
        tuple(skip.repeat_interleave(times, 0) for skip in seen.skips),
    )  # fmt: skip


def small() -> MedClipSeg:
    """Our own model, as its shipped weights have it."""
    return MedClipSeg(SmallEncoder(), adapter_width=32, stages=(0, 1), cells=2)


def normalise(images: Tensor) -> Tensor:
    """(b, 3, h, w) float32 as the towers want it, of (b, h, w, 3) uint8 RGB, in channels_last memory."""
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255
    deviation = torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1) * 255
    scaled = (images.permute(0, 3, 1, 2).float() - mean) / deviation
    return scaled.contiguous(memory_format=torch.channels_last)
