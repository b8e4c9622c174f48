"""Files of HRNet as they are published: names and shapes by the paper's description."""

import numpy as np
import torch
from torch import Tensor

STAGES = ((2, 1), (3, 4), (4, 3))  # branches and modules of stages 2, 3, 4


def published_shapes(width: int, whole: bool = False) -> dict[str, tuple[int, ...]]:
    """The tensors of a published file for poses, from the paper's description of the network.

    whole: the last module gives all branches, as in files for other tasks.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def conv_norm(conv: str, norm: str, outputs: int, inputs: int, kernel: int) -> None:
        shapes[f"{conv}.weight"] = (outputs, inputs, kernel, kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{part}"] = (outputs,)

    conv_norm("conv1", "bn1", 64, 3, 3)
    conv_norm("conv2", "bn2", 64, 64, 3)
    for block in range(4):
        at, inputs = f"layer1.{block}", 256 if block else 64
        conv_norm(f"{at}.conv1", f"{at}.bn1", 64, inputs, 1)
        conv_norm(f"{at}.conv2", f"{at}.bn2", 64, 64, 3)
        conv_norm(f"{at}.conv3", f"{at}.bn3", 256, 64, 1)
    conv_norm("layer1.0.downsample.0", "layer1.0.downsample.1", 256, 64, 1)
    widths = [width << i for i in range(4)]
    conv_norm("transition1.0.0", "transition1.0.1", widths[0], 256, 3)
    for n, inputs in ((1, 256), (2, widths[1]), (3, widths[2])):
        at = f"transition{n}.{n}.0"
        conv_norm(f"{at}.0", f"{at}.1", widths[n], inputs, 3)
    for branches, modules in STAGES:
        for module in range(modules):
            at = f"stage{branches}.{module}"
            for branch in range(branches):
                for block in range(4):
                    for n in (1, 2):
                        inner = f"{at}.branches.{branch}.{block}"
                        w = widths[branch]
                        conv_norm(f"{inner}.conv{n}", f"{inner}.bn{n}", w, w, 3)
            last = branches == 4 and module == modules - 1 and not whole
            for i in range(1 if last else branches):
                for j in range(branches):
                    inner = f"{at}.fuse_layers.{i}.{j}"
                    if j > i:
                        conv_norm(f"{inner}.0", f"{inner}.1", widths[i], widths[j], 1)
                    for step in range(i - j):
                        w = widths[i] if step == i - j - 1 else widths[j]
                        conv_norm(f"{inner}.{step}.0", f"{inner}.{step}.1", w, widths[j], 3)
    shapes["final_layer.weight"] = (17, width, 1, 1)
    shapes["final_layer.bias"] = (17,)
    return shapes


def published_state(width: int, seed: int = 0, whole: bool = False) -> dict[str, Tensor]:
    """A synthetic file in the published layout, with values that keep maps of moderate size."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in published_shapes(width, whole).items():
        values = torch.rand(shape, generator=generator)
        if len(shape) == 4:
            values = (values - 0.5) * (6 / np.prod(shape[1:])) ** 0.5 * 2
        elif name.endswith((".bias", "running_mean")):
            values = values - 0.5
        elif name.endswith("running_var"):
            values = values / 2 + 0.5
        else:
            values = values / 4 + 0.2
        state[name] = values
        if name.endswith("running_var"):
            state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    return state


def published_classifier(width: int) -> dict[str, Tensor]:
    """A synthetic file of a classifier of images, of which detectors and segmenters start."""
    state = published_state(width, whole=True)
    del state["final_layer.weight"], state["final_layer.bias"]
    return state | {"classifier.weight": torch.rand(10, 64), "classifier.bias": torch.rand(10)}
