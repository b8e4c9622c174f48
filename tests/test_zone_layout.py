"""Zones and lines as they are written in YAML: each wrong one gives one clear line."""

import json
from fractions import Fraction
from itertools import combinations

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from streamvis.errors import ConfigError
from streamvis.fields import signed_area
from streamvis.parsing import convert, yaml_value
from streamvis.zone_layout import Line, Zone, ZoneLayout, crosses_itself

SQUARE = "[[0.1, 0.1], [0.4, 0.1], [0.4, 0.4], [0.1, 0.4]]"
GATE = "start: [0.2, 0.6], end: [0.8, 0.6]"
ZONE_SETTINGS = (
    "name, polygon, space, outside, anchor, enter_s, exit_s, dwell_s, crowd, crowd_s, min_p_exist, "
    "min_height, classes"
)
LINE_SETTINGS = "name, start, end, space, anchor, band, settle_s, min_p_exist, min_height, classes"
OF_DOOR = " - at `$.zones[0]` (of 'door')"
OF_GATE = " - at `$.lines[0]` (of 'gate')"
CROSSES = (
    "zone 'door' crosses or touches itself; list the corners of `polygon` in order around the area"
)


def door(polygon=SQUARE, more=""):
    return f"zones: [{{name: door, polygon: {polygon}{more and ', ' + more}}}]"


def gate(ends=GATE, more=""):
    return f"lines: [{{name: gate, {ends}{more and ', ' + more}}}]"


def layout(text):
    return convert(yaml_value(text), ZoneLayout, "zones.yaml", ConfigError)


