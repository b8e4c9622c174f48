"""OpenVINO back end: convolutions and matrix products compiled, the rest of a network in torch.

    detector = CompiledDetector(model, torch.bfloat16)
    found = detector([image])  # as model([image])

OpenVINO converts the traced torch module, so each network is described once.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import cv2
import torch
from torch import Tensor, nn

from streamvis.messages import Array
from streamvis.models.inference.openvino_core import core_of
from streamvis.models.inference.plan_cache import MOST_SIZES, PlanCache
from streamvis.models.mask_rcnn import Dense, MaskRcnn, padded_size, rescale
from streamvis.models.roi_heads import Instances

# after openvino_core, which keeps OpenVINO's telemetry from being imported
import openvino  # isort: skip
from openvino.frontend import FrontEndManager  # isort: skip
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # isort: skip
from openvino.preprocess import PrePostProcessor  # isort: skip

READER = FrontEndManager().load_by_framework("pytorch")
ELEMENTS = {
    torch.uint8: openvino.Type.u8,
    torch.float32: openvino.Type.f32,
    torch.bfloat16: openvino.Type.bf16,
}

EXAMPLE = (64, 96)  # px of the input that the dense part is traced with; compiled for any size
SMALL = 512 * 320  # px of an input up to which one thread computes the dense part: others would
# wait for the next picture, in busy loops, for as long as they help with this one


class CompiledDetector:
    """A compiled detector, called like the model that it takes over, one image at a time.

    dtype, float32 or bfloat16, is the precision of OpenVINO and of the feature maps.
    """

    def __init__(self, model: MaskRcnn, dtype: torch.dtype) -> None:
        self.model = model.requires_grad_(False)
        self.dtype = dtype
        self.core = _core(dtype)
        pixels = torch.zeros(1, *EXAMPLE, 3, dtype=torch.uint8)
        self.network = _convert(_DenseGraph(model), (pixels,))
        self.plans: PlanCache[tuple[int, ...], _DetectorPlan] = PlanCache(
            4 * MOST_SIZES  # of each, a second one for coarse looks; photographs have many sizes
        )
        self.filling = (model.mean * 255).round().to(torch.uint8).flatten()  # normalised: about 0
        heads, channels = model.roi_heads, model.architecture.channels
        masks = nn.Sequential(heads.mask_head, heads.mask_predictor)
        heads.add_module("box_head", _CompiledHead(self, heads.box_head, (channels, 7, 7)))
        heads.add_module("mask_head", _CompiledHead(self, masks, (channels, 14, 14)))
        heads.add_module("mask_predictor", nn.Identity())

    def __call__(self, images: Sequence[Tensor], masks: bool = True) -> list[Instances]:
        with one_thread():
            return [self._one(image, masks) for image in images]

    def _one(self, image: Tensor, masks: bool) -> Instances:
        dense, padded, size = self.dense(image)
        (found,) = self.model.sparse(dense, padded, [size], masks)
        return rescale(found, size, (image.shape[1], image.shape[2]))

    def dense(self, image: Tensor) -> tuple[Dense, tuple[int, int], tuple[int, int]]:
        """Compute the dense part for an image (3, H, W) uint8: maps, padded size, size.

        The next call overwrites the returned maps.
        """
        size = self.model.size_of(image.shape[1], image.shape[2])
        padded = padded_size([size])
        plan = self.plans.get(padded, lambda: _DetectorPlan(self, padded))
        return plan(self._resized(image, size, padded)), padded, size

    def _resized(self, image: Tensor, size: tuple[int, int], padded: tuple[int, int]) -> Tensor:
        """Return padded pixels (1, h, w, 3) uint8 of an image, interpolated as in the network.

        Bytes are scaled in a tenth of the time that the graph takes, which computes in fp32; the
        result is rounded to whole grey levels. Padded here, images of many sizes share a plan.
        """
        pixels = image.permute(1, 2, 0).contiguous()  # (H, W, 3)
        if pixels.shape[:2] != size:
            scaled = cv2.resize(pixels.numpy(), size[::-1], interpolation=cv2.INTER_LINEAR)
            pixels = torch.from_numpy(scaled)
        if size != padded:
            inside = pixels
            pixels = self.filling.expand(*padded, 3).clone()
            pixels[: size[0], : size[1]] = inside
        return pixels[None]


class CompiledEmbedder:
    """A compiled `part`: crops (B, h, w, 3) uint8 to vectors (B, D), for any B.

    The batch is dynamic, because padding crops would cost as much as real ones.
    """

    def __init__(self, part: nn.Module, size: tuple[int, int], dtype: torch.dtype) -> None:
        example = torch.zeros(2, *size, 3, dtype=torch.uint8)
        types = [torch.uint8, torch.float32]
        part.requires_grad_(False)
        self.request = _compile(_core(dtype), part, example, types, free=True)

    def __call__(self, crops: Array) -> Array:
        (found,) = self.request.infer({0: crops}, share_inputs=True).values()
        return found.copy()


class CompiledParts:
    """A compiled part of any number of inputs and outputs (B, …), for any B."""

    def __init__(self, part: nn.Module, examples: Sequence[Tensor], dtype: torch.dtype) -> None:
        part.requires_grad_(False)
        with torch.inference_mode():
            outputs = len(part(*examples))
        types = [*(x.dtype for x in examples), *[torch.float32] * outputs]
        self.request = _compile(_core(dtype), part, tuple(examples), types, free=True)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Compute the outputs; the next call may overwrite them."""
        shared = {i: _shared(x.contiguous()) for i, x in enumerate(inputs)}
        found = self.request.infer(shared, share_outputs=True)
        return [torch.from_numpy(x) for x in found.values()]


