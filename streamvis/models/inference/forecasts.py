"""Inference back ends of forecasters: PyTorch, or compiled by OpenVINO, one frame at a time.

    network = accelerate_forecaster(load_forecaster("street-forecast-0.2"), segmenter, "cpu")
    past.append(network.encode(media_us, pixels, segmented, past[-1]))  # a deque of frames
    maps = network.forecast(past)

The segmenter's own head classifies the features that F2F or F2MF forecasts, in the same graph.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from streamvis.datasets.classes import movable
from streamvis.messages import Array
from streamvis.models.flow_warp import (
    FlowFrame,
    SceneMotion,
    extrapolate,
    flow_frame,
    scene_motion,
    warp_image,
)
from streamvis.models.forecasting import Forecaster, PastFeatures
from streamvis.models.inference.plan_cache import PlanCache
from streamvis.models.inference.segmentation import (
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
NO_SHARES = np.zeros((0, 0, 0), np.float32)


class PastFrame(NamedTuple):
    """The encoding of one past frame."""

    at_us: int  # media time
    seen: SegmentedFrame
    kept: "PastFeatures | PastMotion"

    @property
    def size(self) -> Size:
        return self.seen.classes.shape[0], self.seen.classes.shape[1]


class PastMotion(NamedTuple):
    """A frame with its flow, and the motion of its scene since the frame before it."""

    frame: FlowFrame
    motion: SceneMotion | None


class ClassMaps(NamedTuple):
    """The forecast classes and their probabilities, in memory of its own."""

    classes: Array  # (H, W) uint8
    shares: Array  # (K, ⌈H/4⌉, ⌈W/4⌉) float32, probabilities of the classes


class ForecastNetwork(Protocol):
    """The interface of a forecaster, independent of the back end."""

    @property
    def memory(self) -> object:
        """A key: networks with the same one share the encodings of frames."""

    def encode(
        self, at_us: int, pixels: Array, seen: SegmentedFrame, before: PastFrame | None = None
    ) -> PastFrame:
        """Encode a frame (H, W, 3) uint8 RGB, in memory of its own.

        `seen` is its segmentation, `before` the encoding of the frame before it; without one,
        no motion is assumed.
        """

    def forecast(self, past: Sequence[PastFrame], times: int = 1, shares: bool = True) -> ClassMaps:
        """Forecast `times` the horizon after frames, oldest first; probabilities if `shares`."""


def accelerate_forecaster(
    model: Forecaster | WarpCalibrator,
    segmenter: SwiftNet,
    device: str,
    precision: Precision = "auto",
    engine: Engine = "auto",
) -> ForecastNetwork:
    """Use bf16 if the hardware has it, and compile if possible.

    The model is modified and owned by the result; of the segmenter only the head is used.
    """
    engine, dtype = choose(device, precision, engine)
    model.eval().requires_grad_(False)
    if isinstance(model, WarpCalibrator):
        return WarpForecaster(model.to(device), segmenter, engine, dtype)
    if engine == "openvino":
        return CompiledForecaster(model, segmenter, dtype)
    return TorchForecaster(model.to(device, dtype), segmenter, dtype)


class WarpForecaster:
    """Flow-based forecaster: warping on the CPU, calibration of probabilities on the device."""

    memory = PastMotion

    def __init__(
        self, model: WarpCalibrator, segmenter: SwiftNet, engine: Engine, dtype: torch.dtype
    ) -> None:
        self.horizon_us = model.architecture.horizon_s * 1e6
        self.things = np.array(movable(segmenter.architecture.segments))
        self.logits_graph: Callable[[Size, Tensor], Sequence[Tensor]] = _TorchPart(
            _LogitsGraph(segmenter)
        )
        self.calibration_graph: Callable[[Size, Tensor, Tensor], Sequence[Tensor]] = _TorchPart(
            _CalibrationGraph(model)
        )
        self.alone: Callable[[], AbstractContextManager[None]] = nullcontext
        if engine == "openvino":
            from streamvis.models.inference.openvino import one_thread

            self.logits_graph = _CompiledPart(
                lambda _: _LogitsGraph(segmenter), dtype, [torch.float32]
            )
            self.calibration_graph = _CompiledPart(
                lambda _: _CalibrationGraph(model), torch.float32, [torch.float32]
            )
            self.alone = one_thread

    def encode(
        self, at_us: int, pixels: Array, seen: SegmentedFrame, before: PastFrame | None = None
    ) -> PastFrame:
        earlier = _motion(before).frame if before is not None else None
        size = (seen.classes.shape[0], seen.classes.shape[1])
        frame = flow_frame(pixels, earlier, size)
        motion = scene_motion(frame.flow, seen.classes, self.things)
        return PastFrame(at_us, seen, PastMotion(frame, motion))

    @torch.inference_mode()
    def forecast(self, past: Sequence[PastFrame], times: int = 1, shares: bool = True) -> ClassMaps:
        now, step_us = past[-1], past[-1].at_us - past[-2].at_us
        motion = _motion(now).motion if step_us > 0 else None
        ahead = times * self.horizon_us / max(step_us, 1)
        source = extrapolate(motion, now.size, ahead)
        classes = warp_image(now.seen.classes, source)
        if not shares:
            return ClassMaps(classes, NO_SHARES)
        with self.alone():
            (logits,) = self.logits_graph(now.size, now.seen.features)
            (probabilities,) = self.calibration_graph(now.size, *warp_logits(logits, source))
            return ClassMaps(classes, probabilities[0].cpu().clone().numpy())


class TorchForecaster:
    """PyTorch back end: maps in `dtype`, the head in fp32."""

    def __init__(self, model: Forecaster, segmenter: SwiftNet, dtype: torch.dtype) -> None:
        self.model, self.segmenter, self.dtype = model, segmenter, dtype
        self.memory = model

    @torch.inference_mode()
    def encode(
        self, at_us: int, pixels: Array, seen: SegmentedFrame, before: PastFrame | None = None
    ) -> PastFrame:
        features = seen.features.to(self.dtype)
        earlier = self.model.encode(features) if before is None else _features(before)
        return PastFrame(at_us, seen, self.model.encode(features, earlier))

    @torch.inference_mode()
    def forecast(self, past: Sequence[PastFrame], times: int = 1, shares: bool = True) -> ClassMaps:
        kept = [_features(one) for one in past]
        future = self.model.forecast(kept) if times == 1 else self.model.rollout(kept, times)[-1]
        classes, probabilities = SegmentationHead(self.segmenter, past[-1].size)(future.float())
        return ClassMaps(classes[0].cpu().numpy(), probabilities[0].cpu().numpy())


def _features(moment: PastFrame) -> PastFeatures:
    if not isinstance(moment.kept, PastFeatures):
        raise _of_another(moment, PastFeatures)
    return moment.kept


def _motion(moment: PastFrame) -> PastMotion:
    if not isinstance(moment.kept, PastMotion):
        raise _of_another(moment, PastMotion)
    return moment.kept


def _of_another(moment: PastFrame, expected: type) -> TypeError:
    return TypeError(
        f"the frame was encoded as {type(moment.kept).__name__}, expected {expected.__name__}: "
        "encode it with this forecaster"
    )


class CompiledForecaster:
    """OpenVINO back end, in three graphs: encode, predict, compose.

    bf16 cannot represent positions between distant cells, so warping is fp32. Roll-outs beyond
    the first horizon are computed by torch.
    """

    def __init__(self, model: Forecaster, segmenter: SwiftNet, dtype: torch.dtype) -> None:
        from streamvis.models.inference.openvino import one_thread

        self.model, self.segmenter, self.memory = model, segmenter, model
        self.about, self.dtype, self.alone = model.architecture, dtype, one_thread
        self.moves = model.embed is not None
        self.newest = self.about.warped if self.moves else 1  # maps that are read

        def compose(size: Size) -> nn.Module:
            return _ComposeGraph(model, self.newest, SegmentationLogits(segmenter, size))

        self.encode_graph = _CompiledPart(
            lambda _: _EncodeGraph(model), dtype, [dtype] * (4 if self.moves else 2)
        )
        outputs = [dtype, torch.float32, torch.float32][: 3 if self.moves else 1]
        self.predict_graph = _CompiledPart(lambda _: _PredictGraph(model), dtype, outputs)
        self.compose_graph = _CompiledPart(compose, torch.float32, [torch.float32, torch.float32])

    def encode(
        self, at_us: int, pixels: Array, seen: SegmentedFrame, before: PastFrame | None = None
    ) -> PastFrame:
        earlier = None if before is None else _features(before)
        with self.alone():
            return PastFrame(at_us, seen, self._encode(seen.features, earlier))

    def _encode(self, features: Tensor, before: PastFeatures | None) -> PastFeatures:
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
            return self._rollout(past, times)
        with self.alone():
            return self._decode([_features(one) for one in past], past[-1].size)

    def _decode(self, past: Sequence[PastFeatures], size: Size) -> ClassMaps:
        motion = [one.motion for one in past[1:]] if self.moves else []
        cells = (past[0].cells.shape[2], past[0].cells.shape[3])
        predicted = self.predict_graph(cells, *(one.cells for one in past), *motion)
        maps = [one.map for one in past[-self.newest :]]
        logits, shares = self.compose_graph(size, *maps, *predicted)
        return ClassMaps(upsample_argmax(logits[0].numpy(), size), shares[0].clone().numpy())

    @torch.inference_mode()
    def _rollout(self, past: Sequence[PastFrame], times: int) -> ClassMaps:
        kept: list[PastFeatures] = []
        for one in past:
            before = kept[-1] if kept else None
            kept.append(self.model.encode(one.seen.features.float(), before))
        future = self.model.rollout(kept, times)[-1]
        classes, shares = SegmentationHead(self.segmenter, past[-1].size)(future)
        return ClassMaps(classes[0].numpy(), shares[0].numpy())


class _CompiledPart:
    """A part of the network, compiled for each size; a call overwrites earlier outputs."""

    def __init__(
        self,
        part: Callable[[Size], nn.Module],
        dtype: torch.dtype,  # precision of the computation
        outputs: Sequence[torch.dtype],
    ) -> None:
        from streamvis.models.inference import openvino

        self.part, self.dtype, self.outputs, self.openvino = part, dtype, outputs, openvino
        self.threads = torch.get_num_threads()
        self.plans: PlanCache[Size, CompiledPlan] = PlanCache()

    def __call__(self, size: Size, *inputs: Tensor) -> list[Tensor]:
        return self.plans.get(size, lambda: self._compile(size, inputs))(*inputs)

    def _compile(self, size: Size, inputs: Sequence[Tensor]) -> "CompiledPlan":
        types = [*(x.dtype for x in inputs), *self.outputs]
        examples = [x.float() for x in inputs]
        with self.openvino.threads(self.threads):
            return self.openvino.CompiledPlan(self.part(size), examples, self.dtype, types)


class _TorchPart:
    """A part in torch with the interface of a compiled one."""

    def __init__(self, part: nn.Module) -> None:
        self.part = part

    def __call__(self, size: Size, *inputs: Tensor) -> Sequence[Tensor]:
        return self.part(*inputs)


class _LogitsGraph(nn.Module):
    """Features to class logits in fp32."""

    def __init__(self, segmenter: SwiftNet) -> None:
        super().__init__()
        self.classes = segmenter.classes

    def forward(self, features: Tensor) -> tuple[Tensor]:
        return (self.classes(features.float()),)


class _CalibrationGraph(nn.Module):
    """Warped probabilities and cues to calibrated probabilities."""

    def __init__(self, model: WarpCalibrator) -> None:
        super().__init__()
        self.model = model

    def forward(self, shares: Tensor, cues: Tensor) -> tuple[Tensor]:
        return (self.model(shares, cues).softmax(1),)


class _EncodeGraph(nn.Module):
    """A map (1, C, h, w) and the previous embedding to `PastFeatures`, flat."""

    def __init__(self, model: Forecaster) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        kept = self.model.encode(features)
        if not before:
            return kept.map, kept.cells
        return *kept[:3], self.model.motion(kept.embedding, before[0])


class _PredictGraph(nn.Module):
    """Cells and correlations, oldest first, to the outputs of `Forecaster.predict`."""

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
    """The newest maps and predictions to the outputs of a segmentation head."""

    def __init__(self, model: Forecaster, newest: int, head: SegmentationLogits) -> None:
        super().__init__()
        self.model, self.newest, self.head = model, newest, head

    def forward(self, *flat: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.model.compose(flat[: self.newest], flat[self.newest :]))
