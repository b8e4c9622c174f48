"""Zones that change while a run goes on: in the log once each, in order, also after a kill -9."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import toys
from controlled_runs import private_home
from process_tree import children
from test_control_runs import Operator, until
from test_launch import source, workers

from streamvis.config import Jipda, MaskRcnn, Pipeline, Publish, Site, StageSpec, load_site
from streamvis.config.zones import read_zones, zones_text
from streamvis.errors import DataError, UsageError
from streamvis.events.export import jsonl
from streamvis.events.log import LogReader
from streamvis.runtime import inline, launch
from streamvis.runtime.control import Reload
from streamvis.runtime.control_socket import ControlSettings
from streamvis.runtime.control_zones import ChangeZones, ListZones
from streamvis.runtime.supervision import Limits
from streamvis.stages.zones import ZoneCounter
from streamvis.transport.sockets import private_directory
from streamvis.zone_layout import Zone, ZoneLayout

PIPELINE = Pipeline(
    [
        StageSpec("detect", MaskRcnn()),
        StageSpec("track", Jipda(), after=["detect"]),
        StageSpec("zones", ZoneCounter(), after=["track"]),
        StageSpec("publish", Publish(bind=None), after=["track", "zones"]),
    ]
)
PLACEMENT = workers(["detect"], ["track", "zones", "publish"])


def layout(name):
    """A zone that the toys' walkers are always in."""
    corner = ((0.0, 0.0), (0.02, 0.0), (0.0, 0.02))
    return ZoneLayout(zones=(Zone(name=name, polygon=corner, outside=True),))


@pytest.fixture(autouse=True)
def home():
    with private_home():
        yield


def run(out, sources, acts, site=None):
    with Operator(out, acts):
        return launch.run(
            *(PIPELINE, PLACEMENT, sources),
            build="toys:build_logged",
            open_source="toys:open_toy",
            out=out,
            serve=True,
            control=ControlSettings(site=site),
        )


def events(out, name="film"):
    with LogReader(out / "events.db") as reader:
        return [msgspec.json.decode(row) for row in jsonl(reader.latest(name))]


def layouts(out, name="film"):
    """The names of the zones of each zone.layout, with the number of its frame."""
    found = [event for event in events(out, name) if event["type"] == "zone.layout"]
    return [([zone["name"] for zone in e["zone"]["zones"]], e["frame"]["seq"]) for e in found]


def film(folder, name="film", zones="first"):
    path = folder / f"{name}.zones.yaml"
    path.write_text(zones_text(layout(zones)))
    return msgspec.structs.replace(
        source(name, 5000, pause=0.01), zones=layout(zones), zones_file=str(path)
    )


def admitted(operator, name="film"):
    found = operator.source(name)
    return found.admitted if found else 0


def later(operator, frames=30, name="film"):
    """Wait until more frames of a source were admitted."""
    goal = admitted(operator, name) + frames
    until(lambda: admitted(operator, name) >= goal)


def test_changed_zones_are_logged_once_each_also_when_the_worker_is_killed(tmp_path):
    out = tmp_path / "out"

    def acts(operator):
        until(lambda: admitted(operator) > 30)
        operator.ask(ChangeZones("film", layout("second")))
        later(operator)
        operator.ask(ChangeZones("film", layout("third")))
        for pid in children(word="runtime.worker"):
            os.kill(pid, signal.SIGKILL)
        later(operator)
        with pytest.raises(UsageError, match="no source 'flim'"):
            operator.ask(ChangeZones("flim", layout("fourth")))
        (listed,) = operator.ask(ListZones()).sources
        assert listed.layout == layout("third")

    spec = film(tmp_path)
    run(out, [spec], acts)
    names, frames = zip(*layouts(out), strict=True)
    assert names == (["first"], ["second"], ["third"])
    assert frames[0] == 0
    assert list(frames) == sorted(set(frames))
    assert [event["offset"] for event in events(out)] == list(range(len(events(out))))
    assert read_zones(tmp_path / "film.zones.yaml") == layout("third")
    known = ("zone.enter", "zone.update")
    for event in (event for event in events(out) if event["type"] in known):
        number = sum(event["frame"]["seq"] >= frame for frame in frames)
        assert [event["zone"]["name"]] == names[number - 1]