class CompiledPlan:
    """A compiled part for inputs of fixed shapes; its outputs are reused memory."""

    def __init__(
        self,
        part: nn.Module,
        examples: Sequence[Tensor],
        dtype: torch.dtype,  # precision of the computation
        types: Sequence[torch.dtype],  # of its inputs, then of its outputs
    ) -> None:
        part.requires_grad_(False)
        self.request = _compile(_core(dtype), part, tuple(examples), types)
        self.outputs = _own_outputs(self.request, types[len(examples) :])

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Compute the outputs; the next call overwrites them."""
        self.request.infer({i: _shared(x.contiguous()) for i, x in enumerate(inputs)})
        return self.outputs


def _core(dtype: torch.dtype, threads: int | None = None) -> Any:
    """Return the OpenVINO core of this precision and number of threads; None: that of torch."""
    precision = "bf16" if dtype == torch.bfloat16 else "f32"
    return core_of(precision, threads or torch.get_num_threads())


def _compile(
    core: Any,
    part: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    types: Sequence[torch.dtype],
    free: bool = False,
) -> Any:
    """Compile a part; `types` are of inputs, then outputs; `free` makes axis 0 dynamic."""
    examples = example if isinstance(example, tuple) else (example,)
    shapes = [[-1 if free else len(x), *x.shape[1:]] for x in examples]
    return _compile_for(core, _convert(part, examples), shapes, types)


def _convert(part: nn.Module, examples: tuple[Tensor, ...]) -> Any:
    """Return the OpenVINO model of a part, whose inputs may get other shapes than the examples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but torch.export takes ten times as long
        traced = torch.jit.trace(part, examples, check_trace=False)
        decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion
        network = READER.convert(READER.load(decoder))
    _round_before_padding(network)
    return network


