"""Cases in which other systems count wrongly."""

import msgspec
import pytest
from factories import source
from zone_scenes import RATES, Picture, Seen, absent, play, sample, unseen, walk

from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.events import (
    LineCross,
    LineRevise,
    Visit,
    ZoneDwell,
    ZoneEnter,
    ZoneExit,
    ZoneRevise,
)
from streamvis.zone_layout import Line, Zone

# In a picture of 640×480 px: the zone is x 200 to 440, y 120 to 360; the line is x = 320 from
# y = 400 up to y = 80, so that its left is x < 320.
DOOR = Zone(
    name="door",
    polygon=((0.3125, 0.25), (0.6875, 0.25), (0.6875, 0.75), (0.3125, 0.75)),
    dwell_s=(10,),
)
GATE = Line(name="gate", start=(0.5, 5 / 6), end=(0.5, 1 / 6))
ACCURACY_S = 0.02  # of interpolated times, for people who walk at a constant speed

rates = pytest.mark.parametrize("fps", RATES)


def zone(**changes):
    return ZoneCounter(zones=(msgspec.structs.replace(DOOR, **changes),))


def line(**changes):
    return ZoneCounter(lines=(msgspec.structs.replace(GATE, **changes),))


def steps(*xs, fps=10.0, y=240.0, **settings):
    """One person, at one of these x in each picture, and gone after the last."""
    pictures = [
        Picture(round(k * 1e6 / fps), {1: Seen(x, y, **settings)}) for k, x in enumerate(xs)
    ]
    return [*pictures, Picture(round(len(xs) * 1e6 / fps), ended=(1,))]


def near(seconds):
    return pytest.approx(seconds * 1e6, abs=ACCURACY_S * 1e6)


@rates
def test_1_one_picture_on_the_other_side_is_no_crossing(fps):
    history = play(line(settle_s=2 / fps), steps(*[200] * 3, 400, *[200] * 3, fps=fps))
    assert history.crossings("gate") == []


@rates
def test_2_an_unconfirmed_track_that_changes_sides_is_no_crossing(fps):
    """It has an existence probability below that of the line, or is none that can be counted."""
    xs = [200, 200, 400, 400] * 10
    assert play(line(), steps(*xs, fps=fps, p=0.3)).crossings("gate") == []
    unconfirmed = [
        Picture(picture.media_us, {-1: picture.people[1]} if picture.people else {})
        for picture in steps(*xs, fps=fps)
    ]
    assert play(line(), unconfirmed).crossings("gate") == []


@pytest.mark.parametrize("anchor", ["foot", "centre"])
def test_3_nobody_is_in_two_zones_that_only_touch(anchor):
    """A box of 441, 258, 718, 713 px, and people who walk over the border between the zones."""
    size = (1280, 720)

    def rectangle(name, left, top, right, bottom):
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return Zone(
            name=name, polygon=tuple((x / 1280, y / 720) for x, y in corners), anchor=anchor
        )

    settings = ZoneCounter(
        zones=(rectangle("a", 0, 167, 457, 427), rectangle("b", 458, 67, 1011, 309))
    )
    info = source(size=size)
    box = Seen((441 + 718) / 2, 713, height=713 - 258)
    still = play(settings, sample({1: lambda _: box}, 10, 3), info)
    assert still.visits("a") == still.visits("b") == []
    people = {id: walk((0, 300, 150 + 20 * id), (4, 700, 150 + 20 * id)) for id in range(1, 9)}
    walked = play(settings, sample(people, 25, 6), info)
    for track in {visit.track for visit in walked.visits("a")}:
        [a] = [v for v in walked.visits("a") if v.track == track]
        assert all(v.entered_us >= a.left_us for v in walked.visits("b") if v.track == track)
    if anchor == "foot":
        assert (len(walked.visits("a")), len(walked.visits("b"))) == (8, 7)  # the last at y 310


