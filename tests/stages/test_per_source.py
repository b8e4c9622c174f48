"""What a stage keeps of each source: apart, restarted or resized by frames, resumed exactly."""

import msgspec
import pytest
from factories import frame, source
from hypothesis import given
from hypothesis import strategies as st

from streamvis.errors import DataError, RunError
from streamvis.stages.per_source import PerSource


class Calls:
    """Lists what happened to it."""

    def __init__(self):
        self.all = []

    def restart(self):
        self.all.append("restart")

    def resize(self, width, height):
        self.all.append(f"{width}x{height}")

    def state(self):
        return " ".join(self.all).encode()

    def restore(self, state):
        self.all = state.decode().split()


def begun(*names, state=None):
    calls = PerSource("toy")
    for name in names:
        calls.begin(source(name, size=(4, 2)), Calls(), state)
    return calls


def test_a_frame_like_the_one_before_changes_nothing():
    calls = begun("a")
    assert [calls.at(frame(k, "a", size=(4, 2))) for k in range(3)] == [calls["a"]] * 3
    assert calls["a"].all == []


frames = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(1, 3), st.sampled_from([(4, 2), (2, 2), (2, 4)]))
)


@given(frames, st.integers(0, 20))
def test_each_source_is_restarted_and_resized_where_it_changes_and_resumed_anywhere(shown, cut):
    expected, last = {"a": [], "b": []}, dict.fromkeys("ab", (1, (4, 2)))
    calls = begun("a", "b")
    for k, (name, epoch, size) in enumerate(shown):
        if k == cut:
            successor = PerSource("toy")
            for one in "ab":
                successor.begin(source(one, size=(9, 9)), Calls(), calls.state(one))
            calls = successor
        expected[name] += ["restart"] * (epoch != last[name][0])
        expected[name] += [f"{size[0]}x{size[1]}"] * (size != last[name][1])
        last[name] = (epoch, size)
        assert calls.at(frame(k, name, epoch=epoch, size=size)).all == expected[name]


@pytest.mark.parametrize("own", [None, b"\xff"])
def test_another_state_is_refused(own):
    state = b"no" if own is None else msgspec.msgpack.encode([[1, [4, 2]], own])
    with pytest.raises(DataError, match=r"source a: not the state of a stage of kind toy .* bytes"):
        begun("a", state=state)


@pytest.mark.parametrize("ask", [lambda calls: calls.at(frame(0, "a")), lambda c: c.state("a")])
def test_a_source_that_has_ended_or_not_begun_is_named(ask):
    calls = begun("a", "b")
    calls.finish("a")
    calls.finish("never")
    with pytest.raises(RunError, match=r"kind toy got source 'a', which .* Begun: b$"):
        ask(calls)
    with pytest.raises(RunError, match="Begun: none"):
        ask(PerSource("toy"))
