"""From logits at stride 4 to the class of every pixel, without making every pixel's logits."""

import numpy as np

from streamvis.messages import Array

STRIDE = 4
_OFFSETS = (np.arange(STRIDE) + 0.5) / STRIDE  # from one cell's centre to the next one's
_WEIGHTS = np.stack(
    [np.outer(y, x).ravel() for y in (1 - _OFFSETS, _OFFSETS) for x in (1 - _OFFSETS, _OFFSETS)]
).astype(np.float32)  # (4 corners, 16 pixels) of bilinear interpolation


def upsample_argmax(logits: Array, size: tuple[int, int]) -> Array:
    """Classes (H, W) uint8 of logits (K, h, w) float32 that are brought to full size bilinearly.

    Between four cells with one likeliest class lies nothing else: what is a mean of the four with
    some weights is largest where all of them are. Only pixels between others are computed.
    """
    count, height, width = logits.shape
    padded = np.pad(logits, ((0, 0), (1, 1), (1, 1)), "edge")
    best = padded.argmax(0).astype(np.uint8)  # (h + 2, w + 2), the first of equals
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
    half = STRIDE // 2  # the first pixel lies before the first centre
    whole = whole.reshape(STRIDE * (height + 1), STRIDE * (width + 1))
    return np.ascontiguousarray(whole[half : half + size[0], half : half + size[1]])
