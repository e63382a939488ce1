"""Makes the guard's classifier: ``python -m operators.video.privacy.train``, about two minutes on one core.

Frames, labels and the fit are those of ``operators.perception.view``; the question is another: the inside of the body
against outside and trocar. A covered lens counts for neither. Penalty, share of simulated frames and limit were chosen
once, by leave-one-operation-out over the 8 operations with 4 theatre seeds, and then frozen.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from operators.perception.view import train as view_train
from operators.perception.view.data import TRAIN_SEEDS, Sample
from operators.perception.view.features import NAMES
from operators.perception.view.fit import Options, head
from operators.perception.view.model import Model
from operators.perception.view.view import CLASSES, no_picture
from operators.recordings import shared_data
from operators.video.privacy.model import WEIGHTS, InBody

OPTIONS = Options(penalty=0.03, theatre=0.3)
"""The strongest penalty of the view's grid; simulated frames together weigh a third of the real ones."""
LIMIT = 0.75
"""Probability of the inside from which a frame counts as inside; 0.5 in the evidence that comes out."""


def label(sample: Sample) -> int:
    """0 inside, 1 to be blanked, -1 for neither: a covered lens, an unknown view, or no picture at all."""
    if sample.view < 0 or CLASSES[sample.view] == "obstructed" or no_picture(sample.measured) is not None:
        return -1
    return int(CLASSES[sample.view] != "in_body")


def fit(samples: Sequence[Sample], options: Options = OPTIONS) -> InBody:
    """A classifier of labelled frames. Deterministic: the problem is convex and nothing in it is drawn."""
    measured = np.stack([one.measured for one in samples])
    mean, scale = measured.mean(axis=0), np.maximum(measured.std(axis=0), 1e-3)
    empty = np.zeros((1, len(NAMES) + 1))
    two = head(Model(mean, scale, empty, empty), samples, [label(one) for one in samples], 2, options)
    weight = two[0] - two[1]
    weight[-1] -= math.log(LIMIT / (1 - LIMIT))
    return InBody(mean, scale, weight)


def leave_one_out(
    real: Sequence[Sample], theatre: Sequence[Sample], options: Options = OPTIONS
) -> list[tuple[Sample, float]]:
    """Every unaltered real frame with the evidence of a classifier that never saw its operation; 0 without picture."""
    answers = []
    for operation in sorted({one.group for one in real}):
        model = fit([*(one for one in real if one.group != operation), *theatre], options)
        for one in real:
            if one.group == operation and one.kind == "real" and one.view >= 0:
                blank = no_picture(one.measured) is not None
                answers.append((one, 0.0 if blank else model.judge(one.measured)))
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go")
    arguments = parser.parse_args()
    folder = shared_data()
    if folder is None:
        raise SystemExit("the real recordings are not here: set VIGIL_DATA to their folder")
    import torch

    from operators.runtime import weights

    torch.set_num_threads(1)
    real, theatre = view_train.samples(folder)
    judged = [(CLASSES[one.view], value) for one, value in leave_one_out(real, theatre)]
    counts = {
        name: [sum(value >= 0.5 for view, value in judged if view == name), sum(view == name for view, _ in judged)]
        for name in CLASSES
    }
    weights.save(
        arguments.out, fit([*real, *theatre]).tensors(), command="python -m operators.video.privacy.train", seed=0,
        data=f"laparoscopy_intermountain (8 operations, 159 frames); theatre seeds {TRAIN_SEEDS}",
        measures=" ".join(NAMES), limit=str(LIMIT), shown_when_held_out=json.dumps(counts),
    )  # fmt: skip
    print(json.dumps({"taken for the inside, of all, operation held out": counts}, indent=1))


if __name__ == "__main__":
    main()
