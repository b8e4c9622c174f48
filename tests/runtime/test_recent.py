"""Pictures of the last minute, by counts that only grow."""

from streamvis.runtime.recent import STEP_S, WINDOW_S, RecentCounts, RecentPictures


def walked(seconds, lost_until):
    """The last answer of a camera of ten pictures a second, all lost until a time, then none."""
    recent, found = RecentCounts(), {}
    for at in range(seconds + 1):
        lost = 10 * min(at, lost_until)
        counts = {"a": {"admitted": 10 * at - lost, "overload": lost, "skipped": 0}}
        found = recent.update(float(at), counts)
    return found["a"]


def test_a_slow_start_is_forgotten_after_a_minute():
    assert walked(20, 8) == RecentPictures(120, {"overload": 80})
    assert walked(60, 8) == RecentPictures(520, {"overload": 80})
    later = walked(int(8 + WINDOW_S + STEP_S), 8)
    assert later.lost == {}
    assert 10 * WINDOW_S <= later.taken <= 10 * (WINDOW_S + STEP_S)


def test_what_goes_wrong_after_days_is_there_at_once():
    recent = RecentCounts()
    for at in range(0, 200_000, 5):
        recent.update(float(at), {"a": {"admitted": 10 * at, "overload": 0}})
    found = recent.update(at + 6.0, {"a": {"admitted": 10 * at, "overload": 60}})["a"]
    assert found == RecentPictures(550, {"overload": 60})  # none was taken in the last 6 s
    assert len(recent._kept) <= WINDOW_S / STEP_S + 2


def test_a_source_that_was_added_again_under_its_name_counts_anew():
    recent = RecentCounts()
    recent.update(0.0, {"a": {"admitted": 900, "overload": 50}})
    assert recent.update(5.0, {"a": {"admitted": 7, "overload": 0}, "b": {"admitted": 3}}) == {
        "a": RecentPictures(0, {}),
        "b": RecentPictures(3, {}),
    }
