"""Make a detector quick where it runs, without changing what it finds."""

from pathlib import Path
from typing import Literal

import torch

from streamvis.errors import ModelError
from streamvis.models.layers import fuse
from streamvis.models.mask_rcnn import MaskRcnn

Precision = Literal["auto", "fp32", "bf16"]
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})  # without these, bf16 is emulated and slow


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return not BF16_FLAGS.isdisjoint(flags.split())


def accelerate(model: MaskRcnn, device: str, precision: Precision = "auto") -> MaskRcnn:
    """Fold norms, and run the dense parts in bf16 where the hardware has it; the model is changed.

    Scores and box deltas are computed in fp32 from bf16 features: rounding them would move boxes
    by a part in 256 of their size.
    """
    fuse(model)
    able = cpu_has_bf16() if device == "cpu" else torch.cuda.is_bf16_supported()
    if precision == "bf16" and not able:
        raise ModelError(
            f"precision bf16: the device '{device}' has no bf16 arithmetic; use auto or fp32"
        )
    if able and precision != "fp32":
        heads = model.roi_heads
        dense = (model.backbone, model.rpn.head, heads.box_head, heads.mask_head)
        for module in (*dense, heads.mask_predictor):
            module.to(torch.bfloat16)
    return model
