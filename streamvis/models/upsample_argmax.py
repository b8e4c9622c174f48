"""Bilinear upsampling and argmax in one, computed only between cells of different classes."""

import numpy as np

from streamvis.messages import Array

STRIDE = 4
_OFFSETS = (np.arange(STRIDE) + 0.5) / STRIDE  # offsets from one cell centre to the next
_WEIGHTS = np.stack(
    [np.outer(y, x).ravel() for y in (1 - _OFFSETS, _OFFSETS) for x in (1 - _OFFSETS, _OFFSETS)]
).astype(np.float32)  # (4 corners, 16 pixels) of bilinear interpolation


def upsample_argmax(logits: Array, size: tuple[int, int]) -> Array:
    """Return classes (H, W) uint8 of logits (K, h, w) float32 upsampled bilinearly by 4.

    Between four cells with the same argmax all pixels have that class, because interpolation is a
    weighted mean. Only pixels between other cells are computed.
    """
    count, height, width = logits.shape
    padded = np.pad(logits, ((0, 0), (1, 1), (1, 1)), "edge")
    best = padded.argmax(0).astype(np.uint8)  # (h + 2, w + 2); ties: the first
    corner = best[:-1, :-1]
    mixed = (corner != best[:-1, 1:]) | (corner != best[1:, :-1]) | (corner != best[1:, 1:])
    rows, columns = np.nonzero(mixed)  # (N,)
    first = rows * (width + 2) + columns
    corners = np.stack([first, first + 1, first + width + 2, first + width + 3], -1)  # (N, 4)
    pixels = padded.reshape(count, -1)[:, corners] @ _WEIGHTS  # (K, N, 16)
    top, classes = pixels[0], np.zeros(pixels.shape[1:], np.uint8)
    for index in range(1, count):
        classes[pixels[index] > top] = index
        top = np.maximum(top, pixels[index])
    whole = corner.repeat(STRIDE, 0).repeat(STRIDE, 1)
    whole = whole.reshape(height + 1, STRIDE, width + 1, STRIDE)
    whole[rows, :, columns] = classes.reshape(-1, STRIDE, STRIDE)
    half = STRIDE // 2  # the first pixel precedes the first centre
    whole = whole.reshape(STRIDE * (height + 1), STRIDE * (width + 1))
    return np.ascontiguousarray(whole[half : half + size[0], half : half + size[1]])
