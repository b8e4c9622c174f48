"""Selection of the inference engine and precision, and accelerated detectors and embedders."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib import import_module, metadata
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from streamvis.errors import ModelError
from streamvis.messages import Array
from streamvis.models.embedding import Embedder
from streamvis.models.inference.device import DeviceBatches
from streamvis.models.inference.hardware import cpu_has_bf16, cpu_has_int8
from streamvis.models.int8 import Ranges, int8_path, quantise, read_ranges
from streamvis.models.layers import fuse
from streamvis.models.mask_rcnn import Detector, MaskRcnn

Precision = Literal["auto", "fp32", "bf16"]
DetectorPrecision = Literal["auto", "fp32", "bf16", "int8"]
Engine = Literal["auto", "torch", "openvino"]
Embed = Callable[[Array], Array]  # crops (B, h, w, 3) uint8 RGB -> unit vectors (B, D) float32
TINY = 1e-12
MOST_CROPS = 32  # per batch


def openvino_version() -> str | None:
    """Return the installed version of OpenVINO without importing it; None if absent."""
    try:
        return metadata.version("openvino")
    except metadata.PackageNotFoundError:
        return None


def openvino_fault() -> str | None:
    """Return why OpenVINO is unusable; None if it works."""
    if openvino_version() is None:
        return "it is not installed; run: pip install openvino"
    try:
        import_module("streamvis.models.inference.openvino")
    except (ImportError, OSError, RuntimeError) as error:
        return f"it cannot be imported: {error}; run: pip install --force-reinstall openvino"
    return None


def gpu_has_bf16(device: str) -> bool:
    """Whether the device multiplies bf16 in hardware; where it is emulated, fp32 is faster."""
    if not torch.cuda.is_available():
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def choose(device: str, precision: Precision, engine: Engine) -> tuple[Engine, torch.dtype]:
    """Resolve `auto` on this machine; raises ModelError for an impossible choice."""
    cpu = device == "cpu"
    able = cpu_has_bf16() if cpu else gpu_has_bf16(device)
    if precision == "bf16" and not able:
        raise ModelError(
            f"precision bf16: the device '{device}' has no bf16 arithmetic; use auto or fp32"
        )
    dtype = torch.bfloat16 if able and precision != "fp32" else torch.float32
    if engine == "openvino" and not cpu:
        raise ModelError(f"engine openvino runs on the cpu, not on '{device}'; use auto or torch")
    if engine == "openvino" and (fault := openvino_fault()):
        raise ModelError(f"engine openvino: {fault}")
    if engine == "auto":
        engine = "torch" if not cpu or openvino_fault() else "openvino"
    return engine, dtype


def accelerate_detector(
    model: MaskRcnn, device: str, precision: DetectorPrecision = "auto", engine: Engine = "auto"
) -> Detector:
    """Fold norms, run the dense parts in int8 or bf16 where that pays, and compile if possible.

    The model is modified and owned by the result. Scores and box deltas are computed in fp32 from
    bf16 features: rounding them would move boxes by 1/256 of their size.
    """
    rounded = precision == "int8"
    engine, dtype = choose(device, "auto" if precision == "int8" else precision, engine)
    ranges = _ranges(model, engine) if rounded else None
    fuse(model)
    if ranges is not None:
        quantise(model, ranges)
    if engine == "openvino":
        from streamvis.models.inference.openvino import CompiledDetector

        return CompiledDetector(model, dtype)
    heads = model.roi_heads
    dense = (model.backbone, model.rpn.head, heads.box_head, heads.mask_head)
    for module in (*dense, heads.mask_predictor):
        module.to(dtype)
    if device != "cpu":
        from streamvis.models.inference.device_detector import DeviceDetector

        return DeviceDetector(model, device)
    return model


def _ranges(model: MaskRcnn, engine: Engine) -> Ranges:
    """Return the ranges of int8; ModelError where it cannot run."""
    if engine != "openvino":
        raise ModelError(
            "precision int8 runs on OpenVINO on a cpu, and here the engine is torch; use auto, "
            "or pip install openvino"
        )
    if model.source is None:
        raise ModelError("precision int8: the network has no weights file; use auto or bf16")
    if not cpu_has_int8():
        raise ModelError(
            "precision int8: this CPU has neither VNNI nor AMX, so int8 would not be faster; use "
            "auto"
        )
    return read_ranges(model.source)


def int8_runs(model: MaskRcnn, device: str, engine: Engine) -> bool:
    """Whether `accelerate_detector` can run this model in int8."""
    return has_int8(model) and choose(device, "auto", engine)[0] == "openvino"


def has_int8(model: MaskRcnn) -> bool:
    """Whether this CPU gains by int8, and ranges lie beside the network's weights."""
    return cpu_has_int8() and model.source is not None and int8_path(model.source).exists()


def accelerate_embedder(
    model: Embedder, device: str, precision: Precision = "auto", engine: Engine = "auto"
) -> Embed:
    """Return the embedder as a function of any number of crops of its input size.

    The model is modified and owned by the result. Vectors have unit length and are fp32.
    """
    engine, dtype = choose(device, precision, engine)
    fuse(model)
    width = model.outputs
    embed: Callable[[list[Array]], Iterable[Array]]  # batches
    if engine == "openvino":
        from streamvis.models.inference.openvino import CompiledEmbedder

        embed = partial(
            map, CompiledEmbedder(EmbedderGraph(model, torch.float32), model.size, dtype)
        )
    else:
        whole = EmbedderGraph(model.to(dtype), dtype).requires_grad_(False)
        embed = partial(
            run_crops, DeviceBatches(lambda shape: lambda crops: (whole(crops),), device)
        )

    def unit(crops: Array) -> Array:
        batches = [crops[i : i + MOST_CROPS] for i in range(0, len(crops), MOST_CROPS)]
        vectors = np.concatenate([np.zeros((0, width), np.float32), *embed(batches)])
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), TINY)

    return unit


def run_crops(run: DeviceBatches, batches: Sequence[Array]) -> Iterator[Array]:
    """Yield the only output of each batch of crops."""
    # torch rounds batches of one differently
    pairs = (np.repeat(crops, 2, axis=0) if len(crops) == 1 else crops for crops in batches)
    for crops, (found,) in zip(batches, run(pairs), strict=True):
        yield found[: len(crops)].numpy()


class EmbedderGraph(nn.Module):
    """Pixels (B, h, w, 3) uint8 to vectors (B, D) float32."""

    def __init__(self, model: Embedder, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, crops: Tensor) -> Tensor:
        return self.model(self.model.normalise(crops).to(self.dtype)).float()