TO_BE_KILLED = f"""
import sys
from pathlib import Path
sys.path += {[str(place) for place in Path(__file__).parents[:2]]!r}
import test_zones_runs
test_zones_runs.recorded(Path(sys.argv[1]), "first", float(sys.argv[2]))
"""


def short(zones):
    return msgspec.structs.replace(source("film", 200, pause=0.003), zones=layout(zones))


def recorded(out, zones, checkpoint_s):
    return launch.run(
        *(PIPELINE, PLACEMENT, [short(zones)]),
        build="toys:build_logged",
        open_source="toys:open_toy",
        out=out,
        on_used="resume",
        limits=Limits(checkpoint_s=checkpoint_s),
    )


def logged(out):
    """The events without what no two runs have in common."""
    found = events(out)
    for event in found:
        del event["id"], event["epoch"], event["time"]["emit_us"]
    return found


def count(out):
    try:
        with LogReader(out / "events.db") as reader:
            return sum(cursor.next for cursor in reader.cursors().values())
    except DataError:  # not there yet
        return 0


@pytest.mark.parametrize("checkpoint_s", [0.05, 1e9])
def test_a_killed_run_is_resumed_with_other_zones(tmp_path, checkpoint_s):
    """They count after the last logged frame; what is logged is that of an undisturbed run."""
    out, alone = tmp_path / "out", tmp_path / "alone"
    inline.run(
        *(PIPELINE, [short("first")]),
        build=toys.build_logged,
        open_source=toys.open_toy,
        out=alone,
    )
    command = [sys.executable, "-c", TO_BE_KILLED, str(out), str(checkpoint_s)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        until(lambda: count(out) > 400 or process.poll() is not None)
        assert process.poll() is None, process.stderr.read()
        process.kill()
    with private_directory():
        pass
    before = logged(out)
    assert before == logged(alone)[: len(before)]
    recorded(out, "second", checkpoint_s)
    after = logged(out)
    assert after[: len(before)] == before
    last = max(event["frame"]["seq"] for event in before if event["frame"])
    assert layouts(out) == [(["first"], 0), (["second"], last + 1)]
    assert [event["offset"] for event in after] == list(range(len(after)))


def test_a_sources_file_that_is_read_again_changes_zones_without_a_restart(tmp_path, monkeypatch):
    out, path = tmp_path / "out", tmp_path / "site.yaml"
    specs = {spec.id: spec for spec in (film(tmp_path, "a"), film(tmp_path, "b"))}

    def load(where):
        """The zones are those of the files; the rest of the sources are toys."""
        read = {name: read_zones(tmp_path / f"{name}.zones.yaml") for name in specs}
        found = [msgspec.structs.replace(spec, zones=read[spec.id]) for spec in specs.values()]
        return Site(where, tuple(found))

    def acts(operator):
        until(lambda: admitted(operator, "a") > 20 and admitted(operator, "b") > 20)
        (tmp_path / "a.zones.yaml").write_text(zones_text(layout("edited")))
        assert str(operator.ask(Reload())) == "other zones for a"
        later(operator, name="a")
        operator.ask(ChangeZones("a", layout("set")))
        assert str(operator.ask(Reload())) == "nothing has changed"
        (tmp_path / "a.zones.yaml").write_text("zones: [{name: a}]")
        with pytest.raises(UsageError, match=r"a\.zones\.yaml: .*polygon"):
            operator.ask(Reload())
        later(operator, name="a")

    monkeypatch.setattr("streamvis.runtime.control_socket.load_site", load)
    summary = run(out, list(specs.values()), acts, load(path))
    assert [names for names, _ in layouts(out, "a")] == [["first"], ["edited"], ["set"]]
    assert [names for names, _ in layouts(out, "b")] == [["first"]]
    assert [report.epoch for report in summary.sources] == [1, 1]


def test_sources_of_a_sources_file_are_the_same_when_it_is_read_again(tmp_path):
    """Otherwise every reload would change zones."""
    (tmp_path / "door.yaml").write_text(zones_text(layout("door")))
    path = tmp_path / "site.yaml"
    path.write_text("sources: [{id: gate, uri: 'synthetic:walkers', zones: door.yaml}]")
    assert load_site(path).specs() == load_site(path).specs()
