"""The scores of action networks as tables and lines."""

from collections.abc import Iterator, Mapping, Sequence

from streamvis.evaluation.classification import ClassificationScores
from streamvis.runners.actions import ActionResult
from streamvis.runners.tables import Table
from streamvis.training.actions.cross_validation import spread
from streamvis.viz.numbers import decimals

SHOWN = ("top1", "mean_class", "auc", "ap")


def tables(result: ActionResult) -> Iterator[Table | str]:
    """Yield the scores, and the time of each stream beside that of RGB alone."""
    rows = []
    for name, scores in result.all.items():
        each = [fold[name] for fold in result.folds]
        shown = (_shown(scores, each, key) for key in SHOWN)
        rows.append([name, *shown, result.per_s.get(name)])
    title = f"{result.all['rgb'].clips} clips" + (
        f", mean ± spread over {len(result.folds)} folds" if result.folds else ""
    )
    yield Table(title, ("streams", "top-1", "mean class", "AUC", "AP", "pictures/s"), rows)
    ratios = {name: result.per_s["rgb"] / s for name, s in result.per_s.items() if name != "rgb"}
    yield "time beside rgb alone: " + ", ".join(f"{n} {r:.2f}×" for n, r in ratios.items())


def _shown(
    scores: ClassificationScores, folds: Sequence[ClassificationScores], key: str
) -> str | None:
    """Return a score as its mean and spread over the folds, else over all clips."""
    if known := spread([getattr(fold, key) for fold in folds]):
        return f"{known[0]:.3f} ± {known[1]:.3f}"
    value = getattr(scores, key)
    return None if value is None else decimals(value)


def fold_lines(folds: Sequence[Mapping[str, ClassificationScores]]) -> Iterator[str]:
    """Yield the scores of a training, mean and spread over the folds, for each stream."""
    for name in folds[0] if folds else ():
        each = {key: spread([getattr(fold[name], key) for fold in folds]) for key in SHOWN}
        texts = [f"{key} {known[0]:.3f} ± {known[1]:.3f}" for key, known in each.items() if known]
        yield f"{name}: {', '.join(texts)}"
