"""Statistics of trials: against SciPy, and choices worked out by hand."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from streamvis.evaluation.trials import (
    TrialScore,
    by_cell,
    by_group,
    differences,
    leave_one_out,
    mean_error,
)

values = st.lists(st.floats(-10, 10), min_size=2, max_size=20)


def trials(sequence: str, idf1: list[float], group: str = "g", inputs: str = "boxes", idsw=0):
    return [
        TrialScore(
            group=group, sequence=sequence, inputs=inputs, copy=copy,
            mota=value / 2, idf1=value, hota=value / 4, idsw=idsw,
        )
        for copy, value in enumerate(idf1)
    ]  # fmt: skip


@given(values)
def test_means_and_standard_errors_are_those_of_scipy(sample):
    found = mean_error(sample)
    assert found.n == len(sample)
    assert found.mean == pytest.approx(np.mean(sample), abs=1e-9)
    assert found.error == pytest.approx(stats.sem(sample), abs=1e-9)


def test_one_value_has_no_standard_error():
    assert msgspec.to_builtins(mean_error([0.5])) == {"mean": 0.5, "error": None, "n": 1}


@given(values, values)
def test_a_cell_is_over_its_copies_and_a_group_over_its_cells(first, second):
    scores = trials("a", first) + trials("b", second)
    one, other = by_cell(scores)
    assert (one.name, one.idf1) == ("a", mean_error(first))
    assert other.idf1 == mean_error(second)
    assert other.hota.error == pytest.approx(stats.sem(np.divide(second, 4)), abs=1e-9)
    (group,) = by_group(scores)
    assert (group.name, group.idf1.n) == ("g", 2)
    assert group.idf1.error == pytest.approx(stats.sem([np.mean(first), np.mean(second)]), abs=1e-9)


def test_a_group_of_one_cell_is_over_its_copies():
    (group,) = by_group(trials("a", [0.1, 0.3]))
    assert group.idf1 == mean_error([0.1, 0.3])


def test_kinds_of_inputs_stay_apart():
    scores = trials("a", [0.1]) + trials("a", [0.9], inputs="embeddings")
    assert [(one.inputs, one.idf1.mean) for one in by_group(scores)] == [
        ("boxes", 0.1),
        ("embeddings", 0.9),
    ]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=9))
def test_differences_are_paired_whatever_the_order(pairs):
    before, after = zip(*pairs, strict=True)
    changed, unpaired = differences(
        trials("a", list(before)), trials("a", list(after))[::-1] + trials("new", [1.0])
    )
    assert unpaired == 1
    (cell,) = by_cell(changed)
    each = np.subtract(after, before)
    assert cell.idf1.mean == pytest.approx(each.mean(), abs=1e-9)
    assert cell.idf1.error == pytest.approx(stats.sem(each), abs=1e-9)


def test_a_noise_that_both_share_leaves_no_error():
    noise = [0.1, 0.5, 0.9]
    changed, _ = differences(trials("a", noise), trials("a", [one + 0.05 for one in noise]))
    (cell,) = by_cell(changed)
    assert cell.idf1.mean == pytest.approx(0.05)
    assert cell.idf1.error == pytest.approx(0, abs=1e-12)


def candidates(**scores: tuple[float, ...]):
    """Candidates by name, each with scores on sequences s0, s1, …"""
    return {
        name: [one for i, value in enumerate(own) for one in trials(f"s{i}", [value])]
        for name, own in scores.items()
    }


def test_a_sequence_has_no_say_in_its_own_fold():
    """`lucky` is best on average thanks to s2 alone, and is never chosen where that is left out."""
    table = candidates(today=(0.5, 0.5, 0.5), good=(0.6, 0.6, 0.5), lucky=(0.5, 0.5, 1.0))
    choice = leave_one_out(table, "idf1", [])
    assert choice.chosen == "lucky"
    assert choice.folds == {"s0": "lucky", "s1": "lucky", "s2": "good"}
    assert choice.gain == mean_error([0.0, 0.0, 0.0])  # on unseen sequences it is worth nothing
    assert choice.means["good"] == pytest.approx(1.7 / 3)


def test_sequences_that_decide_nothing_are_left_out_of_it():
    table = candidates(today=(0.5, 0.5, 0.5), good=(0.6, 0.7, 0.5), lucky=(0.5, 0.5, 1.0))
    choice = leave_one_out(table, "idf1", ["s2"])
    assert choice.chosen == "good"
    assert set(choice.folds) == {"s0", "s1"}
    assert choice.gain.mean == pytest.approx(0.15)


def test_trials_that_a_candidate_lacks_are_left_out():
    """Today's scores may be of an earlier run, on more sequences and copies."""
    table = candidates(today=(0.5, 0.5, 0.9), good=(0.6, 0.7))
    table["today"] += trials("s0", [9.0, 9.0])[1:]
    choice = leave_one_out(table, "idf1", [])
    assert set(choice.folds) == {"s0", "s1"}
    assert choice.means["today"] == pytest.approx(0.5)
    assert leave_one_out(table, "idf1", ["s0"]) is None  # one sequence decides nothing


def test_all_inputs_of_a_sequence_are_left_out_together():
    """With embeddings, s0 alone favours `lucky`; its boxes must not keep a say."""
    today = trials("s0", [0.5]) + trials("s0", [0.5], inputs="embeddings") + trials("s1", [0.5])
    lucky = trials("s0", [0.9]) + trials("s0", [0.9], inputs="embeddings") + trials("s1", [0.4])
    choice = leave_one_out({"today": today, "lucky": lucky}, "idf1", [])
    assert choice.folds == {"s0": "today", "s1": "lucky"}
    assert choice.gain.mean == pytest.approx((0.0 - 0.1) / 2)


def test_few_switches_are_better_and_ties_stay_with_the_first():
    many, few = trials("a", [0.5], idsw=9), trials("a", [0.5], idsw=2)
    others = trials("b", [0.5], idsw=1)
    choice = leave_one_out({"many": many + others, "few": few + others}, "idsw", [])
    assert choice.chosen == "few"
    assert choice.folds["a"] == "many"
