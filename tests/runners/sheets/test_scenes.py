"""Sheets of segmentation and pasted objects show the worst pictures, worst first."""

from types import SimpleNamespace

import numpy as np
import pytest
from labelled_streets import CAR, ROAD, ClassReader, write_growing_car, write_street, write_thing

from streamvis.datasets.classes import CAMVID
from streamvis.runners import outliers, segmentation
from streamvis.runners.sheets import scenes
from streamvis.training.scenes.outlier_synthesis import read_objects
from streamvis.viz.scene import blended, palette_of


@pytest.fixture
def drawn(monkeypatch) -> SimpleNamespace:
    """What is given to be drawn: title, rows and names."""
    taken = SimpleNamespace()

    def strips(title, rows, names):
        taken.title, taken.rows, taken.names = title, rows, names

    monkeypatch.setattr(scenes, "strips", strips)
    return taken


def test_the_pictures_of_lowest_miou_come_first_with_truth_and_ours(drawn, tmp_path):
    write_growing_car(tmp_path / "street", range(1, 12))
    data = segmentation.read_street_scenes(tmp_path / "street")
    blind = ClassReader([(CAR, ROAD)])
    result = segmentation.score(data, {"blind": blind})["blind"]
    scenes.segmentation_sheet(data, result, blind, "blind")
    assert drawn.title == "blind: the worst 8 of 11 pictures of street"
    assert drawn.names == CAMVID.names
    names = [row.title.split(":")[0] for row in drawn.rows]
    assert names == [f"{n:03}" for n in range(11, 3, -1)]  # the more car, the worse
    pixels, truth = data.read(data.scenes[10])
    palette = palette_of(CAMVID.names)
    picture, labelled, ours = drawn.rows[0].panels
    assert [panel.caption for panel in (picture, labelled, ours)] == ["picture", "truth", "ours"]
    np.testing.assert_array_equal(picture.pixels, pixels)
    np.testing.assert_array_equal(labelled.pixels, blended(pixels, truth, palette))
    said = np.where(pixels[..., 0] == CAR, ROAD, pixels[..., 0])
    np.testing.assert_array_equal(ours.pixels, blended(pixels, said, palette))


class Strange(ClassReader):
    """A reader to which everything is as strange as it is green."""

    def segment(self, pixels):
        self.green = pixels[..., 1] / 255
        self.reads = super().segment(np.where(pixels < 9, pixels, ROAD))
        return self.reads

    def unknown(self, picture):
        return self.green.astype(np.float32)


def test_pasted_objects_are_shown_where_they_were_found_worst(drawn, tmp_path):
    write_street(tmp_path / "street", 3)
    write_thing(tmp_path)
    data, objects = segmentation.read_street_scenes(tmp_path / "street"), read_objects(tmp_path)
    network = Strange()
    result = outliers.score(data, objects, {"mine": network}, seed=0)["mine"]
    result.per_picture[:] = [0.9, 0.1, 0.5]
    scenes.outlier_sheet(data, objects, 0, result, network, "mine")
    assert drawn.title == "mine: of 3 pictures of street, those with the worst AP"
    titles = [row.title for row in drawn.rows]
    assert titles == ["001: AP 0.100", "002: AP 0.500", "000: AP 0.900"]
    for row in drawn.rows:
        captions = [panel.caption for panel in row.panels]
        assert captions == ["pasted object", "unknown", "classes"]
        assert all(panel.pixels.shape == (72, 96, 3) for panel in row.panels)
        outline = (row.panels[0].pixels == scenes.EDGE).all(-1)
        assert outline.any()
        assert (row.panels[1].pixels[outline] == scenes.EDGE).all()
