"""Linear algebra is limited to one thread inside of the block, and as before after it."""

import os

from streamvis.benchmarks.one_thread import one_thread
from streamvis.runtime.processes import THREADS


def test_the_limits_hold_inside_and_what_was_set_before_is_restored(monkeypatch):
    first, *others = THREADS
    monkeypatch.setenv(first, "7")
    for name in others:
        monkeypatch.delenv(name, raising=False)
    with one_thread():
        assert [os.environ[name] for name in THREADS] == ["1"] * len(THREADS)
    assert os.environ[first] == "7"
    assert not any(name in os.environ for name in others)