@pytest.mark.parametrize("edge", ["left", "right", "upper", "lower"])
def test_4_a_line_10_px_from_the_edge_of_the_picture_counts(edge):
    """The dead band is 20 px of a person of 200 px; who leaves is seen 3 px from the edge."""
    gate, far, close = {
        "left": (((10, 80), (10, 400)), (300, 240), (3, 240)),
        "right": (((630, 400), (630, 80)), (300, 240), (637, 240)),
        "upper": (((500, 10), (100, 10)), (320, 300), (320, 3)),
        "lower": (((100, 470), (500, 470)), (320, 240), (320, 477)),
    }[edge]
    start, end = ((x / 640, y / 480) for x, y in gate)
    settings = ZoneCounter(lines=(Line(name="gate", start=start, end=end),))
    out = walk((0, *far), (2, *close), (3, *close), height=200)
    back = walk((0, *close), (1, *close), (3, *far), height=200)
    history = play(settings, sample({1: out, 2: back}, 25, 5))
    assert [c.track for c in history.crossings("gate")] == ["a:1:2", "a:1:1"]
    assert history.totals("gate") == (1, 1)


@rates
def test_5_passing_beyond_the_end_of_the_segment_is_no_crossing(fps):
    beside = {
        1: walk((0, 200, 430), (3, 440, 430)),
        2: walk((0, 440, 50), (3, 200, 50)),
        3: walk((0, 200, 240), (2, 260, 440), (4, 400, 420), (6, 440, 240)),  # around the end
    }
    assert play(line(), sample(beside, fps, 8)).crossings("gate") == []
    through = {1: walk((0, 200, 390), (3, 440, 390)), 2: walk((0, 440, 90), (3, 200, 90))}
    assert play(line(), sample(through, fps, 5)).totals("gate") == (1, 1)


@rates
def test_6_to_the_right_and_back_to_the_left_is_one_in_and_one_out(fps):
    path = walk((0, 200, 240), (3, 440, 240), (4, 440, 240), (7, 200, 240), (8, 200, 240))
    history = play(line(), sample({1: path}, fps, 9))
    assert history.totals("gate") == (1, 1)
    there, back = history.crossings("gate")
    assert (there.direction, back.direction) == ("left_to_right", "right_to_left")
    assert there.at_us == near(1.5)
    assert back.at_us == near(5.5)
    assert history.of(LineRevise) == []


@rates
def test_6_so_is_a_zone_that_is_entered_from_the_left_and_left_to_the_left(fps):
    path = walk((0, 100, 240), (2, 300, 240), (3, 300, 240), (5, 100, 240), (7, 100, 240))
    history = play(zone(), sample({1: path}, fps, 8))
    [visit] = history.visits("door")
    assert visit == Visit(
        track="a:1:1", entered_us=visit.entered_us, left_us=visit.left_us, reason="left"
    )
    assert visit.entered_us == near(1)
    assert visit.left_us == near(4)


@pytest.mark.parametrize("band", [0.0, 0.1, 0.25])
def test_7_everybody_counts_who_jumps_over_the_band_60_px_a_picture(band):
    """25 people, each at another place of the picture before and after the line."""
    people = {
        id: walk((id / 10, 40 + 2.4 * id, 100 + 11 * id), (id / 10 + 0.9, 580 + 2.4 * id, 240))
        for id in range(1, 26)
    }
    history = play(line(band=band), sample(people, 10, 5))
    assert history.totals("gate") == (25, 0)
    assert len({c.track for c in history.crossings("gate")}) == 25
    for c in history.crossings("gate"):
        id = int(c.track.rpartition(":")[2])
        assert c.at_us == near(id / 10 + 0.9 * (320 - 40 - 2.4 * id) / 540)


@rates
def test_8_stop_and_go_on_the_line_with_three_id_switches_is_one_crossing(fps):
    path = walk(
        *((0, 200, 240), (2, 317, 240), (4, 323, 240), (5, 316, 240), (7, 325, 240)),
        *((8, 318, 240), (9, 324, 240), (11, 440, 240), (12, 440, 240)),
    )
    times = [(1, 0.0, 3.0), (2, 3.2, 6.0), (3, 6.2, 8.5), (4, 8.7, 12.0)]
    people = {id: absent(absent(path, 0, start), stop, 99) for id, start, stop in times}
    merges = {3.6: ((2, 1),), 6.6: ((3, 1),), 10.5: ((4, 1),)}
    follow = {**people, 1: lambda t: person(people, merges, t)}
    pictures = sample(follow, fps, 14, merged=merges)
    # an id that was merged has no boxes any more: its person goes on as 1
    shown = [
        picture._replace(
            people={id: seen for id, seen in picture.people.items() if not gone(id, picture)}
        )
        for picture in pictures
    ]
    history = play(line(), shown)
    [crossing] = history.crossings("gate")
    assert (crossing.track, crossing.direction) == ("a:1:1", "left_to_right")
    assert history.totals("gate") == (1, 0)
    assert 2.9e6 < crossing.at_us < 8.6e6  # the path cuts the line five times

    late = play(line(), sample(people, fps, 14, merged={13: ((2, 1), (3, 1), (4, 1))}))
    [crossing] = late.crossings("gate")
    assert (crossing.track, late.totals("gate")) == ("a:1:1", (1, 0))


