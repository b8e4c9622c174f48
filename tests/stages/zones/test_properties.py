"""Properties of the zones stage: resumption, order of rows, occupancy, insides and outsides."""

from collections import Counter
from itertools import pairwise

import cv2
import msgspec
import numpy as np
import pytest
from factories import SIZE, packet, source
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from zone_scenes import (
    History,
    Picture,
    Seen,
    packets,
    play,
    sample,
    stage_of,
    walk,
)

from streamvis.errors import ConfigError, DataError
from streamvis.geometry import inside
from streamvis.messages import Packet, PartDecoder, encode_part
from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.events import ZoneLayoutSet, ZoneUpdate
from streamvis.stages.zones.part import Zones
from streamvis.stages.zones.unseen import KNOWN, MIDWAY, RATIO
from streamvis.zone_layout import Line, Zone

WIDTH, HEIGHT = SIZE
SQUARE = ((0.3, 0.25), (0.7, 0.25), (0.7, 0.75), (0.3, 0.75))
ZONES = (
    Zone(name="square", polygon=SQUARE, dwell_s=(0.5, 1.0), crowd=2, crowd_s=0.2),
    Zone(name="rest", polygon=SQUARE, outside=True, anchor="centre", enter_s=0.0, exit_s=0.0),
)
LINES = (
    Line(name="upright", start=(0.5, 0.8), end=(0.5, 0.2)),
    Line(name="level", start=(0.2, 0.5), end=(0.8, 0.5), settle_s=0.0, band=0.02),
)
SETTINGS = ZoneCounter(zones=ZONES, lines=LINES, update_s=0.3, horizons_s=(0.5, 1), absent_s=0.4)
FPS = 10

seen = st.builds(
    Seen,
    st.integers(0, 16).map(lambda k: 40.0 * k),
    st.integers(0, 12).map(lambda k: 40.0 * k),
    st.sampled_from([60.0, 120.0]),
    st.sampled_from([0.3, 0.6, 0.8, 1.0]),
    st.booleans() | st.just(True),
    st.sampled_from([0.1, 5.0, 40.0]),
)
shown = st.dictionaries(st.integers(1, 5), seen, max_size=4)
corrections = st.one_of(
    st.tuples(st.just("merged"), st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.just("split"), st.integers(1, 6), st.integers(1, 6), st.integers(0, 20)),
)
crowds = st.lists(st.tuples(shown, st.lists(corrections, max_size=2) | st.just([])), max_size=25)


def pictures_of(crowd, *, again=False):
    """Pictures of people who jump about; corrections are any, right or wrong.

    again: an id that has ended may come back, which no tracker does without a correction.
    """
    pictures, before, ends = [], set(), Counter()
    for k, (there, changes) in enumerate(crowd):
        people = {id + 10 * ends[id]: seen for id, seen in there.items()}
        if not again:
            ends.update({id % 10 for id in before - people.keys()})
            people = {id % 10 + 10 * ends[id % 10]: seen for id, seen in people.items()}
        merged = [(gone, kept) for kind, gone, kept, *_ in changes if kind == "merged"]
        merged = [pair for pair in merged if pair[0] not in people]
        split = [
            (id, other, round(min(since, k) * 1e6 / FPS))
            for kind, id, other, *rest in changes
            for since in rest
            if kind == "split"
        ]
        ended = sorted(before - people.keys())
        pictures.append(
            Picture(round(k * 1e6 / FPS), people, tuple(ended), tuple(merged), tuple(split))
        )
        before = set(people)
    return pictures


def answers(stage, given):
    """The answers to packets, in bytes."""
    return [encode_part(part) for part in stage(given)]


@given(crowds, st.integers(0, 24), st.booleans())
@settings(max_examples=120)
def test_a_successor_publishes_what_its_predecessor_would_have(crowd, cut, whole):
    given = packets(pictures_of(crowd))
    stage = stage_of(SETTINGS)
    before = answers(stage, given[:cut])
    state = stage.state("a")
    after = answers(stage, given[cut:])
    successor = stage_of(SETTINGS, state=state)
    assert answers(successor, given[cut:]) == after
    if whole:
        assert answers(stage_of(SETTINGS), given) == before + after


