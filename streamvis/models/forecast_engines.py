"""A forecaster made quick where it runs: one map at a time, without changing its word.

    network = accelerate_forecaster(load_forecaster("street-forecast-0.2"), segmenter, "cpu")
    past.append(network.remember(seen.features, past[-1]))  # a deque of the last four
    told = network.forecast(past, seen.classes.shape)

The segmenter's own head reads what is forecast, in the same graph.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from streamvis.models.accelerate import Engine, Precision, choose
from streamvis.models.forecasting import Forecaster, Remembered
from streamvis.models.reading import likeliest_of
from streamvis.models.scene_engines import MOST_SIZES, SceneHead, SceneLogits, Size, Told
from streamvis.models.swiftnet import SwiftNet

if TYPE_CHECKING:
    from streamvis.models.compiled import CompiledPlan

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
    """On OpenVINO, in three steps.

    bf16 has no place between two cells that are far from the first: what flows lead to is fp32.
    """

    def __init__(self, model: Forecaster, segmenter: SwiftNet, dtype: torch.dtype) -> None:
        from streamvis.models.compiled import one_thread

        self.about, self.dtype, self.alone = model.architecture, dtype, one_thread
        self.moves = model.embed is not None
        self.newest = self.about.warped if self.moves else 1  # maps that are looked at

        def tell(size: Size) -> nn.Module:
            return _Tell(model, self.newest, SceneLogits(segmenter, size))

        self.keep = _Step(lambda _: _Keep(model), dtype, [dtype] * (4 if self.moves else 2))
        thoughts = [dtype, torch.float32, torch.float32][: 3 if self.moves else 1]
        self.think = _Step(lambda _: _Think(model), dtype, thoughts)
        self.tell = _Step(tell, torch.float32, [torch.float32, torch.float32])

    def remember(self, features: Tensor, before: Remembered | None = None) -> Remembered:
        with self.alone():
            return self._kept(features, before)

    def _kept(self, features: Tensor, before: Remembered | None) -> Remembered:
        cells = (features.shape[2] // self.about.fold, features.shape[3] // self.about.fold)
        x = features.to(self.dtype)
        if not self.moves:
            kept, folded = self.keep(cells, x)
            return Remembered(kept.clone(), folded.clone(), NOTHING, NOTHING)
        if before is None:
            a = self.about
            fine = a.fold // a.steady if a.steady else 1  # cells of an embedding to one, each way
            sides = (cells[0] * fine, cells[1] * fine)
            width = a.width // 2 if a.steady else a.width
            nowhere = torch.zeros(1, width, *sides, dtype=self.dtype)
            before = Remembered(*(one.clone() for one in self.keep(cells, x, nowhere)))
        return Remembered(*(one.clone() for one in self.keep(cells, x, before.embedding)))

    def forecast(self, past: Sequence[Remembered], size: Size) -> Told:
        with self.alone():
            return self._told(past, size)

    def _told(self, past: Sequence[Remembered], size: Size) -> Told:
        motion = [one.motion for one in past[1:]] if self.moves else []
        cells = (past[0].cells.shape[2], past[0].cells.shape[3])
        ends = [past[0].embedding, past[-1].embedding] if self.about.steady and self.moves else []
        thought = self.think(cells, *(one.cells for one in past), *motion, *ends)
        maps = [one.map for one in past[-self.newest :]]
        logits, shares = self.tell(size, *maps, *thought)
        return Told(likeliest_of(logits[0].numpy(), size), shares[0].clone().numpy())


class _Step:
    """A part of the network compiled for the last few sizes; a call writes over the last one's."""

    def __init__(
        self,
        part: Callable[[Size], nn.Module],
        dtype: torch.dtype,  # that it computes in
        outputs: Sequence[torch.dtype],
    ) -> None:
        from streamvis.models import compiled

        self.part, self.dtype, self.outputs, self.compiled = part, dtype, outputs, compiled
        self.threads = torch.get_num_threads()
        self.plans: OrderedDict[Size, CompiledPlan] = OrderedDict()

    def __call__(self, size: Size, *inputs: Tensor) -> list[Tensor]:
        if size not in self.plans:
            types = [*(x.dtype for x in inputs), *self.outputs]
            examples = [x.float() for x in inputs]
            with self.compiled.threads(self.threads):
                plan = self.compiled.CompiledPlan(self.part(size), examples, self.dtype, types)
            self.plans[size] = plan
            if len(self.plans) > MOST_SIZES:
                self.plans.popitem(last=False)
        self.plans.move_to_end(size)
        return self.plans[size](*inputs)


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


class _Think(nn.Module):
    """From cells and motions, oldest first, to what the model thinks of them."""

    def __init__(self, model: Forecaster) -> None:
        super().__init__()
        self.model = model

    def forward(self, *flat: Tensor) -> tuple[Tensor, ...]:
        past = self.model.architecture.past
        cells, motion, ends = flat[:past], flat[past : 2 * past - 1], flat[2 * past - 1 :]
        oldest, newest = ends or (NOTHING, NOTHING)
        kept = [
            Remembered(NOTHING, c, NOTHING, m)
            for c, m in zip(cells[1:], motion or cells[1:], strict=True)
        ]
        kept = [Remembered(NOTHING, cells[0], oldest, NOTHING), *kept]
        kept[-1] = kept[-1]._replace(embedding=newest)
        return self.model.think(kept)


class _Tell(nn.Module):
    """From the newest maps and what is thought of them to what a head says of the future."""

    def __init__(self, model: Forecaster, newest: int, head: SceneLogits) -> None:
        super().__init__()
        self.model, self.newest, self.head = model, newest, head

    def forward(self, *flat: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.model.carry_out(flat[: self.newest], flat[self.newest :]))
