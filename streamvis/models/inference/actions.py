"""Inference back ends of action recognition: PyTorch, or compiled by OpenVINO, frame by frame.

network = accelerate_actions(load_actions("fight-off"), "cpu")
now = network.project(crops)  # (B, h, w, 3) uint8 RGB
levels = network.pair(before, now, earlier)  # (B, L, K)
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from streamvis.messages import Array
from streamvis.models.inference.device import DeviceBatches
from streamvis.models.inference.select import Engine, Precision, choose
from streamvis.models.layers import fuse
from streamvis.models.off import (
    LEVELS,
    FrameFeatures,
    MotionClassifier,
    Off,
    OffSubnetwork,
    rounded,
)


class ActionNetwork(Protocol):
    """The interface of an action network, independent of the back end."""

    def project(self, crops: Array) -> list[FrameFeatures]:
        """Compute features of crops (B, h, w, 3) uint8 RGB, each in memory of its own."""

    def pair(
        self,
        before: Sequence[FrameFeatures],
        now: Sequence[FrameFeatures],
        earlier: Sequence[FrameFeatures] | None = None,
    ) -> Tensor:
        """Return logits (B, L, K) of LEVELS; L is 0 for a network of single frames.

        `earlier` is the frame before `before`; by default `before` itself.
        """


def accelerate_actions(
    model: Off, device: str, precision: Precision = "auto", engine: Engine = "auto"
) -> ActionNetwork:
    """Fold norms, use bf16 if the hardware has it, and compile if possible.

    The model is modified and owned by the result. Logits are fp32.
    """
    engine, dtype = choose(device, precision, engine)
    fuse(model)
    model.eval().requires_grad_(False)
    if engine == "openvino":
        return CompiledActions(model, dtype)
    return TorchActions(rounded(model, dtype), device, dtype)


def split_batch(kept: FrameFeatures) -> list[FrameFeatures]:
    """Split a batch into single items with memory of their own."""
    return [
        FrameFeatures(
            kept.frame[i : i + 1].clone(),
            tuple(x[i : i + 1].clone() for x in kept.features),
            tuple(x[i : i + 1].clone() for x in kept.gradients),
        )
        for i in range(len(kept.frame))
    ]


def join_batch(kept: Sequence[FrameFeatures]) -> FrameFeatures:
    """Concatenate items to one batch."""
    if len(kept) == 1:
        return kept[0]
    return FrameFeatures(
        torch.cat([one.frame for one in kept]),
        tuple(map(torch.cat, zip(*(one.features for one in kept), strict=True))),
        tuple(map(torch.cat, zip(*(one.gradients for one in kept), strict=True))),
    )


class TorchActions:
    """PyTorch back end; single items are doubled, for torch rounds batches of one differently."""

    def __init__(self, model: Off, device: str, dtype: torch.dtype) -> None:
        self.model, self.dtype = model, dtype
        # logits of frames go to the host, features stay on the device
        self.run = DeviceBatches(lambda shape: self._kept, device, downloads=1)

    @torch.inference_mode()
    def project(self, crops: Array) -> list[FrameFeatures]:
        batch = np.repeat(crops, 2, axis=0) if len(crops) == 1 else crops
        (outputs,) = self.run([batch])
        return split_batch(_packed(outputs))[: len(crops)]

    def _kept(self, crops: Tensor) -> tuple[Tensor, ...]:
        x = self.model.normalise(crops).to(self.dtype)
        kept = self.model.project(x.contiguous(memory_format=torch.channels_last))
        return (kept.frame, *kept.features, *kept.gradients)

    @torch.inference_mode()
    def pair(
        self,
        before: Sequence[FrameFeatures],
        now: Sequence[FrameFeatures],
        earlier: Sequence[FrameFeatures] | None = None,
    ) -> Tensor:
        times = 2 if len(now) == 1 else 1
        steps = (join_batch([*x] * times) for x in (before, now, earlier or before))
        found = self.model.pair(*steps)
        return _stacked([found[name] for name in LEVELS if found])[: len(now)]


def _packed(outputs: Sequence[Tensor]) -> FrameFeatures:
    """Return features from the outputs of a graph: there are none without OFF."""
    frame, *maps = outputs
    return FrameFeatures(frame, tuple(maps[: len(LEVELS)]), tuple(maps[len(LEVELS) :]))


def _stacked(levels: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(levels), 1).float().cpu() if levels else torch.zeros(0, 0, 0)


class CompiledActions:
    """OpenVINO back end: one graph for frames, one for pairs; differences are taken in torch."""

    def __init__(self, model: Off, dtype: torch.dtype) -> None:
        from streamvis.models.inference.openvino import CompiledParts, one_thread

        self.guided, self.alone = model.guided, one_thread
        kept = _ProjectGraph(model)
        example = torch.zeros(2, *model.size, 3, dtype=torch.uint8)
        self.project_graph = CompiledParts(kept, [example], dtype)
        if self.guided is not None:
            with torch.inference_mode():
                some = _packed(kept(example))
            part: nn.Module
            if isinstance(self.guided, MotionClassifier):  # see `rounded`
                part, self.steps, dtype = (
                    _MotionGraph(self.guided),
                    second_differences,
                    torch.float32,
                )
            else:
                part, self.steps = _StacksGraph(self.guided), first_differences
            self.pair_graph = CompiledParts(part, self.steps(some, some, some), dtype)

    def project(self, crops: Array) -> list[FrameFeatures]:
        with self.alone():
            pixels = torch.from_numpy(np.ascontiguousarray(crops))
            return split_batch(_packed(self.project_graph(pixels)))

    def pair(
        self,
        before: Sequence[FrameFeatures],
        now: Sequence[FrameFeatures],
        earlier: Sequence[FrameFeatures] | None = None,
    ) -> Tensor:
        if self.guided is None:
            return _stacked([])
        with self.alone():
            steps = self.steps(*map(join_batch, (before, now, earlier or before)))
            return _stacked(self.pair_graph(*steps))


def first_differences(
    before: FrameFeatures, now: FrameFeatures, earlier: FrameFeatures
) -> list[Tensor]:
    """Return the input of the stack of each level: gradients, then differences, (B, C, h, w)."""
    steps = [b - a for a, b in zip(before.features, now.features, strict=True)]
    if not before.gradients:
        return steps
    return [torch.cat(both, 1) for both in zip(before.gradients, steps, strict=True)]


def second_differences(
    before: FrameFeatures, now: FrameFeatures, earlier: FrameFeatures
) -> list[Tensor]:
    """Return the inputs of `MotionClassifier`: maps, the changes after and before, per level."""
    each = (tuple(x.float() for x in kept.features) for kept in (earlier, before, now))
    maps = zip(*each, strict=True)
    return [x for a, b, c in maps for x in (b, c - b, b - a)]


class _ProjectGraph(nn.Module):
    """Pixels (B, h, w, 3) uint8 to `FrameFeatures`, flat."""

    def __init__(self, model: Off) -> None:
        super().__init__()
        self.model = model

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        kept = self.model.project(self.model.normalise(crops))
        return (kept.frame, *kept.features, *kept.gradients)


class _StacksGraph(nn.Module):
    """`first_differences` of each level to logits (B, K)."""

    def __init__(self, guided: OffSubnetwork) -> None:
        super().__init__()
        self.guided = guided
        spatial = guided.gradient.outputs if guided.gradient is not None else 0
        self.channels = [count * spatial for count in guided.counts]  # of gradients

    def forward(self, *levels: Tensor) -> tuple[Tensor, ...]:
        nothing = levels[0].new_zeros(())
        split = [(x[:, :c], x[:, c:]) for x, c in zip(levels, self.channels, strict=True)]
        gradients, steps = zip(*split, strict=True)
        before = FrameFeatures(nothing, (nothing,) * len(levels), gradients)
        return self.guided.pair(before, FrameFeatures(nothing, steps, ()))


class _MotionGraph(nn.Module):
    """`second_differences` of each level to logits (B, K)."""

    def __init__(self, motion: MotionClassifier) -> None:
        super().__init__()
        self.motion = motion

    def forward(self, *levels: Tensor) -> tuple[Tensor, ...]:
        steps = zip(levels[::3], levels[1::3], levels[2::3], strict=True)
        return self.motion.logits([self.motion.level(i, *step) for i, step in enumerate(steps)])
