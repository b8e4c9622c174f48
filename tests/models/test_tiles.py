"""What tiles must give: everyone once and whole, wherever they stand and however large they are."""

from itertools import pairwise

import cv2
import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamvis.geometry import iou
from streamvis.models import tiles
from streamvis.models.roi_heads import Instances

SHORT, LONG = 640, 1152  # the network's input

share = st.floats(0, 1)
sizes = st.tuples(st.integers(300, 2200), st.integers(300, 3900))  # height, width
people = st.lists(st.tuples(share, share, share, st.floats(0.2, 1)), min_size=1, max_size=8)


def scale_of(height: int, width: int) -> float:
    return min(SHORT / min(height, width), LONG / max(height, width))


def planned(size: tuple[int, int], count: int, regions=()) -> tiles.TileLayout:
    return tiles.plan_tiles(*size, count, scale_of(*size), regions)


def placed(people, height: int, width: int) -> np.ndarray:
    """Boxes (N, 4) of any size within the frame, from shares of what there is room for."""
    boxes = []
    for across, down, tall, ratio in people:
        h = 2 + tall * (height - 2)
        w = min(h * ratio, width)
        x, y = across * (width - w), down * (height - h)
        boxes.append([x, y, x + w, y + h])
    return np.array(boxes)


def apart(boxes: np.ndarray) -> np.ndarray:
    """The boxes that no other before them overlaps so much that NMS would take them for one."""
    kept = boxes[:1]
    for box in boxes[1:]:
        if (iou(box[None], kept) <= tiles.SAME - 1e-6).all():
            kept = np.concatenate([kept, box[None]])
    return kept


def seen(boxes: np.ndarray, view: tuple[int, int, int, int]) -> Instances:
    """What an ideal detector finds in a view: what it shows of people, if that is large enough.

    A person's number stands in the mask. Whoever is cut scores more, to tempt the merge.
    """
    x1, y1, x2, y2 = view
    corner = np.array([x1, y1, x1, y1])
    shown = np.clip(boxes, corner, [x2, y2, x2, y2]) - corner
    sides = shown[:, 2:] - shown[:, :2]
    large = sides.max(1) * scale_of(y2 - y1, x2 - x1) >= tiles.SIGHT
    who = np.flatnonzero((sides > 0).all(1) & large)
    part = sides.prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return Instances(
        boxes=torch.from_numpy(shown[who]),
        scores=torch.from_numpy(1 - part[who] / 2),
        labels=torch.ones(len(who), dtype=torch.int64),
        masks=torch.from_numpy(who[:, None, None]),
    )


def numbers(found: Instances) -> list[int]:
    return sorted(found.masks[:, 0, 0].tolist())


@given(sizes, people, st.integers(1, 4))
def test_everyone_who_can_be_seen_comes_out_once_and_whole(size, people, count):
    boxes = apart(placed(people, *size))
    layout = planned(size, count)
    merged = tiles.merge([seen(boxes, view) for view in layout.views], layout)
    fine = max(scale_of(y2 - y1, x2 - x1) for x1, y1, x2, y2 in layout.views)
    large = (boxes[:, 2:] - boxes[:, :2]).max(1) * fine >= tiles.SIGHT
    assert numbers(merged) == np.flatnonzero(large).tolist()
    np.testing.assert_allclose(merged.boxes, boxes[merged.masks[:, 0, 0].numpy()], atol=1e-9)


@given(sizes, st.integers(2, 4))
def test_tiles_cover_the_frame_overlap_enough_and_are_of_one_size(size, count):
    height, width = size
    whole, *grid = planned(size, count).views
    assert whole == (0, 0, width, height)
    assert len({(x2 - x1, y2 - y1) for x1, y1, x2, y2 in grid}) <= 1
    enough = (tiles.SIGHT + 2 * tiles.MARGIN) / scale_of(*size)
    for low, high, length in ((0, 2, width), (1, 3, height)):
        spans = sorted({(view[low], view[high]) for view in grid})
        if spans:
            assert spans[0][0] == 0
            assert spans[-1][1] == length
        for (_, end), (start, _) in pairwise(spans):
            assert end - start >= enough


@given(sizes, st.integers(2, 4))
def test_tiles_are_seen_finer_than_the_whole(size, count):
    _, *grid = planned(size, count).views
    for x1, y1, x2, y2 in grid:
        assert scale_of(y2 - y1, x2 - x1) > scale_of(*size)


def candidates(count: int, size: tuple[int, int], random: np.random.Generator) -> Instances:
    height, width = size
    start = random.uniform(0, [width - 20, height - 20], (count, 2))
    side = random.uniform(10, 120, (count, 2))
    boxes = np.concatenate([start, np.minimum(start + side, [width, height])], 1)
    return Instances(
        boxes=torch.from_numpy(boxes),
        scores=torch.from_numpy(random.permutation(count) / count + random.uniform(0, 1e-3)),
        labels=torch.from_numpy(random.integers(1, 3, count)),
        masks=torch.from_numpy(random.uniform(0, 1, (count, 2, 2))),
    )


