"""The ranges that int8 needs, measured once on pictures that a detector was trained on."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from streamvis.datasets.coco import read_coco
from streamvis.errors import DataError
from streamvis.models.int8 import int8_path, measure_ranges, write_ranges
from streamvis.models.weights import load_detector


def run(weights: str, data: Sequence[Path], pictures: int, out: Path | None, seed: int = 0) -> Path:
    """Measure on so many pictures of the folders, drawn by the seed; return the file written."""
    paths = [
        folder / "images" / one.name
        for folder in data
        for one in read_coco(folder / "annotations.json")
    ]
    if not paths:
        raise DataError(f"{', '.join(map(str, data))}: no pictures; expected 1 or more")
    order = np.random.default_rng(seed).permutation(len(paths))[:pictures]
    model = load_detector(weights)
    assert model.source is not None
    target = out or int8_path(model.source)
    ranges = measure_ranges(model, _read([paths[i] for i in order]))
    write_ranges(model.source, ranges, len(order), target)
    return target


def _read(paths: Sequence[Path]) -> Iterator[Tensor]:
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise DataError(f"{path} is not an image that can be read")
        yield torch.from_numpy(image).permute(2, 0, 1)
