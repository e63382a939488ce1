"""The picture, and whether the truth beside it is true of it."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from operators.theatre.case import Case, load, loads
from operators.theatre.renderer import CLASSES, Picture, Renderer
from operators.theatre.world import CELLS, EXTENT, LEFT, NEAR

SIZE = (160, 120)
SEED = 7


def case(*steps: str, view: str = "gallbladder") -> Case:
    script = "".join(f"  - {step}\n" for step in steps)
    return loads(
        f"theatre: 1\nduration: 60\nphases: [{{at: 0, name: a, view: {view}}}]\n"
        + (f"script:\n{script}" if steps else "")
    )


def shown(script: Case, seconds: float = 20.0, seed: int = SEED, size: tuple[int, int] = SIZE) -> Picture:
    return Renderer(script, seed, size).picture(seconds)


def change(one: Picture, other: Picture) -> np.ndarray:
    """Largest difference of the three colours, (h, w)."""
    return np.abs(one.rgb.astype(int) - other.rgb.astype(int)).max(-1)


@pytest.fixture(scope="module")
def plain() -> Picture:
    return shown(case())


def test_same_seed_same_bytes(plain: Picture) -> None:
    again = shown(case())
    assert np.array_equal(again.rgb, plain.rgb)
    assert np.array_equal(again.depth, plain.depth, equal_nan=True)
    assert not np.array_equal(shown(case(), seed=SEED + 1).rgb, plain.rgb)


def test_a_picture_does_not_depend_on_those_before(plain: Picture) -> None:
    script = case("{at: 1, do: bleeding, lasts: 10}", "{at: 2, do: instrument, lasts: 30}")
    renderer = Renderer(script, SEED, SIZE)
    for seconds in (3.0, 11.0, 18.0):
        renderer.picture(seconds)
    assert np.array_equal(renderer.picture(20.0).rgb, shown(script).rgb)


@pytest.mark.parametrize("tool", ["grasper", "hook", "scissors", "suction", "clipper"])
def test_instrument_mask_is_where_the_picture_changes(tool: str, plain: Picture) -> None:
    picture = shown(case(f"{{at: 5, do: instrument, tool: {tool}, side: right, lasts: 50}}"))
    mask = picture.labels == CLASSES.index("instrument")
    difference = change(picture, plain)
    assert 0.005 < mask.mean() < 0.4
    assert (difference[mask] > 10).mean() > 0.8
    # What changes elsewhere is the shadow of the instrument, and what its glare spreads right beside it.
    beside = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    lighter = picture.rgb.astype(int).max(-1) - plain.rgb.astype(int).max(-1) > 24
    assert (lighter & ~beside).mean() < 0.01
    assert (difference[~beside] > 24).mean() < 0.12


def test_instruments_are_before_what_they_cover(plain: Picture) -> None:
    picture = shown(case("{at: 5, do: instrument, tool: grasper, side: left, lasts: 50}"))
    mask = picture.labels == CLASSES.index("instrument")
    assert mask.any()
    assert (picture.depth[mask] < plain.depth[mask] + 0.5).all()  # what is beyond the field stop is in no mask
    assert np.allclose(picture.depth[~mask], plain.depth[~mask], equal_nan=True)


def test_blood_mask_is_where_it_is_red(plain: Picture) -> None:
    picture = shown(case("{at: 5, do: bleeding, amount: 0.7, lasts: 30}"))
    mask = picture.labels == CLASSES.index("blood")
    assert mask.mean() > 0.02
    lit = picture.rgb[mask].astype(float)
    lit = lit[(lit.max(-1) > 30) & (lit.min(-1) < 150)]  # neither shadow nor glare
    before = plain.rgb[mask].astype(float)
    assert (lit[:, 0] / (lit[:, 1] + 1)).mean() > 1.4 * (before[:, 0] / (before[:, 1] + 1)).mean()


@pytest.mark.parametrize("view", ["wide", "gallbladder", "liver", "bowel", "close"])
def test_depth_and_pose_lead_back_to_the_landscape(view: str) -> None:
    renderer = Renderer(case(view=view), SEED, SIZE)
    for seconds in (10.0, 11.3, 14.1):
        picture = renderer.picture(seconds)
        rotation = picture.pose[:3, :3]
        assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) == pytest.approx(1)
        height, width = picture.depth.shape
        column, row = np.meshgrid(np.arange(width), np.arange(height))
        pixels = np.stack([column, row, np.ones_like(row)], -1)
        points = (pixels @ np.linalg.inv(picture.intrinsics).T * picture.depth[..., None]) @ rotation.T
        points += picture.pose[:3, 3]
        breath, beat = renderer._motion(seconds)
        ground = renderer.world.height + breath * renderer.world.lift + beat * renderer.world.pulse
        at_x = ((points[..., 0] - LEFT) * CELLS / EXTENT - 0.5).astype(np.float32)
        at_y = ((points[..., 1] - NEAR) * CELLS / EXTENT - 0.5).astype(np.float32)
        found = cv2.remap(ground.astype(np.float32), at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        off = np.abs(points[..., 2] - found)[~np.isnan(picture.depth)]
        assert off.size > 0.6 * picture.depth.size
        assert np.median(off) < 0.2, f"{view} at {seconds}"
        assert (off < 2.5).mean() > 0.97, f"{view} at {seconds}"  # the rest is on edges that hide what is behind


def test_it_is_lit_by_the_scope(plain: Picture) -> None:
    luma = plain.rgb.astype(float).mean(-1)
    height, width = luma.shape
    assert luma[:6, :6].max() < 12  # outside the field stop
    assert luma[:6, -6:].max() < 12
    middle = luma[height // 4 : -height // 4, width // 3 : -width // 3].mean()
    rim = luma[height // 4 : -height // 4, width // 2 - int(0.56 * height) : width // 2 - int(0.48 * height)].mean()
    assert middle > 1.5 * rim
    assert (plain.rgb.min(-1) > 200).any(), "no specular highlight"
    assert plain.rgb[..., 0].mean() > 1.3 * plain.rgb[..., 2].mean(), "tissue is red"


def test_organs_move_with_breath_and_heart() -> None:
    renderer = Renderer(case(), SEED, SIZE)
    moves = [renderer._motion(second) for second in np.arange(10, 15, 0.04)]
    breath, beat = (np.array(part) for part in zip(*moves, strict=True))
    assert np.ptp(breath) > 0.9
    assert np.ptp(beat) > 0.9
    assert change(renderer.picture(10.0), renderer.picture(10.4)).mean() > 1


@pytest.mark.parametrize(
    ("step", "differs"),
    [
        ("{at: 10, do: smoke, density: 0.8, lasts: 20}", 0.5),
        ("{at: 10, do: fouling, how: fog, lasts: 20}", 0.5),
        ("{at: 10, do: fouling, how: droplets, lasts: 20}", 0.2),
        ("{at: 10, do: fouling, how: blood, lasts: 20}", 0.2),
        ("{at: 10, do: out_of_body, lasts: 20}", 0.5),
    ],
)
def test_what_spoils_the_view_spoils_the_picture(step: str, differs: float, plain: Picture) -> None:
    spoiled = shown(case(step))
    field = plain.rgb.max(-1) > 12
    assert (change(spoiled, plain)[field] > 10).mean() > differs
    assert np.isnan(spoiled.depth).all() == ("out_of_body" in step)


def test_smoke_is_as_dense_as_the_picture_is_veiled(plain: Picture) -> None:
    script = case("{at: 10, do: smoke, density: 0.4, lasts: 20}")
    picture = shown(script)
    assert (plain.smoke == 0).all()
    assert picture.smoke.dtype == np.float32
    assert picture.smoke.shape == picture.depth.shape
    assert (picture.smoke[np.isnan(picture.depth)] == 0).all()
    # Light under a veil of opacity a is (1 - a) of what it was, and so are its colours' differences.
    field = ~np.isnan(picture.depth)
    before, after = ((image.rgb.max(-1).astype(float) - image.rgb.min(-1))[field] for image in (plain, picture))
    coloured = before > 60
    left = np.log((after[coloured] + 1) / before[coloured])
    assert np.corrcoef(left, np.log(1 - picture.smoke[field][coloured]))[0, 1] > 0.5
    assert shown(script, 32.0).smoke.mean() < 0.8 * picture.smoke.mean(), "the insufflator clears it"


def test_faults_of_the_video_chain() -> None:
    def fault(how: str, seconds: float = 20.0) -> Picture:
        return shown(case(f"{{at: 15, do: video_fault, how: {how}, lasts: 10}}"), seconds)

    assert fault("black").rgb.max() == 0
    blue = fault("blue").rgb
    assert blue.reshape(-1, 3).std(0).max() == 0
    assert blue[0, 0, 2] > 2 * blue[0, 0, :2].max()
    assert fault("noise").rgb.std() > 60
    assert not np.array_equal(fault("noise").rgb, fault("noise", 20.1).rgb)
    assert np.array_equal(fault("frozen").rgb, fault("frozen", 24.0).rgb)
    assert not np.array_equal(fault("frozen").rgb, shown(case()).rgb)


def test_fifteen_pictures_a_second_on_one_core() -> None:
    script = load("eventful")
    renderer = Renderer(script, script.seed, (320, 240))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        renderer.picture(10.0)
        taken = []
        for second in np.arange(8.0, 19.0, 1.0):
            begin = time.thread_time()
            renderer.picture(second)
            taken.append(time.thread_time() - begin)
    finally:
        cv2.setNumThreads(threads)
    assert np.median(taken) < 1 / 15
