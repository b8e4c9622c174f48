"""What the stage has published in the end, against the visits and crossings of whole paths."""

from itertools import pairwise
from operator import itemgetter

import numpy as np
import pytest
from factories import SIZE
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import structs
from zone_scenes import History, Picture, Seen, play
from zones import PathPoint, Paths, distance, line_runs, zone_runs

from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.events import ZoneDwell
from streamvis.zone_layout import Line, Zone

WIDTH, HEIGHT = SIZE
NEAR_US = 2000.0  # rounding of boxes, and of times
CLOSE_S = 0.003  # runs whose length is so near to a threshold are left out


def px(corners):
    return tuple((x * WIDTH, y * HEIGHT) for x, y in corners)


def share(*corners):
    return tuple((x / WIDTH, y / HEIGHT) for x, y in corners)


SQUARE = share((200.3, 120.3), (440.3, 120.3), (440.3, 360.3), (200.3, 360.3))
HOOK = share(
    (100.3, 80.7), (520.7, 80.2), (520.4, 220.7), (300.7, 220.9), (300.3, 400.3), (90, 401)
)
ZONES = (
    Zone(name="square", polygon=SQUARE, enter_s=0.33, exit_s=0.47, dwell_s=(1.03, 2.07)),
    Zone(name="at-once", polygon=HOOK, enter_s=0, exit_s=0, dwell_s=(0.53,)),
    Zone(name="outside", polygon=HOOK, outside=True, enter_s=0.11, exit_s=0.29),
    Zone(name="centre", polygon=SQUARE, anchor="centre", enter_s=0.71, exit_s=0.07),
)
LINES = (
    Line(name="upright", start=(0.5003, 0.8), end=(0.5003, 0.2), settle_s=0.23),
    Line(name="oblique", start=(0.3107, 0.3309), end=(0.6911, 0.7127), band=0.05, settle_s=0),
    Line(name="thin", start=(0.7, 0.6003), end=(0.25, 0.6003), band=0, settle_s=0.37),
    Line(name="centre", start=(0.45, 0.25), end=(0.47, 0.7), anchor="centre", band=0.3),
)
SETTINGS = ZoneCounter(zones=ZONES, lines=LINES, keep_s=3700)

legs = st.tuples(
    st.integers(1, 8),  # pictures
    st.integers(-3, 3),  # steps of 15 px per picture
    st.integers(-3, 3),
    st.booleans() | st.just(True),  # detected
)
walks = st.tuples(
    st.tuples(st.integers(0, 40), st.integers(0, 30)),  # first place, in steps of 16 px
    st.sampled_from([40, 100, 160]),  # height
    st.lists(legs, min_size=1, max_size=7),
)
changes = st.tuples(  # one at most in a picture
    st.integers(1, 40),  # picture
    st.sampled_from(["switch", "merge", "swap", "swap back", "split"]),
    st.integers(0, 2),  # person
    st.integers(1, 12),  # pictures before
)


def places(walk):
    """The person in each picture."""
    (x, y), height, parts = walk
    x, y = 16 * x, 16 * y
    seen = [Seen(x, y, height)]
    for count, right, down, detected in parts:
        for _ in range(count):
            x = min(max(x + 15 * right, 0), WIDTH)
            y = min(max(y + 15 * down, 0), HEIGHT)
            seen.append(Seen(x, y, height, detected=detected))
    return seen


class Ids:
    """Which id the boxes of each person have; corrections tell what was wrong."""

    def __init__(self, people: int) -> None:
        self.of = dict(enumerate(range(1, people + 1)))
        self.before: dict[int, list[int]] = {person: [] for person in self.of}
        self.swapped: dict[frozenset[int], int] = {}  # pair -> since
        self.newest = people

    def new(self, person: int) -> None:
        self.newest += 1
        self.of[person] = self.newest

    def change(self, kind, person, other, now_us, since_us, there):
        """Apply a change; return its merges and splits."""
        pair, of = frozenset((person, other)), self.of
        free = not any(person in some for some in self.swapped)
        if kind == "switch" and free and of[person] in there:
            self.before[person].append(of[person])
            self.new(person)
        elif kind == "split" and free and of[person] in there and not self.before[person]:
            id = of[person]
            self.new(person)
            return [], [(id, of[person], since_us)]
        elif kind == "merge" and free and of[person] in there and self.before[person]:
            kept, *rest = self.before[person]
            merged = [(gone, kept) for gone in (*rest, of[person])]
            of[person], self.before[person] = kept, []
            return merged, []
        elif kind == "swap" and len(pair) == 2 and {of[person], of[other]} <= there:
            if not any(pair & some for some in self.swapped):
                of[person], of[other] = of[other], of[person]
                self.swapped[pair] = now_us
        elif kind == "swap back" and pair in self.swapped:
            a, b, since = of[person], of[other], self.swapped.pop(pair)
            of[person], of[other] = b, a
            return [], [(a, b, since), (b, a, since)]
        return [], []


