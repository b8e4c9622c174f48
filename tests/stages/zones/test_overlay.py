"""Zones and lines on pictures: filled, labelled, and as they are after a change."""

import msgspec
import numpy as np
import pytest
from factories import packet, source

from streamvis.messages import Packet
from streamvis.stages.overlay import Canvas, Drawing, Overlay
from streamvis.stages.record import picture
from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.events import ZoneLayoutSet
from streamvis.stages.zones.overlay import ZonesOverlay, label_of, stay
from streamvis.stages.zones.part import Zones
from streamvis.viz.style import PALETTE
from streamvis.zone_layout import Line, Zone, ZoneLayout

GREY = 90
DOOR = Zone(name="door", polygon=((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)))
DESK = Zone(name="desk", polygon=((0.0, 0.0), (0.2, 0.0), (0.2, 0.2), (0.0, 0.2)))
GATE = Line(name="gate", start=(0.1, 0.9), end=(0.9, 0.9))


def part(zones=(("door", 0, 0),), lines=(("gate", 0, 0),), events=()):
    names = tuple(name for name, *_ in zones)
    numbers = np.array([one[1:] for one in zones], np.int64).reshape(-1, 2)
    totals = np.array([one[1:] for one in lines], np.int64).reshape(-1, 2)
    shares = np.zeros(len(names))
    return Zones(
        zones=names,
        people=numbers[:, 0].astype(np.int32),
        mean=shares,
        sd=shares,
        p_occupied=shares,
        longest_us=numbers[:, 1] * 1_000_000,
        entries=np.zeros(len(names), np.int64),
        lines=tuple(name for name, *_ in lines),
        in_total=totals[:, 0],
        out_total=totals[:, 1],
        events=events,
    )


def overlay_of(*, zones=(DOOR,), lines=(GATE,), **info):
    config = ZoneCounter(zones=zones, lines=lines)
    return config.overlay(Drawing(source=source(**info)))


def drawn(overlay, *parts, size=(480, 640)):
    return picture.drawn({"zones": overlay}, packet(0, *parts), np.full((*size, 3), GREY, np.uint8))


def test_a_zone_is_filled_inside_its_corners_and_nowhere_else():
    canvas = drawn(overlay_of(lines=()), part(lines=()))
    changed = (canvas.image != GREY).any(axis=2)
    where = np.zeros((480, 640), bool)
    where[120:361, 160:481] = True
    assert changed[where].all()
    margin = np.zeros_like(where)
    margin[110:371, 150:491] = True
    ((x1, y1, x2, y2),) = canvas.plates
    margin[y1:y2, x1:x2] = True
    assert not changed[~margin].any()
    tint = canvas.image[300, 200].astype(int) - GREY
    assert np.sign(tint).tolist() == np.sign(np.array(PALETTE[0]) - GREY).tolist()
    assert [entry.shape for entry in canvas.legend] == ["area"]


def test_all_but_the_polygon_of_an_outside_zone_is_filled():
    outside = msgspec.structs.replace(DOOR, outside=True)
    image = drawn(overlay_of(zones=(outside,), lines=()), part(lines=())).image
    assert (image[240, 320] == GREY).all()
    assert (image[[5, 470, 240, 240], [5, 630, 100, 600]] != GREY).any(axis=1).all()


def test_numbers_change_the_labels_and_people_the_outline():
    overlay = overlay_of()
    empty = drawn(overlay, part()).image
    busy = drawn(overlay, part([("door", 3, 75)])).image
    crossed = drawn(overlay, part([("door", 3, 75)], [("gate", 12, 9)])).image
    assert (busy != empty).any()
    assert (crossed != busy).any()
    line = 2  # px of an outline at 640x480
    column = slice(155, 166)
    assert (busy[300, column] != empty[300, column]).any(axis=1).sum() >= line


def test_what_was_last_seen_stays_without_the_part_and_in_a_successor():
    overlay = overlay_of()
    before = drawn(overlay, part([("door", 2, 5)], [("gate", 4, 1)])).image
    np.testing.assert_array_equal(drawn(overlay).image, before)
    heir = overlay_of(zones=(), lines=())
    heir.restore(overlay.state())
    np.testing.assert_array_equal(drawn(heir).image, before)
    overlay.restart()
    assert (drawn(overlay).image != before).any()


def test_a_change_of_the_layout_shows_from_its_frame_on_also_in_a_successor():
    overlay = overlay_of()
    drawn(overlay, part())
    layout = ZoneLayout(zones=(DESK,))
    canvas = drawn(overlay, part([("desk", 0, 0)], (), (ZoneLayoutSet(layout),)))
    assert (canvas.image[240, 320] == GREY).all()
    assert (canvas.image[60, 60] != GREY).any()
    heir = overlay_of()
    heir.restore(overlay.state())
    np.testing.assert_array_equal(drawn(heir).image, canvas.image)


def test_the_zones_of_the_source_count_before_those_of_the_settings():
    overlay = overlay_of(zones=(DOOR,), lines=())
    own = ZoneCounter(zones=(DOOR,)).overlay(
        Drawing(source=source(zones=ZoneLayout(zones=(DESK,))))
    )
    assert isinstance(own, ZonesOverlay)
    assert (drawn(own, part([("desk", 0, 0)], ())).image[240, 320] == GREY).all()
    assert (drawn(overlay, part(lines=())).image[300, 320] != GREY).any()


def test_metres_are_drawn_where_they_lie_at_any_size_of_the_picture():
    """A plane seen from straight above: 20 px of the source are one metre."""
    plane = (0.05, 0, 0, 0, 0.05, 0, 0, 0, 1)
    square = ((6, 4), (24, 4), (24, 20), (6, 20))
    zone = Zone(name="door", polygon=square, space="ground")
    overlay = overlay_of(zones=(zone,), lines=(), ground_plane=plane)
    for scale in (1, 2):
        image = drawn(overlay, part(lines=()), size=(480 * scale, 640 * scale)).image
        changed = (image != GREY).any(axis=2)
        inside = changed[81 * scale : 400 * scale, 121 * scale : 480 * scale]
        assert inside.all()
        outer = np.delete(changed, slice(70 * scale, 410 * scale), axis=0)
        assert not outer.any()
    overlay = overlay_of(zones=(zone,), lines=())
    assert (drawn(overlay, part(lines=())).image == GREY).all()  # without a plane


@pytest.mark.parametrize(
    ("us", "text"),
    [(0, "0:00"), (7_900_000, "0:07"), (754_000_000, "12:34"), (7_530_000_000, "2 h 05")],
)
def test_times_of_stay_are_short(us, text):
    assert stay(us) == text


class Flood(Overlay):
    """A layer that covers everything."""

    def draw(self, canvas: Canvas, packet: Packet) -> None:
        canvas.image[:] = 0


def test_labels_stand_above_what_is_drawn_later():
    pixels = np.full((480, 640, 3), GREY, np.uint8)
    overlays = {"zones": overlay_of(), "flood": Flood()}
    canvas = picture.drawn(overlays, packet(0, part()), pixels)
    assert len(canvas.above) == 3
    where = np.zeros((480, 640), bool)
    for _, (x1, y1, x2, y2), _ in canvas.above:
        where[y1:y2, x1:x2] = True
    np.testing.assert_array_equal((canvas.image != 0).any(axis=2), where)


def test_an_empty_zone_says_so():
    assert label_of(0, 0).text == "0"
    assert label_of(2, 65_000_000) == ("2, 1:05", True)
