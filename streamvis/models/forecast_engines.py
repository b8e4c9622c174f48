"""A forecaster made quick where it runs: one map at a time, without changing its word.

    network = accelerate_forecaster(load_forecaster("street-forecast-0.2"), segmenter, "cpu")
    past.append(network.remember(seen.features, past[-1]))  # a deque of the last four
    told = network.forecast(past, seen.classes.shape)

The segmenter's own head reads what is forecast, in the same graph.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import Tensor, nn

from streamvis.models.accelerate import Engine, Precision, choose
from streamvis.models.forecasting import Forecaster, Remembered
from streamvis.models.scene_engines import MOST_SIZES, SceneHead, Size, Told
from streamvis.models.swiftnet import SwiftNet

if TYPE_CHECKING:
    from streamvis.models.compiled import CompiledPlan

T = TypeVar("T")
NOTHING = torch.zeros(1, 0, 1, 1)


class ForecastNetwork(Protocol):
    """What a stage needs of a forecaster, whatever computes it."""

    def remember(self, features: Tensor, before: Remembered | None = None) -> Remembered:
        """What is to be kept of a map (1, C, h, w), in memory of its own.

        `before` is what was kept of the moment before; without one, nothing has moved.
        """

    def forecast(self, past: Sequence[Remembered], size: Size) -> Told:
        """What comes after moments, oldest first, of pictures that were looked at in `size`."""


def accelerate_forecaster(
    model: Forecaster,
    segmenter: SwiftNet,
    device: str,
    precision: Precision = "auto",
    engine: Engine = "auto",
) -> ForecastNetwork:
    """Compute in bf16 where the hardware has it, compiled if possible.

    The model is taken over; of the segmenter only the head is used, as it is.
    """
    engine, dtype = choose(device, precision, engine)
    model.eval().requires_grad_(False)
    if engine == "openvino":
        return _Compiled(model, segmenter, dtype)
    return _Torch(model.to(device, dtype), segmenter, dtype)


class _Torch:
    """On the device: maps in `dtype`, what is read from them in fp32."""

    def __init__(self, model: Forecaster, segmenter: SwiftNet, dtype: torch.dtype) -> None:
        self.model, self.segmenter, self.dtype = model, segmenter, dtype

    @torch.inference_mode()
    def remember(self, features: Tensor, before: Remembered | None = None) -> Remembered:
        features = features.to(self.dtype)
        return self.model.remember(features, before or self.model.remember(features))

    @torch.inference_mode()
    def forecast(self, past: Sequence[Remembered], size: Size) -> Told:
        future = self.model.forecast(past).float()
        classes, shares = SceneHead(self.segmenter, size)(future)
        return Told(classes[0].cpu().numpy(), shares[0].cpu().numpy())


class _Compiled:
    """On OpenVINO: one graph for a moment, one for all after that; each for the last few sizes."""

    def __init__(self, model: Forecaster, segmenter: SwiftNet, dtype: torch.dtype) -> None:
        from streamvis.models import compiled

        self.model, self.segmenter, self.dtype, self.compiled = model, segmenter, dtype, compiled
        self.keeps: OrderedDict[Size, CompiledPlan] = OrderedDict()
        self.tells: OrderedDict[Size, CompiledPlan] = OrderedDict()

    def remember(self, features: Tensor, before: Remembered | None = None) -> Remembered:
        if self.model.embed is not None and before is None:
            before = self._keep(features, self._nowhere(features))
        return self._keep(features, before)

    def _keep(self, features: Tensor, before: Remembered | None) -> Remembered:
        inputs = [features] if before is None else [features, before.embedding]
        with self.compiled.one_thread():
            plan = _newest(
                self.keeps,
                features.shape[-2:],
                lambda: self._plan(_Keep(self.model), inputs, [self.dtype] * 2 * len(inputs)),
            )
            kept = [x.clone() for x in plan(*(x.to(self.dtype) for x in inputs))]
        return Remembered(*kept) if before else Remembered(kept[0], kept[1], NOTHING, NOTHING)

    def _nowhere(self, features: Tensor) -> Remembered:
        about = self.model.architecture
        height, width = (side // about.fold for side in features.shape[-2:])
        return Remembered(NOTHING, NOTHING, torch.zeros(1, about.width, height, width), NOTHING)

    def forecast(self, past: Sequence[Remembered], size: Size) -> Told:
        inputs = used(past, self.model)
        with self.compiled.one_thread():
            plan = _newest(
                self.tells,
                size,
                lambda: self._plan(
                    _Tell(self.model, SceneHead(self.segmenter, size)),
                    inputs,
                    [torch.uint8, torch.float32],
                ),
            )
            classes, shares = plan(*inputs)
            return Told(classes[0].clone().numpy(), shares[0].clone().numpy())

    def _plan(
        self, part: nn.Module, inputs: Sequence[Tensor], outputs: Sequence[torch.dtype]
    ) -> "CompiledPlan":
        types = [*[self.dtype] * len(inputs), *outputs]
        return self.compiled.CompiledPlan(part, [x.float() for x in inputs], self.dtype, types)


class _Keep(nn.Module):
    """From a map (1, C, h, w), and the embedding of the one before, to what is kept of it."""

    def __init__(self, model: Forecaster) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        kept = self.model.remember(features)
        if not before:
            return kept.map, kept.cells
        return *kept[:3], self.model.motion(kept.embedding, before[0])


class _Tell(nn.Module):
    """From what a forecast goes by, flat, to what a head says of it."""

    def __init__(self, model: Forecaster, head: SceneHead) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, *flat: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.model.forecast(moments(flat, self.model)))


def used(past: Sequence[Remembered], model: Forecaster) -> list[Tensor]:
    """What a forecast goes by, flat: OpenVINO drops inputs that nobody reads."""
    newest = model.architecture.warped if model.embed is not None else 1
    motion = [one.motion for one in past[1:]] if model.embed is not None else []
    return [*(one.map for one in past[-newest:]), *(one.cells for one in past), *motion]


def moments(flat: Sequence[Tensor], model: Forecaster) -> list[Remembered]:
    """The moments that `used` flattened, with nothing where nobody looks."""
    past = model.architecture.past
    moves = model.embed is not None
    newest = model.architecture.warped if moves else 1
    maps = [NOTHING] * (past - newest) + [*flat[:newest]]
    motion = [NOTHING, *flat[newest + past :]] if moves else [NOTHING] * past
    cells = flat[newest : newest + past]
    kept = zip(maps, cells, [NOTHING] * past, motion, strict=True)
    return [Remembered(*one) for one in kept]


def _newest(plans: OrderedDict[Size, T], size: Sequence[int], make: Callable[[], T]) -> T:
    """The plan of a size, made if there is none; the one used longest ago goes."""
    key = (size[0], size[1])
    if key not in plans:
        plans[key] = make()
        if len(plans) > MOST_SIZES:
            plans.popitem(last=False)
    plans.move_to_end(key)
    return plans[key]
