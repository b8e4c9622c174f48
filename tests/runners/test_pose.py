"""Scoring of pose networks on folders of people with keypoints."""

import numpy as np
import pytest
from keypoint_folders import write_folder

from streamvis.datasets.keypoints import is_tuned_on
from streamvis.errors import DataError
from streamvis.runners import pose as runner
from streamvis.runners.pose import Estimate
from streamvis.runners.progress import silent
from streamvis.runners.sheets.pose import pose_sheet

pytest.importorskip("pycocotools")


class FromTruth:
    """Knows where everybody is, but for some px."""

    def __init__(self, people, error_px):
        self.points = {tuple(one.box): one.points + error_px for one in people}

    def __call__(self, pixels, boxes):
        assert pixels.shape == (160, 200, 3)
        points = np.array([self.points[tuple(box)] for box in boxes])
        spread = np.broadcast_to(4 * np.eye(2), (len(boxes), 17, 2, 2))
        return Estimate(points, np.full((len(boxes), 17), 0.8), spread)


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "hand", 9)


def test_networks_are_scored_side_by_side(folder):
    people = runner.read([folder], "all")
    results = {
        name: runner.score(people, FromTruth(people, error), silent)
        for name, error in (("exact", 0), ("astray", 30))
    }
    report = runner.report(results)
    assert report["exact"]["ap"] == pytest.approx(1)
    assert report["astray"]["ap"] < 0.5
    assert report["exact"]["people"] == 18
    assert report["exact"]["ms_per_person"] > 0
    scores, quality, joints = runner.tables(results)
    assert [row[0] for row in scores.rows] == ["exact", "astray"]
    assert len(scores.rows[0]) == len(scores.columns)
    assert quality.rows[0][1] == pytest.approx(0.2**2)
    assert len(joints.rows) == 17
    assert len(joints.rows[0]) == len(joints.columns)


def test_parts_are_a_third_and_the_rest(folder):
    both = [runner.read([folder], part) for part in ("tuned", "measured")]
    assert all(is_tuned_on(one.path) for one in both[0])
    assert not any(is_tuned_on(one.path) for one in both[1])
    assert sum(map(len, both)) == len(runner.read([folder], "all"))


def test_a_part_without_anybody_is_an_error(tmp_path):
    folder = write_folder(tmp_path / "hand", 1)
    empty = "measured" if is_tuned_on(folder / "images/hand-0000.png") else "tuned"
    with pytest.raises(DataError, match=f"in the part '{empty}'.*use --part all"):
        runner.read([folder], empty)


def test_the_sheet_has_the_worst_people_first(folder):
    people = runner.read([folder], "all")
    result = runner.score(people, FromTruth(people, 5), silent)
    sheet = pose_sheet(result, "made")
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
    assert sheet.shape[0] > 4 * 192


def test_the_shipped_network_has_the_precision_of_its_card_on_pictures_it_has_not_learnt(data):
    people = runner.read([data / "pose"], "measured")
    estimator = runner.NetworkEstimator("pose-lite", "cpu", "fp32", "auto")
    scores = runner.score(people, estimator, silent).scores
    assert scores.people == 215
    assert scores.ap is not None  # 0.301 in bf16
    assert scores.ap > 0.29
    assert scores.brier < 0.2
