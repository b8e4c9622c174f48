"""The camera's motion against warps that are known, people in the way, and nothing to see."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.messages import encode_part
from streamvis.sources import open_source, resolve
from streamvis.tracking.camera import LEAST_SHARE, estimate_motion, grey_frame, nothing_moved


def texture(seed, width=1280, height=960):
    """Blobs of all sizes, (height, width, 3) uint8."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width), dtype=np.float32)
    for size in (4, 12, 40, 120):
        noise = random.normal(size=(height // size + 1, width // size + 1)).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.stack([np.clip(128 + 40 * total, 0, 255).astype(np.uint8)] * 3, axis=2)


WORLD, OTHER = texture(0), texture(1)


def similarity(width, height, *, shift=(0.0, 0.0), turn_deg=0.0, zoom=1.0):
    """About the centre of the picture, then shifted."""
    turn = np.radians(turn_deg)
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = np.array([width, height]) / 2
    return np.column_stack([linear, centre - linear @ centre + shift])


def shot(warp, width=640, height=360, world=WORLD):
    """What a camera sees whose picture of the world was moved by `warp`."""
    to_centre = np.eye(3)
    to_centre[:2, 2] = [(width - world.shape[1]) / 2, (height - world.shape[0]) / 2]
    half = np.eye(3)
    half[:2, 2] = 0.5  # OpenCV's origin is the centre of the first pixel, ours its corner
    ours = np.vstack([warp, [0, 0, 1]]) @ to_centre
    theirs = np.linalg.inv(half) @ ours @ half
    return cv2.warpAffine(world, theirs[:2], (width, height), flags=cv2.INTER_CUBIC)


STILL = np.eye(2, 3)


def motion(before, after):
    return estimate_motion(grey_frame(before), grey_frame(after))


def corner_error(found, expected, width=640, height=360):
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1.0]])
    return np.linalg.norm(corners @ found.T - corners @ expected.T, axis=1).max()


def is_unknown(found):
    return found.support == 0 and (found.warp == np.eye(2, 3)).all()


@pytest.mark.parametrize("size", [(960, 540), (640, 360), (641, 479), (320, 180), (300, 700)])
@pytest.mark.parametrize(
    "moved",
    [
        {},
        {"shift": (3.0, -2.0)},
        {"shift": (0.4, 0.3), "turn_deg": 0.3, "zoom": 1.004},
        {"turn_deg": -3.0},
        {"zoom": 1.05},
        {"shift": (20.0, 9.0), "turn_deg": 2.0, "zoom": 0.97},
    ],
)
def test_a_known_warp_is_found(size, moved):
    warp = similarity(*size, **moved)
    found = motion(shot(STILL, *size), shot(warp, *size))
    assert found.warp.dtype == np.float64
    assert found.support > 0.8
    assert corner_error(found.warp, warp, *size) < 0.1 * max(size) / 320


@settings(max_examples=25)
@given(
    shift=st.tuples(st.floats(-12, 12), st.floats(-12, 12)),
    turn_deg=st.floats(-2, 2),
    zoom=st.floats(0.97, 1.03),
    noise=st.floats(0, 6),
)
def test_small_motions_are_found_to_a_fraction_of_a_pixel(shift, turn_deg, zoom, noise):
    warp = similarity(640, 360, shift=shift, turn_deg=turn_deg, zoom=zoom)
    random = np.random.default_rng(5)

    def noisy(picture):
        return np.clip(picture + random.normal(0, noise, picture.shape), 0, 255).astype(np.uint8)

    found = motion(noisy(shot(STILL)), noisy(shot(warp)))
    assert corner_error(found.warp, warp) < 0.5


@pytest.mark.parametrize("noise", [0, 1.5, 3])
def test_noise_is_no_motion_and_a_grey_pixel_is_one(noise):
    random = np.random.default_rng(3)

    def noisy(**moved):
        picture = shot(similarity(640, 360, **moved))
        seen = np.clip(picture + random.normal(0, noise, picture.shape), 0, 255)
        return grey_frame(seen.astype(np.uint8))

    place = noisy()
    assert nothing_moved(place, noisy())
    for moved in ({"shift": (2, 0)}, {"shift": (0, -2)}, {"turn_deg": 0.3}, {"zoom": 1.006}):
        assert not nothing_moved(place, noisy(**moved))


