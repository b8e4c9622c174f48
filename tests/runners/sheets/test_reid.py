"""The sheet of re-identification shows the worst query of each person, with true similarities."""

import numpy as np
import pytest

from streamvis.datasets.motchallenge import rows
from streamvis.evaluation.reid import LabelledEmbeddings, evaluate
from streamvis.models.crops import crop
from streamvis.runners import reid
from streamvis.runners.detection import frames_of
from streamvis.runners.reid import ReidResult
from streamvis.runners.sheets import reid as sheets
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence
from streamvis.viz.sheets.reid import TILE


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    scene = SyntheticScene(seed=3, people=2, size=(160, 120), fps=5, seconds=2)
    (one,) = reid.read_sequences([write_sequence(tmp_path_factory.mktemp("s") / "street", scene)])
    return one


@pytest.fixture
def result(sequence) -> ReidResult:
    """Three people in three frames each; person 7 looks like 8 in frame 5, everyone else alike."""
    people = rows(
        frames=[1, 1, 1, 5, 5, 5, 9, 9, 9],
        ids=[7, 8, 9] * 3,
        boxes=[[10 + 40 * i, 20, 30 + 40 * i, 80] for i in range(3)] * 3,
    )
    vectors = np.eye(3, dtype=np.float32)[[0, 1, 2, 1, 1, 2, 0, 1, 2]]
    embeddings = LabelledEmbeddings(vectors, people.ids, people.frames, sequence.fps)
    return ReidResult(sequence, people, embeddings, *evaluate(embeddings, 0.5))


def test_each_person_answered_wrongly_is_shown_once_beside_the_ranked_ones(result, monkeypatch):
    taken = []
    monkeypatch.setattr(sheets, "lineup_sheet", lambda title, sections: taken.append(sections))
    sheets.reid_sheet([result], "mine")
    ((section,),) = taken
    assert section.title == "street"
    assert section.note.startswith("9 crops, 3 people, 9 queries: rank-1 ")
    titles = [lineup.title for lineup in section.lineups]
    assert titles[0].startswith("person 7, frame 5: the first right answer has rank ")
    people = [title.split(",")[0] for title in titles]
    assert len(set(people)) == len(people)
    assert "person 9" not in people  # always recognised
    worst = section.lineups[0]
    assert worst.asked.lines == ("person 7", "")
    assert [face.right for face in worst.answers] == [
        face.lines[0] == "person 7" for face in worst.answers
    ]
    assert worst.answers[0].lines[0] == "person 8"
    assert worst.answers[0].lines[1].startswith("1.00 ")


def test_a_face_is_the_persons_own_crop_in_the_shape_of_a_tile(result):
    pictures = sheets._pictures(result, {4, 8})
    assert set(pictures) == {4, 8}
    frames = list(frames_of(result.sequence)())
    for row, found in pictures.items():
        box = result.people.boxes[row]
        assert found.shape == (*TILE, 3)
        (grown,) = sheets._fitted(box[None], *TILE)
        assert (grown[:2] <= box[:2]).all()
        assert (grown[2:] >= box[2:]).all()
        width, height = grown[2:] - grown[:2]
        assert height / width == pytest.approx(TILE[0] / TILE[1])
        expected = crop(frames[result.people.frames[row] - 1], grown[None], TILE)[0]
        np.testing.assert_array_equal(found, expected)


def test_a_sheet_is_drawn_of_results_without_a_mistake_too(result):
    vectors = np.eye(3, dtype=np.float32)[[0, 1, 2] * 3]
    right = LabelledEmbeddings(vectors, result.people.ids, result.people.frames, 5.0)
    perfect = ReidResult(result.sequence, result.people, right, *evaluate(right, 0.5))
    assert not len(sheets._worst(perfect))
    whole, empty = sheets.reid_sheet([result], "mine"), sheets.reid_sheet([perfect], "mine")
    assert whole.dtype == empty.dtype == np.uint8
    assert whole.shape[0] > empty.shape[0]
