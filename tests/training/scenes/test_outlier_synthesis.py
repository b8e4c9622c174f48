"""Things pasted into streets: where they are, what they cover, and that chance repeats."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.datasets.classes import VOID
from streamvis.errors import DataError
from streamvis.training.scenes.outlier_synthesis import (
    LEAST,
    UNKNOWN,
    OutlierObject,
    PasteAugment,
    paste,
    pasted,
    read_objects,
)

ROAD = 3
GREY = 90


def disc(side=40, colour=(250, 10, 10), name="disc"):
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = (np.hypot(y, x) < side / 2).astype(np.float32)
    return OutlierObject(name, np.full((side, side, 3), colour, np.uint8), alpha, True)


def street(height=90, width=120):
    labels = np.full((height, width), ROAD, np.uint8)
    labels[:, :10] = VOID
    return np.full((height, width, 3), GREY, np.uint8), labels


def test_what_is_marked_unknown_is_where_the_thing_is_and_nothing_else_has_changed():
    pixels, labels = street()
    for one in pasted([(pixels, labels)] * 8, [disc()], seed=1):
        changed = (one.pixels != pixels).any(-1)
        np.testing.assert_array_equal(one.labels[~one.unknown], labels[~one.unknown])
        assert (one.labels[one.unknown] == VOID).all()
        assert changed[one.unknown].all()
        rim = cv2.dilate(one.unknown.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        assert not changed[~rim].any()


def test_a_disc_stays_a_whole_disc():
    for one in pasted([street()] * 20, [disc()], seed=2):
        rows, columns = np.nonzero(one.unknown)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert abs(int(height) - int(width)) <= 1
        assert one.unknown.sum() == pytest.approx(np.pi / 4 * height * width, rel=0.15)


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(64, 200), st.integers(64, 200), st.integers(2, 90))
def test_things_cover_more_than_the_least_share_and_at_most_a_tenth(seed, height, width, side):
    (one,) = pasted([street(height, width)], [disc(side)], seed)
    assert LEAST < one.unknown.mean() < 0.12
    assert one.pixels.dtype == one.labels.dtype == np.uint8


def test_every_thing_comes_once_before_any_comes_again():
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)]
    things = [disc(colour=colour) for colour in colours]
    seen = [
        tuple(np.median(one.pixels[one.unknown], 0).astype(int))
        for one in pasted([street()] * 10, things, seed=0)
    ]
    assert sorted(seen[:5]) == sorted(seen[5:]) == sorted(colours)


def test_chance_repeats_and_a_seed_changes_it():
    scenes, things = [street()] * 3, [disc(), disc(30, (0, 0, 250))]
    first, again, other = (
        np.stack([one.unknown for one in pasted(scenes, things, seed)]) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_thing_that_cannot_be_large_enough_is_told():
    line = OutlierObject(
        "line.png", np.zeros((500, 3, 3), np.uint8), np.ones((500, 3), np.float32), True
    )
    with pytest.raises(DataError, match=r"line\.png covers .* expected more than 0\.7%"):
        list(pasted([street(400, 500)], [line]))


def test_pictures_to_learn_from_get_things_in_all_shapes_and_keep_what_they_had():
    pixels, labels = street()
    before = pixels.copy(), labels.copy()
    things, how = [disc(), disc(60, (0, 0, 250))], PasteAugment(pictures=1, soft=0, match=0)
    kinds = set()
    for seed in range(60):
        seen, told = paste(pixels, labels, things, how, np.random.default_rng(seed))
        assert seen.shape == pixels.shape
        assert told.dtype == labels.dtype
        assert set(np.unique(told)) <= {ROAD, VOID, UNKNOWN}
        same = told == labels
        rim = cv2.erode(same.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        np.testing.assert_array_equal(seen[rim], pixels[rim])
        parts, _ = cv2.connectedComponents((told == UNKNOWN).astype(np.uint8))
        kinds.add(parts - 1)
    assert {1, 2} <= kinds
    np.testing.assert_array_equal(pixels, before[0])
    np.testing.assert_array_equal(labels, before[1])


def test_pictures_without_things_stay_as_they_are():
    pixels, labels = street()
    seen, told = paste(pixels, labels, [disc()], PasteAugment(pictures=0), np.random.default_rng(0))
    np.testing.assert_array_equal(seen, pixels)
    np.testing.assert_array_equal(told, labels)


def test_a_match_brings_colours_nearer_to_the_place():
    pixels, labels = street()
    far = PasteAugment(pictures=1, most=1, whole=1, swap=0, soft=0, match=0, area=(0.05, 0.06))
    near = PasteAugment(pictures=1, most=1, whole=1, swap=0, soft=0, match=1, area=(0.05, 0.06))
    distances = []
    for how in (far, near):
        gaps = []
        for seed in range(40):
            seen, told = paste(pixels, labels, [disc()], how, np.random.default_rng(seed))
            gaps.append(np.abs(seen[told == UNKNOWN].astype(float) - GREY).mean())
        distances.append(np.mean(gaps))
    assert distances[1] < 0.8 * distances[0]


def test_cut_outs_are_read_by_their_alpha_and_plain_pictures_by_what_stands_out(tmp_path):
    cut = np.zeros((50, 60, 4), np.uint8)
    cut[10:30, 20:50] = (10, 20, 250, 255)
    cv2.imwrite(str(tmp_path / "cut.png"), cut)
    plain = np.full((80, 100, 3), (200, 180, 160), np.uint8)
    plain += np.random.default_rng(0).integers(0, 9, plain.shape, np.uint8)
    cv2.circle(plain, (50, 40), 22, (20, 30, 200), -1)
    cv2.imwrite(str(tmp_path / "plain.png"), plain)
    one, other = read_objects(tmp_path)
    assert (one.name, one.pixels.shape, one.cut) == ("cut.png", (20, 30, 3), True)
    assert (one.pixels == (250, 20, 10)).all()
    assert (one.alpha == 1).all()
    round_ = np.zeros((80, 100), np.uint8)
    cv2.circle(round_, (50, 40), 22, 1, -1)
    both = (other.alpha >= 0.5) & (round_ > 0)
    either = (other.alpha >= 0.5) | (round_ > 0)
    assert not other.cut
    assert both.sum() > 0.8 * either.sum()


def test_where_nothing_stands_out_an_ellipse_is_cut(tmp_path):
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((60, 90), 128, np.uint8))
    (one,) = read_objects(tmp_path)
    assert one.alpha.mean() == pytest.approx(np.pi / 4, abs=0.03)
    assert one.alpha[30, 45] == 1
    assert one.alpha[0, 0] == 0


def test_folders_without_pictures_and_empty_outlines_are_told(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        read_objects(tmp_path)
    empty = np.zeros((9, 9, 4), np.uint8)
    cv2.imwrite(str(tmp_path / "empty.png"), empty)
    with pytest.raises(DataError, match="completely transparent"):
        read_objects(tmp_path)
    (tmp_path / "empty.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_objects(tmp_path)
