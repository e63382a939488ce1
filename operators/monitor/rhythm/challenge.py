"""The PhysioNet/CinC Challenge 2015: its score, a loader for its public records, and cross-validation by patient.

The 750 public records (https://physionet.org/content/challenge-2015, ODC-BY) are not part of this project. Whoever has
them runs::

    python -m operators.monitor.rhythm.challenge FOLDER

Figures on other splits, and on the public set, are not comparable with the challenge's hidden-test table (Plesinger
81.39, Kalidas 79.44, Couto 79.02 in real time).
"""

from __future__ import annotations

import csv
import dataclasses
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from operators.monitor.quality.channel import role_of
from operators.monitor.rhythm.adjudicate import Verdict, adjudicate
from operators.monitor.rhythm.definitions import Kind
from operators.monitor.rhythm.records import Record, Signal
from operators.monitor.rhythm.trace import Trace
from operators.monitor.tracks import WaveformTrack
from operators.monitor.waveform_database import WfdbReader
from pipeline.errors import RecordingError, VigilError
from pipeline.message import NANOSECONDS, Waveform

ALARM = 300.0
"""Seconds after a record's start at which the challenge has its alarm."""
LABELS: dict[str, Kind] = {
    "asystole": "asystole",
    "bradycardia": "extreme_bradycardia",
    "tachycardia": "extreme_tachycardia",
    "ventricular_tachycardia": "ventricular_tachycardia",
    "ventricular_flutter_fib": "ventricular_fibrillation",
}
"""First comment of a header, in small letters, to the alarm."""
VERDICTS = {"true alarm": True, "false alarm": False}
PATIENTS = "patients.csv"
"""Optional file beside the records with the columns ``record,patient``."""

Decide = Callable[[Record], bool]
"""Is this alarm to be kept?"""


@dataclasses.dataclass(frozen=True)
class Score:
    """What became of a set of alarms; positive means that the alarm is true."""

    true_positives: int
    true_negatives: int
    false_positives: int
    false_negatives: int

    @property
    def value(self) -> float:
        """100 (TP + TN) / (TP + TN + FP + 5 FN): a true alarm suppressed weighs five false ones kept. NaN of none."""
        right = self.true_positives + self.true_negatives
        whole = right + self.false_positives + 5 * self.false_negatives
        return 100 * right / whole if whole else float("nan")

    @property
    def sensitivity(self) -> float:
        """Share of true alarms that are kept; NaN where there are none."""
        true = self.true_positives + self.false_negatives
        return self.true_positives / true if true else float("nan")

    @property
    def specificity(self) -> float:
        """Share of false alarms that are suppressed; NaN where there are none."""
        false = self.true_negatives + self.false_positives
        return self.true_negatives / false if false else float("nan")


def score(truth: Iterable[bool], kept: Iterable[bool]) -> Score:
    """Count the four outcomes of alarms that are true or not, and were kept or suppressed.

    Raises:
        ValueError: where the two are not of one length.
    """
    counts = {(True, True): 0, (False, False): 0, (False, True): 0, (True, False): 0}
    for pair in zip(truth, kept, strict=True):
        counts[pair] += 1
    return Score(counts[True, True], counts[False, False], counts[False, True], counts[True, False])


# ------------------------------------------------------------------------------------------- deciding


def analyse(record: Record) -> list[Trace]:
    """The record's channels, fed with what was there at the alarm and nothing after it (the challenge's event 1)."""
    traces = []
    for signal in record.signals:
        wave = Waveform(
            signal.name, signal.code, signal.unit, signal.rate, signal.values[: round(record.alarm * signal.rate)]
        )
        role = role_of(wave)
        if role is not None:
            trace = Trace(signal.name, role, 0)
            trace.add(0, wave)
            trace.finish()
            traces.append(trace)
    return traces


def judge(record: Record) -> Verdict:
    """The rules' verdict on a record's alarm."""
    return adjudicate(record.kind, analyse(record), record.alarm)


def rules(record: Record) -> bool:
    """The rules as they are frozen."""
    return judge(record).true


def keep_all(record: Record) -> bool:
    """What monitors do."""
    return True


def suppress_all(record: Record) -> bool:
    """What nobody may do."""
    return False


def majority(records: Sequence[Record]) -> Decide:
    """The trivial thing to learn: keep an alarm unless true ones of its kind are so rare that the score says no."""
    kept: dict[str, bool] = {}
    for kind in {record.kind for record in records}:
        truth = [record.true for record in records if record.kind == kind]
        ones = [True] * len(truth)
        kept[kind] = score(truth, ones).value >= score(truth, [False] * len(truth)).value
    return lambda record: kept.get(record.kind, True)


# ---------------------------------------------------------------------------------- cross-validation


