"""Makes the view model: ``python -m operators.perception.view.train``, about three minutes on one core.

The shipped weights are made of all 8 real operations and the theatre, with the options that the 8 choose by
leave-one-operation-out. The figures of ``evaluate`` go into their metadata and, as JSON, to standard output.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from operators.perception.view import data
from operators.perception.view.data import Sample
from operators.perception.view.evaluate import choose, leave_one_out, report
from operators.perception.view.features import NAMES
from operators.perception.view.fit import fit
from operators.perception.view.model import WEIGHTS
from operators.recordings import shared_data

COPIES = 4
"""Altered copies of each real frame in training."""


def samples(folder: Path, copies: int = COPIES) -> tuple[list[Sample], list[Sample]]:
    """All that the model is made of: real frames with what is composed from them, and simulated ones."""
    theatre = [one for seed in data.TRAIN_SEEDS for one in data.theatre(seed, altered=True)]
    return data.real(folder, copies), theatre


def make(real: Sequence[Sample], theatre: Sequence[Sample], out: Path) -> dict[str, object]:
    """Judge, fit on everything, write the weights; gives the figures."""
    from operators.runtime import weights

    found = report(leave_one_out(real, theatre))
    options = choose(real, theatre)
    weights.save(
        out, fit([*real, *theatre], options).tensors(), command="python -m operators.perception.view.train", seed=0,
        data=f"laparoscopy_intermountain (8 operations, 159 frames); theatre seeds {data.TRAIN_SEEDS}",
        measures=" ".join(NAMES), options=json.dumps(dataclasses.asdict(options)), leave_one_out=json.dumps(found),
    )  # fmt: skip
    return {**found, "options": dataclasses.asdict(options)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go")
    arguments = parser.parse_args()
    folder = shared_data()
    if folder is None:
        raise SystemExit("the real recordings are not here: set VIGIL_DATA to their folder")
    import torch

    torch.set_num_threads(1)
    print(json.dumps(make(*samples(folder), arguments.out), indent=1))


if __name__ == "__main__":
    main()
