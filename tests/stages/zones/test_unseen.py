"""People whom the tracker does not follow, by where the tracks of others begin."""

import msgspec
import numpy as np
import pytest

from streamvis.stages.zones.observed import passed
from streamvis.stages.zones.occupancy import numbers_of
from streamvis.stages.zones.unseen import KNOWN, MIDWAY, RATIO, Unseen

SIZE = (200, 100)


def frame(us, people):
    """People by id: the left edge of the box, which is 10 × 40 px, and the first detection."""
    n, lefts = len(people), np.array([x for x, _ in people.values()], float)
    return msgspec.structs.replace(
        passed(us, SIZE),
        ids=np.array(list(people), np.int64),
        boxes=np.stack([lefts, np.full(n, 40.0), lefts + 10, np.full(n, 80.0)], axis=1),
        first_us=np.array([first for _, first in people.values()], np.int64),
    )


def after(*frames):
    unseen = Unseen()
    for one in frames:
        unseen.see(one)
    return unseen.midway - MIDWAY, unseen.begun - KNOWN


def test_a_track_that_begins_in_the_middle_of_the_picture_says_that_people_are_missed():
    first = frame(0, {1: (90, 0)})  # was there when the media began
    side, middle = {2: (3, 2_000_000)}, {3: (90, 3_000_000)}
    assert after(first) == (0, 0)
    assert after(first, frame(2_100_000, side)) == (0, 1)
    both = frame(2_100_000, side), frame(3_100_000, side | middle)
    assert after(first, *both) == (pytest.approx(1), 2)
    assert after(first, *both, *both) == (pytest.approx(1), 2)  # each track once


def test_a_zone_has_the_unseen_share_of_the_people_so_far_on_average():
    unseen, share = Unseen(), RATIO * MIDWAY / KNOWN
    zones = [0, 7]
    told = [
        unseen.expect(zones, np.array([1.0, 0.0]), 0),
        unseen.expect(zones, np.array([0.0, 0.0]), 1_000_000),
        unseen.expect(zones, np.array([0.0, 4.0]), 4_000_000),
        unseen.expect(zones, np.array([0.0, 0.0]), 8_000_000),
    ]
    expected = [(1, 0), (1, 0), (0.25, 0), (0.125, 2)]
    assert np.array(told) == pytest.approx(share * np.array(expected))
    unseen.keep({7})
    assert unseen.expect(zones, np.zeros(2), 8_000_000) == pytest.approx([0, 2 * share])


def test_unseen_people_are_a_poisson_number_beside_those_who_are_followed():
    p, rng = np.array([[0.5], [0.2]]), np.random.default_rng(18)
    mean, sd, occupied = numbers_of(p, np.array([0.3]))
    drawn = (rng.random((200_000, 2)) < p[:, 0]).sum(axis=1) + rng.poisson(0.3, 200_000)
    assert mean[0] == pytest.approx(drawn.mean(), abs=0.01)
    assert sd[0] == pytest.approx(drawn.std(), abs=0.01)
    assert occupied[0] == pytest.approx((drawn > 0).mean(), abs=0.005)
