"""Re-identification by embedders that know people, or know nothing."""

from pathlib import Path

import numpy as np
import pytest

from streamvis.datasets.motchallenge import read_sequences
from streamvis.errors import DataError
from streamvis.runners import reid
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence

SETTINGS = {"every": 2, "apart_s": 1.0, "min_visibility": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    scene = SyntheticScene(seed=3, people=3, size=(320, 240), fps=8, seconds=3)
    return write_sequence(tmp_path_factory.mktemp("sequences") / "made-up", scene)


class Colours:
    """The mean colour of a crop, in place of an embedding."""

    size = (32, 16)

    def __call__(self, crops):
        mean = crops.reshape(len(crops), -1, 3).mean(1).astype(np.float32)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)


class Constant:
    """The same vector for everyone."""

    size = (32, 16)

    def __call__(self, crops):
        return np.tile(np.float32([1, 0]), (len(crops), 1))


def test_colours_identify_people_and_a_constant_does_not(folder, capsys):
    (sequence,) = reid.read_sequences([folder])
    colours, constant = (reid.score(sequence, one, **SETTINGS) for one in (Colours(), Constant()))
    assert colours.scores.rank1 > 0.6
    assert colours.scores.auc["1 s"] > 0.8
    assert constant.scores.auc["1 s"] == pytest.approx(0.5)
    assert colours.scores.map > constant.scores.map
    assert colours.embeddings.vectors.shape == (len(colours.people), 3)
    found = reid.report([colours])
    assert list(found) == ["made-up"]
    assert found["made-up"]["rank1"] == colours.scores.rank1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_one_frame_leaves_nothing_to_compare(folder):
    (sequence,) = read_sequences(folder)
    with pytest.raises(DataError, match=r"nothing to compare .* --every"):
        reid.score(sequence, Colours(), **{**SETTINGS, "every": 1000})
