"""Measures on the real operations: every frame of ``laparoscopy_intermountain`` against ``labels.csv``.

``labels.csv`` was made by a full-frame OCR and has one wrong entry: index 49 (operation 00003) shows a flow of 5.7
l/min, not 57.0 (``WRONG_LABELS``; seen by eye, at four times the size). It is counted as what the picture shows, and
said separately. Some frames show a number that ``labels.csv`` leaves empty; ``UNLABELLED`` has those as read by eye, so
that what the operator reads there can be called right or wrong.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2

from operators.perception.overlay.grammar import Kind
from operators.video.colour import from_rgb
from pipeline.message import Array, Message, Numeric, VideoFrame
from pipeline.testing import run_operator

DEVELOPED_ON = ("00001-21711", "00003-22976", "00010-23313", "00027-25843")
"""Operations that limits were set on; the other four were held out until all of them were frozen."""
WRONG_LABELS: dict[tuple[int, Kind], float] = {(49, "gas_flow"): 5.7}
UNLABELLED: dict[tuple[int, Kind], float] = {
    (7, "gas_flow"): 2.0, (52, "gas_flow"): 4.8, (129, "gas_flow"): 7.9, (247, "gas_flow"): 1.8,
    (257, "gas_flow"): 3.5, (310, "gas_flow"): 0.0,
}  # fmt: skip
FRAMES_PER_SECOND = 25
CHANNELS: dict[str, Kind] = {"Overlay/PATIENT_PRESSURE": "patient_pressure", "Overlay/GAS_FLOW": "gas_flow"}


@dataclasses.dataclass
class Frame:
    """One labelled frame."""

    index: int
    operation: str
    number: int
    view: str
    labels: dict[Kind, float]
    """What the picture shows, for the numbers that ``labels.csv`` has."""
    path: Path

    @property
    def time(self) -> int:
        """Event time in its operation, ns."""
        return self.number * 1_000_000_000 // FRAMES_PER_SECOND


@dataclasses.dataclass
class Score:
    """Readings of some frames. ``labelled`` is right + wrong + missed."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    extra_right: int = 0
    """Read where ``labels.csv`` has nothing, and the picture shows it."""
    extra_wrong: int = 0
    """Read where ``labels.csv`` has nothing, and the picture shows none or another."""

    @property
    def labelled(self) -> int:
        return self.right + self.wrong + self.missed

    def add(self, other: Score) -> None:
        """Sum in place."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


def frames(shared: Path) -> Iterator[Frame]:
    """All frames of ``labels.csv``, in its order: operation by operation, in time."""
    folder = shared / "laparoscopy_intermountain"
    with (folder / "labels.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            index = int(row["index"])
            written: dict[Kind, str] = {
                "patient_pressure": row["ocr_patient_pressure_mmHg"], "gas_flow": row["ocr_gas_flow_l_min"],
            }  # fmt: skip
            labels = {kind: WRONG_LABELS.get((index, kind), float(text)) for kind, text in written.items() if text}
            yield Frame(index, row["case"], int(row["frame"]), row["view"], labels, folder / "images" / row["file"])


def picture(frame: Frame) -> Array:
    """(h, w, 3) uint8 RGB."""
    image = cv2.imread(str(frame.path))
    if image is None:
        raise FileNotFoundError(frame.path)
    return image[:, :, ::-1]


def stream(chosen: list[Frame]) -> Iterator[Message[VideoFrame]]:
    """The frames of one operation as a recorded stream, each at its own time."""
    for frame in chosen:
        yield Message("scope.video", frame.time, frame.number, from_rgb(picture(frame)), "recorded")


def judge(chosen: list[Frame], values: dict[tuple[int, Kind], float]) -> tuple[Score, list[str]]:
    """Compare what was read, by frame index and quantity, with the labels; also a line for each fault."""
    total, faults = Score(), []
    for frame in chosen:
        for kind in CHANNELS.values():
            value, true = values.get((frame.index, kind)), frame.labels.get(kind)
            if true is not None:
                what = "missed" if value is None else "right" if value == true else "wrong"
            elif value is None:
                continue
            else:
                what = "extra_right" if UNLABELLED.get((frame.index, kind)) == value else "extra_wrong"
            setattr(total, what, getattr(total, what) + 1)
            if what not in ("right", "extra_right"):
                faults.append(f"{what}: index {frame.index} {frame.operation} {kind} shows {true}, read {value}")
    return total, faults


def values_of(said: list[Message[Any]], chosen: list[Frame]) -> dict[tuple[int, Kind], float]:
    """What an operator said about the frames, by frame index and quantity."""
    index = {frame.time: frame.index for frame in chosen}
    return {
        (index[message.time], CHANNELS[message.payload.channel]): message.payload.value
        for message in said if isinstance(message.payload, Numeric) and message.payload.channel in CHANNELS
    }  # fmt: skip


def measure(shared: Path, operations: tuple[str, ...] = (), **options: Any) -> dict[str, tuple[Score, list[str]]]:
    """Score of each operation, each with an operator of its own that begins knowing nothing."""
    from operators.perception.overlay.operator import Overlay

    groups: dict[str, list[Frame]] = {}
    for frame in frames(shared):
        groups.setdefault(frame.operation, []).append(frame)
    return {
        operation: judge(chosen, values_of(run_operator(Overlay(name="overlay", **options), stream(chosen)), chosen))
        for operation, chosen in groups.items() if not operations or operation in operations
    }  # fmt: skip
