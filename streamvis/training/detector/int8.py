"""The ranges that int8 needs, measured once on pictures that a detector was trained on."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from streamvis.datasets.coco import read_coco
from streamvis.datasets.pictures import read_picture
from streamvis.errors import DataError, UsageError
from streamvis.files import is_same
from streamvis.models.int8 import int8_path, measure_ranges, write_ranges
from streamvis.models.weights import load_detector


def run(weights: str, data: Sequence[Path], pictures: int, out: Path | None, seed: int = 0) -> Path:
    """Measure on so many pictures of the folders, drawn by the seed; return the file written."""
    found = [
        (folder / "images" / one.name, one.size)
        for folder in data
        for one in read_coco(folder / "annotations.json")
    ]
    if not found:
        raise DataError(f"{', '.join(map(str, data))}: no pictures; expected 1 or more")
    order = np.random.default_rng(seed).permutation(len(found))[:pictures]
    model = load_detector(weights)
    assert model.source is not None
    target = out or int8_path(model.source)
    if is_same(target, model.source):
        raise UsageError(f"--out {out}: the ranges would replace the weights; choose another file")
    ranges = measure_ranges(model, _read([found[i] for i in order]))
    write_ranges(model.source, ranges, len(order), target)
    return target


def _read(pictures: Sequence[tuple[Path, tuple[int, int]]]) -> Iterator[Tensor]:
    for path, size in pictures:
        yield torch.from_numpy(read_picture(path, size)).permute(2, 0, 1)
