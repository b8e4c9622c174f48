"""Training of a segmenter to detect out-of-distribution objects (Bevandić et al., GCPR 2019).

Objects pasted into street images are UNKNOWN. Either a second head separates them from all classes,
or the classes' own head is exposed to them: its posterior there has to be uniform. With
`learns: head` only the second head changes, so that classes, features and forecasters trained on
these features stay valid.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from streamvis.datasets.classes import VOID
from streamvis.errors import ConfigError, DataError
from streamvis.models.checkpoint_io import read
from streamvis.models.swiftnet import SwiftNet, SwiftNetConfig, full_size
from streamvis.models.weights import check, load_into
from streamvis.training.recipes import Amount
from streamvis.training.scenes.outlier_synthesis import (
    UNKNOWN,
    OutlierObject,
    PasteAugment,
    paste,
    read_objects,
)
from streamvis.training.scenes.street_views import StreetBatch


class OutlierTraining(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The part `outliers` of a segmenter's recipe."""

    way: Literal["head", "exposure"] = "head"
    learns: Literal["all", "head"] = "all"
    weight: Amount = 0.2  # relative to the losses of classes
    paste: PasteAugment = PasteAugment()

    def __post_init__(self) -> None:
        if self.way == "exposure" and self.learns == "head":
            raise ValueError("`way: exposure` has no second head; expected `learns: all`")


def check_recipe(how: OutlierTraining | None, architecture: SwiftNetConfig) -> None:
    """Raise ConfigError unless the network has a second head exactly when one is trained."""
    wanted = how is not None and how.way == "head"
    if wanted != architecture.outliers:
        found, expected = (str(value).lower() for value in (architecture.outliers, wanted))
        raise ConfigError(
            f"architecture.outliers is {found}; expected {expected}: a network has a second head "
            "exactly when its recipe has `outliers: {way: head}`"
        )


def gather_objects(folders: Sequence[Path]) -> list[OutlierObject]:
    """Read the objects of all folders; DataError without any."""
    if not folders:
        raise DataError(
            "no objects to paste; give --negatives DIR with images that do not show streets"
        )
    return [one for folder in folders for one in read_objects(folder)]


def start_without_head(model: SwiftNet, path: Path) -> None:
    """Load weights of a model with or without the second head."""
    state = read(path)[0]
    if model.unknown is None or any(name.startswith("unknown.") for name in state):
        load_into(model, path)
        return
    check(
        msgspec.structs.replace(model.architecture, outliers=False, outlier_widths=()), state, path
    )
    model.load_state_dict(state, strict=False)


def freeze(model: SwiftNet) -> None:
    """Freeze everything but the second head."""
    if model.unknown is None:
        raise ValueError(f"{model.architecture.name} has no head for outliers")
    model.eval().requires_grad_(False)
    model.unknown.train().requires_grad_(True)


def with_objects(
    batches: Iterator[StreetBatch],
    objects: Sequence[OutlierObject],
    how: PasteAugment,
    seed: int,
    step: int,
) -> Iterator[StreetBatch]:
    """Paste objects into batches that begin at a step; what is pasted depends on seed and place."""
    for at, batch in enumerate(batches, step):
        pictures, labels = [], []
        for place, (pixels, truth) in enumerate(zip(*map(Tensor.numpy, batch), strict=True)):
            rng = np.random.default_rng([seed, 2, at * len(batch.pixels) + place])
            image, pasted = paste(pixels, truth, objects, how, rng)
            pictures.append(image)
            labels.append(pasted)
        yield StreetBatch(torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.stack(labels)))


def split_labels(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Divide labels (B, H, W) into those of classes and those of UNKNOWN.

    The first have VOID in place of UNKNOWN; the second are 1 where UNKNOWN, 0 where a class, VOID
    elsewhere.
    """
    strange = (labels == UNKNOWN).long().masked_fill(labels == VOID, VOID)
    return labels.masked_fill(labels == UNKNOWN, VOID), strange


def head_loss(logits: Tensor, strange: Tensor) -> Tensor:
    """Return the mean cross-entropy of (B, 2, H, W) with `strange` (B, H, W) outside VOID."""
    missed = F.cross_entropy(logits, strange, ignore_index=VOID, reduction="sum")
    return missed / (strange != VOID).sum().clamp(min=1)


def exposure_loss(logits: Tensor, strange: Tensor) -> Tensor:
    """Return KL(U‖p) = −log K − (1/K) Σ_c log p_c, mean over UNKNOWN; logits (B, K, H, W)."""
    divergence = -np.log(logits.shape[1]) - logits.log_softmax(1).mean(1)  # (B, H, W)
    unknown = strange == 1
    return (divergence * unknown).sum() / unknown.sum().clamp(min=1)


def outlier_loss(
    model: SwiftNet, features: Tensor, logits: Tensor, strange: Tensor, how: OutlierTraining
) -> Tensor:
    """Return the outlier term of one step, from features and logits of classes at stride 4."""
    size = (int(strange.shape[1]), int(strange.shape[2]))
    if how.way == "exposure":
        return how.weight * exposure_loss(full_size(logits.float(), size), strange)
    return how.weight * head_loss(full_size(model.strangeness(features).float(), size), strange)
