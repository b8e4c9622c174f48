"""`streamvis events`: how `tail` ends, and what `export` writes."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from event_logs import CORRECTED, logged
from typer.testing import CliRunner

from streamvis.cli import events
from streamvis.cli.main import app
from streamvis.events import follow
from streamvis.events.client import Subscription
from streamvis.events.envelope import Event, FrameRef, Lost, Time, encode
from streamvis.events.feed import Feed
from streamvis.events.log import Cursor, LogReader, LogWriter, Row
from streamvis.events.source_events import Finish, SourceEof
from streamvis.runtime.output import locked
from streamvis.stages import event_codec
from streamvis.stages.track.events import Association, Merge, Track, TrackBegin, TrackMerge
from streamvis.stages.zones.events import Crossing, LineCross, ZoneLayoutSet
from streamvis.zone_layout import Line, ZoneLayout


def event_of(what, offset=0):
    return Event(
        id="",
        source="a",
        epoch="e",
        tseq=offset + 1,
        offset=offset,
        time=Time(media_us=40_000 * offset),
        frame=FrameRef(n=offset, seq=offset, w=640, h=480, stream_epoch=1),
        what=what,
    )


def seen(number):
    return TrackBegin(
        Track(
            id=f"a:1:{number}",
            box_px=(0.0, 0.0, 10.0, 20.0),
            box_from="update",
            score=0.8,
            vel_px_s=(0.0, 0.0),
            cov_diag=(1.0, 1.0, 1.0, 1.0),
            p_exist=0.75,
            assoc=Association(),
            first_seen_us=0,
            age_s=0.0,
        )
    )


def write_log(path, whats):
    log = LogWriter(path)
    rows = [
        Row("a", event.offset, event.tseq, event.type, event.time.media_us, encode(event))
        for event in map(event_of, whats, range(len(whats)))
    ]
    log.commit(rows, [Cursor("a", "e", 0, len(rows), "eof", b"")])
    log.close()


@pytest.mark.parametrize(("options", "ids"), [([], "22"), (["--as-published"], "52")])
@pytest.mark.parametrize("to_file", [False, True])
def test_tracks_are_exported_corrected_or_as_first_published(tmp_path, options, ids, to_file):
    merge = TrackMerge(Merge(gone="a:1:5", kept="a:1:2"))
    write_log(tmp_path / "events.db", [seen(5), merge, seen(2)])
    out = ["--out", str(tmp_path)] if to_file else []
    result = CliRunner().invoke(
        app, ["events", "export", str(tmp_path), "--format", "mot", *out, *options]
    )
    assert result.exit_code == 0, result.output
    text = (tmp_path / "tracks.txt").read_text() if to_file else result.stdout
    assert "".join(line.split(",")[1] for line in text.splitlines()) == ids


def export(folder, *options):
    return CliRunner().invoke(app, ["events", "export", str(folder), *options])


@pytest.mark.parametrize("format", ["jsonl", "csv", "mot"])
def test_what_is_not_in_the_log_is_refused_and_what_is_there_named(tmp_path, format):
    write_log(tmp_path / "events.db", [seen(5), seen(2)])
    out = ["--format", format, "--out", str(tmp_path / "written")]
    for wrong, message in (
        (["--source", "gate"], "--source gate: not in {log}, which holds a"),
        (["--type", "trak"], "--type trak: no such type or family of events; {log} holds track.be"),
        (["--type", "track.star"], "--type track.star: no such type or family"),
    ):
        result = export(tmp_path, *out, *wrong)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"streamvis: {message.format(log=tmp_path / 'events.db')}")
    assert not (tmp_path / "written").exists()


def test_a_type_that_did_not_happen_is_no_error_but_is_said(tmp_path):
    write_log(tmp_path / "events.db", [seen(5), seen(2)])
    result = export(tmp_path, "--type", "action")
    assert (result.exit_code, result.stdout) == (0, "")
    log = tmp_path / "events.db"
    assert result.stderr == f"{log} holds no event of type action; it holds track.begin\n"
    assert len(export(tmp_path, "--type", "track").stdout.splitlines()) == 2
    assert len(export(tmp_path, "--source", "a", "--type", "track.begin").stdout.splitlines()) == 2


DYING = """
import sys, time
from streamvis.events.feed import Feed
feed = Feed(sys.argv[1], epoch="e")
feed.open_source("a")
time.sleep(60)
"""


def tail(*options):
    return CliRunner().invoke(app, ["events", "tail", "--family", "hb", *options])


def test_tail_says_that_the_publisher_is_gone_when_it_was_killed(tmp_path, monkeypatch):
    address = f"ipc://{tmp_path}/feed"
    with subprocess.Popen([sys.executable, "-c", DYING, address]) as publisher:
        monkeypatch.setattr(events, "put", lambda _: publisher.kill())  # at the first heartbeat
        result = tail("--connect", address, "--timeout-s", "60")
    assert result.exit_code == 3
    assert f"{address}: no heartbeat for 3 s, expected one each second" in result.stderr


def test_tail_goes_on_with_the_next_publisher_when_asked_to_wait(tmp_path, monkeypatch):
    address = f"ipc://{tmp_path}/feed"
    feeds, said = [Feed(address, epoch="one")], []
    monkeypatch.setattr(follow, "SILENCE_S", 0.5)
    seen = []

    def put(text):
        seen.append(json.loads(text)["epoch"])
        if seen[-1] == "one" and len(feeds) == 1:
            feeds.pop().close()
        elif seen[-1] == "two":
            raise KeyboardInterrupt

    def say(text):
        said.append(text)
        if "any more" in text and not feeds:
            feeds.append(Feed(address, epoch="two"))
            feeds[0].open_source("a")

    monkeypatch.setattr(events, "put", put)
    monkeypatch.setattr(events, "say", say)
    feeds[0].open_source("a")
    result = tail("--connect", address, "--timeout-s", "60", "--wait", "--json")
    feeds[0].close()
    assert result.exit_code == 130
    assert set(seen) == {"one", "two"}
    assert f"no publisher at {address} any more; waiting for the next" in said
    assert said[-1] == f"there is a publisher at {address} now"


def test_tail_says_that_nobody_is_there_yet(tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "SILENCE_S", 0.1)
    address = f"ipc://{tmp_path}/feed"
    result = tail("--connect", address, "--timeout-s", "0.5")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[1:] == [
        f"nothing at {address} yet; waiting for a run",
        f"streamvis: nothing came from {address} for 0.5 s",
    ]


def test_tail_follows_several_feeds_until_all_runs_have_ended(tmp_path, monkeypatch):
    feeds = {name: Feed(f"ipc://{tmp_path}/{name}", epoch=name) for name in ("one", "two")}
    seen = []

    def put(text):
        seen.append(json.loads(text)["epoch"])
        if feeds and set(seen) == {"one", "two"}:
            for name in list(feeds):
                feeds.pop(name).close(ended=True)

    monkeypatch.setattr(events, "put", put)
    for name, feed in feeds.items():
        feed.open_source(name)
    addresses = [word for feed in feeds.values() for word in ("--connect", feed.endpoint)]
    result = tail(*addresses, "--timeout-s", "60", "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.endswith("all runs have ended\n")


def test_tail_of_several_feeds_begins_at_no_offset(tmp_path):
    result = tail("--connect", "ipc://a", "--connect", "ipc://b", "--source", "x", "--since", "5")
    assert result.exit_code == 2
    assert "--since 5: expected now or snapshot with several feeds" in result.stderr


@pytest.mark.parametrize("ended", [True, False])
def test_a_subscription_ends_with_the_run_when_asked_to(tmp_path, ended):
    """A publisher that closes without a word may come back."""
    feed = Feed(f"ipc://{tmp_path}/feed", epoch="e")
    feed.open_source("a")
    subscription = Subscription(
        feed.endpoint, event_codec(), family="hb", timeout_s=2, until_ended=True
    )
    for _ in subscription:
        feed.close(ended=ended)
    assert subscription.inbox.ended == ended


def test_tail_names_the_sources_there_are_when_the_one_asked_for_is_not(tmp_path):
    feed = Feed(f"ipc://{tmp_path}/feed", epoch="e")
    feed.open_source("gate")
    feed.open_source("yard")
    closing = threading.Timer(1, feed.close, kwargs={"ended": True})
    closing.start()
    result = tail("--connect", feed.endpoint, "--source", "gaet", "--timeout-s", "30")
    closing.join()
    assert result.exit_code == 0, result.stderr
    missing = f"no source 'gaet' at {feed.endpoint} yet; open there: gate, yard"
    assert result.stderr.splitlines()[1:] == [missing, "the run has ended"]


def test_a_family_that_is_none_is_refused():
    result = CliRunner().invoke(app, ["events", "tail", "--family", "trak"])
    assert result.exit_code == 2
    known = ", ".join(event_codec().families)
    assert "action, " in known
    assert f"--family trak: no such family of events; expected one of {known}" in result.stderr


def test_several_families_are_followed_at_once(tmp_path, monkeypatch):
    """The one that is named last does not replace the others; losses of the others are left out."""
    zones = ZoneLayoutSet(ZoneLayout(lines=(Line(name="gate", start=(0, 0), end=(1, 1)),)))
    cross = LineCross(
        Crossing(
            name="gate",
            track="a:1:2",
            direction="left_to_right",
            at_us=0,
            p=0.9,
            in_total=1,
            out_total=0,
        )
    )
    lost = [Lost(topic=f"sv1/a/{family}/", first=1, last=2) for family in ("zone", "track")]
    came = [event_of(what) for what in (seen(5), zones, cross, *lost)]
    monkeypatch.setattr(follow, "follow", lambda *_, **__: iter(came))
    families = ("--family", "zone", "--family", "line")
    result = CliRunner().invoke(app, ["events", "tail", *families, "--json"])
    assert [json.loads(line)["type"] for line in result.stdout.splitlines()] == [
        *("zone.layout", "line.cross", "sys.lost")
    ]


@pytest.mark.parametrize("family", ["hb", "frame"])
def test_a_family_that_comes_only_when_it_is_asked_for_alone_is_refused_among_others(family):
    result = tail("--family", family, "--family", "zone")
    assert result.exit_code == 2
    assert f"--family {family} can only be followed alone" in result.stderr


def test_vacuum_says_what_it_returned(tmp_path):
    log = LogWriter(tmp_path / "events.db")
    rows = [Row("a", n, n + 1, "track.update", 0, bytes(1000)) for n in range(1000)]
    log.commit(rows, [Cursor("a", "e", 0, 1000, "", b"")])
    log._db.execute("DELETE FROM events WHERE offset < 900")
    result = CliRunner().invoke(app, ["events", "vacuum", str(tmp_path)])
    log.close()
    assert result.exit_code == 0, result.output
    before, after = map(float, re.findall(r"([\d.]+) MB", result.stdout))
    assert after < 0.3 * before


def test_vacuum_of_an_earlier_log_waits_for_its_run(tmp_path):
    v1 = Path(__file__).parents[1] / "events" / "fixtures" / "log-v1.db"
    path = Path(shutil.copy(v1, tmp_path / "events.db"))
    with locked(tmp_path):
        result = CliRunner().invoke(app, ["events", "vacuum", str(path)])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert f"another run writes here, process {os.getpid()}" in result.stderr
    assert CliRunner().invoke(app, ["events", "vacuum", str(path)]).exit_code == 0
    with LogReader(path) as log:
        assert len(list(log.events())) == 8


def test_vacuum_without_a_log(tmp_path):
    result = CliRunner().invoke(app, ["events", "vacuum", str(tmp_path)])
    assert result.exit_code == 2
    assert "events.db: no event log" in result.stderr


@pytest.mark.parametrize("evicted", range(len(CORRECTED)))
def test_a_log_whose_beginning_is_evicted_is_exported(tmp_path, evicted):
    """Corrections may name tracks of which nothing is left."""
    path = tmp_path / "events.db"
    logged(path, "cam1", CORRECTED)
    with closing(LogWriter(path)) as log:
        log._db.execute("DELETE FROM events WHERE offset < ?", (evicted,))
    for name in ("jsonl", "csv", "mot"):
        result = CliRunner().invoke(app, ["events", "export", str(path), "--format", name])
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        if name == "mot":
            boxes = [what for _, what in CORRECTED[evicted:] if hasattr(what, "track")]
            assert len(lines) == len(boxes)
        else:
            assert len(lines) >= len(CORRECTED) - evicted


def replayed(*options):
    return CliRunner().invoke(app, ["events", "replay", *map(str, options)])


def test_a_log_is_replayed_as_it_was_published(tmp_path):
    write_log(tmp_path / "events.db", [seen(1), seen(2), TrackMerge(Merge(gone="b", kept="a"))])
    with LogReader(tmp_path / "events.db") as log:
        payloads = [row.payload.decode() for row in log.events()]
    assert replayed(tmp_path, "--speed", "max").stdout.splitlines() == payloads
    assert replayed(tmp_path, "--speed", "1000").stdout.splitlines() == payloads
    merges = replayed(tmp_path, "--speed", "max", "--type", "track.merge", "--source", "a")
    assert merges.stdout.splitlines() == payloads[2:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--speed", "0"], "--speed 0: expected a number above 0"),
        (["--to", "tcp://127.0.0.1:*", "--type", "track.end"], "expected families with --to"),
        (["--to", "tcp://127.0.0.1"], "--to tcp://127.0.0.1 is not an address"),
        (["--to", "tcp://0.0.0.0:5570"], "--to tcp://0.0.0.0:5570 can be reached from other"),
        (["--to", "ipc:///absent/feed"], "--to ipc:///absent/feed: No such file or directory. Exp"),
        (["--source", "b"], "--source b: not in"),
    ],
)
def test_replays_that_are_refused(options, message, tmp_path):
    write_log(tmp_path / "events.db", [seen(1)])
    result = replayed(tmp_path, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("since", "message"),
    [
        ("absent", "--since absent: No such file or directory. Expected now, snapshot, an offset"),
        ("-5", "Expected now, snapshot, an offset from 0, or a file with the cursor"),
        ("7", "--since 7 is an offset in one source: add --source NAME"),
        ("{}x", "since='{}x': JSON is malformed"),
    ],
)
def test_a_start_of_tail_that_is_none(since, message):
    result = CliRunner().invoke(app, ["events", "tail", "--since", since])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_a_file_that_holds_no_cursor_is_named_and_not_printed(tmp_path):
    file = tmp_path / "client.json"
    file.write_text('{"secret": "abc"}')
    result = CliRunner().invoke(app, ["events", "tail", "--since", str(file)])
    assert result.exit_code == 2
    assert f"--since {file}: the file holds no cursor" in result.stderr
    assert "abc" not in result.stderr


def test_a_replay_names_its_own_option_where_the_address_is_in_use(tmp_path):
    write_log(tmp_path / "events.db", [seen(1)])
    with closing(Feed("tcp://127.0.0.1:*", epoch="e")) as feed:
        result = replayed(tmp_path, "--to", feed.endpoint)
    assert result.exit_code == 1
    assert "is in use by another process" in result.stderr
    assert "with --to tcp://127.0.0.1:PORT" in result.stderr
    assert "publish.bind" not in result.stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--out", "{}"], 2, "--out {} is a directory; expected a file"),
        (["--out", "{}/events.db"], 2, "--out {}/events.db: the events would replace the log;"),
        (["--format", "csv", "--out", "{}/events.db"], 2, "the events would replace the log"),
        (["--format", "csv", "--out", "{}"], 2, "is a directory; expected a file, such as"),
        (["--format", "mot", "--out", "{}/file"], 1, "{}/file cannot be written to: it is a file;"),
        (["--format", "mot", "--type", "track"], 2, "--format mot has the tracks alone"),
    ],
)
def test_exports_that_are_refused(options, code, message, tmp_path):
    write_log(tmp_path / "events.db", [seen(1)])
    (tmp_path / "file").write_text("")
    result = export(tmp_path, *(option.format(tmp_path) for option in options))
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1)
    assert message.format(tmp_path) in result.stderr


def test_mot_text_of_one_source_of_several(tmp_path):
    logged(tmp_path / "events.db", "a", CORRECTED)
    logged(tmp_path / "events.db", "b", CORRECTED)
    result = export(tmp_path, "--format", "mot", "--out", str(tmp_path / "mot"), "--source", "b")
    assert result.exit_code == 0
    assert [path.name for path in (tmp_path / "mot").iterdir()] == ["tracks-b.txt"]


@pytest.mark.parametrize("name", ["absent", "absent/events.db"])
def test_a_log_that_is_not_there_says_where_a_run_writes_it(name):
    result = export(name)
    assert result.exit_code == 2
    assert "`streamvis run … --out absent` writes one" in result.stderr


def test_an_address_that_is_none_is_refused_by_tail():
    result = tail("--connect", "localhost")
    assert result.exit_code == 2
    assert "localhost is not the address of a feed (Invalid argument)" in result.stderr
    assert "Expected tcp://HOST:PORT" in result.stderr
    assert "listening" not in result.stderr


@pytest.mark.parametrize("source", ["a b", "A", "cam1/", "", "x" * 65])
def test_what_cannot_be_the_id_of_a_source_is_refused_by_tail(source):
    result = tail("--source", source)
    assert result.exit_code == 2
    assert f"--source {source}: expected the id of a source" in result.stderr


def test_logs_are_merged_and_read_like_one(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        logged(tmp_path / name / "events.db", name, [(0, SourceEof(Finish(frames=1)))], epoch=name)
    result = CliRunner().invoke(
        app, ["events", "merge", *(str(tmp_path / name) for name in ("all", "b", "a"))]
    )
    assert result.stdout == f"{tmp_path / 'all' / 'events.db'}: 2 events of 2 sources\n"
    exported = CliRunner().invoke(app, ["events", "export", str(tmp_path / "all")])
    assert [json.loads(line)["source"] for line in exported.stdout.splitlines()] == ["a", "b"]
    again = CliRunner().invoke(app, ["events", "merge", str(tmp_path / "all"), str(tmp_path / "a")])
    assert again.exit_code == 2
    assert "exists already" in again.stderr