WRONG = {
    "two corners": (
        door("[[0.1, 0.1], [0.4, 0.1]]"),
        "zone 'door' has 2 different corners; expected three at least" + OF_DOOR,
    ),
    "two corners, each twice": (
        door("[[0.1, 0.1], [0.4, 0.1], [0.1, 0.1], [0.4, 0.1]]"),
        "zone 'door' has 2 different corners; expected three at least" + OF_DOOR,
    ),
    "corners on a line": (
        door("[[0.1, 0.1], [0.2, 0.2], [0.4, 0.4]]"),
        "zone 'door' encloses no area: its corners lie on a line" + OF_DOOR,
    ),
    "edges that cross": (
        door("[[0.1, 0.1], [0.4, 0.4], [0.4, 0.1], [0.1, 0.4]]"),
        CROSSES + OF_DOOR,
    ),
    "edges that cross in a corner": (
        door("[[0.1, 0.1], [0.3, 0.3], [0.5, 0.5], [0.5, 0.1], [0.3, 0.3], [0.1, 0.4]]"),
        CROSSES + OF_DOOR,
    ),
    "an edge walked there and back": (
        door("[[0.1, 0.1], [0.5, 0.1], [0.5, 0.5], [0.1, 0.5], [0.1, 0.8], [0.1, 0.5]]"),
        CROSSES + OF_DOOR,
    ),
    "no area": (
        door("[[0.1, 0.1], [0.1001, 0.1], [0.1, 0.1001]]"),
        "zone 'door' encloses 5e-09 of the picture; expected 1e-06 at least" + OF_DOOR,
    ),
    "no area on the ground": (
        door("[[1, 1], [1.001, 1], [1, 1.001]]", "space: ground"),
        "zone 'door' encloses 5e-07 m²; expected 0.0001 at least" + OF_DOOR,
    ),
    "pixels": (
        door("[[100, 100], [400, 100], [400, 400]]"),
        "zone 'door' has [100.0, 100.0], outside of the picture; expected shares of its width and "
        "height, 0 to 1: divide pixels by them" + OF_DOOR,
    ),
    "NaN": (
        door("[[0.1, .nan], [0.4, 0.1], [0.4, 0.4]]"),
        "zone 'door' has [0.1, nan], outside of the picture; expected shares of its width and "
        "height, 0 to 1: divide pixels by them" + OF_DOOR,
    ),
    "infinitely far on the ground": (
        door("[[.inf, 1], [4, 1], [4, 4]]", "space: ground"),
        "zone 'door' has [inf, 1.0]; expected metres, -100000 to 100000" + OF_DOOR,
    ),
    "a corner of three numbers": (
        door("[[0.1, 0.1, 0.1], [0.4, 0.1], [0.4, 0.4]]"),
        "Expected `array` of length 2, got 3 - at `$.zones[0].polygon[0]` (of 'door')",
    ),
    "a zone's name twice": (
        f"zones: [{{name: door, polygon: {SQUARE}}}, {{name: door, polygon: {SQUARE}}}]",
        "two zones are called 'door'; give each its own name",
    ),
    "a line's name twice": (
        f"lines: [{{name: gate, {GATE}}}, {{name: gate, {GATE}}}]",
        "two lines are called 'gate'; give each its own name",
    ),
    "a name with a space": (
        "zones: [{name: Front door, polygon: " + SQUARE + "}]",
        "Expected `str` matching regex '^[a-z0-9_-]{1,64}$' - at `$.zones[0].name` "
        "(of 'Front door')",
    ),
    "an unknown class": (
        door(more="classes: [person, car]"),
        "zone 'door' counts class 'car', which the tracker does not follow; expected person"
        + OF_DOOR,
    ),
    "no class": (
        gate(more="classes: []"),
        "line 'gate' counts no classes; expected person" + OF_GATE,
    ),
    "an unknown setting of a zone": (
        door(more="dwel_s: [10]"),
        f"Object contains unknown field `dwel_s`{OF_DOOR}; did you mean dwell_s? "
        f"Allowed: {ZONE_SETTINGS}",
    ),
    "an unknown setting of a line": (
        gate(more="colour: red"),
        f"Object contains unknown field `colour`{OF_GATE}. Allowed: {LINE_SETTINGS}",
    ),
    "an unknown key of the file": (
        "zone: []",
        "Object contains unknown field `zone`; did you mean zones? Allowed: zones, lines",
    ),
    "zones by name": (
        f"zones: {{door: {{polygon: {SQUARE}}}}}",
        "Expected `array`, got `object` - at `$.zones`",
    ),
    "a line of no length": (
        gate("start: [0.4, 0.1], end: [0.4, 0.1]"),
        "line 'gate' starts where it ends, at [0.4, 0.1]; expected two points" + OF_GATE,
    ),
    "a line of hardly any length": (
        gate("start: [0.4, 0.1], end: [0.4000000001, 0.1]"),
        "line 'gate' starts where it ends, at [0.4, 0.1]; expected two points" + OF_GATE,
    ),
    "a line beyond the picture": (
        gate("start: [0.4, 0.1], end: [1.4, 0.1]"),
        "line 'gate' has [1.4, 0.1], outside of the picture; expected shares of its width and "
        "height, 0 to 1: divide pixels by them" + OF_GATE,
    ),
    "a line without an end": (
        gate("start: [0.4, 0.1]"),
        "Object missing required field `end`" + OF_GATE,
    ),
    "falling dwell times": (
        door(more="dwell_s: [60, 10]"),
        "zone 'door' has dwell_s [60.0, 10.0]; expected ascending times, each once" + OF_DOOR,
    ),
    "an endless dwell time": (
        door(more="dwell_s: [.inf]"),
        "Expected `float` <= 86400.0 - at `$.zones[0].dwell_s[0]` (of 'door'), found inf",
    ),
    "a negative time": (
        door(more="enter_s: -1"),
        "Expected `float` >= 0.0 - at `$.zones[0].enter_s` (of 'door'), found -1",
    ),
    "a time that is NaN": (
        gate(more="settle_s: .nan"),
        "Expected `float` >= 0.0 - at `$.lines[0].settle_s` (of 'gate'), found nan",
    ),
    "a crowd of nobody": (
        door(more="crowd: 0"),
        "Expected `int` >= 1 - at `$.zones[0].crowd` (of 'door'), found 0",
    ),
    "an unknown anchor": (
        door(more="anchor: feet"),
        "Invalid enum value 'feet' - at `$.zones[0].anchor` (of 'door'). Allowed: centre, foot",
    ),
    "a band in pixels": (
        gate(more="band: 12"),
        "Expected `float` <= 1.0 - at `$.lines[0].band` (of 'gate'), found 12",
    ),
}


@pytest.mark.parametrize(("text", "line"), WRONG.values(), ids=WRONG)
def test_a_wrong_layout_is_one_line_that_names_the_zone_or_line_and_what_was_expected(text, line):
    with pytest.raises(ConfigError) as error:
        layout(text)
    assert str(error.value) == f"zones.yaml: {line}"