def folds(records: Sequence[Record], count: int = 5, seed: int = 0) -> list[list[int]]:
    """Indices of each fold. Records of one patient stay together; folds differ by at most one patient in number.

    Raises:
        ValueError: where there are fewer patients than folds.
    """
    patients = sorted({record.patient for record in records})
    if len(patients) < count:
        raise ValueError(f"{len(patients)} patients cannot be parted into {count} folds")
    random.Random(seed).shuffle(patients)
    fold = {patient: place % count for place, patient in enumerate(patients)}
    parts: list[list[int]] = [[] for _ in range(count)]
    for index, record in enumerate(records):
        parts[fold[record.patient]].append(index)
    return parts


def cross_validate(
    records: Sequence[Record], fit: Callable[[Sequence[Record]], Decide], *, count: int = 5, seed: int = 0
) -> list[Score]:
    """One score a fold: ``fit`` sees the other folds' records and gives what decides on this one's.

    For rules that are frozen ``fit`` is ``lambda records: rules``; for what learns it is where it learns.
    """
    parts = folds(records, count, seed)
    found = []
    for part in parts:
        held = set(part)
        decide = fit([record for index, record in enumerate(records) if index not in held])
        found.append(score([records[i].true for i in part], [decide(records[i]) for i in part]))
    return found


# --------------------------------------------------------------------------------------------- loader


def load(header: Path, patient: str = "") -> Record:
    """A public record: its ``.hea`` with two comments (the alarm, the verdict) and the ``.mat`` that it names.

    Args:
        header: the ``.hea`` file.
        patient: who it is from; the record's name where that is not known, as in the public set.

    Raises:
        RecordingError: where the signals cannot be read, or the comments are not those of the challenge.
    """
    reader = WfdbReader(header, chunk_seconds=1.0)
    comments = [line.lstrip("# ").strip().lower() for line in _comments(header)]
    kind = next((LABELS[comment] for comment in comments if comment in LABELS), None)
    true = next((VERDICTS[comment] for comment in comments if comment in VERDICTS), None)
    if kind is None or true is None:
        raise RecordingError(
            f"its comments {comments[:3]} do not say an alarm and whether it was true",
            where=str(header), mend=f"one of {', '.join(LABELS)}; then one of {', '.join(VERDICTS)}",
        )  # fmt: skip
    begin = reader.begin
    signals = tuple(_whole(track, begin) for track in reader.tracks if isinstance(track, WaveformTrack))
    return Record(header.stem, patient or header.stem, kind, true, signals, ALARM)


def load_all(folder: Path) -> Iterator[Record]:
    """The challenge's records of a folder, in name order. Headers without the challenge's comments are skipped.

    ``patients.csv`` says which records are of one patient. Without it every record counts as its own patient, which is
    all that the public set allows.
    """
    table = folder / PATIENTS
    patients: dict[str, str] = {}
    if table.is_file():
        with table.open(newline="") as file:
            patients = {row["record"]: row["patient"] for row in csv.DictReader(file)}
    for header in sorted(folder.glob("*.hea")):
        if {line.lstrip("# ").strip().lower() for line in _comments(header)} & VERDICTS.keys():
            yield load(header, patients.get(header.stem, ""))


def _comments(header: Path) -> list[str]:
    try:
        lines = header.read_text(errors="replace").splitlines()
    except OSError as error:
        raise RecordingError(f"cannot be read: {error.strerror}", where=str(header)) from None
    return [line for line in lines if line.startswith("#")]


def _whole(track: WaveformTrack, begin: int) -> Signal:
    """A track as one array from the record's start, NaN where there is nothing."""
    import numpy as np

    count = round((track.end() - begin) / NANOSECONDS * track.rate)
    values = np.full(count, np.nan, np.float32)
    for time, first, last in zip(track.times.tolist(), track.starts, track.stops, strict=True):
        at = round((time - begin) / NANOSECONDS * track.rate)
        values[at : at + last - first] = track.values[first:last]
    return Signal(track.channel, track.code, track.unit, values, track.rate)


def main(folder: Path) -> str:
    """Scores on a folder of the challenge's records, by fold, as a table for people.

    Raises:
        VigilError: where the folder holds too few of them.
    """
    records = list(load_all(folder))
    if len({record.patient for record in records}) < 5:
        raise VigilError(f"holds {len(records)} records of the challenge, too few for 5 folds", where=str(folder))
    ways: dict[str, Callable[[Sequence[Record]], Decide]] = {
        "rules (frozen)": lambda seen: rules, "keep all": lambda seen: keep_all,
        "suppress all": lambda seen: suppress_all, "majority by kind (learnt)": majority,
    }  # fmt: skip
    lines = [f"{len(records)} records, {sum(record.true for record in records)} true alarms, 5 folds by patient"]
    for name, fit in ways.items():
        found = cross_validate(records, fit)
        whole = Score(*(sum(column) for column in zip(*(dataclasses.astuple(part) for part in found), strict=True)))
        parts = ", ".join(f"{part.value:.1f}" for part in found)
        lines.append(f"{name}: score {whole.value:.2f} (folds {parts}), sensitivity {whole.sensitivity:.3f}, "
                     f"specificity {whole.specificity:.3f}")  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(main(Path(sys.argv[1])) + "\n")
