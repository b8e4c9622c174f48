"""The numbers of zones and lines on their way from the stage to the status of a run."""

import msgspec
import pytest
import toys
from controlled_runs import private_home
from test_launch import source
from test_zones_runs import PIPELINE, PLACEMENT, events, layout

from streamvis.messages import SourceGauges, ZoneGauges
from streamvis.runtime import inline, launch
from streamvis.runtime.host import Host


@pytest.fixture(autouse=True)
def home():
    with private_home():
        yield


def in_workers(out, sources, on_status):
    launch.run(
        *(PIPELINE, PLACEMENT, sources),
        build="toys:build_logged",
        open_source="toys:open_toy",
        out=out,
        on_status=on_status,
    )


def in_this_process(out, sources, on_status):
    inline.run(
        *(PIPELINE, sources),
        build=toys.build_logged,
        open_source=toys.open_toy,
        out=out,
        on_status=on_status,
    )


@pytest.mark.parametrize("run", [in_workers, in_this_process])
def test_the_status_has_the_numbers_of_the_log(tmp_path, run):
    short, longer = (
        msgspec.structs.replace(source(name, frames, pause=0.02), zones=layout("door"))
        for name, frames in (("short", 60), ("longer", 250))
    )
    statuses = []
    run(tmp_path, [short, longer], statuses.append)
    seen = [status.gauges for status in statuses if "longer" in status.gauges]
    entries = {
        name: [e["zone"]["entries"] for e in events(tmp_path, name) if e["type"] == "zone.enter"]
        for name in ("short", "longer")
    }
    inside = [one["longer"].zones["door"].people for one in seen]
    assert max(inside) >= 1
    ended = seen[-1]["short"].zones["door"]
    assert ended == ZoneGauges(0, 0.0, 0.0, 0.0, max(entries["short"]))
    last = seen[-1]["longer"].zones["door"]
    assert last.entries in entries["longer"]
    assert last.people <= last.entries


class Gauged:
    """A stage with gauges that a test sets."""

    def __init__(self):
        self.gauges = {}

    def take_gauges(self):
        return self.gauges

    def close(self):
        return


def test_a_host_reports_what_has_changed_only():
    stage = Gauged()
    host = Host(PIPELINE, {"zones": stage})
    assert host.reports
    assert host.take_gauges() == {}
    stage.gauges = {name: SourceGauges({"door": ZoneGauges(1, 1.0, 1.0, 0.0, 1)}) for name in "ab"}
    assert host.take_gauges().keys() == {"a", "b"}
    stage.gauges = stage.gauges | {"a": SourceGauges()}
    assert host.take_gauges() == {"a": SourceGauges()}
    assert host.take_gauges() == {}