def person(people, merges, t):
    """The box of id 1, which goes on as the id that was merged into it."""
    merged = {gone for at, rows in merges.items() for gone, _ in rows if at <= t + 1e-6}
    return next((seen for id in sorted({1} | merged) if (seen := people[id](t))), None)


def gone(id, picture, at=((2, 3.6), (3, 6.6), (4, 10.5))):
    return any(id == other and picture.media_us >= t * 1e6 - 1 for other, t in at)


@rates
@pytest.mark.parametrize("hide", [unseen, absent])
def test_9_a_gap_in_detection_inside_a_zone_is_no_exit_and_no_second_enter(fps, hide):
    path = hide(walk((0, 100, 240), (2, 300, 240), (12, 300, 240)), 4, 7)
    pictures = [
        picture._replace(ended=picture.ended if picture.media_us > 11e6 else ())
        for picture in sample({1: path}, fps, 13)
    ]
    history = play(zone(), pictures)
    assert len(history.of(ZoneEnter)) == len(history.of(ZoneExit)) == 1
    [visit] = history.visits("door")
    assert (visit.entered_us, visit.left_us) == (near(1), pytest.approx(12e6, abs=1e6 / fps))
    assert visit.reason == "lost"
    assert history.dwells("door") == [("a:1:1", 10.0, near(11))]


@rates
def test_10_standing_still_from_before_the_threshold_or_through_it_dwells(fps):
    people = {
        1: lambda t: Seen(300, 240),  # stands from the first picture on
        2: walk((0, 100, 200), (2, 300, 200), (30, 300, 200)),  # walks in, then stands
        3: walk((0, 250, 300), (9.5, 300, 300), (10.5, 310, 300), (30, 330, 300)),
    }
    history = play(zone(dwell_s=(10, 20)), sample(people, fps, 25))
    assert sorted(history.dwells("door")) == [
        ("a:1:1", 10, near(10)),
        ("a:1:1", 20, near(20)),
        ("a:1:2", 10, near(11)),
        ("a:1:2", 20, near(21)),
        ("a:1:3", 10, near(10)),
        ("a:1:3", 20, near(20)),
    ]


@pytest.mark.parametrize("fps", [*RATES, 2.5, 6, 12.5, 30])
def test_11_a_dwell_has_the_same_media_time_at_any_frame_rate(fps):
    path = walk((0, 100, 240), (2, 300, 240), (20, 300, 240))
    history = play(zone(), sample({1: path}, fps, 15))
    [stay] = history.of(ZoneDwell)
    assert (stay.at_us, stay.entered_us, stay.threshold_s) == (near(11), near(1), 10)
    [published] = history.times(ZoneDwell)
    assert 0 <= published - stay.at_us <= 1e6 / fps + 1e4  # one picture later at most


@pytest.mark.parametrize("fps", [*RATES, 2.5])
def test_11_two_visits_of_half_the_time_do_not_dwell(fps):
    inside, outside = (300, 240), (100, 240)
    path = walk(
        *((0, *outside), (2, *inside), (6, *inside), (8, *outside)),
        *((10, *outside), (12, *inside), (16, *inside), (18, *outside), (20, *outside)),
    )
    history = play(zone(), sample({1: path}, fps, 22))
    assert [v.reason for v in history.visits("door")] == ["left", "left"]
    assert [v.left_us - v.entered_us for v in history.visits("door")] == [near(6), near(6)]
    assert history.dwells("door") == []


@rates
@pytest.mark.parametrize("enter_s", [0, 0.3, 0.5, 1])
@pytest.mark.parametrize("first", [0, 1, 2, 7])
def test_12_a_track_that_begins_inside_enters_after_enter_s_and_not_a_picture_later(
    fps, enter_s, first
):
    pictures = [
        Picture(round(k * 1e6 / fps), {1: Seen(300, 240)} if k >= first else {})
        for k in range(first + 2 * fps)
    ]
    history = play(zone(enter_s=enter_s), pictures)
    [entry] = history.of(ZoneEnter)
    begun_us = pictures[first].media_us
    assert (entry.at_us, entry.seen_outside, entry.entries) == (begun_us, False, 1)
    since = [p.media_us for p in pictures if p.media_us - begun_us >= enter_s * 1e6 - 1]
    assert history.times(ZoneEnter) == [since[0]]


