"""What a picture measures is the same in every format, finite for every picture, and refused where it is not whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.perception.view import NAMES, features
from operators.perception.view.rules import in_body
from operators.video.colour import from_rgb
from pipeline.message import Array, VideoFrame
from tests.operators.perception.view.pictures import inside, outside, random_frame


@pytest.mark.parametrize("form", ["yuv420p", "nv12", "rgb24"])
def test_the_inside_of_a_body_speaks_for_itself_in_every_format(form: str) -> None:
    assert in_body(from_rgb(inside(1), form)) > 0.9  # type: ignore[arg-type]
    assert in_body(from_rgb(outside(1), form)) < 0.5  # type: ignore[arg-type]


def test_without_colour_nothing_speaks_for_the_body() -> None:
    assert in_body(from_rgb(inside(1), "gray")) == 0


@pytest.mark.parametrize("image", [np.zeros((90, 160, 3)), np.full((90, 160, 3), (16, 32, 200))])
def test_a_black_and_a_blue_picture_are_not_inside(image: Array) -> None:
    assert in_body(from_rgb(image.astype(np.uint8))) == 0


def test_formats_agree_within_rounding() -> None:
    one, two = features(from_rgb(inside(3), "yuv420p")), features(from_rgb(inside(3), "rgb24"))
    assert dict(zip(NAMES, np.round(one, 2), strict=True)) == pytest.approx(
        dict(zip(NAMES, np.round(two, 2), strict=True)), abs=0.06
    )


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(["yuv420p", "nv12", "rgb24", "gray"]),
       st.sampled_from(["noise", "flat", "black", "white"]), st.booleans(), st.integers(0, 2**16))  # fmt: skip
def test_every_picture_measures_something_finite(
    width: int, height: int, form: str, kind: str, strided: bool, seed: int
) -> None:
    frame = random_frame(width, height, form, kind, strided, seed)
    measured = features(frame)
    assert measured.shape == (len(NAMES),)
    assert measured.dtype == np.float64
    assert np.isfinite(measured).all()
    assert (measured >= 0).all()
    assert 0 <= in_body(frame) <= 1
    assert np.array_equal(measured, features(frame))


BROKEN = {
    "no planes": VideoFrame(64, 48, "yuv420p", ()),
    "an empty plane": VideoFrame(0, 0, "gray", (np.zeros((0, 0), np.uint8),)),
    "another size": VideoFrame(64, 48, "gray", (np.zeros((48, 60), np.uint8),)),
    "floats": VideoFrame(64, 48, "gray", (np.full((48, 64), np.nan),)),
    "huge": VideoFrame(10**6, 10**6, "gray", (np.zeros((1, 1), np.uint8),)),
    "chroma cut off": VideoFrame(64, 48, "nv12", (np.zeros((48, 64), np.uint8), np.zeros((10, 32, 2), np.uint8))),
    "an unknown format": VideoFrame(64, 48, "bgra", (np.zeros((48, 64, 4), np.uint8),)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_picture_that_is_not_whole_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match=r"picture"):
        features(BROKEN[what])
