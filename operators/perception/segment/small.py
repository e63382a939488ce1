"""Our own towers: a small convolutional and attentive image encoder, and a small text encoder of hashed words.

The stem is run once a picture; only what follows the first adapter is repeated for each prompt and sample.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from operators.perception.segment.prompts import VOCABULARY, WORDS

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
"""Of RGB in 0..1: how published and own weights want their pictures."""


class Seen(NamedTuple):
    """What an encoder makes of pictures before any words: tokens, their grid, and finer features for the head."""

    tokens: Tensor
    """(b, t, width)."""
    grid: tuple[int, int]
    """Rows and columns of patches."""
    skips: tuple[Tensor, ...] = ()
    """(b, c, h, w) at twice, then at four times the grid; empty where there are none."""


class Conv(nn.Sequential):
    """3x3 convolution, batch norm, ReLU: the cheapest there is on a CPU, and norms fold away at inference."""

    def __init__(self, before: int, after: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(before, after, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)
        )


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, ratio: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """(b, t, width); ``padding`` (b, t) bool is True on tokens not to be attended."""
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        keep = None if padding is None else ~padding[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=keep)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp(self.norm2(x))


class SmallEncoder(nn.Module):
    """Both towers. ``joint`` is the width of the space in which patches meet words.

    Pictures may have any size whose sides are multiples of 16: the grid is a sixteenth of it.
    """

    has_class_token = False

    def __init__(self, width: int = 64, text_width: int = 32, joint: int = 32, stages: int = 2) -> None:
        super().__init__()
        self.width, self.text_width, self.joint, self.stages = width, text_width, joint, stages
        self.stem2 = Conv(3, 16, 2)
        self.stem4 = nn.Sequential(Conv(16, 32, 2), Conv(32, 32))
        self.stem8 = nn.Sequential(Conv(32, 48, 2), Conv(48, 48))
        self.stem16 = nn.Sequential(Conv(48, width, 2), Conv(width, width))
        self.skip8 = nn.Conv2d(48, joint, 1)
        self.skip4 = nn.Conv2d(32 + 4 * 16, joint, 1)
        self.words = nn.Embedding(VOCABULARY, text_width, padding_idx=0)
        self.order = nn.Parameter(0.02 * torch.randn(WORDS, text_width))
        self.image_blocks = nn.ModuleList([Block(width, 2) for _ in range(stages)])
        self.text_blocks = nn.ModuleList([Block(text_width, 2) for _ in range(stages)])
        self.image_out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, joint))
        self.text_out = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, joint))

    def see(self, images: Tensor) -> Seen:
        """The part that needs no words, of normalised images (b, 3, h, w)."""
        half = self.stem2(images)
        quarter = self.stem4(half)
        eighth = self.stem8(quarter)
        last = self.stem16(eighth)
        # What the half-size features know goes into the quarter-size ones, four pixels to one.
        fine = self.skip4(torch.cat([quarter, functional.pixel_unshuffle(half, 2)], 1))
        return Seen(last.flatten(2).transpose(1, 2), (last.shape[2], last.shape[3]), (self.skip8(eighth), fine))

    def read(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Text tokens (p, w, text_width) and their padding (p, w) bool, of word numbers (p, w) int64."""
        return self.words(numbers) + self.order[: numbers.shape[1]], numbers == 0

    def step(self, stage: int, image: Tensor, text: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """One block of both towers."""
        return self.image_blocks[stage](image), self.text_blocks[stage](text, padding)

    def project(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (b, t, joint) and the text as a whole (b, joint): its first word, as the published model has it."""
        return self.image_out(image), self.text_out(text[:, 0])
