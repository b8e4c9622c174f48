"""A source and a data set read the same seqinfo.ini in the same way."""

import pytest

from streamvis.datasets.motchallenge import read_info
from streamvis.errors import DataError, SourceError
from streamvis.sources import resolve
from streamvis.sources.seqinfo import read_seqinfo

FIELDS = "frameRate=7\nseqLength=9\nimWidth=64\nimHeight=48\n"


def written(folder, text):
    path = folder / "seqinfo.ini"
    path.write_text(text)
    (folder / "frames").mkdir(exist_ok=True)
    (folder / "frames/1.jpg").touch()
    return path


def test_a_source_and_a_data_set_agree(tmp_path):
    path = written(tmp_path, f"[Sequence]\nNAME=Street-1\nimDir=frames\n{FIELDS}")
    info = read_info(path)
    (spec,) = resolve([str(tmp_path)])
    assert (info.name, info.fps, info.video) == ("Street-1", 7, tmp_path / "frames")
    assert (spec.id, spec.fps, spec.uri) == ("street-1", 7, str(tmp_path / "frames"))


def test_the_folder_names_a_sequence_without_a_name(tmp_path):
    info = read_seqinfo(written(tmp_path, f"[Sequence]\n{FIELDS}"), DataError)
    assert info.name == tmp_path.name
    assert info.video is None
    assert info.images == tmp_path / "img1"


def test_percent_signs_are_taken_as_they_stand(tmp_path):
    info = read_seqinfo(written(tmp_path, "[Sequence]\nname=50%(x)s\n"), DataError)
    assert info.name == "50%(x)s"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is not a MOTChallenge seqinfo\.ini: no section \[Sequence\]"),
        ("frameRate=7", r"is not a MOTChallenge seqinfo\.ini: File contains no section headers"),
        ("[Sequence]\nframeRate=seven\n", "frameRate=seven; expected a number above 0"),
    ],
)
def test_both_refuse_alike(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(SourceError, match=message):
        resolve([str(tmp_path)])
    with pytest.raises(DataError, match=message):
        read_info(path)
