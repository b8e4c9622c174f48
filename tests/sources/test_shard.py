from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.errors import UsageError
from streamvis.sources.shard import ALL, Shard, shard_of

IDS = [f"cam{n}" for n in range(4000)]


@given(st.text(min_size=1, max_size=64), st.integers(1, 40))
def test_exactly_one_shard_has_a_source(source, count):
    assert [Shard(k, count).has(source) for k in range(1, count + 1)].count(True) == 1
    assert ALL.has(source)


@given(st.text(min_size=1, max_size=64), st.integers(1, 40))
def test_one_more_shard_takes_sources_and_moves_no_other(source, count):
    assert shard_of(source, count + 1) in (shard_of(source, count), count + 1)


def test_sources_are_spread_evenly():
    counts = Counter(shard_of(name, 8) for name in IDS)
    assert sorted(counts) == list(range(1, 9))
    assert all(400 < count < 600 for count in counts.values())  # 500, sd 21


def test_the_shard_of_an_id_is_the_same_in_every_version():
    assert [shard_of(name, 8) for name in ("gate", "yard", "cam1", "cam2")] == [5, 5, 8, 5]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "2", "a/b", "1/2/3", "-1/2", "1/1025", ""])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(UsageError, match=r"expected K/N, .* such as 2/8"):
        Shard.of(text)


def test_a_shard_is_read_and_shown():
    assert (Shard.of("2/8"), str(Shard(2, 8)), Shard.of("1/1")) == (Shard(2, 8), "2/8", ALL)
