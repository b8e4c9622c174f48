"""A run that was killed resumes: its log is that of an undisturbed run."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import toys
from waiting import PATIENCE_S

from streamvis.config import (
    Jipda,
    MaskRcnn,
    Pipeline,
    Placement,
    Publish,
    StageSpec,
    WorkerSpec,
)
from streamvis.errors import DataError, UsageError
from streamvis.events.envelope import epoch_us, event_id
from streamvis.events.log import LogReader
from streamvis.events.merge import merge
from streamvis.runtime import inline, launch
from streamvis.runtime.control_socket import ControlSettings
from streamvis.runtime.manifest import difference, manifest_of
from streamvis.runtime.supervision import Limits
from streamvis.sources.shard import Shard
from streamvis.sources.spec import SourceSpec
from streamvis.stages import event_codec
from streamvis.transport.sockets import private_directory

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


def test_a_source_of_the_run_that_is_to_be_replaced_is_not_removed(tmp_path):
    run([source("a", 5)], tmp_path, "refuse")
    video = tmp_path / "annotated.mp4"
    video.write_bytes(b"film")
    spec = SourceSpec(id="b", uri=str(video), kind="file")
    with pytest.raises(UsageError, match=r"source 'b' is .*annotated.mp4, a file of the run in"):
        run([spec], tmp_path, "overwrite")
    assert video.read_bytes() == b"film"
    assert (tmp_path / "events.db").exists()


def source(name, frames, **options):
    options = {key: str(value) for key, value in options.items()}
    return SourceSpec(id=name, uri=f"toy:{frames}", kind="file", options=options)


def run(sources, out, on_used="resume", pipeline=PIPELINE, checkpoint_s=0.1, shard=""):
    return launch.run(
        pipeline,
        PLACEMENT,
        sources,
        build="toys:build_logged",
        open_source="toys:open_toy",
        out=out,
        on_used=on_used,
        limits=Limits(checkpoint_s=checkpoint_s),
        control=ControlSettings(shard=Shard.of(shard)) if shard else None,
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
            event = event_codec().decode(row.payload)
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
run(sources, Path(sys.argv[1]), checkpoint_s=float(sys.argv[3]), shard=sys.argv[4])
"""


def killed_at(moment, sources, out, checkpoint_s=0.1, shard=""):
    """Start or resume the run, and kill it when the log has this many events."""
    given = [str(out), json.dumps(sources), str(checkpoint_s), shard]
    command = [sys.executable, "-c", RUN, *given]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while count(out) < moment:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    with private_directory():
        pass


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
    for moment in sorted(rng.sample(range(10, total - 100), 2)):
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
    files = {"events.db", "run.json", "sources.json", "summary.json"}
    assert names == {*files, "tracks-long.txt", "tracks-short.txt"}


def contents(out):
    """The files of a run but for its lock, and the index that each reader of the log changes."""
    files = (path for path in out.glob("[!.]*") if path.name != "events.db-shm")
    return {path.name: path.read_bytes() for path in files}


def test_a_hub_goes_on_with_its_own_shard_and_the_merged_log_is_that_of_one_hub(tmp_path):
    """One of two hubs is killed; a start with another shard by mistake changes nothing."""
    sources = [{"name": name, "frames": 120, "pause": 0.002} for name in ("a", "b", "c", "d")]
    specs = [source(**options) for options in sources]
    own, other = (Shard(number, 2).among(specs) for number in (1, 2))
    assert own
    assert other
    out = tmp_path / "1"
    killed_at(60, [s for s in sources if Shard(1, 2).has(s["name"])], out, shard="1/2")
    run(other, tmp_path / "2", shard="2/2")
    before = contents(out)
    for shard, given in (("2/2", other), ("1/3", Shard(1, 3).among(specs)), ("1/1", own)):
        with pytest.raises(UsageError, match=f"it has shard 1/2 of the sources, not {shard}"):
            run(given or own, out, shard=shard)
    assert contents(out) == before
    run(own, out, shard="1/2")

    inline_run(specs, tmp_path / "all")
    expected = rows(tmp_path / "all")
    logs = [tmp_path / name / "events.db" for name in "12"]
    assert rows(out) | rows(tmp_path / "2") == expected
    assert merge(tmp_path / "merged.db", logs).events == sum(map(len, expected.values()))
    with LogReader(tmp_path / "merged.db") as merged:
        for path in logs:
            with LogReader(path) as log:
                assert all(list(merged.events(s)) == list(log.events(s)) for s in log.cursors())