def test_there_and_back_is_where_it_was():
    one, other = shot(STILL), shot(similarity(640, 360, shift=(7, 3), turn_deg=1.5, zoom=1.02))
    there, back = (
        np.vstack([motion(*pair).warp, [0, 0, 1]]) for pair in ((one, other), (other, one))
    )
    assert corner_error((back @ there)[:2], STILL) < 0.2


@pytest.mark.parametrize("moved", [{}, {"shift": (5.0, 2.0), "turn_deg": 0.5}])
@pytest.mark.parametrize("seed", range(6))
def test_people_who_walk_about_are_not_the_background(moved, seed):
    """Boxes with their own texture and their own way cover some 40 % of the picture."""
    warp = similarity(640, 360, **moved)
    before, after = shot(STILL), shot(warp)
    random = np.random.default_rng(seed)
    for k in range(7):
        x, y = 20 + 85 * k, int(random.integers(0, 80))
        dx, dy = random.integers(-12, 13, size=2)
        person = OTHER[100 : 100 + 260 - y, 100 * k : 100 * k + 60]
        before[y : y + len(person), x : x + 60] = person
        after[y + 15 + dy : y + 15 + dy + len(person), x + dx + 14 : x + dx + 74] = person
    found = motion(before, after)
    assert corner_error(found.warp, warp) < 0.5
    assert 0.3 < found.support < 0.9


def test_a_crowd_that_marches_past_a_fixed_camera_does_not_move_it():
    before, after = shot(STILL), shot(STILL)
    before[:, 40:340] = OTHER[:360, 40:340]  # 47 % of the picture, as one
    after[:, 46:346] = OTHER[:360, 40:340]
    assert corner_error(motion(before, after).warp, STILL) < 0.3


def test_one_person_before_a_bare_wall_says_nothing_of_the_camera():
    before, after = np.full((2, 360, 640, 3), 180, dtype=np.uint8)
    before[40:360, 280:390] = OTHER[40:360, :110]
    after[42:360, 290:400] = OTHER[40:358, :110]
    assert is_unknown(motion(before, after))


def test_one_large_person_does_not_outvote_a_wall_with_little_to_see():
    """Most corners are the person's; those of the wall are few but from side to side."""
    warp = similarity(640, 360, shift=(8.0, 2.0))
    wall = np.full_like(WORLD, 150)
    for y in range(200, 760, 60):
        for x in range(200, 1080, 60):
            cv2.rectangle(wall, (x, y), (x + 14, y + 9), (90, 60, 20), -1)
    before, after = shot(STILL, world=wall), shot(warp, world=wall)
    before[20:350, 240:430] = OTHER[20:350, 240:430]
    after[17:347, 232:422] = OTHER[20:350, 240:430]
    assert corner_error(motion(before, after).warp, warp) < 1


def blank(seed):
    return np.full((360, 640, 3), 77, dtype=np.uint8)


def dark(seed):
    return np.clip(np.random.default_rng(seed).normal(4, 2, (360, 640, 3)), 0, 255).astype(np.uint8)


def snow(seed):
    return np.random.default_rng(seed).integers(0, 256, (360, 640, 3), dtype=np.uint8)


def blurred(seed):
    noise = np.random.default_rng(seed).normal(size=(360, 640, 3))
    return np.clip(128 + 900 * cv2.GaussianBlur(noise, (0, 0), 6), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seen", [blank, dark, snow, blurred])
@pytest.mark.parametrize("seed", range(5))
def test_where_nothing_can_be_followed_the_motion_is_unknown(seen, seed):
    assert is_unknown(motion(seen(seed), seen(100 + seed)))


@pytest.mark.parametrize("seed", range(8))
def test_a_cut_is_unknown(seed):
    assert is_unknown(motion(shot(STILL), shot(STILL, world=texture(10 + seed))))


@pytest.mark.parametrize(
    "moved", [{"shift": (400.0, 0.0)}, {"turn_deg": 180.0}, {"turn_deg": 40.0}, {"zoom": 1.8}]
)
def test_a_huge_step_is_unknown(moved):
    assert is_unknown(motion(shot(STILL), shot(similarity(640, 360, **moved))))


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (5, 4000), (40_000, 2), (47, 59)])
def test_pictures_too_small_to_see_anything_in_are_unknown(size):
    height, width = size
    picture = np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert is_unknown(motion(picture, picture))


