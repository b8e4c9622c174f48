"""The changes of colour that trainings share: bounded, repeatable, and none when none is asked."""

from pathlib import Path

import numpy as np
import pytest

from streamvis.training.color_jitter import (
    jitter,
    jitter_levels,
    maybe_blur,
    maybe_compress,
    to_bytes,
)

GOLDEN = Path(__file__).parent / "golden" / "color_jitter.txt"
y, x = np.mgrid[0:24, 0:32]
PIXELS = np.stack([40 + 5 * x, 200 - 4 * y, 90 + 2 * x + y], -1).astype(np.uint8)
FLOATS = PIXELS.astype(np.float32)
FULL = {"saturation": 0.4, "contrast": 0.3, "brightness": 0.3}


def seeded(seed=0):
    return np.random.default_rng(seed)


def test_the_same_seeds_give_the_same_colours_as_ever(golden):
    """The trainings that made the shipped weights drew these; a change makes others of them."""
    rows = []
    for seed in range(5):
        made = {
            "jitter": to_bytes(jitter(FLOATS, seeded(seed), **FULL)),
            "tinted": to_bytes(jitter(FLOATS, seeded(seed), **FULL, tint=0.1, grey=0.5)),
            "levels": jitter_levels(PIXELS, seeded(seed), contrast=0.2, tint=0.1, brightness=26),
            "gamma": jitter_levels(
                PIXELS, seeded(seed), contrast=0.4, tint=0.1, brightness=40, gamma=0.4
            ),
        }
        for name, out in made.items():
            corners = [f"{v:.0f}" for v in (*out[0, 0], *out[-1, -1])]
            rows.append(f"{seed} {name} {' '.join(corners)}, mean {out.mean():.1f}\n")
    golden(GOLDEN, "".join(rows))


def test_ranges_of_zero_change_nothing():
    still = jitter(FLOATS, seeded(), saturation=0, contrast=0, brightness=0, tint=0, grey=0)
    np.testing.assert_allclose(still, FLOATS, atol=1e-3)
    levels = jitter_levels(PIXELS, seeded(), contrast=0, tint=0, brightness=0, gamma=0)
    np.testing.assert_allclose(levels, PIXELS, atol=1)
    assert maybe_blur(PIXELS, 0, seeded()) is PIXELS
    assert maybe_compress(PIXELS, 0, (20, 80), seeded()) is PIXELS


def test_grey_has_no_colour():
    out = jitter(FLOATS, seeded(), **FULL, grey=1)
    np.testing.assert_allclose(out, np.repeat(out[..., :1], 3, 2), atol=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_brightness_moves_the_mean_and_nothing_else(seed):
    out = jitter(FLOATS, seeded(seed), saturation=0, contrast=0, brightness=0.3)
    apart = out - FLOATS
    assert np.ptp(apart) < 1e-2
    assert abs(out.mean() / FLOATS.mean() - 1) <= 0.3


def test_channels_of_a_stack_change_like_their_colour():
    stack = np.concatenate([PIXELS, PIXELS], -1)  # (H, W, 6)
    out = jitter_levels(stack, seeded(), contrast=0.2, tint=0.1, brightness=26)
    np.testing.assert_array_equal(out[..., :3], out[..., 3:])


def test_blur_and_compression_keep_the_size_and_lose_detail():
    noise = seeded(3).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    for out in (maybe_blur(noise, 1, seeded()), maybe_compress(noise, 1, (20, 80), seeded())):
        assert out.shape == noise.shape
        assert out.dtype == np.uint8
        assert not np.array_equal(out, noise)
    assert maybe_blur(noise, 1, seeded()).std() < noise.std()