def spoil(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [spoil, Path.unlink], ids=["damaged", "missing"])
def test_without_its_checkpoint_a_run_starts_over_and_adds_nothing_twice(tmp_path, harm, capfd):
    sources = [{"name": "a", "frames": 120, "pause": 0.003}]
    specs = [source(**options) for options in sources]
    inline_run(specs, tmp_path / "one")
    killed_at(200, sources, tmp_path / "many", checkpoint_s=0.05)
    harm(tmp_path / "many/checkpoint.msgpack")
    summary = run(specs, tmp_path / "many")
    assert rows(tmp_path / "many") == rows(tmp_path / "one")
    assert summary.sources[0].admitted == 120
    assert ("is damaged; starting from the first frame" in capfd.readouterr().err) == (
        harm is spoil
    )


def test_a_checkpoint_that_is_ahead_of_the_log_is_not_used(tmp_path):
    """As after a power cut that took the last transactions of the log, but not the checkpoint."""
    sources = [{"name": "a", "frames": 120, "pause": 0.003}]
    specs = [source(**options) for options in sources]
    inline_run(specs, tmp_path / "one")
    out = tmp_path / "many"
    killed_at(100, sources, out, checkpoint_s=0.05)
    early = {path.name: path.read_bytes() for path in out.glob("events.db*")}
    killed_at(250, sources, out, checkpoint_s=0.05)
    for path in out.glob("events.db*"):
        path.unlink()
    for name, data in early.items():
        if not name.endswith("-shm"):
            (out / name).write_bytes(data)
    run(specs, out)
    assert rows(out) == rows(tmp_path / "one")


def test_a_finished_run_is_left_as_it_is_and_an_empty_directory_begins_one(tmp_path, capfd):
    specs = [source("a", 12)]
    first = inline_run(specs, tmp_path / "new", on_used="resume")
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "new").iterdir()}
    again = run(specs, tmp_path / "new", on_used="resume")
    assert again == first
    assert "the run in it is finished" in capfd.readouterr().err
    after = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "new").iterdir()}
    assert after == before


def changed(stage, **settings):
    stages = [
        StageSpec(
            one.name,
            msgspec.structs.replace(one.run, **settings) if one.name == stage else one.run,
            after=one.after,
            every_s=one.every_s,
        )
        for one in PIPELINE.stages
    ]
    return Pipeline(stages=stages)


@pytest.mark.parametrize(
    ("specs", "pipeline", "words"),
    [
        ([source("a", 13)], PIPELINE, "source 'a' was toy:12, is toy:13"),
        ([source("b", 12)], PIPELINE, "its sources are a, not b"),
        (
            [source("a", 12, jump=3)],
            PIPELINE,
            'source \'a\' had no settings, has options={"jump":"3"}',
        ),
        ([source("a", 12)], changed("detect", min_score=0.75), "detect.min_score was 0.1, is 0.75"),
        (
            [source("a", 12)],
            Pipeline(stages=PIPELINE.stages[:2]),
            "its stages are detect, track, publish, not detect, track",
        ),
    ],
)
def test_a_different_run_is_refused_with_the_first_difference(tmp_path, specs, pipeline, words):
    inline_run([source("a", 12)], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError) as error:
        run(specs, tmp_path, pipeline=pipeline)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_with_other_content_is_another_source(tmp_path):
    film = tmp_path / "a.mp4"
    film.write_bytes(b"one film")
    spec = SourceSpec(id="a", uri=str(film), kind="file")
    old = manifest_of(PIPELINE, [spec], "")
    film.write_bytes(b"another film")
    assert f"source 'a' was {film} with content" in difference(
        old, manifest_of(PIPELINE, [spec], "")
    )
    moved = film.rename(tmp_path / "b.mp4")
    moved.write_bytes(b"one film")
    spec = SourceSpec(id="a", uri=str(moved), kind="file")
    assert difference(old, manifest_of(PIPELINE, [spec], "")) == ""


