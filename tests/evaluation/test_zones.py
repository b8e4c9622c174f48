"""What happens in zones and on lines by ground truth, against cases computed by hand."""

import itertools

import numpy as np
import pytest

from streamvis.datasets import motchallenge
from streamvis.errors import DataError
from streamvis.evaluation.zones import LONGEST_GAP_S, SequenceTime, true_record
from streamvis.zone_layout import Line, Zone, ZoneLayout

SIZE = (200, 100)
FPS = 10
GATE = Line(name="gate", start=(0.5, 0.1), end=(0.5, 0.9))  # down at x = 100: left is x > 100
ROOM = Zone(name="room", polygon=((0.25, 0.1), (0.75, 0.1), (0.75, 0.9), (0.25, 0.9)))  # 50..150 px


def people(*paths, scores=None, classes=None):
    """Ground truth of people 20 px high and 10 wide: each a dict of frame -> foot point."""
    rows = [(n, i + 1, x, y) for i, path in enumerate(paths) for n, (x, y) in path.items()]
    n, ids, x, y = np.array(rows, float).reshape(-1, 4).T
    found = motchallenge.rows(n, ids, np.stack([x - 5, y - 20, x + 5, y], axis=1), scores)
    if classes is not None:
        found.classes[:] = classes
    return found


def walk(*points, per_step=10):
    """A path from frame 1 on through points, with so many frames between two."""
    legs = [np.array(point, float) for point in points]
    path = [
        a + (b - a) * k / per_step for a, b in itertools.pairwise(legs) for k in range(per_step)
    ]
    return dict(enumerate([tuple(p) for p in (*path, legs[-1])], 1))


def record(truth, *, zones=(), lines=(), length=100, fps=FPS):
    layout = ZoneLayout(zones=zones, lines=lines)
    return true_record(truth, layout, SequenceTime(length, fps), SIZE)


def crossings(*paths, line=GATE):
    return [(c.way, round(c.at_s, 2)) for c in record(people(*paths), lines=(line,)).crossings]


def visits(*paths, zone=ROOM, **more):
    found = record(people(*paths), zones=(zone,), **more).visits
    return [(round(v.entered_s, 2), round(v.left_s, 2), v.ended) for v in found]


def test_who_walks_across_crosses_once_each_way():
    there = walk((60, 50), (140, 50))  # 8 px a frame: at x = 100 after half a second
    assert crossings(there) == [("right_to_left", 0.5)]
    back = walk((60, 50), (140, 50), (60, 50))
    assert crossings(back) == [("right_to_left", 0.5), ("left_to_right", 1.5)]


def test_left_and_right_are_those_of_somebody_who_walks_from_start_to_end():
    across = Line(name="across", start=(0.1, 0.5), end=(0.9, 0.5))  # to the right: left is up
    assert crossings(walk((100, 80), (100, 20)), line=across) == [("right_to_left", 0.5)]


def test_passing_beyond_the_end_of_the_segment_is_none():
    short = Line(name="short", start=(0.5, 0.1), end=(0.5, 0.4))  # down to y = 40
    assert crossings(walk((60, 50), (140, 50)), line=short) == []
    around = walk((60, 50), (140, 50), (140, 30), (60, 30))  # around the end, back through it
    assert crossings(around, line=short) == [("left_to_right", 2.5)]


def test_coming_back_within_the_band_or_too_soon_is_none():
    near = walk((60, 50), (101.5, 50), (60, 50))  # the band is 2 px: a tenth of the height
    assert crossings(near) == []
    soon = walk((60, 50), (106, 50), (60, 50), per_step=2)  # beyond it for 0.04 s and back
    assert crossings(soon) == []


def test_the_path_may_end_soon_after_the_line_but_not_in_the_band():
    assert crossings(walk((96, 50), (104, 50), per_step=2)) == [("right_to_left", 0.1)]
    assert crossings(walk((60, 50), (101, 50))) == []


def test_a_line_at_the_edge_of_the_picture_counts():
    edge = Line(name="edge", start=(0.99, 0.0), end=(0.99, 1.0))  # 2 px from it
    assert crossings(walk((150, 50), (199.5, 50)), line=edge) == [("right_to_left", 0.97)]


