"""Charts as PNG files: training curves, precision against recall. Needs matplotlib."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamvis.errors import UsageError
from streamvis.viz.style import PALETTE

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of the drawing colours, those that also show on white.
LINES = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in (PALETTE[i] for i in (8, 5, 4, 3, 0, 1, 10, 11))]
STYLE: Any = {  # matplotlib types its keys one by one
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.labelcolor": "#333333",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "lines.linewidth": 1.8,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
}
DASHES = ("-", (0, (4, 1.6)), (0, (1, 1.2)))  # of the first, second, third detector
MOST_MARKED = 40  # points of a curve, each with a dot
MOST_NUMBERS = 20  # classes whose counts are written into a confusion matrix
EQUAL_F1 = (0.5, 0.6, 0.7, 0.8, 0.9)
NEXT_TO: Any = {
    "textcoords": "offset points",
    "va": "center",
    "fontsize": 7,
    "color": "#999999",
    "annotation_clip": False,
}
LEGEND: Any = {"alignment": "left", "title_fontsize": 8, "edgecolor": "#dddddd", "framealpha": 0.9}

Curve = tuple[Sequence[float], Sequence[float]]  # x, y


def training_curves(path: Path, series: Mapping[str, Curve], *, title: str = "") -> None:
    """Draw named losses over their steps; values that are not finite are gaps."""
    figure, axes = _figure(title, "step", "loss")
    for i, (name, (steps, values)) in enumerate(series.items()):
        shown = np.asarray(values, np.float64).copy()
        shown[~np.isfinite(shown)] = np.nan
        marker = "o" if len(shown) == 1 else None
        axes.plot(steps, shown, label=plain(name), color=LINES[i % len(LINES)], marker=marker)
    if series:
        axes.legend(frameon=False, fontsize=9)
    _save(figure, path)


def precision_recall(
    path: Path, curves: Mapping[str, Mapping[str, Curve]], *, title: str = ""
) -> None:
    """Draw curves of (recall, precision) in [0, 1] by data set and detector.

    A data set has a colour, a detector a dash; the legend gives the area under each, and thin
    lines join the points of equal F1.
    """
    figure, axes = _figure(title, "recall", "precision", width=5.6, height=5.6)
    for f1 in EQUAL_F1:
        x = np.linspace(f1 / (2 - f1), 1, 50)  # from precision 1 to recall 1
        y = f1 * x / (2 * x - f1)
        axes.plot(x, y, color="#c8c8c8", linewidth=0.8, zorder=1)
        axes.annotate(f"F1 {f1:g}", (1, y[-1]), xytext=(3, 0), **NEXT_TO)
    for i, (data, detectors) in enumerate(curves.items()):
        for (detector, (recall, precision)), dash in zip(
            detectors.items(), itertools.cycle(DASHES), strict=False
        ):
            name = f"{data}, {detector}" if len(detectors) > 1 else data
            label = plain(f"{np.mean(precision):.3f}  {name}")
            colour = LINES[i % len(LINES)]
            axes.step(recall, precision, linestyle=dash, where="post", label=label, color=colour)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    if curves:
        axes.legend(title="AP50", fontsize=8, loc="lower left", **LEGEND)
    _save(figure, path)


def over_categories(
    path: Path,
    categories: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    title: str,
    x: str,
    y: str,
) -> None:
    """Draw named series over categories, a share in [0.5, 1] for each; NaN is a gap."""
    figure, axes = _figure(title, x, y)
    for (name, values), colour in zip(series.items(), itertools.cycle(LINES), strict=False):
        known = np.flatnonzero(np.isfinite(values))
        at = np.asarray(values, np.float64)[known]
        axes.plot(known, at, label=plain(name), color=colour, marker="o", markersize=4)
    axes.set_xticks(range(len(categories)), [plain(one) for one in categories])
    axes.set_ylim(min([0.5, *(v for row in series.values() for v in row if v < 0.5)]), 1.005)
    if series:
        axes.legend(frameon=False, fontsize=9, loc="lower left")
    _save(figure, path)


def stacked(
    path: Path,
    panels: Mapping[str, Mapping[str, Curve]],
    *,
    x: str,
    log_x: bool = False,
) -> None:
    """Draw panels above each other that share their x axis: by title, named curves (x, y)."""
    figure = _blank(7.2, 1.2 + 1.9 * len(panels))
    with _style():
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    axes[-1].set_xlabel(x)
    for one, (title, curves) in zip(axes, panels.items(), strict=True):
        one.set_title(plain(title), fontsize=10, loc="left")
        for (name, (xs, ys)), colour in zip(curves.items(), itertools.cycle(LINES), strict=False):
            marker = "o" if len(xs) < MOST_MARKED else None
            one.plot(xs, ys, label=plain(name), color=colour, marker=marker, markersize=3.5)
        one.margins(y=0.08)
        one.set_ylim(bottom=0)
    if log_x:
        axes[0].set_xscale("log")
        axes[0].xaxis.set_major_formatter("{x:g}")
    if len(panels) and len(next(iter(panels.values()))) > 1:
        axes[0].legend(frameon=False, fontsize=8, ncols=4)
    _save(figure, path)


def confusion(
    path: Path, counts: Sequence[Sequence[int]], names: Sequence[str], *, title: str
) -> None:
    """Draw a confusion matrix: true classes in rows, predicted in columns, as shares of rows."""
    side = min(max(2.4 + 0.45 * len(names), 3.6), 14.0)
    figure, axes = _figure(title, "predicted", "true", width=side, height=side)
    table = np.asarray(counts, np.float64)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    rotation = 90 if len(names) > 6 else 0
    shown = [plain(name) for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=rotation)
    axes.set_yticks(range(len(names)), shown)
    if len(names) <= MOST_NUMBERS:
        for (i, j), share in np.ndenumerate(shares):
            colour = "white" if share > 0.6 else "#333333"
            text = f"{counts[i][j]}\n{share:.0%}"
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
    _save(figure, path)


def _figure(
    title: str, x: str, y: str, width: float = 6.4, height: float = 4.2
) -> "tuple[Figure, Axes]":
    figure = _blank(width, height)
    with _style():
        axes = figure.add_subplot(title=plain(title), xlabel=x, ylabel=y)
    return figure, axes


def plain(name: str) -> str:
    """Return a label that shows the name: `$` would begin a formula, and `_` hide the label."""
    escaped = name.replace("$", r"\$")
    return f" {escaped}" if name.startswith("_") else escaped


def _blank(width: float, height: float) -> "Figure":
    """Return a figure that is not registered with pyplot, so that nothing stays open."""
    with _style():
        from matplotlib.figure import Figure

        return Figure(figsize=(width, height), dpi=130, layout="constrained")


def _style() -> "AbstractContextManager[None]":
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise UsageError(
            f"charts are drawn by matplotlib, which is not installed ({error}). "
            "Install it with: pip install matplotlib"
        ) from None
    return rc_context(STYLE)


def _save(figure: "Figure", path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
