"""Things pasted into made-up streets, and networks that see them, guess, or take them for cars."""

from pathlib import Path

import numpy as np
import pytest
from labelled_streets import CAR, ROAD, STREET_SIZE, write_street, write_thing

from streamvis.datasets.classes import CAMVID, VOID
from streamvis.datasets.street import read_scenes
from streamvis.models.inference.segmentation import SegmentedFrame
from streamvis.runners import outliers
from streamvis.runners.scene_networks import SegmentedPicture
from streamvis.runners.segmentation import StreetScenes
from streamvis.training.scenes.outlier_synthesis import read_objects

PICTURES = 4


class Sees:
    """Classes by the red of each pixel; what is as green as the thing is strange, if it looks."""

    names = CAMVID.names

    def __init__(self, p_known=0.1, p_unknown=0.9, instead_of_road=ROAD, tells=False):
        self.p_known, self.p_unknown = p_known, p_unknown
        self.instead, self.tells = instead_of_road, tells

    def segment(self, pixels):
        red = pixels[..., 0]
        classes = np.where(np.isin(red, (ROAD, CAR)), red, ROAD).astype(np.uint8)
        classes[classes == ROAD] = self.instead
        strange = pixels[..., 1] > 128
        published = (255 * strange[::4, ::4]).astype(np.uint8) if self.tells else np.zeros((0, 0))
        return SegmentedPicture(
            SegmentedFrame(strange, classes, published.astype(np.uint8)), STREET_SIZE
        )

    def unknown(self, picture):
        return np.where(picture.seen.features, self.p_unknown, self.p_known).astype(np.float32)


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    return write_street(tmp_path_factory.mktemp("data") / "street", PICTURES)


@pytest.fixture(scope="module")
def things(tmp_path_factory) -> Path:
    return write_thing(tmp_path_factory.mktemp("things"))


@pytest.fixture
def data(street) -> StreetScenes:
    classes, scenes = read_scenes(street)
    return StreetScenes("street", classes, scenes)


def test_who_sees_them_ranks_them_first(data, things):
    networks = {"sees": Sees(), "guesses": Sees(0.5, 0.5), "fooled": Sees(0.9, 0.1)}
    found = outliers.score(data, read_objects(things), networks, seed=0)
    sees, guesses, fooled = (one.labelled.scores() for one in found.values())
    assert sees.ap > 0.97  # but for the rim, where it is half of each
    assert sees.fpr95 < 0.01
    assert (guesses.ap, guesses.fpr95) == (pytest.approx(guesses.unknown), 1)
    assert sees.auroc > 0.99
    assert guesses.auroc == 0.5
    assert fooled.auroc < 0.01
    assert sees.pictures == PICTURES
    assert 0.007 < sees.unknown < 0.15


def test_what_has_no_class_counts_on_one_side_only(data, things):
    found = outliers.score(data, read_objects(things), {"sees": Sees()}, seed=0)["sees"]
    everywhere, labelled = found.everywhere.scores(), found.labelled.scores()
    assert everywhere.pixels == PICTURES * STREET_SIZE[0] * STREET_SIZE[1]
    unknown = round(everywhere.unknown * everywhere.pixels)
    assert round(labelled.unknown * labelled.pixels) == unknown
    void = sum(
        int(((one.labels == VOID) & ~one.unknown).sum())
        for *_, one in outliers.with_objects(data, read_objects(things), 0)
    )
    assert everywhere.pixels - labelled.pixels == void > 0


def test_scenes_are_read_as_they_are(data, things):
    networks = {"sees": Sees(), "blind": Sees(instead_of_road=5)}
    found = outliers.score(data, read_objects(things), networks, seed=0)
    assert found["sees"].plain.miou() == 1
    assert found["blind"].plain.miou() == pytest.approx(1 / 3)  # the car; no road; trees
    assert outliers.miou_difference(found) == pytest.approx(2 / 3)
    assert outliers.miou_difference({"sees": found["sees"]}) is None


def test_what_others_are_told_is_scored_too(data, things):
    found = outliers.score(data, read_objects(things), {"tells": Sees(tells=True)}, seed=0)
    published = outliers.report(found, read_objects(things), 0)["weights"]["tells"]
    assert 0.5 < published["as_published"]["ap"] <= 1  # coarser than `ap`
    assert published["as_published"]["pixels"] == published["pixels"]
    silent = outliers.score(data, read_objects(things), {"sees": Sees()}, seed=0)
    assert silent["sees"].report()["as_published"] is None


def test_chance_has_a_seed(data, things):
    scores = [
        outliers.score(data, read_objects(things), {"sees": Sees()}, seed)["sees"].report()
        for seed in (0, 0, 1)
    ]
    assert scores[0] == scores[1] != scores[2]
