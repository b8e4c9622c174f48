"""Tallies against a dictionary."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from streamvis.runners.zone_report import tally as module
from streamvis.runners.zone_report.tally import Columns, Scratch, Tally

added = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(-3, 9), st.integers(0, 9))
)


@given(added)
def test_sums_and_maxima_are_those_of_a_dictionary(values):
    sums, largest = defaultdict(int), defaultdict(int)
    with Scratch() as scratch:
        tally = Tally(scratch, "some", Columns(("source", "hour"), ("total",), ("most",)))
        for source, hour, total, most in values:
            tally.add((source, hour), total, most)
            sums[source, hour] += total
            largest[source, hour] = max(largest[source, hour], most)
        expected = [(*key, sums[key], largest[key]) for key in sorted(sums)]
        assert list(tally.rows()) == expected
        assert list(tally.rows(source="a")) == [row for row in expected if row[0] == "a"]
        by_source = {row[0]: row[1] for row in tally.rows("source")}
        assert by_source == {s: sum(r[2] for r in expected if r[0] == s) for s, *_ in expected}


def test_keys_beyond_the_buffer_are_kept(monkeypatch):
    monkeypatch.setattr(module, "BUFFERED", 4)
    with Scratch() as scratch:
        tally = Tally(scratch, "some", Columns(("hour",), ("total",)))
        for i in range(100):
            tally.add((i % 10,), 1)
        assert list(tally.rows()) == [(hour, 10) for hour in range(10)]
