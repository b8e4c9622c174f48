"""A forecaster made quick where it runs: one picture at a time, without changing its word.

    network = accelerate_forecaster(load_forecaster("street-forecast-0.2"), segmenter, "cpu")
    past.append(network.encode(media_us, pixels, seen, past[-1]))  # a deque of the last few
    told = network.forecast(past)

What an F2F or F2MF forecasts is read by the segmenter's own head, in the same graph.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from streamvis.datasets.classes import movable
from streamvis.messages import Array
from streamvis.models.flow_warp import FlowFrame, extrapolate, flow_frame, warp_image
from streamvis.models.forecasting import Forecaster, PastFeatures
from streamvis.models.inference.segmentation import (
    MOST_SIZES,
    ClassMaps,
    SegmentationHead,
    SegmentationLogits,
    SegmentedFrame,
    Size,
)
from streamvis.models.inference.select import Engine, Precision, choose
from streamvis.models.swiftnet import SwiftNet
from streamvis.models.upsample_argmax import upsample_argmax
from streamvis.models.warp_calibrator import WarpCalibrator, warp_logits

if TYPE_CHECKING:
    from streamvis.models.inference.openvino import CompiledPlan

NOTHING = torch.zeros(1, 0, 1, 1)
UNASKED = np.zeros((0, 0, 0), np.float32)


class PastFrame(NamedTuple):
    """What is kept of one picture."""

    at_us: int  # media time
    seen: SegmentedFrame
    kept: PastFeatures | FlowFrame

    @property
    def size(self) -> Size:
        return self.seen.classes.shape[0], self.seen.classes.shape[1]


class ForecastNetwork(Protocol):
    """What a stage needs of a forecaster, whatever computes it."""

    @property
    def memory(self) -> object:
        """Networks with the same one keep the same of a picture: one may keep it for all."""

    def encode(
        self, at_us: int, pixels: Array, seen: SegmentedFrame, before: PastFrame | None = None
    ) -> PastFrame:
        """What is to be kept of a picture (H, W, 3) uint8 RGB, in memory of its own.

        `seen` is what the segmenter made of it, `before` what was kept of the moment before;
        without one, nothing has moved.
        """

    def forecast(self, past: Sequence[PastFrame], times: int = 1, shares: bool = True) -> ClassMaps:
        """What comes `times` the horizon after moments, oldest first; shares where asked for."""


def accelerate_forecaster(
    model: Forecaster | WarpCalibrator,
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
    if isinstance(model, WarpCalibrator):
        return WarpForecaster(model.to(device), segmenter, engine, dtype)
    if engine == "openvino":
        return CompiledForecaster(model, segmenter, dtype)
    return TorchForecaster(model.to(device, dtype), segmenter, dtype)


class WarpForecaster:
    """Where all goes, on the CPU; how sure that is, on the device."""

    memory = FlowFrame

    def __init__(
        self, model: WarpCalibrator, segmenter: SwiftNet, engine: Engine, dtype: torch.dtype
    ) -> None:
        self.horizon_us = model.architecture.horizon_s * 1e6
        self.things = np.array(movable(segmenter.architecture.segments))
        self.read: Callable[[Size, Tensor], Sequence[Tensor]] = _Eager(_LogitsGraph(segmenter))
        self.sure: Callable[[Size, Tensor, Tensor], Sequence[Tensor]] = _Eager(
            _CalibrationGraph(model)
        )
        self.alone: Callable[[], AbstractContextManager[None]] = nullcontext
        if engine == "openvino":
            from streamvis.models.inference.openvino import one_thread

            self.read = _Step(lambda _: _LogitsGraph(segmenter), dtype, [torch.float32])
            self.sure = _Step(lambda _: _CalibrationGraph(model), torch.float32, [torch.float32])
            self.alone = one_thread

    def encode(
        self, at_us: int, pixels: Array, seen: SegmentedFrame, before: PastFrame | None = None
    ) -> PastFrame:
        earlier = before.kept if before is not None and isinstance(before.kept, FlowFrame) else None
        size = (seen.classes.shape[0], seen.classes.shape[1])
        return PastFrame(at_us, seen, flow_frame(pixels, earlier, size))

    @torch.inference_mode()
    def forecast(self, past: Sequence[PastFrame], times: int = 1, shares: bool = True) -> ClassMaps:
        now, step_us = past[-1], past[-1].at_us - past[-2].at_us
        flow = now.kept.flow if isinstance(now.kept, FlowFrame) and step_us > 0 else None
        ahead = times * self.horizon_us / max(step_us, 1)
        source = extrapolate(flow, now.seen.classes, self.things, ahead)
        classes = warp_image(now.seen.classes, source)
        if not shares:
            return ClassMaps(classes, UNASKED)
        with self.alone():
            (logits,) = self.read(now.size, now.seen.features)
            (told,) = self.sure(now.size, *warp_logits(logits, source))
            return ClassMaps(classes, told[0].cpu().clone().numpy())


class TorchForecaster:
    """On the device: maps in `dtype`, what is read from them in fp32."""

    def __init__(self, model: Forecaster, segmenter: SwiftNet, dtype: torch.dtype) -> None:
        self.model, self.segmenter, self.dtype = model, segmenter, dtype
        self.memory = model

    @torch.inference_mode()
    def encode(
        self, at_us: int, pixels: Array, seen: SegmentedFrame, before: PastFrame | None = None
    ) -> PastFrame:
        features = seen.features.to(self.dtype)
        earlier = self.model.encode(features) if before is None else _remembered(before)
        return PastFrame(at_us, seen, self.model.encode(features, earlier))

    @torch.inference_mode()
    def forecast(self, past: Sequence[PastFrame], times: int = 1, shares: bool = True) -> ClassMaps:
        kept = [_remembered(one) for one in past]
        future = self.model.forecast(kept) if times == 1 else self.model.rollout(kept, times)[-1]
        classes, told = SegmentationHead(self.segmenter, past[-1].size)(future.float())
        return ClassMaps(classes[0].cpu().numpy(), told[0].cpu().numpy())


def _remembered(moment: PastFrame) -> PastFeatures:
    if not isinstance(moment.kept, PastFeatures):
        raise TypeError("a moment of another kind of forecaster")
    return moment.kept


class CompiledForecaster:
    """On OpenVINO, in three steps.

    bf16 has no place between two cells that are far from the first: what flows lead to is fp32.
    Where it goes on from what it told itself, torch computes it.
    """

    def __init__(self, model: Forecaster, segmenter: SwiftNet, dtype: torch.dtype) -> None:
        from streamvis.models.inference.openvino import one_thread

        self.model, self.segmenter, self.memory = model, segmenter, model
        self.about, self.dtype, self.alone = model.architecture, dtype, one_thread
        self.moves = model.embed is not None
        self.newest = self.about.warped if self.moves else 1  # maps that are looked at

        def tell(size: Size) -> nn.Module:
            return _ComposeGraph(model, self.newest, SegmentationLogits(segmenter, size))

        self.encode_graph = _Step(
            lambda _: _EncodeGraph(model), dtype, [dtype] * (4 if self.moves else 2)
        )
        thoughts = [dtype, torch.float32, torch.float32][: 3 if self.moves else 1]
        self.predict_graph = _Step(lambda _: _PredictGraph(model), dtype, thoughts)
        self.compose_graph = _Step(tell, torch.float32, [torch.float32, torch.float32])

    def encode(
        self, at_us: int, pixels: Array, seen: SegmentedFrame, before: PastFrame | None = None
    ) -> PastFrame:
        earlier = None if before is None else _remembered(before)
        with self.alone():
            return PastFrame(at_us, seen, self._kept(seen.features, earlier))

    def _kept(self, features: Tensor, before: PastFeatures | None) -> PastFeatures:
        cells = (features.shape[2] // self.about.fold, features.shape[3] // self.about.fold)
        x = features.to(self.dtype)
        if not self.moves:
            kept, folded = self.encode_graph(cells, x)
            return PastFeatures(kept.clone(), folded.clone(), NOTHING, NOTHING)
        if before is None:
            nowhere = torch.zeros(1, self.about.width, *cells, dtype=self.dtype)
            before = PastFeatures(*(one.clone() for one in self.encode_graph(cells, x, nowhere)))
        return PastFeatures(*(one.clone() for one in self.encode_graph(cells, x, before.embedding)))

    def forecast(self, past: Sequence[PastFrame], times: int = 1, shares: bool = True) -> ClassMaps:
        if times > 1:
            return self._rolled(past, times)
        with self.alone():
            return self._told([_remembered(one) for one in past], past[-1].size)

    def _told(self, past: Sequence[PastFeatures], size: Size) -> ClassMaps:
        motion = [one.motion for one in past[1:]] if self.moves else []
        cells = (past[0].cells.shape[2], past[0].cells.shape[3])
        thought = self.predict_graph(cells, *(one.cells for one in past), *motion)
        maps = [one.map for one in past[-self.newest :]]
        logits, shares = self.compose_graph(size, *maps, *thought)
        return ClassMaps(upsample_argmax(logits[0].numpy(), size), shares[0].clone().numpy())

    @torch.inference_mode()
    def _rolled(self, past: Sequence[PastFrame], times: int) -> ClassMaps:
        kept: list[PastFeatures] = []
        for one in past:
            before = kept[-1] if kept else None
            kept.append(self.model.encode(one.seen.features.float(), before))
        future = self.model.rollout(kept, times)[-1]
        classes, shares = SegmentationHead(self.segmenter, past[-1].size)(future)
        return ClassMaps(classes[0].numpy(), shares[0].numpy())


class _Step:
    """A part of the network compiled for the last few sizes; a call writes over the last one's."""

    def __init__(
        self,
        part: Callable[[Size], nn.Module],
        dtype: torch.dtype,  # that it computes in
        outputs: Sequence[torch.dtype],
    ) -> None:
        from streamvis.models.inference import openvino

        self.part, self.dtype, self.outputs, self.compiled = part, dtype, outputs, openvino
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


