"""Weights and images that any machine makes alike, so that two programs can be compared.

Only NumPy's frozen generator is used: torch's own numbers change from version to version.
"""

import zlib
from dataclasses import dataclass, replace

import numpy as np

Array = np.ndarray
PERIOD = 1_000_003  # numbers drawn for a tensor; a prime, so that no two rows are alike
CELLS = ((3, 9, 14, 20), (14, 5, 14, 22))  # rows and columns of a mask that are compared
SMOOTH = np.float32([0.6, 1.2, 0.6])  # a row of a smoothing filter
VARIANCE = 1e-3  # so small that a norm's epsilon of 1e-5 moves its output by half a percent
GAINS = {  # what kernels are multiplied by, so that every level has its say and no score is sure
    "backbone.fpn.layer_blocks.0.0.weight": 0.25,
    "backbone.fpn.layer_blocks.1.0.weight": 0.5,
    "backbone.fpn.layer_blocks.2.0.weight": 0.9,
    "backbone.fpn.layer_blocks.3.0.weight": 1.8,
    "rpn.head.cls_logits.weight": 0.5,
    "rpn.head.bbox_pred.weight": 0.06,
    "roi_heads.box_predictor.cls_score.weight": 0.5,
    "roi_heads.box_predictor.bbox_pred.weight": 0.3,
    "roi_heads.mask_predictor.mask_fcn_logits.weight": 0.4,
}


@dataclass(frozen=True)
class Case:
    """Images (seed, height, width) that go through a network together, and its settings."""

    name: str
    images: tuple[tuple[int, int, int], ...]
    short_side: int = 800
    proposals: int = 1000  # after NMS
    most: int = 100  # detections of an image
    min_score: float = 0.05


SQUARE = Case("square", ((1, 120, 120),), most=40)
WIDE = Case("wide", ((2, 40, 330),), proposals=100, most=20)  # the long side limits the scale
PAIR = Case("pair", ((3, 96, 128), (4, 150, 90)), short_side=144, proposals=100, most=20)
CASES = {
    "maskrcnn_resnet50_fpn": (SQUARE, WIDE, PAIR),
    "maskrcnn_resnet50_fpn_v2": (
        replace(SQUARE, proposals=100, min_score=0.02),  # its box head is slow on many
        replace(WIDE, min_score=0.02),
        replace(PAIR, min_score=0.02),
    ),
}


def fill(name: str, shape: tuple[int, ...]) -> Array:
    """A tensor (fp32) that depends on nothing but its name and shape."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    count = int(np.prod(shape))
    drawn = (2 * random.random_sample(min(count, PERIOD)) - 1).astype(np.float32)
    u = np.resize(drawn, shape)  # in [-1, 1)
    kind = name.rpartition(".")[2]
    if kind == "running_var":
        return np.float32(VARIANCE) * (1 + u / 2)
    if kind == "running_mean":
        return np.float32(0.1 * VARIANCE**0.5) * u
    if kind == "bias":
        return np.float32(0.1) * u
    if len(shape) == 1:  # the scale of a norm; a residual branch adds a quarter
        return np.float32(VARIANCE**0.5 * (0.25 if ".bn3." in name else 1)) * (1 + u / 4)
    return np.float32(GAINS.get(name, 1.0)) * kernel(name, u)


def kernel(name: str, u: Array) -> Array:
    """Filters that keep the variance through a ReLU, and that answer nothing to a plain."""
    if "conv5_mask" in name:  # (inputs, outputs, 2, 2), without overlap
        return u * np.float32((6 / u.shape[0]) ** 0.5)
    inner = tuple(range(1, u.ndim))
    if "layer_blocks" in name:  # a smooth map moves little when a region moves by its rounding
        u = u[:, :, :1, :1] * np.outer(SMOOTH, SMOOTH)
    u -= u.mean(inner, keepdims=True)
    return u * np.float32((6 / np.prod(u.shape[1:])) ** 0.5)


def picture(seed: int, height: int, width: int) -> Array:
    """Boxes of many sizes and stripes on a gradient: (3, H, W) uint8."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([80 + 90 * y / height, 170 - 100 * x / width, 60 + 100 * x * y / y.size])
    for _ in range(40):
        size = (0.03 + 0.4 * random.random_sample(2) ** 2) * min(height, width)
        top, left = random.random_sample(2) * (height, width) - size / 2
        inside = (abs(y - top - size[0] / 2) < size[0] / 2) & (abs(x - left) < size[1] / 2)
        stripes = 30 * np.sin((x * random.rand() + y * random.rand()) * 2)
        image[:, inside] = (255 * random.random_sample((3, 1)) + stripes[inside]).clip(0, 255)
    return image.clip(0, 255).astype(np.uint8)