DRAINED = RUN.replace("run(sources", "print(run(sources").replace("[4])", "[4]).interrupted)")


def test_an_interrupted_run_resumes_in_its_next_stream_epoch(tmp_path):
    options = {"name": "a", "frames": 150, "pause": 0.005}
    command = [sys.executable, "-c", DRAINED, str(tmp_path), json.dumps([options]), "0.05", ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while count(tmp_path) < 100:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=PATIENCE_S)[0] == "SIGTERM\n"
    summary = run([source(**options)], tmp_path)
    assert (summary.sources[0].admitted, summary.sources[0].ending) == (150, "eof")
    with LogReader(tmp_path / "events.db") as log:
        events = [event_codec().decode(row.payload) for row in log.events()]
    numbers = list(dict.fromkeys(event.frame.n for event in events if event.frame))
    assert numbers == list(range(150))
    assert [event.what.stream.reason for event in events if event.type == "source.epoch"] == [
        "resumed"
    ]
    opened = [event.what.track.id for event in events if event.type == "track.begin"]
    closed = [event.what.track.id for event in events if event.type == "track.end"]
    assert len(set(opened)) == len(opened)
    assert sorted(opened) == sorted(closed)
    assert {name.split(":")[1] for name in opened} == {"1", "2"}


def test_a_live_source_resumes_in_its_next_stream_epoch_and_ends_its_tracks_first(tmp_path):
    options = {"name": "cam", "frames": 100_000, "pause": 0.005, "live": ""}
    killed_at(150, [options], tmp_path)
    killed_at(count(tmp_path) + 150, [options], tmp_path)
    with LogReader(tmp_path / "events.db") as log:
        events = [event_codec().decode(row.payload) for row in log.events()]
    assert [event.offset for event in events] == list(range(len(events)))
    (again,) = (i for i, event in enumerate(events) if event.type == "source.epoch")
    assert events[again].what.stream.reason == "resumed"
    ids = {"begin": [], "end": []}
    for event in events:
        if event.type in ("track.begin", "track.end"):
            ids[event.type.partition(".")[2]].append(event.what.track.id)
    opened = [name for name in ids["begin"] if name.startswith("cam:1:")]
    assert sorted(opened) == sorted(name for name in ids["end"] if name.startswith("cam:1:"))
    assert len(set(ids["begin"])) == len(ids["begin"])
    after = [event for event in events[again:] if event.frame]
    assert {event.frame.stream_epoch for event in after} == {2}
    seqs = [event.frame.seq for event in events if event.frame]
    assert seqs == sorted(seqs)


def begun(out):
    """Killed before anything was logged."""
    (out / "events.db").unlink()


def opened(out):
    """Killed while the log was made."""
    (out / "events.db").write_bytes(b"")


def half_made(out):
    (out / "events.db").unlink()
    with closing(sqlite3.connect(out / "events.db")) as db:
        db.execute("PRAGMA journal_mode = WAL")


def ended(out):
    """Killed after the last event, before the summary."""


@pytest.mark.parametrize("moment", [begun, opened, half_made, ended])
def test_a_run_that_was_killed_at_its_start_or_end_resumes(tmp_path, moment):
    specs = [source("a", 12, jump=5), source("b", 9)]
    out = tmp_path / "killed"
    inline_run(specs, tmp_path / "one")
    expected = inline_run(specs, out)
    for name in ("summary.json", "tracks-a.txt", "tracks-b.txt"):
        (out / name).unlink()
    moment(out)
    summary = inline_run(specs, out, on_used="resume")
    assert rows(out) == rows(tmp_path / "one")
    for report, other in zip(summary.sources, expected.sources, strict=True):
        assert (report.admitted, report.ending) == (other.admitted, other.ending)
        assert report.found == other.found is not None
    assert sorted(path.name for path in out.iterdir()) == sorted(
        path.name for path in (tmp_path / "one").iterdir()
    )
