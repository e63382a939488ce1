"""The challenge's score by hand, its records in its own layout, folds that never part a patient."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import wfdb

from operators.monitor.rhythm import challenge
from operators.monitor.rhythm.challenge import Score, score
from operators.monitor.rhythm.records import DEVELOPMENT, HELD_OUT, KINDS, Record, record, records
from pipeline.errors import RecordingError, VigilError


def write(folder: Path, made: Record, label: str, verdict: str) -> None:
    """A record as the challenge's are: 16-bit ``.mat`` with a 24-byte header, two comments."""
    signals = [s for s in made.signals if s.name.rpartition("/")[2] in ("II", "V", "PLETH")]
    five_minutes = [
        np.concatenate([np.tile(s.values[: 250 * 40], 8)[: 75_000 - len(s.values)], s.values]) for s in signals
    ]
    wfdb.wrsamp(
        made.name.replace("-", "_"), fs=250, units=["mV", "mV", "NU"], sig_name=["II", "V", "PLETH"],
        p_signal=np.stack(five_minutes, axis=1).astype(np.float64), fmt=["16"] * 3, write_dir=str(folder),
        comments=[label, verdict],
    )  # fmt: skip
    name = made.name.replace("-", "_")
    header = folder / f"{name}.hea"
    data = (folder / f"{name}.dat").read_bytes()
    (folder / f"{name}.dat").unlink()
    (folder / f"{name}.mat").write_bytes(b"\0" * 24 + data)
    header.write_text(header.read_text().replace(f"{name}.dat 16", f"{name}.mat 16+24"))


def test_the_score_by_hand() -> None:
    # 3 true kept, 1 true suppressed, 2 false suppressed, 4 false kept: 100 * 5 / (5 + 4 + 5)
    truth = [True] * 4 + [False] * 6
    kept = [True, True, True, False] + [False] * 2 + [True] * 4
    found = score(truth, kept)
    assert found == Score(3, 2, 4, 1)
    assert found.value == pytest.approx(100 * 5 / 14)
    assert (found.sensitivity, found.specificity) == (0.75, pytest.approx(1 / 3))


def test_the_sanity_values_of_keeping_all_and_suppressing_all() -> None:
    truth = [True] * 30 + [False] * 70
    assert score(truth, [True] * 100).value == pytest.approx(30.0)
    assert score(truth, [False] * 100).value == pytest.approx(100 * 70 / (70 + 5 * 30))
    assert math.isnan(score([], []).value)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        score([True], [])


def test_records_of_the_challenges_layout_are_read(tmp_path: Path) -> None:
    made = record(DEVELOPMENT, 5, true=False)
    write(tmp_path, made, "Asystole", "False alarm")
    read = challenge.load(tmp_path / f"{made.name.replace('-', '_')}.hea")
    assert (read.kind, read.true, read.alarm) == ("asystole", False, 300.0)
    assert [s.name for s in read.signals] == ["WFDB/II", "WFDB/V", "WFDB/PLETH"]
    assert [s.code for s in read.signals][2] == "MDC_PULS_OXIM_PLETH"
    assert all(len(s.values) == 75_000 for s in read.signals)
    original = made.signals[0].values
    assert np.abs(read.signals[0].values[-len(original) :] - original).max() < 0.001
    assert len(challenge.analyse(read)) == 3


@pytest.mark.parametrize(("label", "kind"), challenge.LABELS.items())
def test_every_label_of_the_challenge_is_known(tmp_path: Path, label: str, kind: str) -> None:
    made = record(DEVELOPMENT, 0, true=True)
    write(tmp_path, made, label.title(), "True alarm")
    (read,) = challenge.load_all(tmp_path)
    assert (read.kind, read.true) == (kind, True)


def test_a_header_without_verdict_is_refused_alone_and_skipped_among_others(tmp_path: Path) -> None:
    made = record(DEVELOPMENT, 0, true=True)
    write(tmp_path, made, "Asystole", "unknown")
    with pytest.raises(RecordingError, match="comments"):
        challenge.load(tmp_path / f"{made.name.replace('-', '_')}.hea")
    assert list(challenge.load_all(tmp_path)) == []
    with pytest.raises(VigilError, match="too few"):
        challenge.main(tmp_path)
    with pytest.raises(RecordingError):
        challenge.load(tmp_path / "missing.hea")


def test_patients_come_from_the_table_and_are_never_parted(tmp_path: Path) -> None:
    made = [record(DEVELOPMENT, index, true=index % 2 == 0) for index in range(2)]
    for one in made:
        write(tmp_path, one, "Asystole", "True alarm")
    (tmp_path / "patients.csv").write_text(
        "record,patient\n" + "".join(f"{m.name.replace('-', '_')},p1\n" for m in made)
    )
    assert [r.patient for r in challenge.load_all(tmp_path)] == ["p1", "p1"]


def small(count: int, patients: int) -> list[Record]:
    return [Record(f"r{i}", f"p{i % patients}", KINDS[i % 5], i % 3 == 0, (), 300.0) for i in range(count)]


def test_folds_hold_each_record_once_and_patients_whole() -> None:
    made = small(53, 13)
    parts = challenge.folds(made)
    assert sorted(index for part in parts for index in part) == list(range(53))
    where = [{made[index].patient for index in part} for part in parts]
    assert sum(len(patients) for patients in where) == 13
    assert parts == challenge.folds(made)
    assert parts != challenge.folds(made, seed=1)
    with pytest.raises(ValueError, match="cannot be parted"):
        challenge.folds(small(9, 3))


def test_what_learns_never_sees_the_patients_that_it_is_judged_on() -> None:
    made = small(40, 10)
    seen: list[set[str]] = []

    def fit(others: object) -> challenge.Decide:
        patients = {r.patient for r in others}  # type: ignore[attr-defined]
        seen.append(patients)

        def decide(one: Record) -> bool:
            assert one.patient not in patients
            return True

        return decide

    found = challenge.cross_validate(made, fit)
    assert len(found) == len(seen) == 5
    assert sum(s.true_positives + s.false_positives for s in found) == 40


def test_the_learnt_majority_keeps_what_is_often_true() -> None:
    made = [Record(f"a{i}", f"a{i}", "asystole", i < 1, (), 300.0) for i in range(20)]
    made += [Record(f"t{i}", f"t{i}", "extreme_tachycardia", i < 19, (), 300.0) for i in range(20)]
    decide = challenge.majority(made)
    assert [decide(made[0]), decide(made[-1])] == [False, True]


def test_simulated_records_depend_on_their_seed_only_and_sets_differ() -> None:
    one, same = record(HELD_OUT, 7, true=True), record(HELD_OUT, 7, true=True)
    assert all(np.array_equal(a.values, b.values) for a, b in zip(one.signals, same.signals, strict=True))
    other = record(DEVELOPMENT, 7, true=True)
    assert not np.array_equal(one.signals[0].values[:5000], other.signals[0].values[:5000])
    made = records(HELD_OUT, 40, true=True)
    assert {r.kind for r in made} == set(KINDS)
    assert sum(bool(r.artefact) for r in made) == 20
    assert all(r.alarm - 25 < r.onset < r.alarm for r in made)
