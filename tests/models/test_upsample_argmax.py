"""The class of every pixel, as if every pixel's logits had been made."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamvis.models.inference.segmentation import argmax_classes
from streamvis.models.upsample_argmax import upsample_argmax

sides = st.integers(1, 7)


@given(sides, sides, st.integers(1, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_what_lies_between_is_as_computed_everywhere(height, width, count, seed, smooth):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((count, height, width)).astype(np.float32)
    if smooth:  # large regions of one class
        logits[rng.integers(count)] += 4 * (np.arange(width) > rng.integers(width + 1))
    size = (int(rng.integers(1, 4 * height + 1)), int(rng.integers(1, 4 * width + 1)))
    found = upsample_argmax(logits, size)
    (expected,) = argmax_classes(torch.from_numpy(logits)[None], size).numpy()
    assert (found.shape, found.dtype) == (size, np.uint8)
    wrong = found != expected
    assert wrong.sum() <= 1  # where two are as likely but for rounding


def test_the_first_of_equals_is_taken():
    assert not upsample_argmax(np.ones((3, 4, 5), np.float32), (16, 20)).any()
    halves = np.zeros((3, 1, 2), np.float32)
    halves[2, 0, 0] = halves[1, 0, 1] = 1
    np.testing.assert_array_equal(upsample_argmax(halves, (1, 8))[0], [2, 2, 2, 2, 1, 1, 1, 1])
