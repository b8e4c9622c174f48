import io
import subprocess
import sys

import cv2
import numpy as np
import pytest

from streamvis.errors import UsageError
from streamvis.viz import plots
from streamvis.viz.plots import (
    LINES,
    confusion,
    over_categories,
    precision_recall,
    stacked,
    training_curves,
)


def shows(path, colour):
    """How many pixels have the colour of a line."""
    image = cv2.imread(str(path))[:, :, ::-1].astype(int)
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(image - wanted).max(axis=2) < 12).sum())


def test_every_series_is_drawn(tmp_path):
    path = tmp_path / "new/loss.png"
    series = {"training": (range(50), np.linspace(3, 0.1, 50)), "validation": ([0, 25], [3, 2])}
    training_curves(path, series, title="loss")
    assert shows(path, LINES[0]) > 500
    assert shows(path, LINES[1]) > 100


def test_gaps_and_lone_points_are_no_trouble(tmp_path):
    path = tmp_path / "loss.png"
    values = [1, np.nan, np.inf, -1, 0, 2]
    training_curves(path, {"a": (range(6), values), "b": ([3], [0.5])})
    assert shows(path, LINES[1]) > 10
    training_curves(path, {})
    assert shows(path, LINES[0]) == 0


def test_precision_is_drawn_over_recall(tmp_path):
    path = tmp_path / "pr.png"
    curve = np.linspace(0, 1, 101), np.linspace(1, 0.2, 101)
    precision_recall(path, {"street": {"ours": curve}})
    assert shows(path, LINES[0]) > 500


def test_missing_matplotlib_is_told_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install matplotlib"):
        training_curves(tmp_path / "loss.png", {})


def test_matplotlib_is_imported_only_to_draw():
    code = "import sys, streamvis.viz.plots; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_shares_are_drawn_over_categories(tmp_path):
    path = tmp_path / "auc.png"
    series = {"street": [1.0, np.nan, 0.9, 0.8], "mall": [np.nan, 0.4, np.nan, np.nan]}
    over_categories(
        path, ["a", "b", "c", "d"], series, title="same or different?", x="lag", y="AUC"
    )
    assert shows(path, LINES[0]) > 300
    assert 20 < shows(path, LINES[1]) < shows(path, LINES[0])  # a lone point
    over_categories(path, [], {}, title="none", x="lag", y="AUC")
    assert shows(path, LINES[0]) == 0


@pytest.mark.parametrize("name", ["a$b$", r"$\frac$", "$", r"\$x$", "_hidden", "a_b^c"])
def test_names_are_no_formulas_and_each_is_in_the_legend(tmp_path, monkeypatch, name):
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: drawn.append(figure))
    training_curves(tmp_path / "a.png", {name: ([1, 2], [3.0, 4.0])}, title=name)
    precision_recall(tmp_path / "a.png", {name: {"ours": ([0, 1], [1, 0.5])}}, title=name)
    over_categories(tmp_path / "a.png", [name], {name: [0.7]}, title=name, x="x", y="y")
    confusion(tmp_path / "a.png", [[1, 0], [0, 1]], [name, "other"], title=name)
    stacked(tmp_path / "a.png", {name: {name: ([1, 2], [3, 4]), "b": ([1], [1])}}, x="x")
    for figure in drawn:
        figure.savefig(io.BytesIO())  # a broken formula raises here
        (axes,) = figure.axes
        shown = [axes.title, *axes.get_xticklabels(), *axes.get_yticklabels()]
        shown += axes.get_legend().get_texts() if axes.get_legend() else []
        for text in shown:
            _, is_formula = text._preprocess_math(text.get_text())
            assert is_formula is not True
        if axes.get_legend():
            labels = [text.get_text() for text in axes.get_legend().get_texts()]
            assert any(name in text.replace(r"\$", "$") for text in labels)
    assert len(drawn) == 5


@pytest.mark.parametrize("names", [["fight", "normal"], [f"action {i}" for i in range(51)]])
def test_who_is_taken_for_whom_is_darkest_where_it_happens(tmp_path, names):
    path = tmp_path / "confusion.png"
    right = np.eye(len(names), dtype=int) * 7
    confusion(path, right.tolist(), names, title="all right")
    image = cv2.imread(str(path)).astype(int)
    dark = (image[..., 0] - image[..., 2] > 60) & (image.sum(2) < 250)  # matplotlib's deepest blue
    rows, columns = np.nonzero(dark)
    assert len(rows) > 500
    assert np.corrcoef(rows, columns)[0, 1] > 0.5  # along the diagonal
