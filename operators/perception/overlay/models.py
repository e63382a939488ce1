"""The two models that find and read text: PP-OCRv6 small, as they lie in RapidOCR's wheel. See ``MODEL.md``.

Nothing is ever fetched: both files are named by path and checked by their SHA-256 before they are opened, so neither
RapidOCR's own list of models nor the network has a say. One thread and one crop a call: the same crop always gives
the same text, whatever it was read beside.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from pipeline.errors import VigilError
from pipeline.message import Array

FILES = {
    "PP-OCRv6_det_small.onnx": "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    "PP-OCRv6_rec_small.onnx": "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
}
"""File in the wheel to its SHA-256, as shipped with RapidOCR 3.10.0."""
LINE = 48
"""Height that a line of text is scaled to before it is read."""
LONGEST_SIDE = 1280
"""Pictures are searched at this size at most."""


class Text(NamedTuple):
    """One line as it was read. ``places`` are the characters' centres as shares of the crop's width."""

    text: str
    scores: tuple[float, ...]
    places: tuple[float, ...]

    @property
    def score(self) -> float:
        """Probability of the least certain character; 0 for no text."""
        return min(self.scores, default=0.0)

    @property
    def mean(self) -> float:
        """Mean probability of the characters: for words, which one doubtful letter does not change; 0 for no text."""
        return sum(self.scores) / len(self.scores) if self.scores else 0.0


class Found(NamedTuple):
    """A line of text in a picture: ``box`` is x, y, width, height in pixels of that picture."""

    text: Text
    box: tuple[int, int, int, int]


def folder() -> Path:
    """Where the wheel keeps its models. Raises ``VigilError`` where RapidOCR is not installed."""
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise VigilError("RapidOCR is not installed", where="operators.perception.overlay", mend="run make setup")
    return Path(spec.origin).parent / "models"


@cache
def fingerprint() -> str:
    """What a rule digest names the models by: RapidOCR's version and the first 16 digits of each file's SHA-256."""
    version = importlib.metadata.version("rapidocr")
    return " ".join([f"rapidocr {version}", *(f"{name} {digest[:16]}" for name, digest in FILES.items())])


def checked(name: str) -> Path:
    """The path of a bundled model. Raises ``VigilError`` where it is missing or is not the one that was measured."""
    path = folder() / name
    if not path.is_file():
        raise VigilError("the text model is not in RapidOCR's wheel", where=str(path), mend="install rapidocr 3.10")
    if hashlib.sha256(path.read_bytes()).hexdigest() != FILES[name]:
        raise VigilError("is not the text model that Vigil was measured with", where=str(path),
                         mend="install rapidocr 3.10")  # fmt: skip
    return path


class Reader:
    """Reads crops that hold one line of text: the recognition model alone."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = checked("PP-OCRv6_rec_small.onnx")
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        characters = self._session.get_modelmeta().custom_metadata_map["character"].splitlines()
        self._characters = ["", *characters, " "]
        self.calls = 0
        """How often the model ran, for the bench and for tests."""

    def read(self, crop: Array) -> Text:
        """Text of a (h, w) uint8 crop, best path of the CTC output. A crop without area gives no text."""
        if crop.ndim != 2 or min(crop.shape) < 2:
            return Text("", (), ())
        self.calls += 1
        width = int(np.clip(np.ceil(crop.shape[1] * LINE / crop.shape[0]), 16, 1600))
        line = cv2.resize(crop, (width, LINE), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 127.5 - 1
        output = self._session.run(None, {self._input: np.broadcast_to(line, (1, 3, *line.shape)).copy()})[0][0]
        best, peak = output.argmax(axis=1), output.max(axis=1)
        text, scores, places = [], [], []
        before = 0
        for step, (index, probability) in enumerate(zip(best, peak, strict=True)):
            if index != before and index:
                text.append(self._characters[index])
                scores.append(float(probability))
                places.append((step + 0.5) / len(best))
            elif index and scores:
                scores[-1] = max(scores[-1], float(probability))
            before = index
        return Text("".join(text), tuple(scores), tuple(places))


class Finder:
    """Finds the lines of text of a whole picture: the detection model, then ``Reader`` on each line."""

    def __init__(self, reader: Reader) -> None:
        from rapidocr import RapidOCR

        self.reader = reader
        self._detect: Any = RapidOCR(params={
            "Global.use_rec": False, "Global.use_cls": False, "Global.use_preprocess_img": False,
            "Global.log_level": "critical", "Det.model_path": str(checked("PP-OCRv6_det_small.onnx")),
            "Det.limit_type": "max", "Det.limit_side_len": LONGEST_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1, "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        })  # fmt: skip

    def boxes(self, luma: Array, longest: int = LONGEST_SIDE) -> list[tuple[int, int, int, int]]:
        """Upright boxes x, y, width, height of the lines of a (h, w) uint8 picture, from top left on."""
        height, width = luma.shape
        scale = min(1.0, longest / max(height, width))
        small = luma if scale == 1 else cv2.resize(luma, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if min(small.shape) < 32:
            return []
        output = self._detect(cv2.merge([small] * 3), use_det=True, use_cls=False, use_rec=False)
        found = []
        for corners in () if output.boxes is None else output.boxes:
            low, high = corners.min(axis=0) / scale, corners.max(axis=0) / scale
            x, y = max(int(low[0]), 0), max(int(low[1]), 0)
            w, h = min(int(np.ceil(high[0])), width) - x, min(int(np.ceil(high[1])), height) - y
            if w >= h // 2 and h >= 6:  # an overlay's text lies flat
                found.append((x, y, w, h))
        return found

    def find(self, luma: Array, longest: int = LONGEST_SIDE) -> list[Found]:
        """Every line of text in a (h, w) uint8 picture."""
        found = []
        for x, y, w, h in self.boxes(luma, longest):
            text = self.reader.read(luma[y : y + h, x : x + w])
            if text.text.strip():
                found.append(Found(text, (x, y, w, h)))
        return found
