"""`streamvis label-poses` from boxes to keypoints, with a teacher that finds what is bright."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from labelled_clips import write_clips
from pose_teacher_file import write_teacher
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.clips import read_clips
from streamvis.datasets.motchallenge import rows
from streamvis.runners.clip_tracks import track_clips


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two pictures: a person, one in doubt, a true region to ignore, a small person; nobody."""
    (tmp_path / "street/images").mkdir(parents=True)
    pixels = np.zeros((240, 320, 3), np.uint8)
    cv2.rectangle(pixels, (40, 40), (80, 160), (255, 255, 255), -1)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / "street/images" / name), pixels)
    common = {"image_id": 1, "category_id": 1}
    boxes = [
        {"bbox": [40, 40, 41, 121], "iscrowd": 0, "box_label": "gt"},
        {"bbox": [200, 40, 40, 120], "iscrowd": 1, "box_label": "predicted"},
        {"bbox": [200, 40, 40, 120], "iscrowd": 1, "box_label": "gt"},
        {"bbox": [40, 40, 20, 40], "iscrowd": 0, "box_label": "gt"},
    ]
    labels = {
        "categories": [{"id": 1, "name": "person"}],
        "images": [
            {"id": i, "file_name": name, "width": 320, "height": 240}
            for i, name in enumerate(("a.png", "b.png"), 1)
        ],
        "annotations": [{"id": i, **common, **box} for i, box in enumerate(boxes, 1)],
    }
    (tmp_path / "street/annotations.json").write_text(json.dumps(labels))
    return tmp_path / "street"


def label(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, ["label-poses", *map(str, arguments), "--json"])
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout) if code == 0 else result.stderr


def test_people_of_a_folder_have_keypoints(folder, teacher, tmp_path):
    out, sheet = tmp_path / "out", tmp_path / "sheet.png"
    given = [folder, "--teacher", teacher, "--out", out, "--sure", 0.01]
    (count,) = label(*given, "--sheet", sheet)
    assert (count["source"], count["pictures"], count["people"]) == ("street", 1, 2)
    written = json.loads((out / "annotations.json").read_text())
    assert [image["file_name"] for image in written["images"]] == ["street_a.png"]
    first, second = written["annotations"]
    assert (first["box_label"], second["box_label"]) == ("gt", "predicted")
    assert first["presence"] == pytest.approx(1, abs=0.01)
    assert second["presence"] == pytest.approx(0, abs=0.01)
    points = np.array(first["keypoints"]).reshape(17, 3)
    assert set(points[:, 2]) <= {0, 2}
    assert (points[points[:, 2] == 0] == 0).all()
    assert first["num_keypoints"] == (points[:, 2] == 2).sum() > 0
    assert len(first["point_scores"]) == 17
    assert len(first["world"]) == 51
    known = points[points[:, 2] == 2, :2]
    assert ((known > [40 - 13, 40 - 13]) & (known < [81 + 13, 161 + 13])).all()
    assert cv2.imread(str(sheet)) is not None
    before = (out / "annotations.json").read_bytes()
    label(*given)  # goes on, and there is nothing left
    after = json.loads((out / "annotations.json").read_bytes())
    assert after["annotations"] == json.loads(before)["annotations"]


def test_people_are_labelled_along_their_tracks(teacher, tmp_path):
    def walkers(clip):
        box = [[10, 10, 60, 70]]
        return rows(np.arange(1, 11), np.full(10, 7), np.array(box * 10, float))

    clips = write_clips(tmp_path / "clips")
    track_clips(clips, tmp_path / "people", walkers, min_height=48, min_s=0.6)
    out = tmp_path / "out"
    label(tmp_path / "people", "--teacher", teacher, "--out", out, "--every", 0.2)
    written = json.loads((out / "annotations.json").read_text())
    first = [i for i in written["images"] if i["file_name"].startswith("moving_0_")]
    assert [image["media_us"] for image in first] == [0, 200_000, 400_000, 600_000, 800_000]
    assert {row["track"] for row in written["annotations"]} == set(range(1, 21))  # of 20 clips
    assert len(written["annotations"]) == len(written["images"])


def test_clips_of_one_video_may_have_tracks_of_their_own(teacher, tmp_path):
    def walkers(clip):
        box = [[10, 10, 60, 70]]
        frames = np.arange(1, 6) + round(10 * clip.start_s)
        return rows(frames, np.full(5, 7), np.array(box * 5, float))

    video = read_clips(write_clips(tmp_path / "clips"))[0].path
    listed = ["path,label,source,start,end", f"{video},a,x,0,0.5", f"{video},b,x,0.5,1"]
    (tmp_path / "two.csv").write_text("\n".join(listed))
    track_clips(tmp_path / "two.csv", tmp_path / "people", walkers, min_height=48, min_s=0.3)
    out = tmp_path / "out"
    label(tmp_path / "people", "--teacher", teacher, "--out", out)
    written = json.loads((out / "annotations.json").read_text())
    assert [row["track"] for row in written["annotations"]] == [1] * 5 + [2] * 5


def test_two_videos_of_one_name_are_refused(teacher, tmp_path):
    def walkers(clip):
        return rows(np.arange(1, 11), np.full(10, 7), np.array([[10, 10, 60, 70]] * 10, float))

    video = read_clips(write_clips(tmp_path / "clips"))[0].path
    copies = [tmp_path / camera / "monday/1.avi" for camera in "ab"]
    for copy in copies:
        copy.parent.mkdir(parents=True)
        shutil.copyfile(video, copy)
    listed = [f"{copy},{copy.parts[-3]},{copy.parts[-3]}" for copy in copies]
    (tmp_path / "two.csv").write_text("\n".join(["path,label,source", *listed]))
    track_clips(tmp_path / "two.csv", tmp_path / "people", walkers, min_height=48, min_s=0.6)
    told = label(tmp_path / "people", "--teacher", teacher, "--out", tmp_path / "out", code=2)
    assert "would have the same names, monday_1_…; expected other names of videos" in told


def test_whole_frames_are_refused_with_the_command_that_finds_people(teacher, tmp_path):
    clips = write_clips(tmp_path / "clips")
    told = label(clips, "--teacher", teacher, "--out", tmp_path / "out", code=2)
    assert "expected people along tracks. Find them with: streamvis track-clips" in told
