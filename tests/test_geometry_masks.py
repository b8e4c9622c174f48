"""Pasting box masks: against the reference rule in plain PyTorch, and its edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate, pad

from streamvis.geometry import paste_mask

coordinates = st.floats(-40, 90, width=32)
sizes = st.floats(0, 80, width=32)


def reference(mask, box, height, width):
    """Mask R-CNN's paste as torchvision writes it, for one mask: probabilities (H, W)."""
    x0, y0, x1, y1 = torch.tensor(box)
    scale = 30 / 28
    half_w, half_h = (x1 - x0) * 0.5 * scale, (y1 - y0) * 0.5 * scale
    cx, cy = (x1 + x0) * 0.5, (y1 + y0) * 0.5
    corners = torch.stack([cx - half_w, cy - half_h, cx + half_w, cy + half_h])
    x0, y0, x1, y1 = corners.to(torch.int64).tolist()
    padded = pad(torch.tensor(mask, dtype=torch.float32) / 255, (1, 1, 1, 1))
    w, h = max(x1 - x0 + 1, 1), max(y1 - y0 + 1, 1)
    resized = interpolate(padded[None, None], (h, w), mode="bilinear", align_corners=False)[0, 0]
    whole = torch.zeros(height, width)
    left, top = max(x0, 0), max(y0, 0)
    right, bottom = min(x1 + 1, width), min(y1 + 1, height)
    if left < right and top < bottom:
        whole[top:bottom, left:right] = resized[top - y0 : bottom - y0, left - x0 : right - x0]
    return whole.numpy()


def pasted(mask, box, height, width):
    """The whole picture (height, width) bool."""
    whole = np.zeros((height, width), bool)
    rows, columns, patch = paste_mask(mask, box, height, width)
    whole[rows, columns] = patch
    return whole


@settings(max_examples=60)
@given(coordinates, coordinates, sizes, sizes, st.integers(0, 2**32 - 1))
def test_paste_is_mask_rcnns_rule(x, y, w, h, seed):
    mask = np.random.default_rng(seed).integers(0, 256, (28, 28), np.uint8)
    box = np.array([x, y, x + w, y + h], np.float32)
    expected = reference(mask, box, 48, 64)
    clear = np.abs(expected - 0.5) > 1e-5
    np.testing.assert_array_equal(pasted(mask, box, 48, 64)[clear], (expected > 0.5)[clear])


def test_a_full_mask_fills_its_box():
    whole = pasted(np.full((28, 28), 255, np.uint8), np.array([10.0, 5, 38, 33]), 40, 50)
    rows, columns = np.nonzero(whole)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 33, 10, 38)
    assert whole[5:34, 10:39].mean() > 0.99  # the corners of the border are rounded


@pytest.mark.parametrize(
    "box",
    [
        (np.nan, 0, 10, 10),
        (0, 0, np.inf, 10),
        (-1e9, -1e9, -1e8, -1e8),
        (1e6, 1e6, 2e6, 2e6),
        (1e30, 0, 2e30, 10),
    ],
)
def test_boxes_outside_or_without_a_place_paste_nothing(box):
    mask = np.full((28, 28), 255, np.uint8)
    rows, columns, patch = paste_mask(mask, np.array(box, np.float64), 20, 30)
    assert patch.size == 0
    assert np.zeros((20, 30))[rows, columns].size == 0


def test_a_box_far_larger_than_the_picture_costs_only_the_picture():
    mask = np.full((28, 28), 255, np.uint8)
    rows, columns, patch = paste_mask(mask, np.array([-1e8, -1e8, 1e8, 1e8]), 20, 30)
    assert (rows, columns) == (slice(0, 20), slice(0, 30))
    assert patch.all()
