"""The end of every training: its curves as PNG, and its weights with a record of their origin."""

from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from streamvis.models.weights import Network, save
from streamvis.training.loop import Schedule, read_log
from streamvis.viz import plots

WINDOWS = 50  # of the smoothing, in a whole training


def write_results(
    out: Path, name: str, model: Network, schedule: Schedule, data: Sequence[Path], **about: str
) -> Path:
    """Write `curves.png` and `NAME.safetensors` into a training's directory; return the weights.

    about: further entries of the weights' metadata, beside steps, minutes, data and version.
    """
    log = out / "log.jsonl"
    write_curves(log, out / "curves.png")
    path = out / f"{name}.safetensors"
    origin = {"steps": str(schedule.steps), "data": names(data), **run_of([log]), **about}
    save(model, path, origin)
    return path


def run_of(logs: Iterable[Path]) -> dict[str, str]:
    """Return for how many minutes these logs' steps ran, and which version ran them."""
    seconds = sum(row["seconds"] for log in logs for row in read_log(log).values())
    return {"minutes": f"{seconds / 60:.0f}", "streamvis": metadata.version("streamvis")}


def names(folders: Iterable[Path]) -> str:
    """Return the names of folders, without the paths that lead to them."""
    return ", ".join(folder.resolve().name for folder in folders)


def write_curves(log: Path, path: Path) -> None:
    """Plot each term of the loss over the steps of a `log.jsonl`, smoothed, as PNG."""
    rows = read_log(log)
    terms = [name for name in next(iter(rows.values())) if name not in ("step", "seconds")]
    window = max(len(rows) // WINDOWS, 1)
    kernel = np.ones(window) / window
    steps = np.array(list(rows))[window - 1 :]
    series = {}
    for name in terms:
        values = np.array([row[name] for row in rows.values()])
        series[name] = (steps.tolist(), np.convolve(values, kernel, "valid").tolist())
    plots.training_curves(path, series, title=f"loss, mean of {window} steps")
