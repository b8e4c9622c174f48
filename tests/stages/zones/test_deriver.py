"""The order of the events of a frame, and which visits are open when a source ends."""

from types import SimpleNamespace

from zone_logs import enter, leave, revise, visit

from streamvis.stages.zones.deriver import ZonesDeriver
from streamvis.stages.zones.events import Stay, ZoneDwell, ZoneExit


def test_who_is_inside_leaves_at_the_end_whatever_was_corrected_of_earlier_visits():
    whats = (enter("door", "a", 0), leave("door", "a", 0, 5), enter("door", "a", 9))
    assert ends_of(*whats, revise("door", [visit("a", 0, 5)], [visit("b", 0, 5)])) == [("a", 9)]
    moved = revise("door", [visit("a", 9)], [visit("b", 9)])
    assert ends_of(*whats, moved) == [("b", 9)]


def test_a_visit_that_is_known_only_after_it_has_ended_begins_before_it_ends():
    """A gap in the detections hides it, with a time of stay and the visit that follows it."""
    early, late = enter("door", "a", 0), enter("door", "a", 9)
    stay = ZoneDwell(Stay(name="door", track="a", at_us=3, entered_us=0, threshold_s=3e-6))
    other, out = enter("door", "b", 2), leave("door", "a", 0, 5)
    found = derived(ZonesDeriver(SimpleNamespace(), None), early, stay, out, late, other)
    assert found.ends == [early, stay, out]  # before the ends of tracks
    assert [draft.what for draft in found.drafts] == [late, other]


def derived(deriver, *whats):
    """The events of a frame in which the stage has found these."""
    part = SimpleNamespace(events=whats, due=0)
    packet = SimpleNamespace(part=lambda _: part, frame=SimpleNamespace(media_us=10))
    return deriver.derive(packet)


def ends_of(*whats):
    """Who leaves at the end of the source, and since when they were inside."""
    deriver = ZonesDeriver(SimpleNamespace(), None)
    derived(deriver, *whats)
    ends = deriver.close("eof")
    assert all(isinstance(one, ZoneExit) for one in ends)
    return [(one.zone.track, one.zone.entered_us) for one in ends]
