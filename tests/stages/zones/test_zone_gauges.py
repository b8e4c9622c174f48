"""The numbers for metrics are those of the last events."""

from factories import packet, source, tracks

from streamvis.messages import LineGauges
from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.events import LineCross, ZoneEnter, ZoneExit
from streamvis.stages.zones.stage import ZonesStage
from streamvis.zone_layout import Line, Zone

SIZE = (64, 48)
LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
CONFIG = ZoneCounter(
    zones=(Zone(name="left", polygon=LEFT_HALF),),
    lines=(Line(name="middle", start=(0.5, 1.0), end=(0.5, 0.0)),),
)


def test_a_person_who_goes_to_the_right_is_counted_in_the_zone_then_over_the_line():
    stage = ZonesStage(CONFIG)
    assert stage.take_gauges() == {}
    stage.begin(source(size=SIZE), None)
    seen = []
    for n in range(40):
        x = 2.0 + n * 1.4  # px
        (part,) = stage([packet(n, tracks([7], [x, 10, x + 4, 40]), size=SIZE)])
        gauges = stage.take_gauges()["a"]
        zone, line = gauges.zones["left"], gauges.lines["middle"]
        assert (zone.people, zone.mean) == (part.people[0], part.mean[0])
        assert (line.in_total, line.out_total) == (part.in_total[0], part.out_total[0])
        seen += [(what, zone, line) for what in part.events]
    kinds = [type(what) for what, _, _ in seen]
    assert [kinds.count(kind) for kind in (ZoneEnter, ZoneExit, LineCross)] == [1, 1, 1]
    for what, zone, line in seen:
        match what:
            case ZoneEnter(entry):
                assert (zone.people, zone.entries) == (1, entry.entries) == (1, 1)
            case ZoneExit():
                assert (zone.people, zone.longest_s, zone.entries) == (0, 0.0, 1)
            case LineCross(cross):
                assert line == LineGauges(cross.in_total, cross.out_total) == LineGauges(1, 0)
    stage.finish("a", "eof")
    assert stage.take_gauges()["a"].zones["left"].entries == 1
    assert stage.take_gauges() == {}
