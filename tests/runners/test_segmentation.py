"""Segmenters side by side on made-up streets, with segmenters whose scores are known."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from labelled_streets import CAR, ROAD, TREE, ClassReader, write_growing_car

from streamvis.datasets.classes import CAMVID, CITYSCAPES
from streamvis.errors import DataError
from streamvis.runners import segmentation
from streamvis.runners.segmentation import WARM_UP, Stopwatch


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    return write_growing_car(tmp_path_factory.mktemp("data") / "street", range(1, 5))


def test_every_picture_is_shown_to_all_and_counted_together(street):
    data = segmentation.read_street_scenes(street)
    found = segmentation.score(
        data, {"knows": ClassReader(), "no cars": ClassReader([(CAR, ROAD)])}
    )
    right, blind = (found[name].scores for name in ("knows", "no cars"))
    assert (right.pictures, right.pixels) == (4, 4 * 64 * 80)
    assert (right.miou, right.accuracy, right.movable_miou) == (1, 1, 1)
    assert right.skipped == [n for i, n in enumerate(CAMVID.names) if i not in (ROAD, TREE, CAR)]
    cars = 20 * 5 * (1 + 2 + 3 + 4)
    roads = 4 * 44 * 80 - cars
    assert blind.per_class["road"] == pytest.approx(roads / (roads + cars))
    assert (blind.per_class["tree"], blind.per_class["car"]) == (1, 0)
    assert blind.miou == pytest.approx((1 + roads / (roads + cars)) / 3)
    assert blind.accuracy == pytest.approx(1 - cars / (4 * 64 * 80))


def test_the_worst_pictures_are_those_of_the_lowest_score(street):
    data = segmentation.read_street_scenes(street)
    found = segmentation.score(data, {"no cars": ClassReader([(CAR, ROAD)])})["no cars"]
    assert found.worst(9) == [3, 2, 1, 0]  # the more car, the less of the road is right
    assert found.worst(2) == [3, 2]
    assert found.per_picture == sorted(found.per_picture, reverse=True)


def test_published_layouts_are_read(tmp_path):
    write_growing_car(tmp_path, range(1, 3), "test", "testannot")
    data = segmentation.read_street_scenes(tmp_path / "test")
    assert segmentation.score(data, {"ours": ClassReader()})["ours"].scores.miou == 1
    (tmp_path / "leftImg8bit/val/bonn").mkdir(parents=True)
    (tmp_path / "gtFine/val/bonn").mkdir(parents=True)
    truth = np.full((8, 8), 26, np.uint8)  # a car
    truth[:4] = 7  # road
    truth[0] = 3  # out of the region of interest
    shown = np.select([truth == 26, truth == 7], [13, 0], 5).astype(np.uint8)
    stem = "bonn_000000_000019"
    cv2.imwrite(
        str(tmp_path / f"leftImg8bit/val/bonn/{stem}_leftImg8bit.png"), np.dstack([shown] * 3)
    )
    cv2.imwrite(str(tmp_path / f"gtFine/val/bonn/{stem}_gtFine_labelIds.png"), truth)
    data = segmentation.read_street_scenes(tmp_path / "leftImg8bit/val")
    scores = segmentation.score(data, {"ours": ClassReader(names=CITYSCAPES.names)})["ours"].scores
    assert (scores.pixels, scores.miou) == (56, 1)
    assert len(scores.skipped) == 17


def test_networks_of_other_classes_are_refused(street):
    with pytest.raises(
        DataError, match=r"labelled with camvid-11 .* but the classes of ours are road, sidewalk"
    ):
        segmentation.score(
            segmentation.read_street_scenes(street), {"ours": ClassReader(names=CITYSCAPES.names)}
        )


def test_labels_of_another_size_are_refused(tmp_path):
    write_growing_car(tmp_path, [1])
    cv2.imwrite(str(tmp_path / "labels/001.png"), np.zeros((32, 48), np.uint8))
    with pytest.raises(DataError, match=r"001\.png is 48×32, its picture 96×64"):
        segmentation.score(segmentation.read_street_scenes(tmp_path), {"ours": ClassReader()})


def test_time_is_the_median_of_warm_pictures():
    assert Stopwatch().ms is None
    assert Stopwatch([0.5]).ms == pytest.approx(500)
    assert Stopwatch([9.0] * WARM_UP + [0.1, 0.2, 0.9]).ms == pytest.approx(200)
    clock = Stopwatch()
    with clock.running():
        pass
    assert clock.ms >= 0
