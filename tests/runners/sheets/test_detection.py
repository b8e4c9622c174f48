"""The sheet of a detector's worst mistakes, with a detector whose mistakes are known."""

from contextlib import closing

import cv2
import numpy as np
import pytest
from factories import detections

from streamvis.cli.output import write_png
from streamvis.runners import detection
from streamvis.runners.sheets.detection import detection_sheet, section_of
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence

SCENE = SyntheticScene(seed=3, people=3, size=(320, 240), fps=8, seconds=2)


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    folder = write_sequence(tmp_path_factory.mktemp("sequences") / "street", SCENE)
    (street,) = detection.read_datasets([folder], None)
    return street


def test_a_sheet_shows_the_mistakes_where_they_were(street, tmp_path):
    there = iter(street.truth)

    def late(pixels):
        return detections(np.concatenate([next(there).boxes[1:], [[5, 5, 25, 45]]]))

    path = tmp_path / "sheet.png"
    result = detection.score(street, {"late": late})
    write_png(path, detection_sheet([result]))
    assert cv2.imread(str(path)).shape[1] > 1400
    (_, wrong), (_, missed) = section_of(result).rows
    assert len(wrong) == 1  # in the same place all the time
    assert wrong[0].lines[1:] == (
        "score 0.90, IoU 0.00",
        f"nobody labelled there, {len(street.truth)} frames",
    )
    for tile in (*wrong, *missed):
        number = int(tile.lines[0].rpartition(":")[2])
        with closing(street.read()) as pictures:
            shown = next(p for n, p in enumerate(pictures, 1) if n == number)
            np.testing.assert_array_equal(tile.pixels, shown)


def test_nobody_found_is_no_sheet_of_mistakes(street, tmp_path):
    result = detection.score(street, {"asleep": lambda pixels: detections([])})
    write_png(tmp_path / "sheet.png", detection_sheet([result]))
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[0] < 240