def test_pictures_of_another_size_are_unknown():
    assert is_unknown(motion(shot(STILL, 640, 360), shot(STILL, 641, 360)))


def test_nothing_before_or_beside_it_changes_the_answer():
    pair = shot(STILL), shot(similarity(640, 360, shift=(6, 1), turn_deg=1))
    expected = encode_part(motion(*pair))
    threads = cv2.getNumThreads()
    try:
        for count in (1, 2, 5):
            cv2.setNumThreads(count)
            cv2.setRNGSeed(count)
            np.random.default_rng(count).random()
            motion(shot(STILL), snow(count))
            assert encode_part(motion(*pair)) == expected
    finally:
        cv2.setNumThreads(threads)


@pytest.mark.parametrize("size", [(960, 540), (641, 479), (320, 180), (3840, 2160)])
def test_a_small_view_holds_means_of_whole_blocks(size):
    width, height = size
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels.flags.writeable = False  # as a slot is
    view = grey_frame(pixels)
    k = view.scale
    h, w = height // k, width // k
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[: h * k, : w * k].astype(float)
    means = gray.reshape(h, k, w, k).mean(axis=(1, 3))
    assert view.gray.shape == (h, w)
    assert view.size == size
    assert 35_000 < view.gray.size < 130_000
    assert np.abs(view.gray - means).max() <= 1
    assert not np.shares_memory(view.gray, pixels)


def pictures(path, first, count):
    (spec,) = resolve([str(path)])
    source = open_source(spec)
    try:
        shown = []
        for picture in source:
            if picture.n >= first + count:
                break
            if picture.n >= first:
                shown.append(picture.pixels.copy())
    finally:
        source.close()
    return shown


@pytest.mark.parametrize("name", ["pets09-s2l1/video.avi", "tud-campus/video.mp4"])
def test_a_fixed_camera_stands_still(data, name):
    shown = pictures(data / "mot" / name, 0, 20)
    height, width = shown[0].shape[:2]
    for before, after in pairwise(shown):
        found = motion(before, after)
        assert found.support > 0.6
        assert corner_error(found.warp, STILL, width, height) < 0.25


def test_on_a_moving_camera_the_warp_brings_boxes_nearer(data):
    """Where people were, moved by ten warps in turn, against where they are."""
    folder = data / "mot" / "mot16-11"
    shown = pictures(folder / "video.mp4", 100, 41)
    warps = [motion(a, b) for a, b in pairwise(shown)]
    assert min(found.support for found in warps) > LEAST_SHARE
    rows = np.loadtxt(folder / "gt" / "gt.txt", delimiter=",")
    rows = rows[rows[:, 7] == 1]
    boxes = {(int(row[0]), int(row[1])): row[2:6] for row in rows}  # MOT numbers frames from 1
    as_they_were, warped = [], []
    for first in range(0, 31, 10):
        total = np.eye(3)
        for found in warps[first : first + 10]:
            total = np.vstack([found.warp, [0, 0, 1]]) @ total
        zoom = np.sqrt(np.linalg.det(total[:2, :2]))
        for (frame, who), (x, y, w, h) in boxes.items():
            if frame == 101 + first and (frame + 10, who) in boxes:
                now = boxes[frame + 10, who]
                u, v, _ = total @ [x + w / 2, y + h / 2, 1]
                w2, h2 = w * zoom, h * zoom
                as_they_were.append(overlap((x, y, w, h), now))
                warped.append(overlap((u - w2 / 2, v - h2 / 2, w2, h2), now))
    assert np.mean(warped) > np.mean(as_they_were) + 0.1


def overlap(a, b):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / (a[2] * a[3] + b[2] * b[3] - both)
