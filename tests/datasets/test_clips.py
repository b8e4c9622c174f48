"""Which clips there are, and that no split has a source on both sides."""

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streamvis.datasets.clips import (
    Clip,
    check_there,
    published_split,
    read_clips,
    source_folds,
    source_of,
)
from streamvis.errors import DataError

labelled = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["fight", "normal"])),
    min_size=2,
    max_size=60,
)


def made(rows) -> list[Clip]:
    return [Clip(Path(f"{i}.mp4"), label, source) for i, (source, label) in enumerate(rows)]


def files(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@given(labelled, st.integers(2, 5), st.integers(0, 3))
def test_each_clip_is_tested_once_by_those_who_never_saw_its_source(rows, count, seed):
    clips = made(rows)
    assume(len({clip.source for clip in clips}) >= count)
    splits = source_folds(clips, count, seed)
    assert len(splits) == count
    assert sorted(i for _, held in splits for i in held) == list(range(len(clips)))
    for train, held in splits:
        assert held
        assert sorted([*train, *held]) == list(range(len(clips)))
        assert not {clips[i].source for i in train} & {clips[i].source for i in held}
    assert source_folds(clips, count, seed) == splits


def test_folds_are_alike_in_size_and_labels():
    rows = [(f"s{i}", label) for i in range(30) for label in ("fight", "normal")]
    for _, held in source_folds(made(rows), 5):
        assert Counter(made(rows)[i].label for i in held) == {"fight": 6, "normal": 6}


def test_more_folds_than_sources_cannot_be():
    with pytest.raises(DataError, match="3 folds of 2 sources"):
        source_folds(made([("a", "fight"), ("b", "normal")]), 3)


def test_a_csv_tells_labels_sources_and_times(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("path,label,source,start,end\nx/1.mp4,fight,v,1.5,3\n2.mp4,normal,w,,\n")
    first, second = read_clips(path)
    assert first == Clip(tmp_path / "x/1.mp4", "fight", "v", 1.5, 3.0)
    assert second == Clip(tmp_path / "2.mp4", "normal", "w", 0.0, math.inf)
    (tmp_path / "clips.csv").write_text("path,label,source\n1.mp4,fight,v\n2.mp4,normal,w\n")
    assert [clip.label for clip in read_clips(tmp_path)] == ["fight", "normal"]


def test_a_csv_tells_of_people_along_tracks(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("path,label,source,tracks,track\n1.mp4,fight,v,t/1.txt,3\n2.mp4,normal,w,,\n")
    person, whole = read_clips(path)
    assert person == Clip(tmp_path / "1.mp4", "fight", "v", tracks=tmp_path / "t/1.txt", track=3)
    assert (whole.tracks, whole.track) == (None, 0)
    files(tmp_path, "1.mp4", "2.mp4")
    with pytest.raises(DataError, match=r"1 files of tracks, but 1 of them do not exist; .*1\.txt"):
        check_there(path, [person, whole])
    files(tmp_path, "t/1.txt")
    check_there(path, [person, whole])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,label\n1.mp4,fight\n", "line 2: source"),
        ("path,label,source\n1.mp4,,a\n", "line 2: label"),
        ("path,label,source,start\n1.mp4,fight,a,soon\n", "'soon', expected seconds"),
        ("path,label,source,start,end\n1.mp4,fight,a,3,2\n", "start is 3 s and end is 2 s"),
        ("path,label,source\n1.mp4,fight,a\n", "at least two actions"),
        ("path,label,source,tracks,track\n1.mp4,fight,a,t.txt,\n", "expected a file of tracks and"),
        ("path,label,source,tracks,track\n1.mp4,fight,a,t.txt,0\n", "track is '0'; expected a"),
    ],
)
def test_a_wrong_csv_is_told_by_its_line(tmp_path, text, told):
    path = tmp_path / "clips.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=told):
        read_clips(path)


def test_a_folder_for_each_action(tmp_path):
    files(tmp_path, "fight/a.mp4", "fight/notes.txt", "normal/b.avi")
    assert [(c.label, c.source) for c in read_clips(tmp_path)] == [("fight", "a"), ("normal", "b")]
    with pytest.raises(DataError, match="neither"):
        read_clips(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "label", "source"),
    [
        ("v_ApplyLipstick_g03_c02.avi", "ApplyLipstick", "ApplyLipstick g03"),
        ("April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "brush_hair", "April_09"),
        ("Fellowship_1_sword_f_cm_np2_ri_med_3.avi", "sword", "Fellowship_1"),
        ("fight_1.mp4", "fight", "fight_1"),
    ],
)
def test_published_names_tell_the_source(name, label, source):
    assert source_of(Path(name), label) == source


def test_ucf_101_as_published(tmp_path):
    names = [f"{k}/v_{k}_g{g:02}_c01.avi" for k in ("Archery", "Bowling") for g in (1, 2, 8)]
    files(tmp_path, *(f"UCF-101/{name}" for name in names))
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_text("".join(f"{n} 1\n" for n in names if "g08" in n))
    (lists / "testlist01.txt").write_text("".join(f"{n}\n" for n in names if "g08" not in n))
    clips = read_clips(tmp_path)
    assert len(clips) == 6
    train, test = published_split(tmp_path, clips, 1)
    assert {clips[i].path.name[-11:-8] for i in train} == {"g08"}
    assert (len(train), len(test)) == (2, 4)
    with pytest.raises(DataError, match="splits are 1, 2 and 3"):
        published_split(tmp_path, clips, 4)
    (lists / "testlist01.txt").write_text("Archery/v_Archery_g09_c01.avi\n")
    with pytest.raises(DataError, match=r"g09_c01\.avi, which does not exist"):
        published_split(tmp_path, clips, 1)


def test_hmdb_51_as_published(tmp_path):
    files(tmp_path, *(f"hmdb51_org/{label}/{n}.avi" for label in ("hug", "kick") for n in "xyz"))
    lists = tmp_path / "testTrainMulti_7030_splits"
    lists.mkdir()
    for label in ("hug", "kick"):
        text = "x.avi 1\ny.avi 2\nz.avi 0\n"
        (lists / f"{label}_test_split2.txt").write_text(text)
    clips = read_clips(tmp_path)
    train, test = published_split(tmp_path, clips, 2)
    assert [(clips[i].label, clips[i].path.stem) for i in train] == [("hug", "x"), ("kick", "x")]
    assert [clips[i].path.stem for i in test] == ["y", "y"]
    with pytest.raises(DataError, match="splits are 1, 2 and 3"):
        published_split(tmp_path, clips, 1)


def test_folders_of_one_s_own_have_no_published_split(tmp_path):
    files(tmp_path, "fight/a.mp4", "normal/b.avi")
    with pytest.raises(DataError, match="no published split"):
        published_split(tmp_path, read_clips(tmp_path), 1)


def test_the_clips_of_fights(data):
    clips = read_clips(data / "actions")
    assert Counter(clip.label for clip in clips) == {"fight": 116, "normal": 116}
    for _, held in source_folds(clips, 5):
        assert 40 <= len(held) <= 52