@given(st.integers(0, 2**32), st.integers(0, 40))
def test_the_order_in_which_views_tell_their_detections_does_not_matter(seed, count):
    random = np.random.default_rng(seed)
    layout = planned((540, 960), 2)
    found = [candidates(count, (y2 - y1, x2 - x1), random) for x1, y1, x2, y2 in layout.views]
    shuffled = []
    for f in found:
        order = torch.from_numpy(random.permutation(count))
        shuffled.append(Instances(*(part[order] for part in f)))
    for a, b in zip(tiles.merge(found, layout), tiles.merge(shuffled, layout), strict=True):
        torch.testing.assert_close(a, b)


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_a_tile_tells_of_nobody_cut_by_its_inner_borders_and_nobody_large(seed, count):
    random = np.random.default_rng(seed)
    layout = planned((540, 960), 2)
    nothing = candidates(0, (540, 960), random)
    x1, y1, x2, y2 = layout.views[1]  # the upper left tile
    found = candidates(count, (y2 - y1, x2 - x1), random)
    found = found._replace(labels=torch.arange(count))  # NMS leaves all of them
    merged = tiles.merge([nothing, found, *[nothing] * 3], layout)
    clear = (torch.tensor([x2, y2]) - found.boxes[:, 2:] > layout.margin).all(1)
    small = (found.boxes[:, 2:] - found.boxes[:, :2] <= layout.overlap).all(1)
    assert sorted(merged.labels.tolist()) == (clear & small).nonzero()[:, 0].tolist()


def test_a_region_leaves_out_only_tiles_in_which_nobody_of_it_is_whole():
    size = (1080, 1920)
    everywhere = planned(size, 3)
    lower_left = planned(size, 3, [(0, 700, 600, 1080)])
    assert lower_left.views[0] == everywhere.views[0]
    assert len(lower_left.views) < len(everywhere.views)
    left_out = set(everywhere.views) - set(lower_left.views)
    assert all(y2 < 700 or x1 > 600 for x1, _, _, y2 in left_out)


@given(share, share, st.integers(80, 140), st.tuples(share, share), st.integers(2, 4))
def test_small_people_with_their_feet_in_a_region_are_whole_in_a_tile_that_is_left(
    across, down, height, size, count
):
    x, y = across * (1920 - 40), down * (1080 - height)
    person = np.array([[x, y, x + 40, y + height]])
    foot = np.array([x + 20, y + height])
    corner = foot - np.array(size) * [200, 100]
    region = (*corner, corner[0] + 200, corner[1] + 100)
    everywhere, of_region = (
        tiles.merge([seen(person, view) for view in layout.views], layout)
        for layout in (planned((1080, 1920), count), planned((1080, 1920), count, [region]))
    )
    assert numbers(of_region) == numbers(everywhere)


class Blobs:
    """Stands for a detector: finds bright rectangles on black, and notes how it was called."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, images, masks):
        self.calls.append(len(images))
        return [self.find(image[0].numpy(), masks) for image in images]

    def find(self, image: np.ndarray, masks: bool) -> Instances:
        _, _, stats, _ = cv2.connectedComponentsWithStats(image.copy())
        x, y, w, h = torch.from_numpy(stats[1:, :4]).float().T
        count, side = len(x), 28 if masks else 0
        return Instances(
            boxes=torch.stack([x, y, x + w, y + h], 1),
            scores=w * h / image.size,
            labels=torch.ones(count, dtype=torch.int64),
            masks=torch.zeros(count, side, side),
        )


def test_frames_are_cut_into_views_and_put_together_again_a_few_at_a_time():
    random = np.random.default_rng(3)
    images = []
    for height, width in [(540, 960), (700, 500), (540, 960)]:
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        for y, x, h, w in random.integers([0, 0, 5, 5], [height, width, 60, 40], (12, 4)):
            image[:, y : y + h, x : x + w] = 255
        images.append(image)
    layouts = [planned((image.shape[1], image.shape[2]), 3) for image in images]
    model = Blobs()
    found = tiles.detect_tiled(model, images, layouts, masks=False)
    assert sum(model.calls) == sum(len(layout.views) for layout in layouts) == 30
    assert max(model.calls) == max(len(images), tiles.MOST)
    for one, whole in zip(found, Blobs()(images, masks=False), strict=True):
        assert sorted(one.boxes.tolist()) == sorted(whole.boxes.tolist())
        assert one.masks.shape == (len(whole.boxes), 0, 0)


@given(sizes, people, st.integers(2, 4))
def test_tiles_where_small_people_are_seen_give_all_whom_all_tiles_give(size, people, count):
    """Those of whom the whole view shows anything; others are not expected."""
    boxes = placed(people, *size)
    everywhere = planned(size, count)
    whole = torch.from_numpy(boxes)
    seen_whole = Instances(whole, torch.ones(len(boxes)), torch.ones(len(boxes)), torch.empty(0))
    some = tiles.with_small(seen_whole, everywhere)
    assert some.views[0] == everywhere.views[0]
    left_out = set(everywhere.views) - set(some.views)
    for x1, y1, x2, y2 in boxes:
        if max(x2 - x1, y2 - y1) <= everywhere.overlap:
            for left, top, right, low in left_out:
                assert not (left <= (x1 + x2) / 2 <= right and top <= (y1 + y2) / 2 <= low)
    if (boxes[:, 2:] - boxes[:, :2] > everywhere.overlap).any(1).all():
        assert some.views == everywhere.views[:1]


def test_only_tiles_with_small_people_cost_a_look():
    image = torch.zeros(3, 1080, 1920, dtype=torch.uint8)
    image[:, 100:900, 1000:1400] = 255  # large: for the whole view
    image[:, 60:100, 60:80] = 255
    layout, model = planned((1080, 1920), 2), Blobs()
    (found,) = tiles.detect_tiled(model, [image], [layout], where_small=True)
    assert sum(model.calls) == 2  # the whole, and the upper left tile
    assert sorted(found.boxes.tolist()) == [[60, 60, 80, 100], [1000, 100, 1400, 900]]


def test_without_tiles_a_batch_is_one_call_with_the_very_images():
    images = [torch.zeros(3, 90, 160, dtype=torch.uint8)] * 20
    model = Blobs()
    found = tiles.detect_tiled(model, images, [planned((90, 160), 1)] * 20)
    assert model.calls == [20]
    assert [len(one.boxes) for one in found] == [0] * 20