@given(crowds, st.randoms())
@settings(max_examples=60)
def test_the_order_of_rows_does_not_matter(crowd, random):
    pictures = pictures_of(crowd)
    mixed = [
        Packet(
            frame=one.frame,
            parts=[one.parts[0][random.sample(range(len(picture.people)), len(picture.people))]],
        )
        for one, picture in zip(packets(pictures), pictures, strict=True)
    ]
    assert answers(stage_of(SETTINGS), mixed) == answers(stage_of(SETTINGS), packets(pictures))


@given(crowds, st.lists(st.booleans(), min_size=25, max_size=25))
@settings(max_examples=60)
def test_pictures_without_tracks_change_no_event_and_no_order(crowd, between):
    """They have the time of half a picture later; states of zones are published by time."""
    pictures = [one._replace(seq=2 * k) for k, one in enumerate(pictures_of(crowd))]
    more = [
        one
        for picture, added in zip(pictures, between, strict=False)
        for one in (
            picture,
            Picture(picture.media_us + 50_000, tracked=False, seq=picture.seq + 1),
        )[: 1 + added]
    ]
    quiet = msgspec.structs.replace(SETTINGS, update_s=0, horizons_s=())
    told = [
        [what for _, what in play(quiet, given).events if not isinstance(what, ZoneUpdate)]
        for given in (pictures, more)
    ]
    assert told[0] == told[1]


@given(crowds)
@settings(max_examples=120)
def test_totals_and_occupancy_hold_whatever_is_merged_and_split(crowd):
    """`play` folds what is published and compares with the totals in every picture."""
    pictures = pictures_of(crowd, again=True)
    history = play(SETTINGS, pictures)
    most = 0.0
    for picture, part in zip(pictures, history.parts, strict=True):
        followed = sum(one.p**0.5 for one in picture.people.values())
        most = max(most, followed)
        assert (part.mean >= 0).all()
        assert (part.mean <= followed + RATIO * most + 1e-3).all()
        assert (part.sd**2 <= part.mean + 1e-9).all()
        assert ((part.p_occupied >= 0) & (part.p_occupied <= 1)).all()
        assert (part.p_occupied <= part.mean + 1e-9).all()  # union bound
        assert (part.people >= 0).all()


surely = st.builds(  # 30 px from each edge of the square, at least
    Seen,
    st.sampled_from([50.0, 160.0, 230.0, 320.0, 410.0, 500.0]),
    st.sampled_from([80.0, 160.0, 240.0, 320.0, 400.0]),
    st.just(100.0),
    st.floats(0, 1, width=16),
    st.just(True),
    st.floats(0.01, 2),
)


@given(st.dictionaries(st.integers(1, 9), surely))
def test_occupancy_is_that_of_independent_people(people):
    """Far from all edges, a person is inside who exists; some are unseen."""
    square = Zone(name="square", polygon=SQUARE, min_p_exist=0)
    part = play(ZoneCounter(zones=(square,)), [Picture(0, people)]).parts[0]
    within = [one for one in people.values() if abs(one.x - 320) < 128 and abs(one.y - 240) < 120]
    p = np.sqrt(np.array([one.p for one in within]).round(4))
    unseen = RATIO * MIDWAY / KNOWN * p.sum()
    assert part.mean[0] == pytest.approx(p.sum() + unseen, abs=1e-3)
    assert part.sd[0] == pytest.approx(np.sqrt((p * (1 - p)).sum() + unseen), abs=2e-3)
    assert part.p_occupied[0] == pytest.approx(1 - np.prod(1 - p) * np.exp(-unseen), abs=1e-3)


