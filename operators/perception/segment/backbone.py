"""Real CLIP-family towers through the classes of ``transformers``: a CLIP vision transformer beside BERT.

This is the default backbone of the published model, UniMedCLIP ViT-B/16 with quick GELU and BiomedBERT-base. Its
weights are not part of Vigil; ``checkpoint`` loads them where somebody has converted them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from operators.perception.segment.small import Seen


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of both towers. The defaults are the published ones; tests use the same classes, tiny."""

    width: int = 768
    text_width: int = 768
    joint: int = 512
    layers: int = 12
    heads: int = 12
    patch: int = 16
    image: int = 224
    vocabulary: int = 30_522
    words: int = 512


class ClipEncoder(nn.Module):
    """Both towers, block by block, so that adapters can stand before each pair of blocks."""

    has_class_token = True

    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel, CLIPVisionConfig, CLIPVisionModel

        shape = Shape() if shape is None else shape
        self.shape = shape
        self.width, self.text_width, self.joint, self.stages = shape.width, shape.text_width, shape.joint, shape.layers
        vision = CLIPVisionConfig(
            hidden_size=shape.width, intermediate_size=4 * shape.width, num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads, image_size=shape.image, patch_size=shape.patch, hidden_act="quick_gelu",
            projection_dim=shape.joint, attn_implementation="sdpa",
        )  # fmt: skip
        text = BertConfig(
            vocab_size=shape.vocabulary, hidden_size=shape.text_width, intermediate_size=4 * shape.text_width,
            num_hidden_layers=shape.layers, num_attention_heads=shape.heads, max_position_embeddings=shape.words,
            attn_implementation="sdpa",
        )  # fmt: skip
        self.vision: Any = CLIPVisionModel(vision)
        self.visual_projection = nn.Linear(shape.width, shape.joint, bias=False)
        self.text: Any = BertModel(text, add_pooling_layer=False)
        middle = (shape.text_width + shape.joint) // 2
        self.text_out = nn.Sequential(
            nn.Linear(shape.text_width, middle, bias=False), nn.GELU(), nn.Linear(middle, shape.joint, bias=False)
        )

    def see(self, images: Tensor) -> Seen:
        """Patch and class tokens before the first block, of normalised images (b, 3, image, image)."""
        tokens = self.vision.pre_layrnorm(self.vision.embeddings(images))
        rows, columns = (side // self.shape.patch for side in images.shape[-2:])
        return Seen(tokens, (rows, columns))

    def read(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Text tokens and their padding, of WordPiece numbers (p, w) int64 with 0 for padding."""
        return self.text.embeddings(input_ids=numbers), numbers == 0

    def step(self, stage: int, image: Tensor, text: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """One block of both towers; words never attend padding."""
        hidden = padding[:, None, None, :].to(text.dtype) * torch.finfo(text.dtype).min
        image = self.vision.encoder.layers[stage](image, attention_mask=None)
        return image, self.text.encoder.layer[stage](text, attention_mask=hidden)

    def project(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """All image tokens and the first word, in the joint space."""
        return self.visual_projection(self.vision.post_layernorm(image)), self.text_out(text[:, 0])
