"""Which visits are open when a source ends."""

from types import SimpleNamespace

from zone_logs import enter, leave, revise, visit

from streamvis.stages.zones.deriver import ZonesDeriver
from streamvis.stages.zones.events import ZoneExit


def test_who_is_inside_leaves_at_the_end_whatever_was_corrected_of_earlier_visits():
    whats = (enter("door", "a", 0), leave("door", "a", 0, 5), enter("door", "a", 9))
    assert ends_of(*whats, revise("door", [visit("a", 0, 5)], [visit("b", 0, 5)])) == [("a", 9)]
    moved = revise("door", [visit("a", 9)], [visit("b", 9)])
    assert ends_of(*whats, moved) == [("b", 9)]


def ends_of(*whats):
    """Who leaves at the end of the source, and since when they were inside."""
    deriver = ZonesDeriver(SimpleNamespace(), None)
    part = SimpleNamespace(events=whats, due=0)
    deriver.derive(SimpleNamespace(part=lambda _: part, frame=SimpleNamespace(media_us=10)))
    ends = deriver.close("eof")
    assert all(isinstance(one, ZoneExit) for one in ends)
    return [(one.zone.track, one.zone.entered_us) for one in ends]