def test_the_state_of_a_zone_is_published_when_it_has_changed_and_at_most_once_in_update_s():
    people = {1: walk((0, 100, 240), (2, 300, 240), (6, 300, 240), (8, 100, 240))}
    history = play(msgspec.structs.replace(SETTINGS, update_s=0.5), sample(people, 10, 12))
    states = [
        (us, what.zone)
        for us, what in history.events
        if isinstance(what, ZoneUpdate) and what.zone.name == "square"
    ]
    times = [us for us, _ in states]
    assert all(b - a >= 500_000 for a, b in pairwise(times))
    assert [state.occupancy.people for _, state in states][-1] == 0
    assert max(state.occupancy.people for _, state in states) == 1
    assert {state.entries for _, state in states} == {0, 1}
    assert times[-1] < 9_100_000  # nothing changes after the exit


@given(crowds)
@settings(max_examples=60)
def test_a_zone_and_all_that_lies_outside_of_it_share_the_people(crowd):
    both = ZoneCounter(
        zones=tuple(
            Zone(name=name, polygon=SQUARE, outside=outside, enter_s=0, exit_s=0, min_p_exist=0)
            for name, outside in (("in", False), ("out", True))
        )
    )
    pictures = pictures_of([(people, []) for people, _ in crowd])
    history = play(both, pictures)
    most = 0.0
    for picture, part in zip(pictures, history.parts, strict=True):
        followed = sum(round(one.p, 4) ** 0.5 for one in picture.people.values())
        most = max(most, followed)
        assert followed - 1e-2 <= part.mean.sum() <= followed + RATIO * most + 1e-2


coordinates = st.tuples(st.integers(0, 20), st.integers(0, 20))


@given(st.lists(coordinates, min_size=3, max_size=8), st.lists(coordinates, max_size=30))
def test_points_are_inside_or_on_the_edge_as_for_opencv(polygon, points):
    assume(len(set(polygon)) >= 3)
    corners = np.array(polygon, np.float32)
    at = np.array(points, np.float32).reshape(-1, 2)
    expected = [cv2.pointPolygonTest(corners, tuple(map(float, p)), False) >= 0 for p in at]
    assert inside(at.astype(float), corners.astype(float)).tolist() == expected


def test_who_stands_in_a_zone_is_who_stands_in_the_polygon_for_opencv():
    """A polygon with a notch; people in rows of 20 px, none of whom is on an edge."""
    notched = ((0.21, 0.31), (0.81, 0.21), (0.77, 0.83), (0.51, 0.43), (0.29, 0.87))
    corners = np.array([(x * WIDTH, y * HEIGHT) for x, y in notched], np.float32)
    feet = [(x, y) for x in range(10, WIDTH, 20) for y in range(10, HEIGHT, 20)]
    picture = Picture(0, {id: Seen(*foot, sd=0.01) for id, foot in enumerate(feet, 1)})
    for outside in (False, True):
        zone = Zone(name="notched", polygon=notched, enter_s=0, outside=outside)
        history = play(ZoneCounter(zones=(zone,)), [picture])
        within = {int(v.track.rpartition(":")[2]) for v in history.visits("notched")}
        expected = {
            id
            for id, foot in enumerate(feet, 1)
            if (cv2.pointPolygonTest(corners, foot, False) > 0) != outside
        }
        assert within == expected
        assert history.parts[0].people.tolist() == [len(expected)]


PLANE = np.array([(0.02, 0.001, -6), (0.0005, -0.03, 12), (0, 0.0001, 1)])  # y away from the camera


def on_ground(points):
    u = np.column_stack([points, np.ones(len(points))]) @ PLANE.T
    return u[:, :2] / u[:, 2:]


def with_ground(given):
    """The packets, with the positions of feet on the ground plane."""
    return [
        Packet(
            frame=one.frame,
            parts=[
                msgspec.structs.replace(part, ground=on_ground(feet(part)).astype(np.float32))
                for part in one.parts
            ],
        )
        for one in given
    ]


def by_track(crossing):
    return crossing.track, crossing.at_us


def feet(part):
    return np.column_stack([part.boxes[:, [0, 2]].mean(axis=1), part.boxes[:, 3]])


