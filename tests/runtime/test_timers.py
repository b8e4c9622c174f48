"""When each of many items is due next."""

from hypothesis import given
from hypothesis import strategies as st

from streamvis.runtime.timers import Timers

NEVER = float("inf")
times = st.one_of(st.floats(0, 10), st.just(NEVER))


@given(st.lists(st.tuples(st.integers(0, 4), times, st.booleans()), max_size=40))
def test_the_first_time_is_the_least_of_all(changes):
    """A time that becomes later needs no word; one that becomes earlier does."""
    now = dict.fromkeys(range(5), NEVER)
    timers = Timers(now.__getitem__)
    for item, time, take in changes:
        if time < now[item]:
            timers.change([item])
        now[item] = time
        assert timers.due() == min(now.values())
        if take:
            due = timers.due()
            assert set(timers.take(5.0)) == {each for each in now if now[each] <= 5.0}
            assert timers.due() == due  # none was moved on


def test_what_was_taken_is_looked_at_again():
    now = {"a": 1.0, "b": 3.0}
    timers = Timers(now.__getitem__)
    timers.change(now)
    assert timers.take(0.5) == []
    assert timers.take(1.0) == ["a"]
    now["a"] = 2.0
    assert timers.due() == 2.0
    assert timers.take(3.0) == ["a", "b"]


def test_nothing_is_due_where_nothing_is():
    assert Timers(lambda _: 0.0).due() == NEVER
