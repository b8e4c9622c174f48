"""Detectors that label together see each person in every view, and masks only where one is sure."""

import cv2
import numpy as np
import pytest
from factories import detections
from pose_teacher_file import write_teacher

from streamvis.errors import WeightsError
from streamvis.geometry import iou
from streamvis.training.detector.annotation import outline
from streamvis.training.detector.ensemble import Ensemble, is_sure, over_box
from streamvis.training.detector.pose_teacher import PersonSeen, PoseTeacher

WIDE, HIGH = (120, 320), (320, 120)


def picture(boxes, size=WIDE):
    pixels = np.zeros((*size, 3), np.uint8)
    for n, (left, top, right, bottom) in enumerate(boxes):
        pixels[top:bottom, left:right] = 255 - n
    return pixels


class Blobs:
    """Finds every bright blob; `flaw` px are added to the right side of each box."""

    def __init__(self, score=0.8, flaw=0):
        self.score = score
        self.flaw = flaw
        self.views = []

    def __call__(self, pixels):
        assert pixels.flags.c_contiguous
        self.views.append(pixels.shape[:2])
        grey = (pixels[:, :, 0] > 128).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(grey)
        boxes = [(x, y, x + w + self.flaw, y + h) for x, y, w, h, _ in stats[1:]]
        return detections(boxes, self.score)


@pytest.mark.parametrize("size", [WIDE, HIGH])
def test_views_agree_wherever_somebody_stands(size):
    height, width = size
    people = [(10, 20, 30, 80), (width // 2 - 10, height // 2 - 30, width // 2 + 10, height // 2)]
    people.append((width - 20, height - 60, width, height))  # at the corner
    blobs = Blobs()
    boxes, scores = Ensemble([blobs]).find(picture(people, size))
    near = iou(np.array(people, float), boxes)
    assert near.shape == (3, 3)
    np.testing.assert_allclose(near.max(axis=1), 1)
    np.testing.assert_allclose(scores, 0.8)
    tile = (120, 192) if size == WIDE else (192, 120)
    assert blobs.views == [size, size, tile, tile]


def test_a_mirrored_view_is_mirrored_back():
    (box,), _ = Ensemble([Blobs(flaw=2)]).find(picture([(150, 20, 180, 80)]))
    # the flaw is on the right in three views, and on the left in the mirrored one
    np.testing.assert_allclose(box, [149.5, 20, 181.5, 80])


def test_one_detector_of_two_never_gives_more_than_half():
    people = picture([(10, 20, 30, 80)])
    _, scores = Ensemble([Blobs(score=1.0), lambda pixels: detections([])]).find(people)
    np.testing.assert_allclose(scores, [0.5])
    _, scores = Ensemble([Blobs(score=0.9), Blobs(score=0.5)]).find(people)
    np.testing.assert_allclose(scores, [0.7])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> PoseTeacher:
    """A network with the outputs of the real one: bright pixels are of the person."""
    return PoseTeacher(write_teacher(tmp_path_factory.mktemp("teacher")))


def test_the_mask_lies_where_the_person_is(teacher):
    box = np.array([100.0, 10, 130, 100])
    pixels = picture([(100, 10, 130, 100)])
    pixels[10:40, 100:115] = 0  # the person fills three quarters of the upper third
    seen = teacher.look(pixels, box)
    np.testing.assert_allclose(seen.crop, [58.75, -1.25, 171.25, 111.25])
    assert seen.presence == pytest.approx(1)
    drawn = np.zeros(WIDE, np.uint8)
    for polygon in outline(over_box(seen, box), box):
        points = np.round(np.array(polygon).reshape(-1, 2) - 0.5).astype(np.int32)
        cv2.fillPoly(drawn, [points], 1)
    truth = pixels[:, :, 0] > 0
    assert (drawn & truth).sum() / (drawn | truth).sum() > 0.93


def test_masks_are_made_of_whole_people_who_stand_alone(teacher):
    people = [(20, 10, 50, 110), (120, 10, 150, 110), (135, 20, 165, 110), (220, 60, 280, 110)]
    found = Ensemble([], teacher).masks(picture(people), np.array(people, float))
    assert [mask.any() for mask in found] == [True, False, False, False]  # two overlap, one is low
    assert not Ensemble([]).masks(picture(people), np.array(people, float)).any()


@pytest.mark.parametrize(
    ("presence", "rows", "sure"), [(0.95, 256, True), (0.85, 256, False), (0.95, 100, False)]
)
def test_a_mask_is_sure_if_somebody_is_there_and_fills_the_box(presence, rows, sure):
    mask = np.zeros((256, 256), np.uint8)
    mask[:rows, 64:192] = 255
    seen = PersonSeen(presence, mask, np.array([0.0, 0, 256, 256]))
    assert is_sure(seen, np.array([64.0, 0, 192, 256])) == sure


def test_a_file_that_is_no_teacher_is_told(tmp_path):
    with pytest.raises(WeightsError, match="no such file; expected pose_landmark_full"):
        PoseTeacher(tmp_path / "absent.tflite")
    (tmp_path / "text.tflite").write_text("text")
    with pytest.raises(WeightsError, match=r"text\.tflite cannot be read"):
        PoseTeacher(tmp_path / "text.tflite")
