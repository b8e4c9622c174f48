"""A sheet of the people whose keypoints were estimated best and worst."""

import numpy as np

from streamvis.datasets.pictures import read_picture
from streamvis.evaluation.pose import oks_of, similarities
from streamvis.messages import Array
from streamvis.models.crops import crop
from streamvis.models.pose import crop_regions
from streamvis.runners.pose import PoseResult
from streamvis.viz.sheets.pose import TILE, PoseTile, tile_sheet

EACH = 16  # people, best and worst


def pose_sheet(result: PoseResult, name: str) -> Array:
    """Draw the people with the least similarity, then those with the largest; (H, W, 3) RGB."""
    labelled = np.array([one.weights > 0 for one in result.people])
    oks = oks_of(similarities(result.people, result.estimate.points), labelled)
    order = [i for i in np.argsort(oks, kind="stable") if labelled[i].sum() >= 5]
    worst, best = order[:EACH], order[::-1][:EACH]
    ap = result.scores.ap
    title = f"{name}: AP {ap:.3f}" if ap is not None else name
    return tile_sheet(
        title,
        {
            "the worst": [_tile(result, i, oks[i]) for i in worst],
            "the best": [_tile(result, i, oks[i]) for i in best],
        },
    )


def _tile(result: PoseResult, row: int, oks: float) -> PoseTile:
    one = result.people[row]
    pixels = read_picture(one.path)
    regions = crop_regions(one.box[None], TILE)
    (shown,) = crop(pixels, regions, TILE)
    scale = TILE[0] / (regions[0, 3] - regions[0, 1])  # px of the tile for a px of the picture
    return PoseTile(
        shown,
        (result.estimate.points[row] - regions[0, :2]) * scale,
        result.estimate.scores[row],
        (one.points - regions[0, :2]) * scale,
        one.weights > 0,
        f"OKS {oks:.2f}",
    )