def scene(people, identity, fps):
    """The pictures of walks, and in the last of them everybody is gone."""
    shown = [places(walk) for walk in people]
    ids, there, pictures = Ids(len(people)), set(), []
    for k in range(max(map(len, shown))):
        now_us = round(k * 1e6 / fps)
        merged, split = [], []
        for at, kind, person, back in identity:
            other = (person + 1) % len(people)
            if at == k and person < len(people) and k < min(len(shown[person]), len(shown[other])):
                since_us = round(max(k - back, 0) * 1e6 / fps)
                one = ids.change(kind, person, other, now_us, since_us, there)
                merged += one[0]
                split += one[1]
                if one[0] or one[1]:
                    there = set(ids.of.values())
        present = {ids.of[p]: seen[k] for p, seen in enumerate(shown) if k < len(seen)}
        before = set(pictures[-1].people) if pictures else set()
        pictures.append(
            Picture(now_us, present, tuple(sorted(before - present.keys())), (*merged,), (*split,))
        )
        there = set(present)
    last = pictures[-1]
    return [*pictures, Picture(last.media_us + round(1e6 / fps), ended=tuple(sorted(last.people)))]


def paths(pictures):
    """The paths of all ids after all corrections."""
    whole = Paths(pictures[1].media_us - pictures[0].media_us)
    for picture in pictures:
        rows = {
            id: PathPoint(picture.media_us, (seen.x, seen.y), seen.height, seen.detected)
            for id, seen in picture.people.items()
        }
        whole.take(rows, picture.ended, picture.merged, picture.split)
    return whole


def certain(whole):
    """Whether rounding decides nothing: no run of a path is about as long as a threshold."""
    for id in whole.rows:
        path = whole.path(id)
        if not path:
            continue
        for zone in ZONES:
            for run in zone_runs(path, zone, px(zone.polygon))[:-1]:
                limits = {zone.enter_s, zone.exit_s} - {0}
                if any(abs(run.seconds - limit) < CLOSE_S for limit in limits):
                    return False
        for line in LINES:
            ends = px((line.start, line.end))
            for run in line_runs(path, line, *ends):
                if abs(run.seconds - line.settle_s) < CLOSE_S and line.settle_s:
                    return False
            for a, b in pairwise(path):  # where a path was divided, positions are not exact
                sides = [distance(*ends, place.anchor(line.anchor)) > 0 for place in (a, b)]
                if (a.divided or b.divided) and sides[0] != sides[1]:
                    return False
    return True


def number(track):
    return int(track.rpartition(":")[2])


def assert_same(history: History, whole: Paths) -> None:
    """The folded history is that of the paths."""
    for zone in ZONES:
        published = [
            (number(v.track), v.reason, v.entered_us, v.left_us) for v in history.visits(zone.name)
        ]
        true = [
            (id, v.reason, v.entered_us, v.left_us)
            for id, stays in whole.visits(zone, px(zone.polygon)).items()
            for v in stays
        ]
        where = f"{zone.name}: published {sorted(published)}, by the paths {sorted(true)}"
        assert len(published) == len(true), where
        for one, other in zip(sorted(published), sorted(true), strict=True):
            assert one[:2] == other[:2], where
            assert one[2:] == pytest.approx(other[2:], abs=NEAR_US), where
    for line in LINES:
        crossed = sorted(
            (number(c.track), c.at_us, c.direction) for c in history.crossings(line.name)
        )
        passages = sorted(
            (id, p.cuts_us, p.direction)
            for id, found in whole.crossings(line, *px((line.start, line.end))).items()
            for p in found
        )
        where = f"{line.name}: published {crossed}, by the paths {passages}"
        assert len(crossed) == len(passages), where
        for (id, at_us, direction), (other, cuts_us, towards) in zip(
            crossed, passages, strict=True
        ):
            assert (id, direction) == (other, towards), where
            assert any(abs(at_us - cut) <= NEAR_US for cut in cuts_us), where


