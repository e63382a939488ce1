"""A checkpoint of the published layout is mapped name by name; what does not fit is counted and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from operators.perception.segment import prompts
from operators.perception.segment.backbone import ClipEncoder, Shape
from operators.perception.segment.checkpoint import faults, open_model, published, translate
from operators.perception.segment.convert import convert, pieces
from operators.perception.segment.model import MedClipSeg, normalise
from operators.perception.segment.uncertainty import sample
from operators.runtime import weights
from pipeline.errors import VigilError

TINY = Shape(width=64, text_width=64, joint=16, layers=4, heads=1, patch=8, image=32, vocabulary=64, words=256)
WIDTH, STAGES = 24, (1, 2)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "blood", "smoke", "tissue", ".", "lap", "##aros", "##copic"]


def released(seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors with the released names and shapes, as trainers/medclipseg_unimedclip.py makes them, tiny."""
    random = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}

    def put(name: str, *shape: int) -> None:
        state[name] = 0.05 * torch.randn(shape, generator=random)

    def norm(name: str, width: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.ones(width), torch.zeros(width)

    width, joint = TINY.width, TINY.joint
    put("logit_scale")
    put("vision_model.class_embedding", width)
    put("vision_model.positional_embedding", 17, width)
    put("vision_model.conv1.weight", width, 3, 8, 8)
    put("vision_model.proj", width, joint)
    norm("vision_model.ln_pre", width)
    norm("vision_model.ln_post", width)
    for layer in range(TINY.layers):
        block = f"vision_model.transformer.resblocks.{layer}"
        norm(f"{block}.ln_1", width)
        norm(f"{block}.ln_2", width)
        put(f"{block}.attn.in_proj_weight", 3 * width, width)
        put(f"{block}.attn.in_proj_bias", 3 * width)
        put(f"{block}.attn.out_proj.weight", width, width)
        put(f"{block}.attn.out_proj.bias", width)
        put(f"{block}.mlp.c_fc.weight", 4 * width, width)
        put(f"{block}.mlp.c_fc.bias", 4 * width)
        put(f"{block}.mlp.c_proj.weight", width, 4 * width)
        put(f"{block}.mlp.c_proj.bias", width)
        text = f"text_model.transformer.encoder.layer.{layer}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            put(f"{text}.{part}.weight", width, width)
            put(f"{text}.{part}.bias", width)
        norm(f"{text}.attention.output.LayerNorm", width)
        put(f"{text}.intermediate.dense.weight", 4 * width, width)
        put(f"{text}.intermediate.dense.bias", 4 * width)
        put(f"{text}.output.dense.weight", width, 4 * width)
        put(f"{text}.output.dense.bias", width)
        norm(f"{text}.output.LayerNorm", width)
    put("text_model.transformer.embeddings.word_embeddings.weight", TINY.vocabulary, width)
    put("text_model.transformer.embeddings.position_embeddings.weight", TINY.words, width)
    put("text_model.transformer.embeddings.token_type_embeddings.weight", 2, width)
    norm("text_model.transformer.embeddings.LayerNorm", width)
    put("text_model.proj.0.weight", (width + joint) // 2, width)
    put("text_model.proj.2.weight", joint, (width + joint) // 2)
    for layer in (0, 2, 4):
        put(f"mask_head.{layer}.weight", joint, joint)
        put(f"mask_head.{layer}.bias", joint)
    for block in (0, 1):
        put(f"upscale.{block}.conv1.weight", joint, joint, 2, 2)
        put(f"upscale.{block}.conv1.bias", joint)
        put(f"upscale.{block}.conv2.weight", joint, 1, 3, 3)
        norm(f"upscale.{block}.norm", joint)
    for number in range(len(STAGES)):
        adapter = f"pvl_adapters.{number}"
        put(f"{adapter}.proj_vis_down.0.weight", WIDTH, width)
        put(f"{adapter}.proj_txt_down.weight", WIDTH, width)
        put(f"{adapter}.proj_vis_up.weight", width, WIDTH)
        put(f"{adapter}.proj_txt_up.weight", width, WIDTH)
        for way in ("cross_attn_img_to_txt", "cross_attn_txt_to_img"):
            for part, times in (("q_proj", 1), ("k_proj", 2), ("v_proj", 2), ("out_proj", 1)):
                put(f"{adapter}.two_way.{way}.{part}.weight", times * WIDTH, WIDTH)
                put(f"{adapter}.two_way.{way}.{part}.bias", times * WIDTH)
            norm(f"{adapter}.two_way.{way}.norm_k", WIDTH)
            norm(f"{adapter}.two_way.{way}.norm_v", WIDTH)
            put(f"{adapter}.two_way.{way}.gate")
    return state


@pytest.fixture
def vocab(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS))
    return path


def written(path: Path, state: dict[str, Any]) -> Path:
    torch.save({"model": state, "epoch": 100, "optimizer": {}, "scheduler": {}, "best_loss": 0.1}, path)
    return path


def test_every_released_tensor_has_its_place_and_no_place_is_left_empty() -> None:
    mapping = translate(released())
    assert mapping.ignored == ["logit_scale"]
    assert mapping.unknown == []
    assert faults(published(mapping.tensors), mapping) == []


def test_the_vision_tower_computes_what_the_packed_tensors_say() -> None:
    state = released()
    mapping = translate(state)
    model = published(mapping.tensors)
    model.load_state_dict(mapping.tensors)
    x = torch.randn(1, 17, 64, generator=torch.Generator().manual_seed(2))
    ours = model.encoder.vision.encoder.layers[0](x, attention_mask=None)
    block = "vision_model.transformer.resblocks.0"
    attention = torch.nn.MultiheadAttention(64, 1, batch_first=True)
    attention.load_state_dict({
        name: state[f"{block}.attn.{name}"]
        for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    })  # fmt: skip

    def linear(h: torch.Tensor, name: str) -> torch.Tensor:
        return torch.nn.functional.linear(h, state[f"{block}.{name}.weight"], state[f"{block}.{name}.bias"])

    h = torch.nn.functional.layer_norm(x, (64,))
    theirs = x + attention(h, h, h)[0]
    h = linear(torch.nn.functional.layer_norm(theirs, (64,)), "mlp.c_fc")
    theirs = theirs + linear(h * torch.sigmoid(1.702 * h), "mlp.c_proj")
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_converted_checkpoint_answers_the_pinned_prompts(tmp_path: Path, vocab: Path) -> None:
    said = convert(written(tmp_path / "in.pth", released()), tmp_path / "out.safetensors", vocab)
    assert "0 unknown" in said
    opened = open_model(tmp_path / "out.safetensors")
    assert opened.numbers.shape == (3, 256)
    assert opened.metadata["dtypes"] == "float32"
    assert len(opened.metadata["source_sha256"]) == 64
    assert opened.model.compat_pad_attention
    with torch.inference_mode():
        images = normalise(torch.zeros(1, 32, 32, 3, dtype=torch.uint8))
        answer = sample(opened.model, images, opened.numbers, 2, 0)
    assert answer.probability.shape == (1, 3, 16, 16)
    assert torch.isfinite(answer.probability).all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("vision_model.conv1.weight"), "patch_embedding.weight is missing"),
        (lambda s: s.pop("upscale.1.norm.bias"), r"1 missing \(upscale.1.norm.bias\)"),
        (lambda s: s.update({"text_model.extra": torch.zeros(1)}), r"1 unknown \(text_model.extra\)"),
        (lambda s: s.update({"mask_head.2.bias": torch.zeros(3)}), r"1 of another shape \(mask_head.2.bias\)"),
    ],
)
def test_what_does_not_fit_is_counted_and_named(change: Any, named: str, tmp_path: Path, vocab: Path) -> None:
    state = released()
    change(state)
    with pytest.raises(VigilError, match=named):
        convert(written(tmp_path / "in.pth", state), tmp_path / "out.safetensors", vocab)
    assert not (tmp_path / "out.safetensors").exists()


