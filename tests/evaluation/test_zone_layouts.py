"""Zones and lines at random places where people walk."""

import numpy as np
import pytest

from streamvis.datasets import motchallenge
from streamvis.errors import DataError
from streamvis.evaluation.zone_layouts import generated_layout
from streamvis.evaluation.zones import SequenceTime, true_record

SIZE, FPS = (320, 240), 10


def walkers(speed=6.0, count=4, frames=50):
    """People who walk to the right at different heights of the picture, and one who stands."""
    n = np.repeat(np.arange(1, frames + 1), count + 1)
    who = np.tile(np.arange(count + 1), frames)
    x = 5 + speed * (n - 1) * (who > 0)
    y = 120 + 20.0 * who
    boxes = np.stack([x - 8, y - 40, x + 8, y], axis=1)
    return motchallenge.rows(n, who + 1, boxes)


def test_it_is_the_same_for_a_seed_and_another_for_another():
    one, same, other = (generated_layout(walkers(), SIZE, FPS, 12, seed) for seed in (5, 5, 6))
    assert one == same != other
    assert (len(one.zones), len(one.lines)) == (12, 12)


def test_the_order_of_the_rows_does_not_matter():
    truth = walkers()
    mixed = truth.where(np.random.default_rng(0).permutation(len(truth)))
    assert generated_layout(truth, SIZE, FPS, 5, 1) == generated_layout(mixed, SIZE, FPS, 5, 1)


def test_people_are_counted_on_most_lines_and_in_all_zones():
    truth = walkers()
    layout = generated_layout(truth, SIZE, FPS, 20, 0)
    found = true_record(truth, layout, SequenceTime(50, FPS), SIZE)
    assert len({one.line for one in found.crossings}) >= 17
    assert (found.people.max(axis=0) > 0).sum() >= 17


def reach(truth):
    """How near to the edges zones and lines come, in pixels."""
    layout = generated_layout(truth, SIZE, FPS, 20, 2)
    points = [one for zone in layout.zones for one in zone.polygon]
    points += [end for line in layout.lines for end in (line.start, line.end)]
    px = np.array(points) * SIZE
    return min(px.min(), (SIZE - px).min())


def test_they_keep_away_from_edges_where_the_truth_leaves_out_who_is_cut_off():
    truth = walkers()
    assert reach(truth) < 10  # some boxes reach beyond the picture
    whole = (truth.boxes[:, 0] >= 0) & (truth.boxes[:, 2] <= SIZE[0])
    assert reach(truth.where(whole)) > 19.9  # half of the height of these people


def test_where_nobody_walks_there_is_no_line():
    with pytest.raises(DataError, match="only 0 of 3 lines and 3 of 3 zones could be placed"):
        generated_layout(walkers(speed=0), SIZE, FPS, 3, 0)
