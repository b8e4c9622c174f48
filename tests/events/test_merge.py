import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import groupby, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.errors import DataError, RunError, UsageError
from streamvis.events import merge as merging
from streamvis.events.log import Cursor, LogReader, LogWriter, Row
from streamvis.events.log_schema import HOUR_US
from streamvis.events.merge import merge


def payload(epoch, emit_us, number):
    return b'{"epoch":"%s","time":{"emit_us":%d},"n":%d}' % (epoch.encode(), emit_us, number)


def write(path, epoch, events, ending="eof"):
    """A log of (source, emit_us) in order of commit."""
    rows, nexts = [], {}
    for number, (source, emit_us) in enumerate(events):
        offset = nexts.get(source, 0)
        nexts[source] = offset + 1
        data = payload(epoch, emit_us, number)
        rows.append(Row(source, offset, offset + 1, "track.update", emit_us, data))
    cursors = [Cursor(name, epoch, 0, end, ending, b"s") for name, end in nexts.items()]
    with closing(LogWriter(path)) as log:
        log.commit(rows, cursors)
    return rows


def all_of(path):
    with closing(sqlite3.connect(path)) as db:
        tables = ("events", "cursors", "hours")
        return [db.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables]


times = st.integers(1, 4).map(lambda n: n * HOUR_US // 2)  # ties, and several hours


def log_of(names):
    return st.lists(st.tuples(st.sampled_from(names), times), max_size=12)


@given(log_of(["a", "b", "_sys"]), log_of(["c", "_sys"]), log_of(["d"]))
@settings(max_examples=40, deadline=None)
def test_events_stay_and_the_order_of_inputs_is_of_no_matter(
    tmp_path_factory, first, second, third
):
    folder = tmp_path_factory.mktemp("logs")
    paths = [folder / f"{n}.db" for n in range(3)]
    logs = [
        write(path, f"e{n}", events)
        for n, (path, events) in enumerate(zip(paths, (first, second, third), strict=True))
    ]
    results = []
    for number, order in enumerate(permutations(paths)):
        merged = merge(folder / f"m{number}.db", order)
        results.append(all_of(folder / f"m{number}.db"))
    assert all(result == results[0] for result in results)
    given_rows = [row for rows in logs for row in rows]
    assert merged.events == len(given_rows)
    with LogReader(folder / "m0.db") as log:
        found = list(log.latest())
        assert log.sources() == sorted({row.source for row in given_rows} - {"_sys"})
        assert not log.has_older_runs()
        for source in log.sources():
            assert list(log.events(source)) == [r for r in given_rows if r.source == source]
            assert list(log.latest(source)) == list(log.since(source, 0))
    for rows in logs:  # the events of each hub in its own order
        mine = {row.payload for row in rows}
        assert [r.payload for r in found if r.payload in mine] == [r.payload for r in rows]
    system = [row for row in found if row.source == "_sys"]
    assert [row.offset for row in system] == list(range(len(system)))
    assert sorted(row.payload for row in found) == sorted(row.payload for row in given_rows)


@given(st.lists(st.tuples(st.sampled_from("ab"), times)), st.lists(times))
@settings(max_examples=25, deadline=None)
def test_by_time_it_is_the_sorted_union_and_has_its_hours(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("logs")
    write(folder / "1.db", "e1", sorted(first, key=lambda event: event[1]))
    write(folder / "2.db", "e2", [("c", us) for us in sorted(second)])
    merge(folder / "m.db", [folder / "1.db", folder / "2.db"])
    events, _, hours = all_of(folder / "m.db")
    assert [event[5] for event in events] == sorted([us for _, us in first] + second)
    by_hour = groupby(events, key=lambda event: event[5] // HOUR_US)
    assert hours == [(next(group)[0], hour) for hour, group in by_hour]


def test_a_merged_log_can_be_merged_again(tmp_path):
    for n, name in enumerate("abc"):
        write(tmp_path / f"{name}.db", f"e{n}", [(name, 10 - n), ("_sys", 20 - n), (name, 30)])
    a, b, c = (tmp_path / f"{name}.db" for name in "abc")
    merge(tmp_path / "ab.db", [b, a])
    merge(tmp_path / "abc.db", [tmp_path / "ab.db", c])
    merge(tmp_path / "all.db", [a, b, c])
    assert all_of(tmp_path / "abc.db") == all_of(tmp_path / "all.db")


def test_a_log_that_is_written_gives_what_it_has(tmp_path):
    write(tmp_path / "b.db", "e2", [("b", 5)])
    with closing(LogWriter(tmp_path / "a.db")) as log:
        row = Row("a", 0, 1, "track.update", 3, payload("e1", 3, 0))
        log.commit([row], [Cursor("a", "e1", 0, 1, "", b"")])
        merged = merge(tmp_path / "m.db", [tmp_path / "a.db", tmp_path / "b.db"])
        log.commit([row._replace(offset=1)], [])
    assert merged == (2, ["a", "b"], ["a"])
    with LogReader(tmp_path / "m.db") as log:
        assert [one.source for one in log.events()] == ["a", "b"]


def test_the_same_source_twice_is_refused(tmp_path):
    write(tmp_path / "1.db", "e1", [("a", 1), ("b", 1)])
    write(tmp_path / "2.db", "e2", [("b", 1)])
    write(tmp_path / "3.db", "e1", [("b", 1)])
    with pytest.raises(DataError, match=r"source 'b' is in .*1\.db and in .*2\.db, of two runs"):
        merge(tmp_path / "m.db", [tmp_path / "2.db", tmp_path / "1.db"])
    with pytest.raises(DataError, match=r"of the same run; .* Leave out the copy"):
        merge(tmp_path / "m.db", [tmp_path / "1.db", tmp_path / "3.db"])
    with pytest.raises(UsageError, match="given twice"):
        merge(tmp_path / "m.db", [tmp_path / "1.db", tmp_path / "1.db"])
    assert sorted(os.listdir(tmp_path)) == ["1.db", "2.db", "3.db"]


def test_an_existing_file_is_kept(tmp_path):
    write(tmp_path / "1.db", "e1", [("a", 1)])
    (tmp_path / "m.db").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        merge(tmp_path / "m.db", [tmp_path / "1.db"])
    assert (tmp_path / "m.db").read_text() == "mine"


def test_what_fails_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    write(tmp_path / "1.db", "e1", [("a", 1)])

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merging, "sync", full)
    with pytest.raises(RunError, match=r"m\.db cannot be written: .*No space left"):
        merge(tmp_path / "m.db", [tmp_path / "1.db"])
    assert os.listdir(tmp_path) == ["1.db"]


def test_no_run_writes_to_a_merged_log(tmp_path):
    write(tmp_path / "1.db", "e1", [("a", 1)])
    merge(tmp_path / "m.db", [tmp_path / "1.db"])
    with pytest.raises(RunError, match="was merged from the logs of several runs"):
        LogWriter(tmp_path / "m.db")


def test_a_log_with_several_runs_is_refused(tmp_path):
    with closing(LogWriter(tmp_path / "1.db")) as log:
        log.commit([], [Cursor("a", "e1", 0, 1, "", b""), Cursor("b", "e2", 0, 1, "", b"")])
    with pytest.raises(DataError, match="holds several runs"):
        merge(tmp_path / "m.db", [tmp_path / "1.db"])


def in_a_process(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


KILLED = """
import os, signal, sys
from pathlib import Path
from streamvis.events import log_schema, merge

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def rows(log, rank, timed=merge._timed):
    for number, row in enumerate(timed(log, rank)):
        if number == 1500:  # one chunk is written
            kill()
        yield row

moment, out, *logs = sys.argv[1:]
if moment == "begin":
    log_schema.create = kill
elif moment == "rows":
    merge._timed = rows
else:
    merge.sync = kill
merge.merge(Path(out), list(map(Path, logs)))
"""


@pytest.mark.parametrize("moment", ["begin", "rows", "end"])
def test_after_a_kill_there_is_no_log_and_the_next_merge_takes_the_draft(tmp_path, moment):
    logs = [tmp_path / "1.db", tmp_path / "2.db"]
    for n, path in enumerate(logs):
        write(path, f"e{n}", [(f"s{n}", us) for us in range(2000)])
    before = {path.name: path.read_bytes() for path in logs}
    for _ in range(2):
        killed = in_a_process(KILLED, moment, tmp_path / "m.db", *logs)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert sorted(os.listdir(tmp_path)) == [".m.db.merging", "1.db", "2.db"]
    assert merge(tmp_path / "m.db", logs).events == 4000
    assert sorted(os.listdir(tmp_path)) == ["1.db", "2.db", "m.db"]
    merge(tmp_path / "undisturbed.db", logs)
    assert all_of(tmp_path / "m.db") == all_of(tmp_path / "undisturbed.db")
    assert {path.name: path.read_bytes() for path in logs} == before


def test_two_merges_do_not_write_the_same_log(tmp_path, monkeypatch):
    write(tmp_path / "1.db", "e1", [("a", 1)])
    refusals = []

    def meanwhile(log, rank, timed=merging._timed):
        with pytest.raises(UsageError) as refused:
            merge(tmp_path / "m.db", [tmp_path / "1.db"])
        refusals.append(str(refused.value))
        return timed(log, rank)

    monkeypatch.setattr(merging, "_timed", meanwhile)
    assert merge(tmp_path / "m.db", [tmp_path / "1.db"]).events == 1
    assert refusals == [
        f"{tmp_path / 'm.db'} is written by another merge now; wait for it, or choose another name"
    ]
    assert sorted(os.listdir(tmp_path)) == ["1.db", "m.db"]


MEASURED = """
import re, sys
from pathlib import Path
from streamvis.events.merge import merge

events = merge(Path(sys.argv[1]), list(map(Path, sys.argv[2:]))).events
peak_kb = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(events, peak_kb)
"""


def test_memory_does_not_grow_with_the_events(tmp_path):
    """Of the process, with what SQLite takes: 64 MB more of events take less than 16 MB more."""
    peaks = []
    for count in (2_000, 34_000):
        logs = [tmp_path / f"{count}-{n}.db" for n in (1, 2)]
        for n, path in enumerate(logs):
            rows = [
                Row(f"s{n}", at, at + 1, "track.update", at, payload("e", at, 0).ljust(2000))
                for at in range(count // 2)
            ]
            with closing(LogWriter(path)) as log:
                log.commit(rows, [Cursor(f"s{n}", f"e{n}", 0, len(rows), "eof", b"")])
        measured = in_a_process(MEASURED, tmp_path / f"{count}.db", *logs)
        events, peak_kb = map(int, measured.stdout.split())
        assert events == count, measured.stderr
        peaks.append(peak_kb)
    assert peaks[1] - peaks[0] < 16_000, peaks
