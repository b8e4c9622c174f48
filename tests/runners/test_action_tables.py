"""Scores of actions in a table: of all clips, or as mean and spread over folds."""

import numpy as np

from streamvis.evaluation.classification import ClassificationScores, evaluate
from streamvis.runners.action_tables import fold_lines, tables
from streamvis.runners.actions import ActionResult
from streamvis.training.actions.cross_validation import FoldLogits

ACTIONS = ("a", "b")


def scores(right: int) -> dict[str, ClassificationScores]:
    """Four clips of the first action, so many of them recognised; no AUC without the second."""
    said = np.array([0] * right + [1] * (4 - right))
    return {name: evaluate(np.eye(2)[said], np.zeros(4, int), ACTIONS) for name in ("rgb", "off")}


def result(folds) -> ActionResult:
    per_s = {"rgb": 20.0, "off": 10.0}
    return ActionResult(folds, scores(3), per_s, ACTIONS, FoldLogits(np.arange(4), {}), [])


def test_without_folds_the_scores_of_all_clips_are_shown():
    table, line = tables(result([]))
    assert table.title == "4 clips"
    assert [list(row) for row in table.rows] == [
        ["rgb", "0.750", "0.750", None, None, 20.0],
        ["off", "0.750", "0.750", None, None, 10.0],
    ]
    assert line == "time beside rgb alone: off 2.00×"


def test_with_folds_mean_and_spread_are_shown():
    table, _ = tables(result([scores(4), scores(2)]))
    assert table.title == "4 clips, mean ± spread over 2 folds"
    assert list(table.rows[0])[:3] == ["rgb", "0.750 ± 0.250", "0.750 ± 0.250"]
    line, _ = fold_lines([scores(4), scores(2)])
    assert line == "rgb: top1 0.750 ± 0.250, mean_class 0.750 ± 0.250"
    assert list(fold_lines([])) == []
