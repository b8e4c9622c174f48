"""A real run of the tracker and the publisher: its event lines and its findings."""

import json
import subprocess
import sys
import uuid

import msgspec
import pytest
from counted_findings import counted
from waiting import PATIENCE_S

from streamvis import config
from streamvis.events.log import LogReader
from streamvis.messages import Findings
from streamvis.runtime import launch
from streamvis.sources.spec import SourceSpec
from streamvis.sources.start import parse_start
from streamvis.stages import event_codec


def street(publish: config.Publish, detect: str = "detect") -> config.Pipeline:
    """The pipeline that `toys.build_street` builds."""
    tracker = config.Jipda(memory_s=0.2, remember_s=0)
    return config.Pipeline(
        [
            config.StageSpec(detect, run=config.MaskRcnn()),
            config.StageSpec("track", run=tracker, after=[detect]),
            config.StageSpec("publish", run=publish, after=["track"]),
        ]
    )


def run(pipeline, out=None, pause="0", start=None):
    placement = config.Placement([config.WorkerSpec([stage.name for stage in pipeline.stages])])
    return launch.run(
        pipeline,
        placement,
        [SourceSpec(id="a", uri="toy:90", kind="file", options={"pause": pause}, start=start)],
        build="toys:build_street",
        open_source="toys:open_toy",
        out=out,
    )


def test_every_event_of_a_run_and_its_end_have_a_line(tmp_path):
    address = f"ipc://{tmp_path}/feed"
    tail = [sys.executable, "-m", "streamvis", "events", "tail", "--connect", address]
    with subprocess.Popen(
        [*tail, "--timeout-s", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as follower:
        assert "listening to" in follower.stderr.readline()
        pipeline = street(config.Publish(bind=address))
        run(pipeline, tmp_path / "out", pause="0.03")
        told, said = follower.communicate(timeout=PATIENCE_S)
    assert follower.returncode == 0, said
    assert said.splitlines()[-1] == "the run has ended"
    types = [text.split()[2] for text in told.splitlines()]
    with LogReader(tmp_path / "out/events.db") as log:
        logged = [event_codec().decode(row.payload).type for row in log.events()]
    assert types == logged[-len(types) :]  # those before it was connected are lost
    assert types.count("track.update") > 10
    assert types[-1] == "source.eof"
    ends = [text for text in told.splitlines() if "track.end" in text]
    assert "a:1:2" in ends[-1]
    assert ends[-1].endswith("s (lost)")


@pytest.mark.parametrize("logged", [True, False])
def test_a_run_reports_its_findings(tmp_path, logged):
    silent = street(config.Publish(bind=None))
    found = run(silent, tmp_path if logged else None).sources[0].found
    assert (found.people, found.tracks, found.merges, found.splits) == (2, 2, 0, 0)
    assert found.longest.track == "a:1:1"
    assert 0.5 < found.longest.seconds < 1.1
    assert found.busiest.people == 1
    assert (found.actions, found.unknown, found.forecasts) == (None, None, None)
    if logged:
        summary = json.loads((tmp_path / "summary.json").read_bytes())
        assert msgspec.convert(summary["sources"][0]["found"], Findings) == found
        with LogReader(tmp_path / "events.db") as log:
            expected = counted([event_codec().decode(row.payload) for row in log.events()])
        assert (found.people, found.tracks) == (expected["people"], expected["tracks"])
        assert found.longest.seconds == expected["longest"]
        assert found.busiest.media_us == expected["when"]


def test_a_killed_worker_does_not_change_the_findings(tmp_path):
    whole = run(street(config.Publish(bind=None)), tmp_path / "whole")
    torn = run(street(config.Publish(bind=None), detect="once-30"), tmp_path / "torn")
    assert sum(stage.restarts for stage in torn.stages) == 3  # the one worker of all three
    assert torn.sources[0].found == whole.sources[0].found


def test_a_file_with_a_start_time_has_a_wall_clock_in_all_of_its_events(tmp_path):
    start_us = parse_start("2026-11-29T08:00:00+01:00", "start_time")
    summary = run(street(config.Publish(bind=None)), tmp_path, start=start_us)
    with LogReader(tmp_path / "events.db") as log:
        events = [event_codec().decode(row.payload) for row in log.events()]
    assert {"source.online", "track.begin", "track.end", "source.eof"} < {e.type for e in events}
    for event in events:
        assert event.time.capture_us == start_us + event.time.media_us
        assert event.time.clock == "file"
        assert uuid.UUID(event.id).int >> 80 == event.time.capture_us // 1000
    busiest = summary.sources[0].found.busiest
    assert busiest.capture_us == start_us + busiest.media_us


def test_a_file_without_one_has_none(tmp_path):
    run(street(config.Publish(bind=None)), tmp_path)
    with LogReader(tmp_path / "events.db") as log:
        events = [event_codec().decode(row.payload) for row in log.events()]
    assert {event.time.capture_us for event in events} == {0}
