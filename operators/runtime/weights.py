"""Weights on disk: safetensors only, each file carrying the command, seed and data that made it.

Never a pickle: a file from elsewhere can at worst be refused.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import VigilError
from pipeline.message import Array

if TYPE_CHECKING:
    import torch

PROVENANCE = ("command", "seed", "data")
"""What every file must say of itself."""


def save(path: Path, tensors: dict[str, torch.Tensor], *, command: str, seed: int, data: str, **more: str) -> None:
    """Write tensors with their provenance.

    Args:
        path: a ``.safetensors`` file; replaced where it exists.
        tensors: name to tensor, as ``state_dict`` gives them.
        command: the command that makes this file again.
        seed: the seed that command uses.
        data: what it was made from, in words.
        more: anything else worth keeping, such as thresholds frozen with the weights.
    """
    from safetensors.torch import save_file

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, str(path), metadata={"command": command, "seed": str(seed), "data": data, **more})


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a file.

    Raises:
        VigilError: where the file is missing, cut off, not safetensors, or does not say how it was made.
    """
    return _read(path, "pt")


def arrays(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """``load`` as numpy arrays, for models of a few numbers that need no torch."""
    return _read(path, "numpy")


def _read(path: Path, framework: str) -> tuple[dict[str, Any], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise VigilError("there are no weights here", where=str(path))
    try:
        with safe_open(str(path), framework=framework) as file:  # type: ignore[no-untyped-call]
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise VigilError(f"is not a safetensors file: {error}", where=str(path)) from None
    missing = [name for name in PROVENANCE if not metadata.get(name)]
    if missing:
        raise VigilError(f"does not say its {', '.join(missing)}", where=str(path), mend="write it with weights.save")
    return tensors, metadata


def into(module: torch.nn.Module, path: Path) -> dict[str, str]:
    """Load a file into a module, in evaluation mode; gives the file's metadata.

    Raises:
        VigilError: as ``load``, and where names or shapes differ; the message names the first few.
    """
    tensors, metadata = load(path)
    wanted: dict[str, Any] = module.state_dict()
    missing, unknown = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    shapes = [name for name in wanted.keys() & tensors.keys() if wanted[name].shape != tensors[name].shape]
    faults = [f"{what}: {', '.join(names[:3])}" for what, names in
              (("missing", missing), ("unknown", unknown), ("of another shape", sorted(shapes))) if names]  # fmt: skip
    if faults:
        raise VigilError(f"does not fit {type(module).__name__}: {'; '.join(faults)}", where=str(path))
    module.load_state_dict(tensors)
    module.eval()
    return metadata


def digest(path: Path) -> str:
    """First 16 digits of the file's SHA-256: what an alert's rule names a model by."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
