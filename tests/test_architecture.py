"""The laws of the house that a machine can check."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "kernels": set(),
    "pipeline": set(),
    "operators": {"pipeline", "kernels"},
    "topologies": {"operators", "pipeline", "kernels"},
}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, node.lineno


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_imports_point_one_way(package: str) -> None:
    ours = set(MAY_IMPORT)
    for path in (ROOT / package).rglob("*.py"):
        for name, line in imports(path):
            top = name.partition(".")[0]
            allowed = MAY_IMPORT[package] | {package}
            assert top not in ours or top in allowed, f"{path.relative_to(ROOT)}:{line} imports {name}"


def test_nothing_is_unpickled_but_what_our_own_child_processes_say() -> None:
    for package in MAY_IMPORT:
        for path in (ROOT / package).rglob("*.py"):
            if path.name in ("sharedmemory.py", "placement.py"):
                continue
            names = {name for name, _ in imports(path)}
            assert not names & {"pickle", "dill", "cloudpickle", "joblib"}, path.relative_to(ROOT)


def test_our_kernels_and_the_library_of_that_name_do_not_disturb_each_other() -> None:
    """``transformers`` optionally imports a package named ``kernels``, which is also the name of one of ours."""
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed (extra: vlm)")
    program = """
import kernels, torch
assert "huggingface" not in (kernels.__doc__ or "").lower()
from transformers import BertConfig, BertModel
torch.manual_seed(0)
config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
model = BertModel(config).eval()
with torch.no_grad():
    out = model(torch.arange(6)[None]).last_hidden_state
assert out.shape == (1, 6, 16) and bool(out.isfinite().all())
from transformers.utils import import_utils
again = __import__("kernels")
assert again is kernels, "ours is still the one that is imported"
print("fine")
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True,
                          timeout=150, check=False)  # fmt: skip
    assert done.stdout.strip() == "fine", done.stderr[-2000:]
