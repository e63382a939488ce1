"""Makes safetensors of a published checkpoint: ``python -m operators.perception.segment.convert IN.pth OUT --vocab V``.

A step of its own, to be run where nothing can be lost: the input is a pickle. Only tensors and plain values are
unpickled (``weights_only``); a file that wants more is refused. ``vocab.txt`` is BiomedBERT's, which turns the pinned
prompts into numbers once and for all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from pathlib import Path

import torch

from operators.perception.segment import prompts
from operators.perception.segment.checkpoint import faults, published, translate
from operators.runtime import weights
from pipeline.errors import VigilError

LENGTH = 256
"""Tokens that the published model pads its texts to."""


def pieces(text: str, vocabulary: dict[str, int], length: int = LENGTH) -> list[int]:
    """WordPiece numbers of a text, lower case, between [CLS] and [SEP], padded with 0 (BERT's uncased tokeniser)."""
    numbers = [vocabulary["[CLS]"]]
    for word in re.findall(r"\w+|[^\w\s]", text.lower()):
        start, found = 0, []
        while start < len(word):
            stop = next((stop for stop in range(len(word), start, -1)
                         if ("##" if start else "") + word[start:stop] in vocabulary), None)  # fmt: skip
            if stop is None:
                found = [vocabulary["[UNK]"]]
                break
            found.append(vocabulary[("##" if start else "") + word[start:stop]])
            start = stop
        numbers += found
    numbers = [*numbers[: length - 1], vocabulary["[SEP]"]]
    return numbers + [vocabulary["[PAD]"]] * (length - len(numbers))


def convert(source: Path, target: Path, vocab: Path) -> str:
    """Write ``target`` and say what was found.

    Raises:
        VigilError: where the file is not a checkpoint of the published layout, or any tensor is missing or unknown.
    """
    try:
        document = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # its kinds are many, and one of them is in a module that nothing here may import
        raise VigilError(f"cannot be read as tensors only: {error}", where=str(source)) from None
    state = document.get("model") if isinstance(document, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise VigilError("has no `model` of tensors in it", where=str(source))
    mapping = translate(state)
    wrong = faults(published(mapping.tensors), mapping)
    if wrong:
        raise VigilError(f"does not fit: {'; '.join(wrong)}", where=str(source))
    vocabulary = {line: number for number, line in enumerate(vocab.read_text(encoding="utf-8").splitlines())}
    try:
        numbers = [pieces(text, vocabulary) for text in prompts.PROMPTS.values()]
    except KeyError as error:
        raise VigilError(f"is not a BERT vocabulary: {error.args[0]} is missing", where=str(vocab)) from None
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in mapping.tensors.values()})
    weights.save(
        target, {name: tensor.float() if tensor.is_floating_point() else tensor
                 for name, tensor in mapping.tensors.items()},
        command="python -m operators.perception.segment.convert", seed=0, data=f"published checkpoint {source.name}",
        source_sha256=digest, dtypes=" ".join(kinds), layout="unimedclip", prompts=prompts.digest(),
        tokens=json.dumps(numbers),
    )  # fmt: skip
    return f"{len(state)} tensors: {len(mapping.tensors)} written, {len(mapping.ignored)} not needed, 0 unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--vocab", type=Path, required=True)
    arguments = parser.parse_args()
    print(convert(arguments.source, arguments.target, arguments.vocab))


if __name__ == "__main__":
    main()
