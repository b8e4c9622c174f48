"""The tracker on sequences, from Python: results without printing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamvis.config import Jipda
from streamvis.datasets.motchallenge import read_sequences, rows
from streamvis.errors import DataError
from streamvis.runners import tracking
from streamvis.runners.tracker_inputs import Cues, at_rate
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence

CONFIG = Jipda(space="auto")


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    """A sequence whose ground truth is its public detections too."""
    scene = SyntheticScene(seed=3, people=3, size=(320, 240), fps=8, seconds=4)
    folder: Path = write_sequence(tmp_path_factory.mktemp("sequences") / "made-up", scene)
    (folder / "det").mkdir()
    cells = [line.split(",") for line in (folder / "gt/gt.txt").read_text().splitlines()]
    lines = [",".join([row[0], "-1", *row[2:6], "0.9", "-1", "-1", "-1"]) for row in cells]
    (folder / "det/det.txt").write_text("\n".join(lines) + "\n")
    (one,) = read_sequences(folder)
    return one


def test_perfect_detections_are_tracked_and_scored(sequence, capsys):
    result = tracking.track_public(sequence, CONFIG, Cues())
    one, both = tracking.report([result], "ground")
    assert one["mota"] > 0.7
    assert one["ground"]["mota"] > 0.7
    assert {**both, "name": one["name"], "ground": None} == {**one, "ground": None}
    assert result.note is None
    assert result.run.frames == sequence.length
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_run_is_the_same_from_its_parts(sequence):
    whole = tracking.track_public(sequence, CONFIG, Cues()).run.rows
    parts = tracking.public_detections(sequence.detections, sequence.length)
    info, plane = tracking.info_of(sequence), sequence.ground_plane
    run = tracking.run_tracker(info, plane, CONFIG, at_rate(parts, sequence.fps))
    np.testing.assert_array_equal(run.rows.boxes, whole.boxes)
    np.testing.assert_array_equal(run.rows.ids, whole.ids)


def test_scores_within_nought_and_one_stay_unless_they_are_calibrated(sequence):
    given, calibrated = (
        tracking.public_detections(sequence.detections, sequence.length, calibrate=calibrate)
        for calibrate in (False, True)
    )
    assert all((part.scores == np.float32(0.9)).all() for part in given)
    assert any((part.scores != np.float32(0.9)).any() for part in calibrated)
    assert [len(part.boxes) for part in given] == [len(part.boxes) for part in calibrated]


def test_sequences_that_cannot_be_scored_are_refused(sequence):
    with pytest.raises(DataError, match=r"no gt/gt\.txt"):
        tracking.check_sequences([replace(sequence, truth=None)], public=True, pictures=False)
    with pytest.raises(DataError, match="leave out --switches"):
        tracking.check_sequences([replace(sequence, video=None)], public=True, pictures=True)
    with pytest.raises(DataError, match="two sequences are called made-up"):
        tracking.check_sequences([sequence, sequence], public=True, pictures=False)
    with pytest.raises(DataError, match=r"no det/det\.txt"):
        tracking.track_public(replace(sequence, detections=None), CONFIG, Cues())


def test_a_truth_without_world_coordinates_is_matched_in_the_image(sequence):
    truth = replace(sequence.truth, world=np.full_like(sequence.truth.world, np.nan))
    result = tracking.track_public(replace(sequence, truth=truth), CONFIG, Cues())
    assert not result.on_ground
    in_image = result.trace("image")
    np.testing.assert_array_equal(result.trace("ground").finder, in_image.finder)
    with pytest.raises(DataError, match="--space image"):
        tracking.report([result], "ground")


def test_an_empty_run_has_no_rows(sequence):
    empty = rows(frames=np.zeros(0), ids=np.zeros(0), boxes=np.zeros((0, 4)), scores=np.zeros(0))
    parts = tracking.public_detections(empty, 3)
    info = tracking.info_of(sequence)
    run = tracking.run_tracker(info, None, CONFIG, at_rate(parts, sequence.fps))
    assert (len(run.rows), run.frames) == (0, 3)
