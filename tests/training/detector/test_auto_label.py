"""Annotation of one source: pictures chosen, named and kept, by a detector that counts."""

import re

import cv2
import numpy as np
import pytest
from factories import detections
from hypothesis import given
from hypothesis import strategies as st

from streamvis.datasets.coco import read_coco
from streamvis.errors import UsageError
from streamvis.sources import Picture, resolve
from streamvis.training.detector.annotation import LabelPlan
from streamvis.training.detector.auto_label import file_name, label_source
from streamvis.training.detector.coco_folder import LabelOrigin, open_folder

SCENE = "scene=synthetic:walkers?people=4&seed=2&seconds=4&fps=5&size=160x120"
ORIGIN = LabelOrigin(command="", sources={}, weights_sha256="", streamvis="")
PLAN = LabelPlan(every=1.0, sure=0.7, unsure=0.2)
NO_PIXELS = np.zeros((1, 1, 3), np.uint8)


class Counting:
    """A detector of one box, which counts the pictures."""

    def __init__(self):
        self.seen = 0

    def __call__(self, pixels):
        self.seen += 1
        assert pixels.flags.c_contiguous
        return detections([(10, 10, 30, 60)])


def label(path, text=SCENE, plan=PLAN, limit=None) -> Counting:
    (spec,) = resolve([text])
    path.mkdir(exist_ok=True)
    detect, folder = Counting(), open_folder(path, ORIGIN)
    label_source(spec, folder, detect, plan, limit)
    folder.save()
    return detect


def names(path) -> list[str]:
    return [one.name for one in read_coco(path / "annotations.json")]


def test_a_picture_of_each_second_is_labelled_and_its_size_is_kept(tmp_path):
    assert label(tmp_path).seen == 4
    assert names(tmp_path) == [f"scene_00h00m{n:02}s000.jpg" for n in range(4)]
    for one in read_coco(tmp_path / "annotations.json"):
        assert one.boxes.tolist() == [[10, 10, 30, 60]]
        assert cv2.imread(str(tmp_path / "images" / one.name)).shape == (120, 160, 3)


def test_pictures_that_are_there_are_not_detected_again(tmp_path):
    assert label(tmp_path, limit=2).seen == 2
    assert label(tmp_path).seen == 2
    assert len(names(tmp_path)) == 4


def test_a_folder_takes_as_many_pictures_as_its_plan_allows(tmp_path):
    plan = LabelPlan(every=0.2, sure=0.7, unsure=0.2, most=3)
    assert label(tmp_path, plan=plan).seen == 3
    assert label(tmp_path, plan=plan).seen == 0
    fewer = LabelPlan(every=0.2, sure=0.7, unsure=0.2, most=2)
    assert label(tmp_path, plan=fewer).seen == 0


def test_a_folder_of_pictures_is_labelled_whole_and_by_number(tmp_path):
    (tmp_path / "photos").mkdir()
    for n in range(3):
        picture = np.random.default_rng(n).integers(0, 256, (60, 80, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"photos/{n}.png"), picture)
    label(tmp_path / "out", f"photos={tmp_path}/photos")
    assert names(tmp_path / "out") == [f"photos_{n:06}.jpg" for n in range(3)]


def test_a_live_source_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(UsageError, match=r"is live and cannot be read again: record it first, and"):
        label(tmp_path, SCENE + "&live=1")


@given(st.integers(0, 400_000_000), st.integers(0, 10**6))
def test_names_say_the_time_have_one_dot_and_sort_by_time(ms, n):
    def name(ms: int) -> str:
        picture = Picture(pixels=NO_PIXELS, n=n, media_us=1000 * ms + 999)
        return file_name("door", picture, timed=True)

    parts = re.fullmatch(r"door_(\d+)h(\d\d)m(\d\d)s(\d{3})\.jpg", name(ms))
    hours, minutes, seconds, milliseconds = map(int, parts.groups())
    assert 1000 * (3600 * hours + 60 * minutes + seconds) + milliseconds == ms
    assert minutes < 60 > seconds
    if hours < 99:
        assert name(ms) < name(ms + 1)