class _Eager:
    """A part as it is, called like one that is compiled."""

    def __init__(self, part: nn.Module) -> None:
        self.part = part

    def __call__(self, size: Size, *inputs: Tensor) -> Sequence[Tensor]:
        return self.part(*inputs)


class _LogitsGraph(nn.Module):
    """From features to the logits of classes, in fp32."""

    def __init__(self, segmenter: SwiftNet) -> None:
        super().__init__()
        self.classes = segmenter.classes

    def forward(self, features: Tensor) -> tuple[Tensor]:
        return (self.classes(features.float()),)


class _CalibrationGraph(nn.Module):
    """From what arrives, and its cues, to probabilities."""

    def __init__(self, model: WarpCalibrator) -> None:
        super().__init__()
        self.model = model

    def forward(self, shares: Tensor, cues: Tensor) -> tuple[Tensor]:
        return (self.model(shares, cues).softmax(1),)


class _EncodeGraph(nn.Module):
    """From a map (1, C, h, w), and the embedding of the one before, to what is kept of it."""

    def __init__(self, model: Forecaster) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        kept = self.model.encode(features)
        if not before:
            return kept.map, kept.cells
        return *kept[:3], self.model.motion(kept.embedding, before[0])


class _PredictGraph(nn.Module):
    """From cells and motions, oldest first, to what the model thinks of them."""

    def __init__(self, model: Forecaster) -> None:
        super().__init__()
        self.model = model

    def forward(self, *flat: Tensor) -> tuple[Tensor, ...]:
        past = self.model.architecture.past
        cells, motion = flat[:past], flat[past:]
        kept = [
            PastFeatures(NOTHING, c, NOTHING, m)
            for c, m in zip(cells[1:], motion or cells[1:], strict=True)
        ]
        return self.model.predict([PastFeatures(NOTHING, cells[0], NOTHING, NOTHING), *kept])


class _ComposeGraph(nn.Module):
    """From the newest maps and what is thought of them to what a head says of the future."""

    def __init__(self, model: Forecaster, newest: int, head: SegmentationLogits) -> None:
        super().__init__()
        self.model, self.newest, self.head = model, newest, head

    def forward(self, *flat: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.model.compose(flat[: self.newest], flat[self.newest :]))
