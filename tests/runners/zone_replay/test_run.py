"""The acceptance of the design: a run's log and its replay have the same events of zones."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from streamvis import config
from streamvis.cli.main import app
from streamvis.config.zones import zones_text
from streamvis.events.log import LogReader
from streamvis.runtime import inline
from streamvis.runtime.host import build_stage
from streamvis.sources import resolve
from streamvis.stages import event_codec
from streamvis.zone_layout import Line, Zone, ZoneLayout

SCENE = "a=synthetic:walkers?people=5&seconds=8&fps=10&size=320x240&seed=5"
LAYOUT = ZoneLayout(
    zones=(
        Zone(name="left", polygon=((0, 0.3), (0.5, 0.3), (0.5, 1), (0, 1)), dwell_s=(1,), crowd=2),
        Zone(name="right", polygon=((0.5, 0.3), (1, 0.3), (1, 1), (0.5, 1)), enter_s=0, exit_s=0.2),
    ),
    lines=(
        Line(name="middle", start=(0.5, 0.2), end=(0.5, 1), settle_s=0.1),
        Line(name="across", start=(0, 0.6), end=(1, 0.6)),
    ),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The output of a run of the pipeline `zones` over a scene."""
    out = tmp_path_factory.mktemp("run")
    small = {"detect.short_side": "240", "publish.bind": "none", "publish.update_every_s": "0"}
    pipeline = config.load_pipeline(Path("zones"), small)
    (spec,) = resolve([SCENE])
    spec = msgspec.structs.replace(spec, zones=LAYOUT)
    inline.run(pipeline, [spec], build=build_stage, out=out)
    return out


def bodies(path: Path, family=("zone", "line")):
    with LogReader(path) as log:
        events = [event_codec().decode(row.payload) for row in log.events(types=family)]
    return [event.what for event in events]


def replay(run, *words):
    zones = run / "zones.yaml"
    zones.write_text(zones_text(LAYOUT))
    command = ["zones", "replay", str(run), "--zones", str(zones), *map(str, words)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return result


def test_the_replay_of_a_run_has_its_events_in_their_order(run, tmp_path):
    replay(run, "--out", tmp_path / "new.db")
    published = bodies(run / "events.db")
    kinds = Counter(type(what).__name__ for what in published)
    assert min(kinds[name] for name in ("ZoneEnter", "ZoneExit", "LineCross", "ZoneUpdate")) > 0
    assert bodies(tmp_path / "new.db") == published


def test_two_replays_are_identical(run, tmp_path):
    once, again = (replay(run, "--jsonl").stdout for _ in range(2))
    assert once == again
    assert once.count("\n") == len(bodies(run / "events.db"))
    for name in ("a.db", "b.db"):
        replay(run, "--out", tmp_path / name)
    with LogReader(tmp_path / "a.db") as a, LogReader(tmp_path / "b.db") as b:
        assert list(a.events()) == list(b.events())
        assert a.cursors() == b.cursors()


def test_the_log_of_a_replay_is_a_log(run, tmp_path):
    replay(run, "--out", tmp_path / "new.db")
    with LogReader(tmp_path / "new.db") as log:
        rows = list(log.events("a"))
    assert [row.offset for row in rows] == list(range(len(rows)))
    assert {row.type for row in rows} >= {"source.online", "source.eof", "zone.update"}
    result = CliRunner().invoke(app, ["zones", "report", str(tmp_path / "new.db")])
    assert result.exit_code == 0
    assert "middle" in result.stdout
