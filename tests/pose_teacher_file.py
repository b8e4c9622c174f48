"""A file with the inputs and outputs of BlazePose: its landmarks follow a bright person."""

from pathlib import Path

import numpy as np

SIDE, LANDMARKS = 256, 39
LOGIT = 4.0  # of the visibility and presence of each landmark


def offsets() -> np.ndarray:
    """Return the places (39, 2) of the landmarks about the middle of the person, crop pixels."""
    found = np.random.default_rng(0).uniform(-40, 40, (LANDMARKS, 2))
    found[33] = 0  # the middle of the hips
    found[34] = 0, -SIDE / 2 / 1.25  # a circle that is as large as the crop
    return found.round(3)


def world() -> np.ndarray:
    """Return the places (39, 3) in metres."""
    return np.random.default_rng(1).uniform(-0.5, 0.5, (LANDMARKS, 3)).round(3)


def write_teacher(folder: Path) -> Path:
    """Write the network: the mask is where it is bright, and the middle of the person its mean."""
    import openvino as ov
    from openvino import opset13 as ops

    pixels = ops.parameter([1, SIDE, SIDE, 3], np.float32)
    grey = ops.reduce_mean(pixels, [3], keep_dims=True)
    logits = ops.multiply(ops.subtract(grey, np.float32(0.5)), np.float32(20))
    most = ops.reshape(ops.reduce_max(grey, [1, 2, 3]), [1, 1], special_zero=False)
    total = ops.add(ops.reduce_sum(grey, [0, 1, 2, 3]), np.float32(1e-6))
    steps = np.arange(SIDE, dtype=np.float32) + np.float32(0.5)
    middle = [
        ops.divide(ops.reduce_sum(ops.multiply(grey, steps.reshape(shape)), [0, 1, 2, 3]), total)
        for shape in ((1, 1, SIDE, 1), (1, SIDE, 1, 1))
    ]
    row = np.zeros((LANDMARKS, 5), np.float32)
    row[:, :2], row[:, 3:] = offsets(), LOGIT
    across, down = np.zeros((2, LANDMARKS, 5), np.float32)
    across[:, 0], down[:, 1] = 1, 1
    moved = ops.add(
        ops.multiply(ops.constant(across.reshape(1, -1)), middle[0]),
        ops.multiply(ops.constant(down.reshape(1, -1)), middle[1]),
    )
    landmarks = ops.add(moved, ops.constant(row.reshape(1, -1)))
    metres = ops.add(
        ops.constant(world().astype(np.float32).reshape(1, -1)),
        ops.multiply(most, np.float32(0)),
    )
    outputs = [landmarks, most, logits, metres]
    names = ["Identity", "Identity_1", "Identity_2", "Identity_4"]
    for node, name in zip(outputs, names, strict=True):
        node.output(0).set_names({name})
    path = folder / "teacher.xml"
    ov.save_model(ov.Model(outputs, [pixels]), path, compress_to_fp16=False)
    return path