@rates
def test_13_the_anchor_exactly_on_the_line_for_one_picture_is_one_crossing(fps):
    xs = [200, 260, 320, 380, 440, 440, 440]
    history = play(line(), steps(*xs, *[440] * fps, fps=fps))
    assert history.totals("gate") == (1, 0)
    [cross] = history.of(LineCross)
    assert cross.at_us == near(2 / fps)
    there_and_back = [*xs, 440, 380, 320, 260, 200, *[200] * fps]
    for band in (0, 0.1):
        history = play(line(band=band, settle_s=0), steps(*there_and_back, fps=fps))
        assert history.totals("gate") == (1, 1)
    turned_on_the_line = [200, 260, 320, 320, 260, 200, *[200] * fps]
    for band in (0, 0.1):
        history = play(line(band=band, settle_s=0), steps(*turned_on_the_line, fps=fps))
        assert history.totals("gate") == (0, 0)


@pytest.mark.parametrize(("farthest", "there", "back"), [(0.12, 0, 0), (0.2, 1, 1)])
def test_who_is_beyond_the_band_by_less_than_a_position_errs_and_returns_has_not_crossed(
    farthest, there, back
):
    """The band is a tenth of the person's height, a position errs by a twentieth."""
    away = [200.0, 260.0, *[320 + farthest * 100] * 10, 260.0, *[200.0] * 10]
    history = play(line(), steps(*away, height=100.0))
    assert history.totals("gate") == (there, back)
    forgetful = msgspec.structs.replace(line(), keep_s=0.0)
    often = play(forgetful, steps(*away * 30, height=100.0))
    assert often.totals("gate") == (30 * there, 30 * back)


def test_who_is_beyond_the_band_by_less_than_a_position_errs_has_crossed_when_the_track_ends():
    history = play(line(), steps(200, 260, *[332] * 10, height=100))
    assert history.totals("gate") == (1, 0)
    [cross] = history.of(LineCross)
    assert cross.at_us == near(0.1 + 0.1 * 60 / 72)


@rates
def test_14_with_exit_s_the_dwell_goes_on_after_one_picture_outside(fps):
    pictures = [
        Picture(round(k * 1e6 / fps), {1: Seen(190 if k == 4 * fps else 210, 240)})
        for k in range(12 * fps)
    ]
    history = play(zone(exit_s=0.5), pictures)
    assert history.of(ZoneExit) == []
    assert len(history.of(ZoneEnter)) == 1
    assert history.dwells("door") == [("a:1:1", 10, 10_000_000)]
    # without exit_s it is an exit, and a second visit
    left = play(zone(exit_s=0), pictures)
    assert [v.reason for v in left.visits("door")] == ["left", None]
    assert left.dwells("door") == []


@rates
def test_15_a_person_who_is_re_identified_after_20_s_has_one_visit_and_one_dwell(fps):
    before = walk((0, 100, 240), (2, 300, 240), (8, 300, 240))
    after = walk((28, 310, 250), (40, 310, 250))
    same = {1: before, 2: absent(after, 29, 99)}
    later = {1: lambda t: before(t) or (after(t) if t >= 29 - 1e-6 else None), 2: same[2]}
    history = play(zone(), sample(later, fps, 42, merged={29: ((2, 1),)}))
    [visit] = history.visits("door")
    assert (visit.track, visit.reason) == ("a:1:1", "lost")
    assert visit.entered_us == near(1)
    assert visit.left_us == pytest.approx(40e6, abs=1e6 / fps)
    [revision] = history.of(ZoneRevise)
    assert [(v.track, v.reason) for v in revision.was] == [("a:1:1", "lost"), ("a:1:2", None)]
    assert [(v.track, v.reason) for v in revision.now] == [("a:1:1", None)]
    assert revision.entries == 1
    dwells = history.dwells("door")
    assert dwells == [("a:1:1", 10, near(11))]
    [published] = history.times(ZoneDwell)
    assert published == pytest.approx(29e6, abs=1e6 / fps)  # when it was known to be one visit