def _compile_for(
    core: Any, network: Any, shapes: Sequence[Sequence[int]], types: Sequence[torch.dtype]
) -> Any:
    """Compile a converted part, which this changes, for inputs of these shapes."""
    network.reshape({i: openvino.PartialShape(shape) for i, shape in enumerate(shapes)})
    steps = PrePostProcessor(network)
    for index, dtype in enumerate(types[: len(shapes)]):
        steps.input(index).tensor().set_element_type(ELEMENTS[dtype])
    for index, dtype in enumerate(types[len(shapes) :]):
        steps.output(index).tensor().set_element_type(ELEMENTS[dtype])
    return core.compile_model(steps.build(), "CPU").create_infer_request()


def _round_before_padding(network: Any) -> None:
    """Let what is padded be rounded before it: the layer that makes it then writes int8."""
    for node in network.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        pad = node.input_value(0).get_node()
        if pad.get_type_name() != "Pad" or len(pad.output(0).get_target_inputs()) > 1:
            continue
        node.input(0).replace_source_output(pad.input_value(0))
        readers = node.output(0).get_target_inputs()
        pad.input(0).replace_source_output(node.output(0))
        for reader in readers:
            reader.replace_source_output(pad.output(0))


def one_thread() -> AbstractContextManager[None]:
    """Restrict torch to one thread: idle torch threads would occupy the cores of OpenVINO."""
    return threads(1)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of threads of torch, and of parts compiled meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _own_outputs(request: Any, types: Sequence[torch.dtype]) -> list[Tensor]:
    """Let a request write its outputs to tensors of these types, and return them."""
    outputs = []
    for index, dtype in enumerate(types):
        shape = tuple(request.get_output_tensor(index).shape)
        outputs.append(torch.empty(shape, dtype=dtype))
        request.set_output_tensor(index, _shared(outputs[-1]))
    return outputs


def _shared(x: Tensor) -> openvino.Tensor:
    """Share memory with OpenVINO; bfloat16 passes NumPy, which lacks it, as int16."""
    raw = x.view(torch.int16) if x.dtype == torch.bfloat16 else x
    return openvino.Tensor(raw.numpy(), openvino.Shape(x.shape), ELEMENTS[x.dtype])


class _DenseGraph(nn.Module):
    """The dense part of a detector: pixels (1, h, w, 3) to flat outputs, maps channels-last."""

    def __init__(self, model: MaskRcnn) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        dense = self.model.dense(self.model.normalize(pixels.permute(0, 3, 1, 2)))
        maps = (x.permute(0, 2, 3, 1) for x in dense.maps)
        return (*maps, *dense.logits, *dense.deltas)


class _DetectorPlan:
    """The compiled dense part for one padded input size, with its output memory."""

    def __init__(self, owner: CompiledDetector, size: tuple[int, int]) -> None:
        self.levels = len(owner.model.rpn.base)
        maps = len(owner.model.backbone.body.strides) + 1
        types = [owner.dtype] * maps + [torch.float32] * 2 * self.levels
        core = _core(owner.dtype, 1) if size[0] * size[1] <= SMALL else owner.core
        network = owner.network.clone()
        self.request = _compile_for(core, network, [(1, *size, 3)], [torch.uint8, *types])
        self.outputs = _own_outputs(self.request, types)

    def __call__(self, pixels: Tensor) -> Dense:
        self.request.infer({0: _shared(pixels)})
        rest = len(self.outputs) - 2 * self.levels
        return Dense(
            [x.permute(0, 3, 1, 2) for x in self.outputs[:rest]],
            self.outputs[rest : rest + self.levels],
            self.outputs[rest + self.levels :],
        )


class _CompiledHead(nn.Module):
    """A compiled head for any number of regions."""

    def __init__(self, owner: CompiledDetector, part: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        example = torch.zeros(2, *shape)
        types = [owner.dtype, torch.float32]
        self.request = _compile(owner.core, part, example, types, free=True)

    def forward(self, x: Tensor) -> Tensor:
        # x (R, C, h, w)
        (found,) = self.request.infer({0: _shared(x.contiguous())}).values()
        return torch.from_numpy(found.copy())
