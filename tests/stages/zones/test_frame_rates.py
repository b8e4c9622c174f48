"""One scene at several frame rates: the same events, at the same media time."""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from factories import SIZE
from zone_scenes import RATES, Seen, play, sample, walk

from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.events import (
    LineCross,
    ZoneClear,
    ZoneCrowded,
    ZoneDwell,
    ZoneEnter,
    ZoneExit,
)
from streamvis.synthetic.scene import Camera, simulate
from streamvis.zone_layout import Line, Zone

WITHIN_US = 200_000
KINDS = (ZoneEnter, ZoneExit, ZoneDwell, ZoneCrowded, ZoneClear, LineCross)
SECONDS = 40.0
PLACE = ((0.15, 0.35), (0.6, 0.3), (0.85, 0.6), (0.5, 0.95), (0.2, 0.8))
ZONES = (
    Zone(name="place", polygon=PLACE, dwell_s=(2, 5), crowd=3, crowd_s=0.6),
    Zone(name="beyond", polygon=PLACE, outside=True, dwell_s=(3,), enter_s=0.5, exit_s=1),
    Zone(name="heads", polygon=((0, 0), (0.5, 0), (0.5, 1), (0, 1)), anchor="centre"),
)
LINES = (
    Line(name="middle", start=(0.5, 1), end=(0.5, 0.1)),
    Line(name="oblique", start=(0.2, 0.4), end=(0.9, 0.8), settle_s=0.4),
    Line(name="near", start=(0.95, 0.7), end=(0.05, 0.75), band=0.05),
)


def people_of(seed, count=8):
    """The paths of simulated walkers who are in the picture, from a full second to a full second.

    At these times there is a picture at each of the frame rates.
    """
    camera = Camera(*SIZE)

    def path(one):
        def at(seconds):
            if (state := one.at(seconds)) is None:
                return None
            x, y = state[:2]
            (foot, head), _ = camera.project(np.array([(x, y, 0), (x, y, one.person.height)]))
            if not (20 < foot[0] < SIZE[0] - 20 and foot[1] < SIZE[1] - 1):
                return None
            return Seen(float(foot[0]), float(foot[1]), float(foot[1] - head[1]))

        return cache(at)

    return {
        one.person.id: on_full_seconds(path(one)) for one in simulate(seed, count, SECONDS, camera)
    }


def on_full_seconds(path):
    """The path, where it is there at the full second before and at the one after."""

    def at(seconds):
        low, high = math.floor(seconds + 1e-6), math.ceil(seconds - 1e-6)
        return path(seconds) if path(low) and path(high) else None

    return at


def told(history):
    """The events by what and who, each with the times at which they happened, in order."""
    times = {}
    for what in history.bodies(*KINDS):
        body = getattr(what, what.__struct_fields__[0])
        key = (type(what).__name__, body.name, getattr(body, "track", ""))
        key += (getattr(body, "threshold_s", 0), getattr(body, "direction", ""))
        times.setdefault(key, []).append(body.at_us)
    return {key: sorted(found) for key, found in times.items()}


def assert_same_events(histories):
    for (_, one), (fps, other) in pairwise(histories.items()):
        before, after = told(one), told(other)
        assert before.keys() == after.keys(), fps
        for key, times in before.items():
            assert len(times) == len(after[key]), (fps, key)
    for key in told(next(iter(histories.values()))):
        found = np.array([told(history)[key] for history in histories.values()])
        assert np.ptp(found, axis=0).max() <= WITHIN_US, (key, found.tolist())


def test_walkers_through_zones_and_over_lines_give_the_same_events():
    """Of three who walk at constant speeds, times differ by a few ms only."""
    people = {
        1: walk((0, 50, 240), (6, 600, 300), (14, 300, 280), (20, 60, 100)),
        2: walk((1, 600, 460), (8, 320, 350), (16, 320, 350), (22, 100, 420)),
        3: walk((3, 300, 470), (9, 360, 170), (13, 240, 330), (24, 620, 240)),
    }
    settings = ZoneCounter(zones=ZONES, lines=LINES)
    histories = {fps: play(settings, sample(people, fps, 26)) for fps in RATES}
    assert_same_events(histories)
    assert {kind for kind, *_ in told(histories[60])} == {kind.__name__ for kind in KINDS}


@pytest.mark.parametrize("seed", [3, 7, 11])
def test_a_street_of_simulated_people_gives_the_same_events(seed):
    people = people_of(seed)
    settings = ZoneCounter(zones=ZONES, lines=LINES)
    histories = {fps: play(settings, sample(people, fps, SECONDS)) for fps in RATES}
    assert sum(map(len, told(histories[60]).values())) > 30
    assert_same_events(histories)
