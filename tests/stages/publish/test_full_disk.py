"""A publisher whose disk is full: 20 MB, in a mount namespace of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("full_disk.py")
MOUNT = 'mount -t tmpfs -o size=20m tmpfs "$0" && exec "$@"'
FRAMES = 120


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What the child has printed, undisturbed and killed while the disk was full."""
    who = [] if os.getuid() == 0 else ["--map-root-user"]
    disk = tmp_path_factory.mktemp("disk")
    prefix = ["unshare", "--mount", *who, "sh", "-c", MOUNT, str(disk)]
    done = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mount namespace here (it takes root): {done.stderr.strip()}")
    return {
        name: result_of([*prefix, sys.executable, str(CHILD), str(disk), *words])
        for name, words in (("undisturbed", []), ("killed", ["kill"]), ("kept", ["keep"]))
    }


def result_of(command):
    tests = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def lifecycle(frames=FRAMES):
    """The begins and ends that the child's people have, with the numbers of their frames."""
    for seq in range(frames):
        number, age = divmod(seq, 5)
        if age == 4:
            yield "track.end", seq, number + 2
        if age == 0:
            yield from [("track.begin", seq, 1)] * (seq == 0)
            yield "track.begin", seq, number + 2


def of_camera(result):
    return [event for event in result["logged"] if event["source"] == "cam1"]


@pytest.mark.parametrize("name", ["undisturbed", "killed"])
def test_begins_and_ends_are_all_in_the_log_in_order_and_none_twice(name, results):
    events = of_camera(results[name])
    offsets = [event["offset"] for event in events]
    assert offsets == sorted(set(offsets))
    found = [
        (event["type"], event["frame"]["n"], int(event["track"]["id"].rpartition(":")[2]))
        for event in events
        if event["type"] in ("track.begin", "track.end") and event["frame"]
    ]
    assert found == list(lifecycle())
    assert [event["type"] for event in events if not event["frame"]] == [
        *("source.online", "track.end"),
    ]


@pytest.mark.parametrize("name", ["undisturbed", "killed"])
def test_the_log_says_what_it_lacks(name, results):
    offsets = {event["offset"] for event in of_camera(results[name])}
    absent = set(range(max(offsets) + 1)) - offsets
    counts = [event["log"] for event in results[name]["logged"] if event["type"] == "sys.unlogged"]
    assert sum(count["count"] for count in counts) == len(absent)
    assert {count["source"] for count in counts} == {"cam1"}
    for offset in absent:
        assert any(count["from"] <= offset <= count["to"] for count in counts)


@pytest.mark.parametrize("name", ["undisturbed", "killed"])
def test_a_low_disk_and_its_end_are_events_of_the_system(name, results):
    system = [event for event in results[name]["logged"] if event["source"] == "_sys"]
    assert [e["type"] for e in system if e["type"] != "sys.unlogged"] == [
        *("sys.disk_low", "sys.disk_ok"),
    ]
    assert [event["offset"] for event in system] == list(range(len(system)))
    assert [event["tseq"] for event in system] == list(range(1, len(system) + 1))


def test_every_event_is_published_and_those_that_are_not_logged_say_so(results):
    result = results["undisturbed"]
    heard = [event for event in result["heard"] if event["source"] == "cam1"]
    logged = {event["offset"] for event in of_camera(result)}
    assert [event["offset"] for event in heard] == list(range(1, len(heard) + 1))
    assert any(event["unlogged"] for event in heard)
    assert all(event["unlogged"] for event in heard if event["offset"] not in logged)
    assert not any("unlogged" in event for event in result["logged"])
    assert {event["type"] for event in result["heard"]} >= {"sys.disk_low", "sys.disk_ok"}


def test_with_a_retention_old_hours_make_room_and_nothing_is_missing(results):
    """Due or not: they are of yesterday, and `keep_days` is 100."""
    events = of_camera(results["kept"])
    assert [event["offset"] for event in events] == list(range(len(events)))
    assert {event["type"] for event in results["kept"]["logged"]} >= {"sys.disk_low", "sys.disk_ok"}
    assert not any(e["type"] == "sys.unlogged" for e in results["kept"]["logged"])
    assert 0 < results["kept"]["old"] < 4000


def test_no_reserve_is_left(results):
    assert [result["files"] for result in results.values()] == [["events.db"]] * 3