def check(pictures):
    whole = paths(pictures)
    assume(certain(whole))
    history = play(SETTINGS, pictures)
    assert_same(history, whole)
    return history, whole


@given(st.lists(walks, min_size=1, max_size=2), st.sampled_from([5, 12]))
@settings(max_examples=150, derandomize=True)
def test_visits_dwells_and_crossings_are_those_of_the_paths(people, fps):
    history, whole = check(scene(people, [], fps))
    for zone in ZONES:
        for threshold in zone.dwell_s:
            dwells = sorted(
                (number(s.track), s.at_us)
                for s in history.of(ZoneDwell)
                if (s.name, s.threshold_s) == (zone.name, threshold)
            )
            true = sorted(
                (id, v.entered_us + threshold * 1e6)
                for id, stays in whole.visits(zone, px(zone.polygon)).items()
                for v in stays
                if v.left_us - v.entered_us >= threshold * 1e6 + NEAR_US
            )
            assert {id for id, _ in true} <= {id for id, _ in dwells}
            assert all(
                any(id == other and abs(at - us) < NEAR_US for other, us in dwells)
                for id, at in true
            )


@given(
    st.lists(walks, min_size=1, max_size=3),
    st.lists(changes, min_size=1, max_size=8, unique_by=itemgetter(0)).map(sorted),
    st.sampled_from([5, 12]),
)
@settings(max_examples=250, derandomize=True)
def test_after_merges_and_splits_the_history_is_that_of_the_corrected_paths(people, identity, fps):
    check(scene(people, identity, fps))


KINDS = ["switch", "merge", "swap", "swap back", "split"]


def random_crowd(rng, people, parts, changes):
    """The pictures of people with many changes of direction, and corrections."""
    walkers = [
        (
            (int(rng.integers(0, 41)), int(rng.integers(0, 31))),
            int(rng.choice([40, 100, 160])),
            [
                (int(rng.integers(1, 9)), *map(int, rng.integers(-3, 4, 2)), rng.random() < 0.85)
                for _ in range(parts)
            ],
        )
        for _ in range(people)
    ]
    identity = [
        (int(at), str(rng.choice(KINDS)), *map(int, rng.integers(0, (people, 12))))
        for at in sorted(rng.choice(np.arange(1, parts * 5), changes, replace=False))
    ]
    return scene(walkers, identity, float(rng.choice([5, 12])))


def test_random_crowds_are_counted_as_their_paths_are():
    """Scenes that are longer than those of the other tests, and with more corrections."""
    rng = np.random.default_rng(18)
    counted = 0
    for _ in range(60):
        pictures = random_crowd(rng, people=2, parts=12, changes=12)
        whole = paths(pictures)
        if certain(whole):
            counted += 1
            assert_same(play(SETTINGS, pictures), whole)
    assert counted >= 10


@pytest.mark.parametrize("seed", [1, 2])
def test_the_past_is_forgotten_without_a_trace(seed):
    """Without corrections, what is published does not depend on how long they are possible."""
    pictures = random_crowd(np.random.default_rng(seed), people=1, parts=150, changes=0)
    assert pictures[-1].media_us > 50e6
    kept = play(SETTINGS, pictures).events
    for keep_s in (0.0, 7.0):
        assert play(structs.replace(SETTINGS, keep_s=keep_s), pictures).events == kept


@pytest.mark.parametrize("keep_s", [0.0, 3.0, 9.0])
def test_corrections_of_what_is_forgotten_name_only_what_was_published(keep_s):
    """`play` compares corrections and totals with what was published before."""
    rng = np.random.default_rng(7)
    for _ in range(3):
        pictures = random_crowd(rng, people=2, parts=50, changes=40)
        play(structs.replace(SETTINGS, keep_s=keep_s), pictures)