class Trap:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/vigil-trap"),))


def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path: Path, vocab: Path) -> None:
    torch.save({"model": Trap()}, tmp_path / "in.pth")
    with pytest.raises(VigilError, match="tensors only"):
        convert(tmp_path / "in.pth", tmp_path / "out.safetensors", vocab)
    assert not Path("/tmp/vigil-trap").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_files_that_are_no_checkpoints_are_refused(content: bytes, tmp_path: Path, vocab: Path) -> None:
    (tmp_path / "in.pth").write_bytes(content)
    with pytest.raises(VigilError):
        convert(tmp_path / "in.pth", tmp_path / "out.safetensors", vocab)


def test_weights_for_other_prompts_or_of_another_layout_are_refused(tmp_path: Path) -> None:
    for more in ({"prompts": "0123", "layout": "small"}, {"prompts": prompts.digest(), "layout": "biomedclip"}):
        weights.save(tmp_path / "w.safetensors", {"x": torch.zeros(1)}, command="c", seed=0, data="d", **more)
        with pytest.raises(VigilError, match=r"other prompts|unknown layout"):
            open_model(tmp_path / "w.safetensors")


def test_wordpieces_are_berts() -> None:
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    assert pieces("A laparoscopic smoke. xyz", vocabulary, 12) == [2, 4, 9, 10, 11, 6, 8, 1, 3, 0, 0, 0]
    assert pieces("blood " * 20, vocabulary, 6) == [2, 5, 5, 5, 5, 3]


def test_padding_is_seen_in_compat_mode_only() -> None:
    torch.manual_seed(0)
    encoder = ClipEncoder(TINY)
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    short = torch.tensor([[2, 4, 5, 3]])
    padded = torch.cat([short, torch.zeros(1, 6, dtype=torch.long)], 1)
    for compat in (False, True):
        torch.manual_seed(1)
        model = MedClipSeg(encoder, WIDTH, STAGES, compat_pad_attention=compat).eval()
        with torch.inference_mode():
            one, two = (model(model.see(images), numbers)[0] for numbers in (short, padded))
        assert torch.allclose(one, two, atol=1e-5) != compat


def test_only_adapters_and_head_are_trained_by_the_published_recipe() -> None:
    model = MedClipSeg(ClipEncoder(TINY), WIDTH, STAGES)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in model.trainable():
        parameter.requires_grad_(True)
    images, numbers = torch.randn(2, 3, 32, 32), torch.tensor([[2, 4, 3], [2, 5, 3]])
    logits, _, _ = model(model.see(images), numbers, True)
    logits.square().mean().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert trained
    assert not any(name.startswith("encoder.") for name in trained)
    assert any(name.startswith("pvl_adapters.0.") for name in trained)


def test_the_pinned_prompts_have_not_changed() -> None:
    assert list(prompts.PROMPTS) == list(prompts.CLASSES[1:])
    assert prompts.digest() == "6b28b1871dc7b5b6"
    assert prompts.digest({"instrument": "a tool"}) != prompts.digest()
    numbers = [prompts.tokens(text) for text in prompts.PROMPTS.values()]
    assert json.dumps(numbers) == json.dumps([prompts.tokens(text) for text in prompts.PROMPTS.values()])
    assert all(len(row) == prompts.WORDS and row[0] > 0 for row in numbers)
    assert prompts.tokens("") == [0] * prompts.WORDS
