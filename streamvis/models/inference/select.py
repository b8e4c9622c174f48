"""Selection of the inference engine and precision, and accelerated detectors and embedders."""

from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from streamvis.errors import ModelError
from streamvis.messages import Array
from streamvis.models.embedding import Embedder
from streamvis.models.layers import fuse
from streamvis.models.mask_rcnn import Detector, MaskRcnn

Precision = Literal["auto", "fp32", "bf16"]
Engine = Literal["auto", "torch", "openvino"]
Embed = Callable[[Array], Array]  # crops (B, h, w, 3) uint8 RGB -> unit vectors (B, D) float32
TINY = 1e-12
MOST_CROPS = 32  # per batch
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})  # without these flags bf16 is emulated and slow


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return not BF16_FLAGS.isdisjoint(flags.split())


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


def choose(device: str, precision: Precision, engine: Engine) -> tuple[Engine, torch.dtype]:
    """Resolve `auto` on this machine; raises ModelError for an impossible choice."""
    cpu = device == "cpu"
    able = cpu_has_bf16() if cpu else torch.cuda.is_bf16_supported()
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
    model: MaskRcnn, device: str, precision: Precision = "auto", engine: Engine = "auto"
) -> Detector:
    """Fold norms, run the dense parts in bf16 if the hardware has it, and compile if possible.

    The model is modified and owned by the result. Scores and box deltas are computed in fp32 from
    bf16 features: rounding them would move boxes by 1/256 of their size.
    """
    engine, dtype = choose(device, precision, engine)
    fuse(model)
    if engine == "openvino":
        from streamvis.models.inference.openvino import CompiledDetector

        return CompiledDetector(model, dtype)
    heads = model.roi_heads
    dense = (model.backbone, model.rpn.head, heads.box_head, heads.mask_head)
    for module in (*dense, heads.mask_predictor):
        module.to(dtype)
    return model


def accelerate_embedder(
    model: Embedder, device: str, precision: Precision = "auto", engine: Engine = "auto"
) -> Embed:
    """Return the embedder as a function of any number of crops of its input size.

    The model is modified and owned by the result. Vectors have unit length and are fp32.
    """
    engine, dtype = choose(device, precision, engine)
    fuse(model)
    width = model.outputs
    embed: Embed
    if engine == "openvino":
        from streamvis.models.inference.openvino import CompiledEmbedder

        embed = CompiledEmbedder(_EmbedderGraph(model, torch.float32), model.size, dtype)
    else:
        whole = _EmbedderGraph(model.to(dtype), dtype).requires_grad_(False)

        def embed(crops: Array) -> Array:
            with torch.inference_mode():
                # torch rounds batches of one differently
                pair = np.repeat(crops, 2, axis=0) if len(crops) == 1 else crops
                vectors = whole(torch.from_numpy(pair).to(device)).cpu().numpy()
            return vectors[: len(crops)]

    def unit(crops: Array) -> Array:
        parts = [embed(crops[i : i + MOST_CROPS]) for i in range(0, len(crops), MOST_CROPS)]
        vectors = np.concatenate([np.zeros((0, width), np.float32), *parts])
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), TINY)

    return unit


class _EmbedderGraph(nn.Module):
    """Pixels (B, h, w, 3) uint8 to vectors (B, D) float32."""

    def __init__(self, model: Embedder, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, crops: Tensor) -> Tensor:
        return self.model(self.model.normalise(crops).to(self.dtype)).float()
