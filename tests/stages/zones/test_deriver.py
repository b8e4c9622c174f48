"""The order of the events of a frame, the totals, and which visits are open at the end."""

from types import MappingProxyType, SimpleNamespace

import numpy as np
from zone_logs import enter, leave, revise, visit

from streamvis.messages import Findings
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


def test_a_source_is_found_to_have_the_last_totals_also_by_a_successor():
    deriver = ZonesDeriver(SimpleNamespace(), None)
    derived(deriver, zones={"door": 3}, lines={"gate": (5, 2)})
    derived(deriver, zones={"door": 2, "yard": 0}, lines={"gate": (4, 2)})  # corrected, and added
    successor = ZonesDeriver(SimpleNamespace(), deriver.state())
    found = successor.findings(Findings(people=7))
    assert found == Findings(people=7, zones={"door": 2, "yard": 0}, lines={"gate": (4, 2)})


def derived(deriver, *whats, zones=MappingProxyType({}), lines=MappingProxyType({})):
    """The events of a frame in which the stage has found these, with its totals by name."""
    crossed = np.array([*lines.values()], np.int64).reshape(-1, 2)
    part = SimpleNamespace(
        events=whats,
        due=0,
        at_end=(),
        zones=tuple(zones),
        entries=np.array([*zones.values()], np.int64),
        lines=tuple(lines),
        in_total=crossed[:, 0],
        out_total=crossed[:, 1],
    )
    packet = SimpleNamespace(part=lambda _: part, frame=SimpleNamespace(media_us=10))
    return deriver.derive(packet)


def ends_of(*whats):
    """Who leaves at the end of the source, and since when they were inside."""
    deriver = ZonesDeriver(SimpleNamespace(), None)
    derived(deriver, *whats)
    ends = deriver.close("eof")
    assert all(isinstance(one, ZoneExit) for one in ends)
    return [(one.zone.track, one.zone.entered_us) for one in ends]
