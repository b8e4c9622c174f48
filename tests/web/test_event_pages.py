"""Pages of the log against a plain filter over all of its events."""

import sqlite3
from contextlib import closing

import msgspec
import pytest
from event_logs import CORRECTED, WALK, logged
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.events.log import Cursor, GoneError, LogReader, LogWriter, Row
from streamvis.web import event_pages
from streamvis.web.event_pages import EventQuery, page_of
from streamvis.web.problems import RefusedError

TYPES = ("track.begin", "track.end", "zone.enter", "zones.enter")


def row(source, offset, kind, media_us):
    payload = msgspec.json.encode({"source": source, "offset": offset, "type": kind})
    return Row(source, offset, offset + 1, kind, media_us, payload)


@st.composite
def logs(draw):
    """Events of two sources, whose media time grows with the offset; offsets may be missing."""
    rows, at = [], {"a": (0, 0), "b": (0, 0)}
    for source, step, later, kind in draw(
        st.lists(
            st.tuples(
                st.sampled_from("ab"),
                st.sampled_from([1, 1, 1, 3]),
                st.integers(0, 3),
                st.sampled_from(TYPES),
            ),
            max_size=40,
        )
    ):
        offset, media_us = at[source]
        offset, media_us = offset + step, media_us + later
        at[source] = offset, media_us
        rows.append(row(source, offset, kind, media_us))
    return rows


def written(path, rows):
    with closing(LogWriter(path)) as log:
        nexts = dict.fromkeys("ab", 0) | {r.source: r.offset + 1 for r in rows}
        log.commit(rows, [Cursor(name, "e1", 0, next_, "", b"") for name, next_ in nexts.items()])


def walked(log, query):
    """Return the events of all pages."""
    found = []
    while True:
        page = page_of(log, query)
        assert len(page.events) <= query.limit
        found += map(bytes, page.events)
        if page.next is None:
            return found
        query = msgspec.structs.replace(query, cursor=int(page.next))


def is_wanted(row, query):
    types = query.types.split(",") if query.types else []
    family = row.type.partition(".")[0]
    return (
        query.source in (None, row.source)
        and (query.from_us is None or row.media_us >= query.from_us)
        and (query.to_us is None or row.media_us <= query.to_us)
        and (not types or row.type in types or family in types)
    )


@settings(max_examples=30)
@given(
    logs(),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([None, "track", "track.end,zone", "zone.enter"]),
    st.none() | st.integers(0, 30),
    st.none() | st.integers(0, 60),
    st.integers(1, 7),
    st.sampled_from([1, 3, 1000]),
)
def test_pages_together_are_the_filtered_log(
    tmp_path_factory, rows, source, types, start, length, limit, scanned
):
    path = tmp_path_factory.mktemp("log") / "events.db"
    written(path, rows)
    end = None if length is None else (start or 0) + length
    if source is None:
        start = end = None
    query = EventQuery(source=source, from_us=start, to_us=end, types=types, limit=limit)
    with LogReader(path) as log, pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_pages, "MOST_SCANNED", scanned)
        patch.setattr(event_pages, "MOST_SCANNED_OF_ALL", scanned)
        found = walked(log, query)
    assert found == [r.payload for r in rows if is_wanted(r, query)]


def test_a_page_has_a_bounded_number_of_bytes(tmp_path, monkeypatch):
    rows = logged(tmp_path / "events.db", "cam1", WALK)
    monkeypatch.setattr(event_pages, "MOST_BYTES", len(rows[0].payload) + 1)
    with LogReader(tmp_path / "events.db") as log:
        for source in (None, "cam1"):
            page = page_of(log, EventQuery(source=source))
            assert [bytes(one) for one in page.events] == [rows[0].payload]
            assert walked(log, EventQuery(source=source)) == [r.payload for r in rows]


def test_of_several_runs_the_latest_is_read(tmp_path):
    path = tmp_path / "events.db"
    logged(path, "cam1", WALK)
    rows = logged(path, "cam1", CORRECTED, first=len(WALK), epoch="e2")
    with LogReader(path) as log:
        assert walked(log, EventQuery(source="cam1")) == [r.payload for r in rows]
        later = [r.payload for r in rows if r.media_us >= 80_000]
        assert walked(log, EventQuery(source="cam1", from_us=80_000)) == later


def test_events_that_are_evicted_are_refused(tmp_path):
    path = tmp_path / "events.db"
    rows = logged(path, "cam1", WALK)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM events WHERE offset < 2")
    with LogReader(path) as log:
        assert walked(log, EventQuery(source="cam1")) == [r.payload for r in rows[2:]]
        with pytest.raises(GoneError):
            page_of(log, EventQuery(source="cam1", cursor=1))


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        (EventQuery(source="cam2"), 404, "one of cam1"),
        (EventQuery(from_us=1), 400, "source=ID"),
        (EventQuery(source="cam1", from_us=2, to_us=1), 400, "2 is after 1"),
    ],
)
def test_a_query_that_cannot_be_answered(tmp_path, query, status, word):
    logged(tmp_path / "events.db", "cam1", WALK)
    with LogReader(tmp_path / "events.db") as log, pytest.raises(RefusedError) as refused:
        page_of(log, query)
    assert refused.value.status == status
    assert word in str(refused.value)


@pytest.mark.parametrize("source", [None, "cam1"])
def test_a_type_that_no_event_has_is_refused(tmp_path, source):
    logged(tmp_path / "events.db", "cam1", WALK)
    with LogReader(tmp_path / "events.db") as log:
        with pytest.raises(RefusedError, match="'trak' is no type or family of events; expected"):
            page_of(log, EventQuery(source=source, types="track.end,trak"))
        assert page_of(log, EventQuery(source=source, types="pose")).events == []
