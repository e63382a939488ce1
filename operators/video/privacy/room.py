"""Room cameras: faces are hidden. Without a detector, and wherever one fails, the whole picture is.

No face detector comes with Vigil: OpenCV 5 has neither cascades nor a model, and nothing that we may ship has been
tried on theatre staff in caps and masks. So the default blurs the whole picture until no face can be made out: down to
a grid of ``cells`` across. With ``model``, the ONNX file of YuNet (OpenCV Zoo, MIT) or of another detector with the
same outputs, faces alone are blurred, and where they were just before and after a detection. The recall published
for face detectors in theatres is 88 to 93 % (FaceOff, card 11.2): that is not anonymity, and it is the hospital's
decision to set ``model``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydantic

from operators.video.colour import rgb
from operators.video.privacy.blank import CHANNELS
from operators.video.privacy.text import Box
from pipeline.message import NANOSECONDS, Array, VideoFrame
from pipeline.operator import Config as BaseConfig


class FacesConfig(BaseConfig):
    """How faces are hidden."""

    model: Path | None = None
    """A YuNet ONNX file; none: the whole picture is blurred."""
    threshold: float = pydantic.Field(default=0.3, gt=0, lt=1)
    """Score from which something is a face: low, for a face that is missed costs more than a box too many."""
    width: int = pydantic.Field(default=960, ge=64, le=7680)
    """Pictures wider than this are shrunk to it before faces are looked for; YuNet finds faces of about 10 pixels."""
    margin: float = pydantic.Field(default=0.5, ge=0, le=3)
    """Share of its size by which a box is grown on each side."""
    linger_seconds: float = pydantic.Field(default=1.0, ge=0)
    """Seconds before and after a detection for which its box is blurred too; before only as far as the delay goes."""
    cells: int = pydantic.Field(default=16, ge=2, le=40)
    """Cells across the picture that a whole picture is blurred to; and cells across a face: a quarter of that."""


class Faces:
    """The faces of one stream."""

    def __init__(self, config: FacesConfig) -> None:
        self.config = config
        self.seen: list[tuple[int, Box]] = []
        """Detections with their event times, ns."""
        self._linger = round(config.linger_seconds * NANOSECONDS)
        self._detector: Any = None

    def look(self, frame: VideoFrame, time: int) -> None:
        """Find the faces of a frame. Raises what the detector raises: the frame is blanked then."""
        if self.config.model is None:
            return
        self.seen = [(when, box) for when, box in self.seen if when >= time - 60 * NANOSECONDS]
        self.seen += [(time, box) for box in self.detect(rgb(frame))]

    def detect(self, image: Array) -> list[Box]:
        """Boxes of faces in (h, w, 3) uint8 RGB, grown by the margin. Raises ``cv2.error`` for a bad model file."""
        height, width = image.shape[:2]
        scale = min(1.0, self.config.width / width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if self._detector is None:
            self._detector = cv2.FaceDetectorYN.create(str(self.config.model), "", size, self.config.threshold)
        self._detector.setInputSize(size)
        small = image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        _, faces = self._detector.detect(np.ascontiguousarray(small[:, :, ::-1]))
        found = []
        for x, y, wide, high in [] if faces is None else (faces[:, :4] / scale).tolist():
            grow_x, grow_y = wide * self.config.margin, high * self.config.margin
            left, top = max(0, int(x - grow_x)), max(0, int(y - grow_y))
            right, bottom = min(width, int(x + wide + grow_x) + 1), min(height, int(y + high + grow_y) + 1)
            if right > left and bottom > top:
                found.append((left, top, right - left, bottom - top))
        return found

    def hide(self, frame: VideoFrame, time: int) -> VideoFrame:
        """The frame with the faces blurred that were seen about ``time``; wholly blurred where there is no detector."""
        if self.config.model is None:
            return coarse(frame, [(0, 0, frame.width, frame.height)], self.config.cells)
        boxes = [box for when, box in self.seen if abs(when - time) <= self._linger]
        return coarse(frame, boxes, max(2, self.config.cells // 4)) if boxes else frame


def coarse(frame: VideoFrame, boxes: list[Box], cells: int) -> VideoFrame:
    """A copy of the frame in which the boxes hold no more than ``cells`` values across, smoothed between them."""
    planes = []
    for index, (plane, channels) in enumerate(zip(frame.planes, CHANNELS[frame.format], strict=True)):
        plane = plane.copy()
        step = 2 if index and channels and frame.format in ("yuv420p", "nv12") else 1
        for x, y, width, height in boxes:
            part = plane[y // step : -(-(y + height) // step), x // step : -(-(x + width) // step)]
            rows, columns = part.shape[:2]
            across, down = min(cells, columns), max(1, min(rows, round(cells * rows / columns)))
            small = cv2.resize(np.ascontiguousarray(part), (across, down), interpolation=cv2.INTER_AREA)
            part[...] = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR).reshape(part.shape)
        planes.append(plane)
    return VideoFrame(frame.width, frame.height, frame.format, tuple(planes), frame.full_range, frame.corrupt)
