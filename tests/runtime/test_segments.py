"""The shared memory of sources: created once, replaced when pictures grow, closed when unused."""

import os
from contextlib import closing
from pathlib import Path

import pytest
from factories import frame

from streamvis.runtime.segments import Segments
from streamvis.runtime.state import InFlightFrame, Stream
from streamvis.runtime.supervision import ProcessSlot

WINDOW = 3


@pytest.fixture
def segments():
    with closing(Segments(WINDOW)) as segments:
        yield segments


def stream(name="a"):
    return Stream(name, ProcessSlot(f"decode-{name}"))


def hold(source, slot):
    """A frame in flight that lies in this slot."""
    given = frame(slot=slot)
    source.frames_in_flight[given.seq] = InFlightFrame(given, 0.0, 0, (), [], 0)


def present(slots):
    name = slots[0].partition(":")[0].rpartition("-")[0]
    links = (path for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return f"/dev/shm/{name} (deleted)" in map(os.readlink, links)


def test_slots_are_created_for_the_first_picture_and_kept_for_smaller_ones(segments):
    source = stream()
    slots = segments.fit(source, 8, 6)
    assert len(set(slots)) == WINDOW
    assert segments.size("a") >= 8 * 6 * 3
    source.slots = frozenset(slots)  # as the core does
    assert segments.fit(source, 8, 6) is None
    assert segments.fit(source, 6, 4) is None
    assert segments.fit(source, 6, 8) is None  # turned: as many bytes
    assert present(slots)


def test_larger_pictures_get_a_new_segment_and_the_old_one_stays_while_it_is_used(segments):
    source = stream()
    old = segments.fit(source, 8, 6)
    hold(source, old[0])
    new = segments.fit(source, 800, 600)
    assert segments.size("a") >= 800 * 600 * 3
    assert present(old)
    assert present(new)
    source.frames_in_flight.clear()
    segments.tidy(source)
    assert not present(old)
    assert present(new)


def test_a_finished_source_keeps_no_segment_but_those_of_its_frames(segments):
    source, other = stream("a"), stream("b")
    slots, others = segments.fit(source, 8, 6), segments.fit(other, 8, 6)
    hold(source, slots[1])
    source.done = True
    segments.tidy(source)
    assert present(slots)
    source.frames_in_flight.clear()
    segments.tidy(source)
    assert not present(slots)
    assert present(others)


def test_closing_closes_everything():
    segments = Segments(WINDOW)
    both = [segments.fit(stream(name), 8, 6) for name in "ab"]
    segments.close()
    assert not any(map(present, both))


def test_a_source_that_begins_anew_under_the_name_of_another_gets_slots_of_its_own(segments):
    former = segments.fit(stream(), 8, 6)
    again = stream()
    slots = segments.fit(again, 8, 6)
    assert slots is not None
    assert not set(slots) & set(former)
