"""A run that was killed goes on: its log is that of an undisturbed run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import toys

from streamvis.config import (
    Jipda,
    MaskRcnn,
    Pipeline,
    Placement,
    Publish,
    StageSpec,
    WorkerSpec,
)
from streamvis.errors import DataError
from streamvis.events import schema
from streamvis.events.ids import epoch_us, event_id
from streamvis.events.log import LogReader
from streamvis.runtime import inline, launch
from streamvis.runtime.seats import Limits
from streamvis.sources.spec import SourceSpec

PIPELINE = Pipeline(
    stages=[
        StageSpec("detect", MaskRcnn(), every_s=0.1),
        StageSpec("track", Jipda(), after=["detect"]),
        StageSpec("publish", Publish(bind=None), after=["track"]),
    ]
)
PLACEMENT = Placement(
    workers=[WorkerSpec(["detect"], batch=2), WorkerSpec(["track", "publish"], batch=3)], slots=4
)


def source(name, frames, **options):
    options = {key: str(value) for key, value in options.items()}
    return SourceSpec(id=name, uri=f"toy:{frames}", kind="file", options=options)


def run(sources, out, on_used="resume", pipeline=PIPELINE, checkpoint_s=0.1):
    return launch.run(
        pipeline,
        PLACEMENT,
        sources,
        build="toys:build_logged",
        open_source="toys:open_toy",
        out=out,
        on_used=on_used,
        limits=Limits(checkpoint_s=checkpoint_s),
    )


def inline_run(sources, out, on_used="refuse", pipeline=PIPELINE):
    return inline.run(
        pipeline,
        sources,
        build=toys.build_logged,
        open_source=toys.open_toy,
        out=out,
        on_used=on_used,
    )


def rows(out):
    """By source: all columns of the log but for what no two runs have in common."""
    found = {}
    with LogReader(out / "events.db") as log:
        epochs = {cursor.epoch for cursor in log.cursors().values()}
        assert len(epochs) == 1
        ids = set()
        for row in log.events():
            event = schema.decode(row.payload)
            wall_us = epoch_us(event.epoch) + event.time.media_us
            assert event.id == event_id(event.epoch, row.source, row.offset, wall_us)
            assert {event.epoch} == epochs
            ids.add(event.id)
            whole = json.loads(row.payload)
            del whole["id"], whole["epoch"], whole["time"]["emit_us"]
            found.setdefault(row.source, []).append((*row[:5], whole))
        assert len(ids) == sum(map(len, found.values()))
    return found


def count(out):
    try:
        with LogReader(out / "events.db") as log:
            return sum(cursor.next for cursor in log.cursors().values())
    except DataError:  # not there yet
        return 0


RUN = f"""
import sys, json
from pathlib import Path
sys.path.append({str(Path(__file__).parent)!r})
from test_resume import run, source
sources = [source(**options) for options in json.loads(sys.argv[2])]
run(sources, Path(sys.argv[1]), checkpoint_s=float(sys.argv[3]))
"""


def killed_at(moment, sources, out, checkpoint_s=0.1):
    """Start it or go on with it, and kill it when the log has so many events."""
    command = [sys.executable, "-c", RUN, str(out), json.dumps(sources), str(checkpoint_s)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while count(out) < moment:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("checkpoint_s", [0.1, 1e9])
def test_a_run_that_is_killed_again_and_again_leaves_the_log_of_an_undisturbed_one(
    tmp_path, checkpoint_s
):
    rng = random.Random(os.environ.get("STREAMVIS_SEED", "7"))
    sources = [
        {"name": "long", "frames": 220, "pause": 0.003, "jump": 90},
        {"name": "short", "frames": 30},
    ]
    specs = [source(**options) for options in sources]
    inline_run(specs, tmp_path / "one")
    expected = rows(tmp_path / "one")
    total = sum(map(len, expected.values()))
    out = tmp_path / "many"
    for moment in sorted(rng.sample(range(10, total - 100), 3)):
        killed_at(moment, sources, out, checkpoint_s)
    assert (out / "checkpoint.msgpack").exists()
    summary = run(specs, out)
    assert rows(out) == expected
    reports = {report.id: report for report in summary.sources}
    assert {name: (r.decoded, r.admitted, r.ending) for name, r in reports.items()} == {
        "long": (219, 219, "eof"),
        "short": (30, 30, "eof"),
    }
    assert reports["long"].decode_errors == 1
    assert json.loads((out / "summary.json").read_bytes()) == msgspec.to_builtins(summary)
    names = {path.name for path in out.iterdir()}
    assert names == {"events.db", "run.json", "summary.json", "tracks-long.txt", "tracks-short.txt"}
