"""Loads weights: our own, and published checkpoints once ``convert`` has made safetensors of them.

Published layout (HealthX-Lab/MedCLIPSeg at 8d7ef36): ``{dataset}[_{percent}]/trained_models/seed666/
MedCLIPSeg_unimedclip_ViT-B-16_latest.pth``, a pickle of ``model``, ``epoch``, ``optimizer``, ``scheduler`` and a best
figure. ``model`` has open_clip's names for the vision tower and Hugging Face's for BERT. Only the UniMedCLIP layout is
mapped; those on CLIP, BiomedCLIP and PubMedCLIP are refused by name.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from operators.perception.segment import prompts
from operators.perception.segment.backbone import ClipEncoder, Shape
from operators.perception.segment.model import MedClipSeg, small
from operators.runtime import weights
from pipeline.errors import VigilError

IGNORED = (r"logit_scale", r"text_model\.transformer\.embeddings\.position_ids")
"""Published tensors that inference does not use."""
BLOCK = r"vision_model\.transformer\.resblocks\.(\d+)\."
RENAMED = (
    (r"vision_model\.conv1\.weight", r"encoder.vision.embeddings.patch_embedding.weight"),
    (r"vision_model\.class_embedding", r"encoder.vision.embeddings.class_embedding"),
    (r"vision_model\.positional_embedding", r"encoder.vision.embeddings.position_embedding.weight"),
    (r"vision_model\.ln_pre\.(weight|bias)", r"encoder.vision.pre_layrnorm.\1"),
    (r"vision_model\.ln_post\.(weight|bias)", r"encoder.vision.post_layernorm.\1"),
    (BLOCK + r"ln_([12])\.(weight|bias)", r"encoder.vision.encoder.layers.\1.layer_norm\2.\3"),
    (BLOCK + r"attn\.out_proj\.(weight|bias)", r"encoder.vision.encoder.layers.\1.self_attn.out_proj.\2"),
    (BLOCK + r"mlp\.c_fc\.(weight|bias)", r"encoder.vision.encoder.layers.\1.mlp.fc1.\2"),
    (BLOCK + r"mlp\.c_proj\.(weight|bias)", r"encoder.vision.encoder.layers.\1.mlp.fc2.\2"),
    (r"text_model\.transformer\.(.+)", r"encoder.text.\1"),
    (r"text_model\.proj\.([02])\.weight", r"encoder.text_out.\1.weight"),
    (r"((?:mask_head|upscale|pvl_adapters)\..+)", r"\1"),
)
"""Whole published names to ours."""


class Mapping(NamedTuple):
    """What became of a published checkpoint's tensors."""

    tensors: dict[str, Tensor]
    """Under our names."""
    ignored: list[str]
    """Published names that are known and not needed."""
    unknown: list[str]
    """Published names that nothing is known about."""


def translate(published: dict[str, Tensor]) -> Mapping:
    """Our names for published tensors; the vision tower's packed query, key and value become three."""
    found: dict[str, Tensor] = {}
    ignored, unknown = [], []
    for name, tensor in published.items():
        packed = re.fullmatch(BLOCK + r"attn\.in_proj_(weight|bias)", name)
        if packed:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                key = f"encoder.vision.encoder.layers.{packed[1]}.self_attn.{part}_proj.{packed[2]}"
                found[key] = piece.clone()
        elif name == "vision_model.proj":
            found["encoder.visual_projection.weight"] = tensor.T.contiguous()
        elif any(re.fullmatch(pattern, name) for pattern in IGNORED):
            ignored.append(name)
        else:
            ours = next((re.sub(p, to, name) for p, to in RENAMED if re.fullmatch(p, name)), None)
            if ours is None:
                unknown.append(name)
            else:
                found[ours] = tensor
    return Mapping(found, ignored, unknown)