def test_a_visit_lasts_from_entry_to_exit():
    through = walk((10, 50), (190, 50), per_step=36)  # 5 px a frame: 50 at 0.8 s, 150 at 2.8 s
    assert visits(through) == [(0.8, 2.8, True)]


def test_short_stays_are_no_visits_and_short_absences_do_not_end_one():
    dip = walk((10, 50), (60, 50), (10, 50), per_step=5)  # inside for 0.2 s
    assert visits(dip) == []
    out = walk((100, 50), (160, 50), (100, 50), per_step=10)  # outside for a third of a second
    assert visits(out) == [(0.0, 2.0, True)]
    away = walk((100, 50), (190, 50), (100, 50), per_step=10)  # outside for 0.9 s
    assert len(visits(away)) == 2


def test_who_is_inside_at_the_end_of_the_sequence_has_not_left():
    assert visits(walk((10, 50), (100, 50)), length=11) == [(0.45, 1.0, False)]
    assert visits(walk((10, 50), (100, 50)), length=50) == [(0.45, 1.0, True)]


def test_people_inside_are_counted_in_each_frame():
    two = people(walk((10, 50), (100, 50)), walk((100, 50), (100, 50)))
    inside = record(two, zones=(ROOM,), length=13).people[:, 0]
    assert inside.tolist() == [1] * 5 + [2] * 6 + [0, 0]
    outside = Zone(name="outside", polygon=ROOM.polygon, outside=True)
    assert record(two, zones=(outside,), length=13).people[:, 0].tolist() == [1] * 5 + [0] * 8


def test_a_short_gap_is_bridged_and_a_long_one_is_not():
    path = walk((60, 50), (140, 50))
    gap = {n: at for n, at in path.items() if not 3 <= n <= 9}
    assert crossings(gap) == [("right_to_left", 0.5)]
    late = {n if n < 6 else n + round(LONGEST_GAP_S * FPS) + 5: at for n, at in path.items()}
    assert crossings(late) == []
    assert len(visits(late)) == 2


def test_only_pedestrians_whose_flag_is_set_count():
    path = walk((60, 50), (140, 50))
    assert record(people(path, scores=np.zeros(11)), lines=(GATE,)).crossings == []
    assert record(people(path, classes=8), lines=(GATE,)).crossings == []


def test_the_centre_of_the_box_can_be_the_anchor():
    low = Zone(name="low", polygon=((0, 0.4), (1, 0.4), (1, 0.6), (0, 0.6)), anchor="centre")
    assert visits(walk((20, 60), (180, 60)), zone=low) == [(0.0, 1.0, True)]  # centre at y = 50
    assert visits(walk((20, 80), (180, 80)), zone=low) == []


def test_a_polygon_that_is_not_convex():
    arrow = Zone(name="arrow", polygon=((0.1, 0.1), (0.9, 0.1), (0.5, 0.5), (0.9, 0.9), (0.1, 0.9)))
    inside = record(people({n: (10 + 10 * n, 50) for n in range(1, 19)}), zones=(arrow,), length=18)
    assert inside.people[:, 0].tolist() == [1] * 8 + [0] * 10  # the tip is at x = 100


def test_the_frame_rate_does_not_matter():
    for fps in (5, 12, 60):
        path = {n: (10 + 50 * (n - 1) / fps, 50) for n in range(1, 1 + fps * 3)}
        found = record(people(path), zones=(ROOM,), lines=(GATE,), length=fps * 3 + 9, fps=fps)
        assert [c.at_s for c in found.crossings] == pytest.approx([1.8], abs=0.015)
        ((_, entered, left, _),) = found.visits
        assert (entered, left) == pytest.approx((0.8, 2.8), abs=0.015)


def test_zones_on_the_ground_are_refused():
    with pytest.raises(DataError, match="on the ground are not scored"):
        record(people(), zones=(Zone(name="a", space="ground", polygon=((0, 0), (9, 0), (9, 9))),))
