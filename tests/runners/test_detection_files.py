"""Rate, size and length of a file of detections."""

from pathlib import Path

import numpy as np
import pytest

from streamvis.datasets import motchallenge
from streamvis.datasets.motchallenge import SequenceInfo
from streamvis.errors import UsageError
from streamvis.runners.detection_files import DEFAULT_FPS, beside, described

DET = Path("street/det/det.txt")
ROWS = motchallenge.rows(
    frames=np.array([1, 7]),
    ids=np.array([-1, -1]),
    boxes=np.array([[0, 0, 10, 20], [50, 60, 99.2, 79.5]]),
    scores=np.ones(2),
)


def test_what_the_command_line_gives_lies_over_seqinfo_ini():
    own = SequenceInfo("street", 30.0, 640, 480, 9)
    assert described(DET, ROWS, own, None, None, None) == (own, None)
    info, note = described(DET, ROWS, own, 10.0, "320×240", None)
    assert (info, note) == (SequenceInfo("street", 10.0, 320, 240, 9), None)


def test_what_is_not_known_is_assumed_and_said():
    info, note = described(DET, ROWS, None, None, None, None)
    assert info == SequenceInfo("det", DEFAULT_FPS, 100, 80, 7)  # as far as the boxes reach
    assert note is not None
    assert "25 frames/s of 100x80" in note
    assert described(DET, ROWS, None, 5.0, "640x480", None).note is None


@pytest.mark.parametrize("size", ["640", "0x480", "640x", "-640x480", "axb"])
def test_a_size_is_two_numbers_of_pixels(size):
    with pytest.raises(UsageError, match="--size"):
        described(DET, ROWS, None, None, size, None)


def test_a_sequence_keeps_its_files_beside_det_or_above_it(tmp_path):
    det = tmp_path / "det/det.txt"
    det.parent.mkdir()
    assert beside(det, "seqinfo.ini") is None
    (tmp_path / "seqinfo.ini").touch()
    assert beside(det, "seqinfo.ini") == tmp_path / "seqinfo.ini"
    (det.parent / "seqinfo.ini").touch()
    assert beside(det, "seqinfo.ini") == det.parent / "seqinfo.ini"
    other = tmp_path / "other/det.txt"  # what lies above another folder is not its own
    other.parent.mkdir()
    assert beside(other, "seqinfo.ini") is None
