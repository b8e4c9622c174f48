"""What detections become: people, regions to ignore or nothing, with outlines that fit."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from streamvis.errors import UsageError
from streamvis.geometry import paste_mask
from streamvis.messages import Detections
from streamvis.sources import Picture
from streamvis.synthetic.render import SyntheticScene
from streamvis.training.detector.annotation import CocoImage, LabelPlan, annotate, chosen, outline

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools

IMAGE = CocoImage(id=7, file_name="a.jpg", width=320, height=240, source="a", media_us=0)
PLAN = LabelPlan(every=1, sure=0.7, unsure=0.2)


def detections(boxes, scores, labels=None, masks=None) -> Detections:
    scores = np.array(scores, np.float32)
    return Detections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=scores,
        labels=np.ones(len(scores), np.int32) if labels is None else np.array(labels, np.int32),
        masks=np.zeros((0, 0, 0), np.uint8) if masks is None else masks,
    )


found = st.integers(0, 12).flatmap(
    lambda n: st.builds(
        detections,
        hnp.arrays(np.float32, (n, 4), elements=st.floats(-50, 400, width=32)).map(
            lambda b: np.concatenate(
                [np.minimum(b[:, :2], b[:, 2:]), b.max(1)[:, None] * [1, 1]], 1
            )
        ),
        st.lists(st.sampled_from([0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 1]), min_size=n, max_size=n),
        st.lists(st.sampled_from([1, 1, 1, 3]), min_size=n, max_size=n),
    )
)


@given(found)
def test_every_detection_is_a_person_or_a_region_or_dropped(found):
    rows = annotate(found, IMAGE, 5, PLAN)
    assert [row.id for row in rows] == list(range(5, 5 + len(rows)))
    left = iter(rows)
    for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
        clipped = np.clip(box.astype(float), 0, [320, 240] * 2)
        thin = (clipped[2:] - clipped[:2] < 1).any()
        if score < np.float32(0.2) or label != 1 or thin:
            continue
        row = next(left)
        assert row.iscrowd == (0 if score >= np.float32(0.7) else 1)
        assert row.score == pytest.approx(score, abs=1e-4)
        x, y, width, height = row.bbox
        np.testing.assert_allclose([x, y, x + width, y + height], clipped, atol=0.011)
        assert (row.image_id, row.segmentation, row.mask_label) == (7, [], "none")
        assert row.area == pytest.approx(width * height, abs=0.01 * (width + height + 1))
    assert next(left, None) is None


def person(seed: int, size: int = 28) -> np.ndarray:
    """255·probability of something like a person: a soft body and a soft head."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    a, b, c = rng.uniform(0.25, 0.45, 3)
    middle = rng.uniform(0.4, 0.6)
    body = 1 - np.hypot((x - 0.5) / a, (y - 0.62) / b)
    head = 1 - np.hypot((x - middle) / (c / 2), (y - 0.25) / 0.25)
    return (255 / (1 + np.exp(-8 * np.maximum(body, head)))).astype(np.uint8)


def filled(polygons, height, width) -> np.ndarray:
    """The polygons in pixels, by pycocotools."""
    mask = pytest.importorskip("pycocotools.mask")
    return mask.decode(mask.merge(mask.frPyObjects(polygons, height, width))).astype(bool)


def overlap(a, b) -> float:
    return (a & b).sum() / (a | b).sum()


