"""Strokes and spacing need no model: a lost or invented point, or a digit too many, shows in the ink."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.perception.overlay.drawn import fonts
from operators.perception.overlay.strokes import alike, brightest, glyphs, ink, spacing, strokes
from operators.video.colour import from_rgb, rgb
from pipeline.message import Array
from tests.operators.perception.overlay.screens import number


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 300), st.sampled_from([name for name in fonts() if name != "complex"]))
def test_a_number_fits_its_own_ink_and_not_with_another_point(tenths: int, font: str) -> None:
    text = f"{tenths / 10:.1f}".removesuffix(".0")
    mask = ink(strokes(number(text, font)))
    assert spacing(text, mask, 40) is not False
    digits = text.replace(".", "")
    if "." in text:
        assert spacing(digits, mask, 40) is not True
    elif len(digits) == 2:
        assert spacing(f"{digits[0]}.{digits[1]}", mask, 40) is not True
    assert spacing(f"{text}1", mask, 40) is not True


def test_an_empty_crop_and_a_busy_one_say_nothing() -> None:
    assert spacing("12", ink(strokes(np.zeros((30, 60), np.uint8))), 30) is None
    assert glyphs(np.zeros((30, 60), bool), 30) == []
    assert strokes(np.zeros((2, 2), np.uint8)).shape == (2, 2)
    assert not ink(np.zeros((0, 0), np.float32)).any()
    wide = np.zeros((30, 120), np.uint8)
    wide[8:22, 10:100] = np.tile([255, 0], (14, 45))
    assert spacing("12", ink(strokes(wide)), 30) is not True


def test_labels_are_alike_over_other_grounds_and_not_to_other_labels() -> None:
    one, other = (strokes(number(text, "DejaVuSans")) for text in ("Patient", "Oxygen"))
    same = strokes(np.maximum(number("Patient", "DejaVuSans"), 90))
    width = min(one.shape[1], other.shape[1])
    assert alike(one, same) > 0.9
    assert alike(one[:, :width], other[:, :width]) < 0.5
    assert alike(one, one[:, 1:]) == 0.0


@pytest.mark.parametrize("form", ["yuv420p", "nv12", "rgb24"])
def test_the_brightest_primary_is_that_of_the_rgb_picture(form: str) -> None:
    random = np.random.default_rng(0)
    image = cv2.resize(random.integers(0, 256, (9, 16, 3), np.uint8), (321, 181), interpolation=cv2.INTER_CUBIC)
    frame = from_rgb(image, form)  # type: ignore[arg-type]
    expected: Array = rgb(frame).max(axis=2)
    # Limits of the range are cut before or after the colours are added: only that may differ.
    difference = np.abs(brightest(frame).astype(int) - expected)
    assert np.percentile(difference, 99) <= 2
    assert (brightest(from_rgb(image, "gray")) == from_rgb(image, "gray").planes[0]).all()
