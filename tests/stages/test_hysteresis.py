"""Begin and end by hysteresis, against a plain reading of the rule over the whole history."""

from hypothesis import given
from hypothesis import strategies as st

from streamvis.stages.hysteresis import Hysteresis

BEGIN, END = 0.7, 0.5
STEP_US = 100


def changes(values, min_us):
    """The begins and ends as the class gives them, by index."""
    state, out = None, {}
    for i, value in enumerate(values):
        if state is None and value >= BEGIN:
            state = Hysteresis(i * STEP_US)
        if state is None:
            continue
        change = state.step(i * STEP_US, min_us, begins=value >= BEGIN, ends=value < END)
        if change in ("begin", "end"):
            out[i] = change
        if change in ("dropped", "end"):
            state = None
    return out


def by_history(values, min_us):
    """The same by looking back from each frame: a run long enough above, then one below."""
    need = -(-min_us // STEP_US)  # frames from the first of a run to the one that decides
    out, is_open, since = {}, False, 0
    for i in range(len(values)):
        window = values[i - need : i + 1] if i - need >= since else []
        if not is_open and window and all(value >= BEGIN for value in window):
            out[i], is_open, since = "begin", True, i + 1
        elif is_open and window and all(value < END for value in window):
            out[i], is_open, since = "end", False, i + 1
    return out


@given(st.lists(st.sampled_from([0.1, 0.6, 0.9]), max_size=60), st.sampled_from([0, 100, 250, 400]))
def test_it_begins_and_ends_as_its_history_says(values, min_us):
    assert changes(values, min_us) == by_history(values, min_us)


def test_between_the_thresholds_it_stays_open_and_does_not_begin():
    assert changes([0.6] * 5, 0) == {}
    assert changes([0.9, 0.6, 0.6, 0.6], 0) == {0: "begin"}
