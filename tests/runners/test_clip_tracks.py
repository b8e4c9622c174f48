"""People followed in clips: who is kept, what is written, and that nothing is followed twice."""

import json
import math

import numpy as np
import pytest
from labelled_clips import write_clips
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.clips import Clip, read_clips
from streamvis.datasets.motchallenge import Rows, rows
from streamvis.errors import DataError, UsageError
from streamvis.runners import clip_tracks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


def walkers(clip) -> Rows:
    """Ten frames at 10/s: tall 1 and 2 side by side, low 3, brief 4, and tall 5 far away."""
    boxes = {
        1: [10, 10, 30, 70], 2: [32, 10, 52, 70], 3: [10, 10, 20, 40], 5: [80, 10, 96, 70]
    }  # fmt: skip
    found = [(n, id_, box) for n in range(1, 11) for id_, box in boxes.items()]
    found += [(n, 4, [10, 10, 30, 70]) for n in (1, 2, 3)]
    frames, ids, placed = zip(*found, strict=True)
    return rows(np.array(frames), np.array(ids), np.array(placed, float))


def test_the_tall_who_are_followed_for_long_become_clips_of_one_person(folder, tmp_path):
    people = clip_tracks.track_clips(folder, tmp_path, walkers, min_height=48, min_s=0.6)
    clips, written = read_clips(folder), read_clips(tmp_path)
    assert len(people) == len(written) == 60
    assert [clip.track for clip in written[:3]] == [1, 2, 5]
    for i, one in enumerate(written):
        whole = clips[i // 3]
        assert (one.label, one.source) == (whole.label, whole.source)
        assert one.path.resolve() == whole.path.resolve()
        assert (one.start_s, one.end_s) == (whole.start_s, whole.end_s)
        assert one.tracks is not None
        assert one.tracks.is_file()
    assert [one.height for one in people[:3]] == [60, 60, 60]
    assert [one.near for one in people[:3]] == [1, 1, 0]
    assert clip_tracks.counts(people) == [
        clip_tracks.ActionCount("moving", 10, 30), clip_tracks.ActionCount("still", 10, 30)
    ]  # fmt: skip


def test_clips_that_were_followed_before_are_not_followed_again(folder, tmp_path):
    clip_tracks.track_clips(folder, tmp_path, walkers, min_height=48, min_s=0.6)
    before = (tmp_path / "clips.csv").read_bytes()
    (path,) = tmp_path.glob("tracks/00003-1-*.txt")
    path.unlink()
    followed = []

    def again(clip) -> Rows:
        followed.append(clip.path)
        return walkers(clip)

    clip_tracks.track_clips(folder, tmp_path, again, min_height=48, min_s=0.6)
    assert followed == [read_clips(folder)[3].path]
    assert (tmp_path / "clips.csv").read_bytes() == before


def test_another_part_of_a_video_is_followed_anew(folder, tmp_path):
    video = read_clips(folder)[0].path
    followed = []

    def follow(clip) -> Rows:
        followed.append((clip.start_s, clip.end_s))
        return walkers(clip)

    for ends in ((0.5, 1), (0.5, 0.9)):
        listed = [f"{video},{label},x,0,{end}" for label, end in zip("ab", ends, strict=True)]
        (tmp_path / "two.csv").write_text("\n".join(["path,label,source,start,end", *listed]))
        clip_tracks.track_clips(tmp_path / "two.csv", tmp_path, follow, min_height=48, min_s=0.3)
    assert followed == [(0, 0.5), (0, 1), (0, 0.9)]


def test_times_of_hours_are_written_to_the_microsecond(tmp_path):
    times = [(0.0, math.inf), (7200.123456, 7203.5), (98765.4321, 98766.0)]
    people = [
        clip_tracks.ClipPerson(
            Clip(tmp_path / "a.mp4", label, "a", start, end), tmp_path / "a.txt", 1, 60.0, 0.0
        )
        for label, (start, end) in zip(("still", "moving", "still"), times, strict=True)
    ]
    clip_tracks.write_people(tmp_path / "clips.csv", people)
    assert [(one.start_s, one.end_s) for one in read_clips(tmp_path)] == times


def test_a_list_of_clips_is_not_replaced_by_that_of_their_people(folder):
    before = (folder / "clips.csv").read_bytes()
    for data in (folder, folder / "clips.csv"):
        with pytest.raises(UsageError, match=r"its clips\.csv is what is read"):
            clip_tracks.track_clips(data, folder, walkers, min_height=48, min_s=0.6)
    assert (folder / "clips.csv").read_bytes() == before


def test_clips_of_people_are_not_followed(folder, tmp_path):
    clip_tracks.track_clips(folder, tmp_path / "a", walkers, min_height=48, min_s=0.6)
    with pytest.raises(DataError, match="lists people along tracks already; expected whole clips"):
        clip_tracks.track_clips(tmp_path / "a", tmp_path / "b", walkers, min_height=48, min_s=0.6)


def test_fighters_are_followed_by_the_command(data, tmp_path):
    clips = tmp_path / "two.csv"
    listed = [data / "actions/fight/fi005.mp4", data / "actions/normal/nofi004.mp4"]
    lines = [f"{path},{path.parent.name},{i},0,1.5" for i, path in enumerate(listed)]
    clips.write_text("\n".join(["path,label,source,start,end", *lines]))
    given = ["track-clips", str(clips), "--out", str(tmp_path / "people"), "--json"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.stderr
    found = {one["action"]: one["people"] for one in json.loads(result.stdout)}
    assert found["fight"] >= 2
    lines = (tmp_path / "people/clips.csv").read_text().splitlines()
    assert len(lines) == 1 + sum(found.values())