def seen(mask, box, height, width) -> np.ndarray:
    """The mask between its cells' middles, asked at the middle of every pixel, by SciPy."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    cells = [
        (at - low) / (high - low) * len(mask) + 0.5  # cell 0 is the empty border
        for at, low, high in ((y, box[1], box[3]), (x, box[0], box[2]))
    ]
    padded = np.pad(mask.astype(float), 1)
    return ndimage.map_coordinates(padded, cells, order=1, mode="constant") > 127.5


FARTHEST_PX = 3
places = st.tuples(st.floats(0, 60), st.floats(0, 60), st.floats(20, 100), st.floats(40, 150))


@given(st.integers(0, 1000), places)
@settings(max_examples=40)
def test_outlines_drawn_again_are_the_mask(seed, place):
    mask, box = person(seed), np.array(place, np.float32) + np.array([0, 0, *place[:2]], np.float32)
    drawn = filled(outline(mask, box), 240, 320)
    assert overlap(drawn, seen(mask, box, 240, 320)) > 0.93
    rows, columns, patch = paste_mask(mask, box, 240, 320)  # on whole pixels: stretched by one
    pasted = np.zeros((240, 320), bool)
    pasted[rows, columns] = patch
    aside = 1 / place[2] + 1 / place[3]  # share of a box that a pixel at its edges is
    assert overlap(drawn, pasted) > max(0.82, 1 - 4 * aside)
    for one, other in ((drawn, pasted), (pasted, drawn)):  # where they differ, they are close
        assert not (one & ~ndimage.binary_dilation(other, np.ones((3, 3)), FARTHEST_PX)).any()


@pytest.mark.parametrize("seed", range(5))
def test_outlines_stray_less_than_half_a_cell(seed):
    mask, box = person(seed), np.array([10, 10, 234, 234], np.float32)  # cells of 8 px
    drawn = filled(outline(mask, box), 240, 320)
    truth = seen(mask, box, 240, 320).astype(np.uint8)
    element = np.ones((7, 7), np.uint8)  # 3 px to each side
    assert not (drawn & (cv2.dilate(truth, element) == 0)).any()
    assert not (~drawn & (cv2.erode(truth, element) == 1)).any()


def test_parts_are_kept_and_specks_are_dropped():
    mask = np.zeros((28, 28), np.uint8)
    mask[2:12, 5:20] = mask[16:26, 5:20] = 255  # somebody behind a bar
    mask[14, 26] = 255
    box = np.array([10, 10, 66, 150], np.float32)
    upper, lower = sorted(outline(mask, box), key=lambda polygon: polygon[1])
    assert max(upper[1::2]) < 10 + 13 * 5 < min(lower[1::2])
    assert outline(np.zeros((28, 28), np.uint8), box) == []
    assert outline(np.full((28, 28), 100, np.uint8), box) == []  # nowhere as likely as not


def test_masks_go_to_who_is_certain_and_lie_in_the_box():
    masks = np.stack([person(0), person(1), np.zeros((28, 28), np.uint8)])
    boxes = [[20, 30, 80, 200], [100, 30, 160, 200], [200, 30, 260, 200]]
    sure, unsure, empty = annotate(detections(boxes, [0.9, 0.5, 0.8], masks=masks), IMAGE, 1, PLAN)
    assert (sure.iscrowd, sure.mask_label) == (0, "predicted")
    points = np.array(sure.segmentation[0]).reshape(-1, 2)
    assert (points >= (20, 30)).all()
    assert (points <= (80, 200)).all()
    assert sure.area == pytest.approx(filled(sure.segmentation, 240, 320).sum(), rel=0.03)
    assert (unsure.iscrowd, unsure.segmentation, unsure.mask_label) == (1, [], "none")
    assert (empty.iscrowd, empty.segmentation, empty.mask_label) == (0, [], "none")


@pytest.mark.parametrize("shape", [(0, 0, 0), (1, 0, 0)])
def test_labellers_without_masks_give_boxes(shape):
    boxes = detections([20, 30, 80, 200], [0.9], masks=np.zeros(shape, np.uint8))
    (row,) = annotate(boxes, IMAGE, 1, PLAN)
    assert (row.iscrowd, row.segmentation, row.mask_label) == (0, [], "none")


def test_thresholds_the_wrong_way_round_are_refused():
    with pytest.raises(UsageError, match=r"--unsure 0\.8 is above --sure 0\.7"):
        LabelPlan(every=1, sure=0.7, unsure=0.8)


@pytest.fixture(scope="module")
def walk() -> list[Picture]:
    scene = SyntheticScene(seed=2, people=4, size=(160, 120), fps=10, seconds=6)
    return [Picture(pixels=scene.picture(n), n=n, media_us=n * 100_000) for n in range(60)]


@pytest.mark.parametrize(("every", "times"), [(1.0, 1_000_000), (0.5, 500_000), (2.5, 2_500_000)])
def test_one_picture_is_chosen_of_every_turn(every, times, walk):
    taken = [picture.media_us for picture in chosen(walk, every)]
    assert taken == list(range(0, 6_000_000, times))


def test_a_still_scene_is_labelled_once_for_all_its_noise():
    rng = np.random.default_rng(0)
    still = np.full((240, 320, 3), 90, np.int16)
    pictures = [
        Picture(
            pixels=np.clip(still + rng.normal(0, 8, still.shape), 0, 255).astype(np.uint8),
            n=n,
            media_us=n * 1_000_000,
        )
        for n in range(6)
    ]
    assert [picture.n for picture in chosen(pictures, 1.0)] == [0]


def test_somebody_small_who_moves_is_seen():
    pictures = []
    for n in range(3):
        pixels = np.full((480, 640, 3), 90, np.uint8)
        pixels[200:230, 300 + 20 * n : 310 + 20 * n] = 150  # 10×30 px, 20 px further each time
        pictures.append(Picture(pixels=pixels, n=n, media_us=n * 1_000_000))
    assert [picture.n for picture in chosen(pictures, 1.0)] == [0, 1, 2]


def test_pictures_of_different_sizes_are_different():
    sizes = [(240, 320), (240, 320), (480, 640)]
    pictures = [
        Picture(pixels=np.zeros((*size, 3), np.uint8), n=n, media_us=n * 1_000_000)
        for n, size in enumerate(sizes)
    ]
    assert [picture.n for picture in chosen(pictures, 1.0)] == [0, 2]
