"""How a segmenter learns what belongs to none of its classes (Bevandić et al., GCPR 2019).

Things pasted into streets are UNKNOWN. Either a second head tells them from all that has a class,
or the one head of classes is exposed to them: its posterior there has to be uniform. With
`learns: head` everything else stays as it is, so classes, features and all that was trained on
these features, forecasters too, stay good.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor
from torch.nn import functional as F

from streamvis.datasets.classes import VOID
from streamvis.errors import ConfigError, DataError
from streamvis.models.checkpoint_io import read
from streamvis.models.swiftnet import SwiftNet, SwiftNetConfig, full_size
from streamvis.models.weights import check, load_into
from streamvis.training.scenes.outlier_synthesis import (
    UNKNOWN,
    OutlierObject,
    PasteAugment,
    paste,
    read_objects,
)
from streamvis.training.scenes.street_views import StreetBatch


class OutlierTraining(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The part of a training file that is about what belongs to no class."""

    way: Literal["head", "exposure"] = "head"
    learns: Literal["all", "head"] = "all"
    weight: Annotated[float, Meta(ge=0)] = 0.2  # beside the losses of classes
    paste: PasteAugment = PasteAugment()

    def __post_init__(self) -> None:
        if self.way == "exposure" and self.learns == "head":
            raise ValueError("`way: exposure` has no head of its own: it goes with `learns: all`")


def check_recipe(how: OutlierTraining | None, architecture: SwiftNetConfig) -> None:
    """ConfigError, unless the network has the head that is to be trained, and no other."""
    wanted = how is not None and how.way == "head"
    if wanted != architecture.outliers:
        found, expected = (str(value).lower() for value in (architecture.outliers, wanted))
        raise ConfigError(
            f"architecture.outliers is {found}; expected {expected}: a network has a second head "
            "when its recipe has `outliers: {way: head}`, and then only"
        )


def gather_objects(folders: Sequence[Path]) -> list[OutlierObject]:
    """The things of all folders; DataError without any."""
    if not folders:
        raise DataError("no things to paste; give --negatives a folder of pictures, but of streets")
    return [thing for folder in folders for thing in read_objects(folder)]


def start_without_head(model: SwiftNet, path: Path) -> None:
    """Fill a model from a file that fits it, or fits all of it but its second head."""
    state = read(path)[0]
    if model.unknown is None or any(name.startswith("unknown.") for name in state):
        load_into(model, path)
        return
    check(
        msgspec.structs.replace(model.architecture, outliers=False, outlier_widths=()), state, path
    )
    model.load_state_dict(state, strict=False)


def freeze(model: SwiftNet) -> None:
    """Let nothing but the second head learn."""
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
    """The same batches from a step on with things pasted, the same after a stop."""
    for at, batch in enumerate(batches, step):
        pictures, labels = [], []
        for place, (pixels, truth) in enumerate(zip(*map(Tensor.numpy, batch), strict=True)):
            rng = np.random.default_rng([seed, 2, at * len(batch.pixels) + place])
            seen, told = paste(pixels, truth, objects, how, rng)
            pictures.append(seen)
            labels.append(told)
        yield StreetBatch(torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.stack(labels)))


def part(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (B, H, W) without UNKNOWN, VOID instead; and 1 UNKNOWN, 0 of a class, VOID neither."""
    strange = (labels == UNKNOWN).long().masked_fill(labels == VOID, VOID)
    return labels.masked_fill(labels == UNKNOWN, VOID), strange


def head_loss(logits: Tensor, strange: Tensor) -> Tensor:
    """Cross-entropy of (B, 2, H, W) with `strange` (B, H, W), the mean of what is not VOID."""
    missed = F.cross_entropy(logits, strange, ignore_index=VOID, reduction="sum")
    return missed / (strange != VOID).sum().clamp(min=1)


def exposure_loss(logits: Tensor, strange: Tensor) -> Tensor:
    """KL(U‖p) = −log K − (1/K) Σ_c log p_c in the mean of unknown pixels; logits (B, K, H, W)."""
    divergence = -np.log(logits.shape[1]) - logits.log_softmax(1).mean(1)  # (B, H, W)
    unknown = strange == 1
    return (divergence * unknown).sum() / unknown.sum().clamp(min=1)


def outlier_loss(
    model: SwiftNet, features: Tensor, logits: Tensor, strange: Tensor, how: OutlierTraining
) -> Tensor:
    """The term of one step, from features and logits of classes at stride 4."""
    size = (int(strange.shape[1]), int(strange.shape[2]))
    if how.way == "exposure":
        return how.weight * exposure_loss(full_size(logits.float(), size), strange)
    return how.weight * head_loss(full_size(model.strangeness(features).float(), size), strange)