def test_a_zone_and_a_line_may_share_a_name_and_a_ring_may_be_closed():
    ring = "[[0.1, 0.1], [0.4, 0.1], [0.4, 0.1], [0.4, 0.4], [0.1, 0.1]]"
    both = layout(f"{door(ring)}\nlines: [{{name: door, {GATE}}}]")
    assert (both.zones[0].name, both.lines[0].name) == ("door", "door")
    assert not both.needs_ground
    assert layout(door("[[1, 1], [4, 1], [4, 4]]", "space: ground")).needs_ground
    assert layout(gate("start: [0, -8], end: [4, 1]", "space: ground")).needs_ground


def test_a_thousand_zones_and_corners_are_accepted_and_one_more_is_not():
    steps = [(index / 999, (index / 999) ** 2) for index in range(1000)]
    assert len(Zone(name="door", polygon=tuple(steps)).polygon) == 1000
    zones = [{"name": f"door-{index}", "polygon": steps[::300]} for index in range(1001)]
    assert len(msgspec.convert({"zones": zones[:1000]}, ZoneLayout).zones) == 1000
    for wrong in ({"zones": zones}, {"zones": [{"name": "a", "polygon": [*steps, (0, 1)]}]}):
        with pytest.raises(ConfigError, match="Expected `array` of length <= 1000"):
            layout(json.dumps(wrong))


corners = st.tuples(st.integers(0, 6), st.integers(0, 6))


def touching(a, b, c, d):
    """The points that segments ab and cd of integers share: their number, 2 for a whole piece."""
    (ux, uy), (vx, vy) = (b[0] - a[0], b[1] - a[1]), (d[0] - c[0], d[1] - c[1])
    wx, wy = c[0] - a[0], c[1] - a[1]
    cross = ux * vy - uy * vx
    if cross:
        t, s = Fraction(wx * vy - wy * vx, cross), Fraction(wx * uy - wy * ux, cross)
        return int(0 <= t <= 1 and 0 <= s <= 1)
    if ux * wy - uy * wx:
        return 0
    low, high = sorted(
        Fraction((x - a[0]) * ux + (y - a[1]) * uy, ux**2 + uy**2) for x, y in (c, d)
    )
    shared = min(high, 1) - max(low, 0)
    return 0 if shared < 0 else 1 if shared == 0 else 2


@given(st.lists(corners, min_size=3, max_size=9))
def test_a_polygon_is_refused_unless_its_edges_meet_only_in_the_corners_between_them(points):
    ring = [a for a, b in zip(points, [*points[1:], points[0]], strict=True) if a != b]
    assume(len(ring) >= 3)
    edges = list(zip(ring, [*ring[1:], ring[0]], strict=True))
    neighbours = {tuple(sorted((i, (i + 1) % len(edges)))) for i in range(len(edges))}
    simple = all(
        touching(*edges[i], *edges[j]) == ((i, j) in neighbours)
        for i, j in combinations(range(len(edges)), 2)
    )
    assert crosses_itself(points) == (not simple)
    shares = tuple((x / 7, y / 7) for x, y in points)
    assert crosses_itself(shares) == (not simple)
    if simple:
        assert abs(signed_area(Zone(name="door", polygon=shares).polygon)) >= 1e-6
    else:
        with pytest.raises(ValueError, match="zone 'door'"):
            Zone(name="door", polygon=shares)


places = st.tuples(st.floats(0, 1), st.floats(0, 1))


@given(
    st.tuples(places, places, places),
    st.tuples(places, places),
    st.sampled_from(["foot", "centre"]),
    st.booleans(),
)
@example(((0.0, 0.0), (0.0, 1.0), (1.9e-170, 0.0)), ((0.0, 0.0), (0.0, 1.0)), "foot", False)
def test_a_layout_is_the_same_after_it_was_written_and_read(triangle, ends, anchor, outside):
    try:
        zone = Zone(name="door", polygon=triangle, anchor=anchor, outside=outside)
        line = Line(name="gate", start=ends[0], end=ends[1], anchor=anchor)
    except ValueError:
        return  # too small
    both = ZoneLayout(zones=(zone,), lines=(line,))
    text = msgspec.yaml.encode(both).decode()
    assert layout(text) == both
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(both), type=ZoneLayout) == both
