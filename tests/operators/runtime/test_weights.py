"""Weights are refused, never half loaded, where anything is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from operators.runtime import weights
from pipeline.errors import VigilError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    weights.save(path, torch.nn.Linear(3, 2).state_dict(), command="train", seed=0, data="made here", threshold="0.5")
    return path


def test_a_module_gets_back_what_was_saved_and_how_it_was_made(file: Path) -> None:
    torch.manual_seed(0)
    wanted, module = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    metadata = weights.into(module, file)
    assert torch.equal(module.weight, wanted.weight)
    assert not module.training
    assert metadata == {"command": "train", "seed": "0", "data": "made here", "threshold": "0.5"}
    assert len(weights.digest(file)) == 16


def test_a_module_that_they_do_not_fit_is_left_alone(file: Path) -> None:
    module = torch.nn.Linear(4, 2, bias=False)
    before = module.weight.clone()
    with pytest.raises(VigilError, match=r"does not fit Linear: unknown: bias; of another shape: weight"):
        weights.into(module, file)
    assert torch.equal(module.weight, before)


def test_a_file_that_does_not_say_how_it_was_made_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, str(tmp_path / "bare.safetensors"))
    with pytest.raises(VigilError, match="does not say its command, seed, data"):
        weights.load(tmp_path / "bare.safetensors")
    with pytest.raises(VigilError, match="no weights here"):
        weights.load(tmp_path / "none.safetensors")


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 200), junk=st.binary(max_size=40))
def test_broken_files_are_refused_with_their_name(file: Path, cut: int, junk: bytes) -> None:
    content = file.read_bytes()
    broken = file.with_name("broken.safetensors")
    broken.write_bytes(content[: min(cut, len(content) - 1)] + junk if junk else content[: min(cut, len(content) - 1)])
    with pytest.raises(VigilError, match=r"broken\.safetensors"):
        weights.load(broken)