def faults(model: torch.nn.Module, mapping: Mapping) -> list[str]:
    """What keeps a checkpoint from fitting, each kind with its count and the first names; empty where it fits."""
    wanted = model.state_dict()
    missing = sorted(wanted.keys() - mapping.tensors.keys())
    extra = sorted(mapping.unknown) + sorted(mapping.tensors.keys() - wanted.keys())
    shapes = sorted(
        name for name in wanted.keys() & mapping.tensors.keys() if wanted[name].shape != mapping.tensors[name].shape
    )
    kinds = (("missing", missing), ("unknown", extra), ("of another shape", shapes))
    return [f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for kind, names in kinds if names]  # fmt: skip


def shape_of(tensors: dict[str, Tensor]) -> tuple[Shape, int, tuple[int, ...]]:
    """Sizes of the towers, width of the adapters and their stages, read off translated tensors.

    Heads are 64 wide, as in every CLIP and BERT; published adapters stand before all blocks but the first and last.

    Raises:
        VigilError: where the tensors that say so are missing.
    """
    try:
        patch = tensors["encoder.vision.embeddings.patch_embedding.weight"]
        positions = tensors["encoder.vision.embeddings.position_embedding.weight"]
        words = tensors["encoder.text.embeddings.word_embeddings.weight"]
        order = tensors["encoder.text.embeddings.position_embeddings.weight"]
        down = tensors["pvl_adapters.0.proj_txt_down.weight"]
        joint = tensors["mask_head.0.weight"].shape[0]
    except KeyError as error:
        raise VigilError(f"is not a UniMedCLIP checkpoint of MedCLIPSeg: {error.args[0]} is missing") from None
    layers = len({n.split(".")[4] for n in tensors if n.startswith("encoder.vision.encoder.layers.")})
    adapters = len({n.split(".")[1] for n in tensors if n.startswith("pvl_adapters.")})
    grid = round((positions.shape[0] - 1) ** 0.5)
    shape = Shape(
        patch.shape[0], words.shape[1], joint, layers, max(1, patch.shape[0] // 64), patch.shape[2],
        grid * patch.shape[2], words.shape[0], order.shape[0],
    )  # fmt: skip
    return shape, down.shape[0], tuple(range(1, adapters + 1))


def published(tensors: dict[str, Tensor]) -> MedClipSeg:
    """An empty model of a translated checkpoint's shape, with the released behaviour on padding."""
    shape, width, stages = shape_of(tensors)
    return MedClipSeg(ClipEncoder(shape), width, stages, compat_pad_attention=True)


class Opened(NamedTuple):
    """A model ready to run."""

    model: MedClipSeg
    numbers: Tensor
    """(3, w) int64: the pinned prompts as word numbers."""
    metadata: dict[str, str]


def open_model(path: Path) -> Opened:
    """Load a file of either layout; what it is made for is in its metadata.

    Raises:
        VigilError: where the file does not fit, or was made for other prompts than the pinned ones.
    """
    tensors, metadata = weights.load(path)
    if metadata.get("prompts") != prompts.digest():
        raise VigilError(
            f"was made for other prompts ({metadata.get('prompts', 'it does not say which')})", where=str(path),
            mend=f"the pinned ones are {prompts.digest()}",
        )  # fmt: skip
    layout = metadata.get("layout", "")
    if layout not in ("small", "unimedclip"):
        raise VigilError(f"has an unknown layout {layout!r}", where=str(path))
    if layout == "small":
        model = small()
        numbers = torch.tensor([prompts.tokens(text) for text in prompts.PROMPTS.values()])
    else:
        model = published(tensors)
        numbers = torch.tensor(json.loads(metadata["tokens"]))
    wrong = faults(model, Mapping(tensors, [], []))
    if wrong:
        raise VigilError(f"does not fit: {'; '.join(wrong)}", where=str(path))
    model.load_state_dict(tensors)
    return Opened(model.eval().to(memory_format=torch.channels_last), numbers, metadata)