def test_zones_and_lines_on_the_ground_are_those_in_the_picture_under_the_homography():
    people = {
        1: walk((0, 50, 240), (6, 600, 300), (10, 600, 300)),
        2: walk((1, 600, 460), (8, 340, 350), (16, 340, 350), (22, 100, 420)),
        3: walk((3, 300, 470), (9, 360, 170), (13, 240, 330), (24, 620, 240)),
    }
    given = packets(sample(people, 25, 26))
    ends = {"upright": LINES[0], "level": LINES[1]}
    plane = tuple(PLANE.ravel().tolist())

    def ground(points):
        return tuple(map(tuple, on_ground(np.array(points) * SIZE).tolist()))

    in_picture = ZoneCounter(
        zones=(Zone(name="square", polygon=SQUARE, dwell_s=(2,)),),
        lines=tuple(
            Line(name=name, start=one.start, end=one.end, band=0) for name, one in ends.items()
        ),
    )
    on_plane = ZoneCounter(
        zones=(Zone(name="square", polygon=ground(SQUARE), space="ground", dwell_s=(2,)),),
        lines=tuple(
            Line(
                name=name,
                **dict(zip(("start", "end"), ground((one.start, one.end)), strict=True)),
                band=0,
                space="ground",
            )
            for name, one in ends.items()
        ),
    )
    histories = []
    for chosen in (in_picture, on_plane):
        stage, history = stage_of(chosen, source(ground_plane=plane)), History()
        for one in with_ground(given):
            [part] = stage([one])
            history.add(one.frame.media_us, part)
        histories.append(history)
    picture = histories[0]
    assert len(picture.visits("square")) >= 3
    for a, b in zip(*(history.visits("square") for history in histories), strict=True):
        assert (a.track, a.reason) == (b.track, b.reason)
        assert (a.entered_us, a.left_us) == pytest.approx((b.entered_us, b.left_us), abs=2e4)
    for name in ends:
        assert picture.crossings(name)
        pairs = zip(*(sorted(h.crossings(name), key=by_track) for h in histories), strict=True)
        for a, b in pairs:
            assert (a.track, a.direction) == (b.track, b.direction)
            assert a.at_us == pytest.approx(b.at_us, abs=2e4)


def test_a_zone_in_metres_needs_a_ground_plane():
    zone = Zone(name="yard", polygon=((1, 1), (4, 1), (4, 4)), space="ground")
    with pytest.raises(ConfigError, match="source a: 'yard' is given in metres"):
        stage_of(ZoneCounter(zones=(zone,)))


def test_the_layout_is_published_first_and_parts_can_be_sent():
    history = play(SETTINGS, sample({1: walk((0, 100, 240), (2, 500, 240))}, 10, 3))
    assert isinstance(history.events[0][1], ZoneLayoutSet)
    assert history.of(ZoneLayoutSet) == [SETTINGS.layout_of(None)]
    for part in history.parts:
        again = PartDecoder([Zones])(encode_part(part))
        assert again.events == part.events
        np.testing.assert_array_equal(again.people, part.people)


@pytest.mark.parametrize("state", [b"", b"\x00", b"\xc1" * 40, b"\x93\x01\x02\x03"])
def test_a_state_of_something_else_is_one_error(state):
    with pytest.raises(DataError, match="source a: not the state of a stage of kind zones"):
        stage_of(SETTINGS, state=state)


def test_boxes_that_are_far_away_or_not_finite_are_no_crash():
    far = [Seen(1e30, 240), Seen(float("nan"), 240), Seen(-1e9, float("inf")), Seen(320, 240)]
    pictures = [Picture(k * 100_000, {1: far[k % 4], 2: far[0]}) for k in range(12)]
    history = play(SETTINGS, pictures)
    assert np.isfinite([part.mean for part in history.parts]).all()


def test_a_picture_before_any_tracks_has_zones_and_nobody():
    [part] = stage_of(SETTINGS)([packet(0)])
    assert part.zones == ("square", "rest")
    assert part.lines == ("upright", "level")
    assert part.people.tolist() == part.mean.tolist() == part.longest_us.tolist() == [0, 0]
    assert part.in_total.tolist() == part.out_total.tolist() == [0, 0]
