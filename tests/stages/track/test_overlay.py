"""Tracks on pictures: boxes, ids, speeds and trails, and what a successor continues."""

import numpy as np
import pytest
from factories import packet, source
from factories import tracks as tracks_of

from streamvis.calibration.ground_plane import from_view
from streamvis.stages.overlay import Canvas, Drawing
from streamvis.stages.track.overlay import TrackOverlay, correct_trails
from streamvis.viz.style import Style, colour_of

BACKGROUND = 90
BOX = (100, 60, 160, 180)
SIZE = (320, 240)
PLANE = tuple(from_view(4, 25, 300, SIZE).ravel().tolist())


def plain(height=240, width=320):
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def overlay(trail_s=3.0, plane=None):
    info = source(size=SIZE, ground_plane=plane)
    return TrackOverlay(Drawing(source=info, trail_s=trail_s))


def canvas(tracks, seq=0, of=None):
    canvas = Canvas.of(plain(), elapsed_s=0.1)
    (of or overlay()).draw(canvas, packet(seq, tracks, size=SIZE))
    return canvas


def drawn(boxes=BOX, ids=(1,), **fields):
    return canvas(tracks_of(ids, boxes, **fields)).image


def changed(before, after):
    return (before != after).any(axis=2)


def test_a_detected_box_is_solid_and_a_predicted_one_dashed():
    solid, dashed = drawn(), drawn(detection=[-1])
    lower_edge = slice(105, 155)
    assert (solid[180, lower_edge] == colour_of(1)).all()
    on_line = (dashed[180, lower_edge] == colour_of(1)).all(axis=1)
    assert 0.3 < on_line.mean() < 0.8
    assert not changed(plain(), solid)[100:140, 110:150].any()  # the inside stays clear


def test_colours_belong_to_ids_and_neighbours_differ():
    assert tuple(drawn(ids=[3])[180, 130]) == colour_of(3) != tuple(drawn(ids=[4])[180, 130])


def test_the_speed_stands_beside_the_id_where_it_is_known():
    moving = drawn(ground_velocity=np.array([[0.6, 0.8]]))
    plates = [(image == colour_of(1)).all(axis=2) for image in (drawn(), moving)]
    w = Style.for_size(240, 320).width("  1.0 m/s")
    widths = [np.ptp(np.flatnonzero(plate[:58].any(axis=0))) for plate in plates]
    assert widths[1] - widths[0] == pytest.approx(w, abs=4)


def test_names_of_people_beside_each_other_do_not_cover_each_other():
    boxes = [(100, 60, 130, 180), (104, 61, 134, 181)]
    one, both = (drawn(boxes[:n], range(1, n + 1)) for n in (1, 2))
    alone, beside = ((image == colour_of(1)).all(axis=2)[:60].sum() for image in (one, both))
    assert alone == pytest.approx(beside, abs=20)


def walked(of, steps):
    """Draw one person who goes to the right, and return the last canvas."""
    for seq in steps:
        x = 10 + 10 * seq
        last = canvas(tracks_of([1], (x, 60, x + 20, 120)), seq, of)
    return last


def test_trails_fade_with_age():
    image = walked(overlay(trail_s=2.5), range(25)).image.astype(int)
    strength = np.abs(image[120] - BACKGROUND).sum(axis=1)[25:245]
    thirds = [part.mean() for part in np.array_split(strength, 3)]
    assert thirds[0] < thirds[1] < thirds[2]


def test_without_trails_only_the_present_is_drawn():
    of = overlay(trail_s=0)
    last = walked(of, range(25))
    boxes, others = (np.abs(last.image.astype(int) - BACKGROUND).max(axis=2) > 0), np.s_[:, :245]
    assert boxes[120, 250:270].all()
    assert not boxes[others].any()
    assert len(of.state()) < 100


def test_a_new_stream_epoch_has_no_trails():
    of = overlay()
    walked(of, range(10))
    of.restart()
    assert (walked(of, [10]).image == drawn((110, 60, 130, 120))).all()


def test_a_successor_draws_the_same_trails_and_map():
    first, second = overlay(plane=PLANE), overlay(plane=PLANE)
    walked(first, range(10))
    second.restore(first.state())
    one, other = walked(first, [10]), walked(second, [10])
    assert (one.image == other.image).all()
    np.testing.assert_array_equal(one.beside, other.beside)
    assert first.state() == second.state()


def test_the_map_beside_the_picture_is_there_with_and_without_people():
    of = overlay(plane=PLANE)
    empty, occupied = canvas(None, 0, of), canvas(tracks_of([1], (150, 60, 170, 120)), 1, of)
    assert not empty.legend
    assert occupied.legend
    (before,), (after,) = empty.beside, occupied.beside
    assert before.shape == after.shape
    assert before.shape[0] == SIZE[1]
    assert (np.abs(after.astype(int) - colour_of(1)).max(axis=2) < 30).any()
    assert not canvas(None).beside


def correcting(merged=None, split=None):
    return tracks_of([1], merged=merged, split=split)


def trails_of(**places):
    """Trails by id: `_1={0: 10, 5: 15}` is at 10 at 0 µs and at 15 at 5 µs."""
    return {int(k[1:]): [(t, x, 0, 0, 0) for t, x in v.items()] for k, v in places.items()}


@pytest.mark.parametrize(
    ("told", "right"),
    [
        ({"merged": [[2, 1]]}, {"_1": {0: 10, 2: 13, 4: 14, 6: 15}}),
        ({"merged": [[2, 7]]}, {"_1": {0: 10, 2: 13}, "_7": {4: 14, 6: 15}}),
        ({"merged": [[9, 1], [2, 2]]}, {"_1": {0: 10, 2: 13}, "_2": {4: 14, 6: 15}}),
        ({"merged": [[1, 2]]}, {"_2": {0: 10, 2: 13, 4: 14, 6: 15}}),
        ({"merged": [[1, 4]]}, {"_2": {4: 14, 6: 15}, "_4": {0: 10, 2: 13, 3: 21}}),
        (
            {"split": [[1, 4, 1], [2, 4, 5]]},
            {"_1": {0: 10}, "_2": {4: 14}, "_4": {1: 20, 2: 13, 3: 21, 6: 15}},
        ),
        ({"split": [[2, 3, 5]]}, {"_1": {0: 10, 2: 13}, "_2": {4: 14}, "_3": {6: 15}}),
        ({"split": [[1, 2, 1], [2, 1, 1]]}, {"_1": {0: 10, 4: 14, 6: 15}, "_2": {2: 13}}),
        ({"split": [[1, 5, 1]], "merged": [[2, 1]]}, {"_1": {0: 10, 4: 14, 6: 15}, "_5": {2: 13}}),
        ({}, {"_1": {0: 10, 2: 13}, "_2": {4: 14, 6: 15}}),
    ],
)
def test_trails_are_put_right(told, right):
    trails = trails_of(_1={0: 10, 2: 13}, _2={4: 14, 6: 15}, _4={1: 20, 3: 21})
    correct_trails(trails, correcting(**told))
    expected = trails_of(**{"_4": {1: 20, 3: 21}, **right})
    assert {id_: spots for id_, spots in trails.items() if spots} == expected
