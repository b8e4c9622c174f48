"""Inference back ends of pose networks: PyTorch, or compiled by OpenVINO."""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from streamvis.messages import Array
from streamvis.models.hrnet import STRIDE, Hrnet
from streamvis.models.inference.device import DeviceBatches
from streamvis.models.inference.select import MOST_CROPS, Engine, Precision, choose, run_crops
from streamvis.models.layers import fuse

Heatmaps = Callable[[Array], Array]  # crops (B, H, W, 3) uint8 RGB -> (B, K, H/4, W/4) float32


def accelerate_pose(
    model: Hrnet, device: str, precision: Precision = "auto", engine: Engine = "auto"
) -> Heatmaps:
    """Return the network as a function of any number of crops of its input size.

    The model is modified and owned by the result.
    """
    engine, dtype = choose(device, precision, engine)
    fuse(model)
    compute: Callable[[list[Array]], Iterable[Array]]  # batches
    if engine == "openvino":
        from streamvis.models.inference.openvino import CompiledEmbedder

        graph = HeatmapGraph(model, torch.float32)
        compute = partial(map, CompiledEmbedder(graph, model.architecture.size, dtype))
    else:
        whole = HeatmapGraph(model.to(dtype), dtype).requires_grad_(False)
        compute = partial(
            run_crops, DeviceBatches(lambda shape: lambda crops: (whole(crops),), device)
        )
    height, width = model.architecture.size
    none = np.zeros(
        (0, model.architecture.keypoints, height // STRIDE, width // STRIDE), np.float32
    )

    def heatmaps(crops: Array) -> Array:
        batches = [crops[i : i + MOST_CROPS] for i in range(0, len(crops), MOST_CROPS)]
        return np.concatenate([none, *compute(batches)])

    return heatmaps


class HeatmapGraph(nn.Module):
    """Pixels (B, H, W, 3) uint8 to heatmaps (B, K, H/4, W/4) float32."""

    def __init__(self, model: Hrnet, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, crops: Tensor) -> Tensor:
        return self.model.heatmaps(self.model.normalise(crops).to(self.dtype))
