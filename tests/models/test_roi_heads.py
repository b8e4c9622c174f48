"""The choice among refined boxes, against a loop over classes and boxes."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from streamvis.geometry import iou
from streamvis.models.roi_heads import RoiHeads

SIZE = (60, 80)  # height, width
SETTINGS = {
    "width": 8,
    "convolutions": 1,
    "canonical": 224.0,
    "overlap": 0.5,
    "vote": 1.0,
    "soften": None,
    "norm_eps": None,
}
HEADS = RoiHeads(4, 3, (4,), **SETTINGS)

box = st.tuples(*[st.integers(-10, 70)] * 2, *[st.integers(1, 40)] * 2)
regions = st.lists(st.tuples(st.tuples(box, box, box), st.integers(0, 10**6)), max_size=8)


def chosen(boxes, scores, most):
    """By class: clip, drop weak and empty boxes, take the best that overlaps no better one."""
    kept = []
    for label in (1, 2):
        rows = []
        for i in range(len(boxes)):
            limits = (80, 60, 80, 60)
            corners = zip(boxes[i, label].tolist(), limits, strict=True)
            clipped = tuple(max(0.0, min(value, limit)) for value, limit in corners)
            wide, tall = clipped[2] - clipped[0], clipped[3] - clipped[1]
            if scores[i, label] > HEADS.min_score and wide >= 1e-2 and tall >= 1e-2:
                rows.append((float(scores[i, label]), clipped))
        best = []
        for score, one in sorted(rows, reverse=True):
            pair = torch.tensor([one], dtype=torch.float64).numpy()
            others = [torch.tensor([o], dtype=torch.float64).numpy() for _, o in best]
            if all(iou(pair, other)[0, 0] <= HEADS.overlap for other in others):
                best.append((score, one))
        kept += [(score, label, one) for score, one in best]
    return sorted(kept, reverse=True)[:most]


@given(regions)
def test_boxes_are_clipped_thinned_within_each_class_and_best_first(given_regions):
    corners = [[(x, y, x + w, y + h) for x, y, w, h in three] for three, _ in given_regions]
    boxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 3, 4)
    generator = torch.Generator().manual_seed(sum(seed for _, seed in given_regions))
    scores = torch.rand(len(boxes), 3, generator=generator)  # different, so that none is tied
    found = HEADS._select(boxes, scores, SIZE)
    rows = zip(found.scores.tolist(), found.labels.tolist(), found.boxes.tolist(), strict=True)
    assert [(s, label, tuple(b)) for s, label, b in rows] == chosen(boxes, scores, HEADS.most)
