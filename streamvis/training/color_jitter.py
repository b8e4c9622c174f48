"""Random changes of light and colour, from which every training takes those that it wants.

What is drawn, and in which order, is part of a training: a resumed one has to draw the same.
"""

import cv2
import numpy as np

from streamvis.messages import Array

BLUR = (0.5, 1.5)  # px, standard deviations of the blur


def jitter(
    x: Array,  # (H, W, 3) float32
    rng: np.random.Generator,
    *,
    saturation: float,
    contrast: float,
    brightness: float,
    tint: float | None = None,
    grey: float | None = None,
) -> Array:
    """Scale saturation, tint, contrast and brightness by factors of 1 ± the given share.

    `tint` scales each channel by a factor of its own; `grey` is the chance of losing all colour.
    What is None is not drawn. The result is not clipped.
    """
    mean = x.mean(2, keepdims=True)
    if grey is not None and rng.random() < grey:
        x = np.broadcast_to(mean, x.shape)
        mean = x.mean(2, keepdims=True)
    x = mean + (x - mean) * _factor(rng, saturation)
    if tint is not None:
        x = x * rng.uniform(1 - tint, 1 + tint, 3)
    level = x.mean()
    return np.asarray((x - level) * _factor(rng, contrast) + level * _factor(rng, brightness))


def jitter_levels(
    pixels: Array,  # (…, C) uint8, colours in the channels 0-2, 3-5, …
    rng: np.random.Generator,
    *,
    contrast: float,
    tint: float,
    brightness: float,
    gamma: float | None = None,
) -> Array:
    """Change contrast, tint, brightness and gamma by a table of 256 levels for each colour.

    `contrast` and `tint` are shares of the gain, `brightness` is in grey levels, `gamma` in
    powers of e; None draws no gamma.
    """
    gain = 1 + contrast * rng.uniform(-1, 1) + tint * rng.uniform(-1, 1, 3)  # (3,)
    shift = brightness * rng.uniform(-1, 1)
    level = np.arange(256.0)
    if gamma is not None:
        level = 255 * (level / 255) ** np.exp(gamma * rng.uniform(-1, 1))
    tables = np.clip((level - 128) * gain[:, None] + 128 + shift, 0, 255).astype(np.uint8)
    out = np.empty(pixels.shape, np.uint8)
    for channel in range(pixels.shape[-1]):
        out[..., channel] = tables[channel % 3][pixels[..., channel]]
    return out


def to_bytes(x: Array) -> Array:
    """Clip to [0, 255] and cut off to uint8."""
    return np.clip(x, 0, 255).astype(np.uint8)


def maybe_blur(pixels: Array, chance: float, rng: np.random.Generator) -> Array:
    """Blur (H, W, 3) uint8 at this chance."""
    if rng.random() >= chance:
        return pixels
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(*BLUR)))


def maybe_compress(
    pixels: Array, chance: float, qualities: tuple[int, int], rng: np.random.Generator
) -> Array:
    """Encode (H, W, 3) uint8 as JPEG and decode it at this chance.

    qualities: the lowest, and one more than the highest.
    """
    if rng.random() >= chance:
        return pixels
    quality = int(rng.integers(*qualities))
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def _factor(rng: np.random.Generator, share: float) -> float:
    return rng.uniform(1 - share, 1 + share)
