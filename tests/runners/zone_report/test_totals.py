"""The counts of a report are the totals that the run itself published, after all corrections."""

from contextlib import closing

import pytest
from track_scenes import Scene, rows_of_run

from streamvis.events.codec import Codec
from streamvis.events.log import Cursor, LogWriter
from streamvis.runners.zone_report.report import Options, report_of
from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.events import (
    ZONE_EVENTS,
    LineCross,
    LineRevise,
    ZoneEnter,
    ZoneRevise,
    ZoneUpdate,
)
from streamvis.zone_layout import Line, Zone

CONFIG = ZoneCounter(
    zones=(
        Zone(name="left", polygon=((0, 0.3), (0.5, 0.3), (0.5, 1), (0, 1))),
        Zone(name="right", polygon=((0.5, 0.3), (1, 0.3), (1, 1), (0.5, 1)), enter_s=0, exit_s=0),
    ),
    lines=(Line(name="gate", start=(0.5, 0.2), end=(0.5, 1.0)),),
    keep_s=3700,
)


def totals(events):
    """Entries of each zone, in and out of each line, as published last."""
    last = {}
    for event in events:
        match event.what:
            case ZoneEnter(one) | ZoneUpdate(one) | ZoneRevise(one):
                last[one.name] = one.entries
            case LineCross(one) | LineRevise(one):
                last[one.name] = (one.in_total, one.out_total)
    return last


@pytest.mark.parametrize("epochs", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_counts_are_the_totals_of_the_run(tmp_path, seed, epochs):
    scene = Scene(seed, frames=400, people=8, corrections=0.15, epochs=epochs)
    rows = rows_of_run(scene, CONFIG)
    path = tmp_path / "events.db"
    with closing(LogWriter(path)) as log:
        log.commit(rows, [Cursor("cam1", "e1", 0, len(rows), "eof", b"")])
    codec = Codec([ZONE_EVENTS])
    events = [codec.decode(row.payload) for row in rows]
    assert sum(isinstance(event.what, ZoneRevise | LineRevise) for event in events) > 10
    with report_of(path, Options()) as report:
        found = {row[:3]: row[3] for row in report.counts.rows("name", "event", "direction")}
        stays = sum(one.count for one in report.counts.stays.values())
        stays += sum(report.counts.cut.values())
    for name, total in totals(events).items():
        if isinstance(total, tuple):
            crossed = ("left_to_right", "right_to_left")
            assert tuple(found.get((name, "crossing", way), 0) for way in crossed) == total
        else:
            assert found[name, "entry", ""] == total
            assert found[name, "exit", ""] == total  # everything has ended
    assert stays == sum(total for total in totals(events).values() if isinstance(total, int))
