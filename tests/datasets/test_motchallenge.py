import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.datasets.motchallenge import (
    read_detections,
    read_results,
    read_sequence,
    read_sequences,
    read_truth,
    rows,
    write_results,
)
from streamvis.errors import DataError

INFO = "[Sequence]\nname=A\nframeRate=7\nseqLength=9\nimWidth=64\nimHeight=48\n"


def text_file(folder, text, name="rows.txt"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_mot15_has_world_coordinates_and_no_classes(tmp_path):
    path = text_file(tmp_path, "1,4,10,20,30,40,1,-4.5,7.25,0\n2,4,11,20,30,40,0,-1,-1,-1\n")
    truth, layout = read_truth(path, 9)
    assert layout == "MOT15"
    np.testing.assert_array_equal(truth.frames, [1, 2])
    np.testing.assert_array_equal(truth.boxes[0], [10, 20, 40, 60])
    np.testing.assert_array_equal(truth.scores, [1, 0])
    np.testing.assert_array_equal(truth.classes, [1, 1])
    np.testing.assert_array_equal(truth.world, [[-4.5, 7.25], [np.nan, np.nan]])


def test_mot16_has_classes_and_visibility(tmp_path):
    path = text_file(tmp_path, "1,4,10,20,30,40,1,1,0.25\n1,5,10,20,30,40,0,8,1\n")
    truth, layout = read_truth(path, 9)
    assert layout == "MOT16"
    np.testing.assert_array_equal(truth.classes, [1, 8])
    np.testing.assert_array_equal(truth.visibility, [0.25, 1])
    assert np.isnan(truth.world).all()


def test_mot16_without_visibility_is_told_by_its_class(tmp_path):
    truth, layout = read_truth(text_file(tmp_path, "1,4,10,20,30,40,1,7\n"), 9)
    assert layout == "MOT16"
    np.testing.assert_array_equal(truth.visibility, [1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1,0,0,5,5,1\n1,2,0,0,5\n", r"rows\.txt:2: 5 columns; expected 7 to 10"),
        ("1,1,0,0,5,5,1\n\n1,2,0,0,5,5,1,1,1\n", r":3: 9 columns, but line 1 has 7"),
        ("1,1,0,0,nan,5,1\n", r":1: column 5 is nan"),
        ("1,1,0,0,5,1e999,1\n", r":1: column 6 is inf"),
        ("1,1,0,0,wide,5,1\n", r":1: 'wide' is not a number"),
        ("1,1,0,0,-5,5,1\n", r":1: a box of -5×5 px"),
        ("0,1,0,0,5,5,1\n", r":1: frame 0; the sequence has frames 1 to 9"),
        ("10,1,0,0,5,5,1\n", r":1: frame 10; the sequence has frames 1 to 9"),
        ("1000000000,1,0,0,5,5,1\n", r":1: frame 1000000000;"),
        ("1.5,1,0,0,5,5,1\n", r":1: frame 1.5;"),
        ("1,1.5,0,0,5,5,1\n", r":1: id 1.5 is not a whole number"),
        ("1,-1,0,0,5,5,1\n", r":1: id -1; tracks have ids from 0"),
        ("1,1,0,0,5,5,1\n1,1,2,2,5,5,1\n", r":2: id 1 is in frame 1 already, at line 1"),
    ],
)
def test_hostile_rows_are_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_results(text_file(tmp_path, text), 9)


def test_a_class_that_is_none_names_its_line(tmp_path):
    path = text_file(tmp_path, "1,1,0,0,5,5,1,1,1\n2,1,0,0,5,5,1,-4.5,7\n")
    with pytest.raises(DataError, match=r":2: class -4.5 in column 8"):
        read_truth(path, 9)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00rubbish", None])
def test_unreadable_files_are_named(tmp_path, content):
    path = tmp_path / "rows.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.txt"):
        read_results(path, 9)


@settings(max_examples=200)
@given(st.text(alphabet="0123456789.,-+einfa \n", max_size=80))
def test_any_text_is_rows_or_a_data_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "fuzz.txt"
    path.write_text(text)
    try:
        found = read_detections(path, 9)
    except DataError:
        return
    assert np.isfinite(found.boxes).all()
    assert ((found.frames >= 1) & (found.frames <= 9)).all()


def test_an_empty_file_has_no_rows(tmp_path):
    assert len(read_results(text_file(tmp_path, "\n \n"), 9)) == 0


finite = st.floats(-5000, 5000)
row = st.tuples(finite, finite, st.floats(0, 500), st.floats(0, 500), st.floats(0, 1))


@settings(max_examples=50)
@given(st.lists(row, max_size=8), st.booleans())
def test_results_read_back_as_they_were_written(tmp_path_factory, boxes, on_ground):
    table = np.array(boxes).reshape(-1, 5)
    n = len(table)
    xyxy = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    world = table[:, :2] / 7 if on_ground else None
    written = rows(np.arange(n) + 1, np.arange(n) * 3, xyxy, table[:, 4], world)
    path = tmp_path_factory.getbasetemp() / "results.txt"
    write_results(path, written)
    read = read_results(path, 9)
    np.testing.assert_array_equal(read.frames, written.frames)
    np.testing.assert_array_equal(read.ids, written.ids)
    np.testing.assert_allclose(read.boxes, written.boxes, atol=0.011)
    np.testing.assert_allclose(read.scores, written.scores, atol=5.1e-5)
    np.testing.assert_allclose(read.world, written.world, atol=5.1e-5)


def test_a_sequence_says_what_it_has(tmp_path):
    folder = tmp_path / "a"
    text_file(folder, INFO, "seqinfo.ini")
    text_file(folder, "1,1,0,0,5,5,1,1,1\n", "gt/gt.txt")
    text_file(folder, "3,-1,0,0,5,5,.7,-1,-1,-1\n", "det/det.txt")
    (folder / "img1").mkdir()
    sequence = read_sequence(folder)
    assert (sequence.name, sequence.fps, sequence.length) == ("A", 7, 9)
    assert (sequence.width, sequence.height, sequence.layout) == (64, 48, "MOT16")
    assert sequence.video == folder / "img1"
    assert sequence.ground_plane is None
    np.testing.assert_array_equal(sequence.detections.scores, [0.7])
    assert read_sequences(tmp_path)[0].folder == folder
    assert read_sequences(folder)[0].folder == folder


def test_frames_split_in_order():
    found = rows([3, 1, 3], [0, 1, 2], np.zeros((3, 4)))
    assert [at.ids.tolist() for at in found.by_frame(4)] == [[1], [], [0, 2], []]


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ("", r"no section \[Sequence\]"),
        ("frameRate=7", "seqinfo.ini"),
        (
            INFO.replace("seqLength=9", "seqLength=1000000000"),
            "seqLength=1000000000; expected a whole number from 1",
        ),
        (INFO.replace("seqLength=9", "seqLength=0"), "seqLength=0; expected a number above 0"),
        (INFO.replace("seqLength=9", "seqLength=2.5"), "seqLength=2.5"),
        (INFO.replace("frameRate=7", "frameRate=nan"), "frameRate=nan"),
        (INFO.replace("imWidth=64\n", ""), "has no imWidth"),
    ],
)
def test_a_wrong_seqinfo_is_named(tmp_path, info, message):
    text_file(tmp_path, info, "seqinfo.ini")
    with pytest.raises(DataError, match=message):
        read_sequence(tmp_path)


def test_a_folder_without_sequences_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no seqinfo\.ini here or one level below"):
        read_sequences(tmp_path)
    with pytest.raises(DataError, match=r"seqinfo\.ini: No such file"):
        read_sequence(tmp_path)
