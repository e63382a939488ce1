"""Room cameras: the whole picture is blurred unless there is a detector, and nothing is shown where that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operators.video.colour import from_rgb, luma
from operators.video.privacy import PrivacyGuard, uniform
from operators.video.privacy import guard as guard_module
from operators.video.privacy.room import Faces, FacesConfig, coarse
from operators.video.privacy.text import Box, TextConfig
from pipeline.message import Array, Message
from pipeline.testing import run_operator
from tests.operators.video.privacy.helpers import MS, videos

RATE = 40 * MS


def room(index: int, form: Any = "yuv420p") -> Message[Any]:
    """A fine pattern that no blur leaves standing."""
    random = np.random.default_rng(index)
    image = random.integers(0, 256, (120, 160, 3), np.uint8)
    return Message("room.video", index * RATE, index, from_rgb(image, form), "recorded")


def camera(**options: Any) -> PrivacyGuard:
    given = {"text": TextConfig(redact="none"), "delay_frames": 3, "delay_seconds": 0.0, **options}
    return PrivacyGuard(name="privacy", kind="room", **given)


@pytest.mark.parametrize("form", ["yuv420p", "nv12", "rgb24", "gray"])
def test_without_a_detector_the_whole_picture_is_blurred(form: str) -> None:
    given = [room(i, form) for i in range(10)]
    out = videos(run_operator(camera(), given))
    assert [m.sequence for m in out] == list(range(10))
    for message, before in zip(out[:7], given, strict=False):
        after = luma(message.payload).astype(float)
        assert not uniform(message.payload), "there is something to be seen"
        assert after.std() < 0.25 * luma(before.payload).std()
        # What is left has no detail finer than a cell of a sixteenth of the width.
        assert np.abs(np.diff(after, axis=1)).mean() < 0.05 * np.abs(np.diff(luma(before.payload) * 1.0, axis=1)).mean()
    assert all(uniform(m.payload) for m in out[7:]), "what is not decided at the end is blanked"


class TwoFaces(Faces):
    """Finds a face in every fifth frame."""

    count = 0

    def detect(self, image: Array) -> list[Box]:
        self.count += 1
        return [(40, 30, 32, 32)] if self.count % 5 == 1 else []


def test_a_face_is_blurred_before_and_after_it_is_found(monkeypatch: Any) -> None:
    monkeypatch.setattr(guard_module, "Faces", TwoFaces)
    given = [room(i) for i in range(24)]
    options = FacesConfig(model=Path("any.onnx"), linger_seconds=0.12)
    out = videos(run_operator(camera(faces=options), given))
    for message, before in zip(out[:21], given, strict=False):
        planes, original = message.payload.planes, before.payload.planes
        face = planes[0][30:62, 40:72].astype(float)
        assert face.std() < 0.5 * original[0][30:62, 40:72].std(), message.sequence
        assert np.array_equal(planes[0][80:], original[0][80:]), "the rest of the picture stays"


def test_a_model_that_cannot_be_read_blanks_everything_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    for path in (tmp_path / "broken.onnx", tmp_path / "missing.onnx"):
        answers = run_operator(
            camera(faces=FacesConfig(model=path), tell_after_seconds=0.2), [room(i) for i in range(12)]
        )
        assert all(uniform(m.payload) for m in videos(answers))
        said = [m.payload for m in answers if m.stream == "privacy.conditions"]
        assert [(c.present, c.priority, c.evidence[0].note) for c in said] == [(True, "low", "error"),
                                                                               (False, "low", "error")]  # fmt: skip


def test_boxes_are_made_coarse_wherever_they_lie() -> None:
    frame = room(1).payload
    for box in [(0, 0, 160, 120), (0, 0, 1, 1), (159, 119, 1, 1), (3, 5, 7, 2), (100, 0, 60, 120)]:
        hidden = coarse(frame, [box], 4)
        assert [p.shape for p in hidden.planes] == [p.shape for p in frame.planes]
        assert not any(np.shares_memory(a, b) for a, b in zip(hidden.planes, frame.planes, strict=True))
