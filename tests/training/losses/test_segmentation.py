"""Losses of scenes against slow and plain computations of the same."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch.nn import functional as F

from streamvis.datasets.classes import VOID
from streamvis.training.losses.segmentation import boundary_loss, boundary_weights, lovasz_softmax

LABELS = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 1, 2])
)


def blocks(seed: int, size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rough = rng.choice([0, 0, 1, 2, VOID], (-(-size[0] // 40), -(-size[1] // 50)))
    return np.kron(rough, np.ones((40, 50), int)).astype(np.uint8)[: size[0], : size[1]]


def distances(labels: np.ndarray) -> np.ndarray:
    """From each pixel's centre to the nearest of anything else, one by one."""
    found = np.full(labels.shape, np.inf)
    rows, columns = np.indices(labels.shape)
    for r, c in itertools.product(*map(range, labels.shape)):
        other = labels != labels[r, c]
        if other.any():
            found[r, c] = np.hypot(rows[other] - r, columns[other] - c).min()
    return found


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 45), st.integers(1, 70))
def test_weights_fall_with_the_distance_to_another_class(seed, height, width):
    labels = blocks(seed, (height, width))
    weights = boundary_weights(labels)
    distance = distances(labels) * 2048 / width  # as in a picture 2048 px wide
    for low, high, weight in ((0, 16, 8), (16, 64, 4), (64, 128, 2), (128, np.inf, 1)):
        # OpenCV's 5×5 mask is right to 2 %
        inside = (distance > 1.03 * low) & (distance < 0.97 * high) & (labels != VOID)
        inside |= np.isinf(distance) & (high == np.inf) & (labels != VOID)
        assert (weights[inside] == weight).all()
    assert (weights[labels == VOID] == 0).all()
    assert set(np.unique(weights)) <= {0, 1, 2, 4, 8}


def test_the_same_scene_is_weighed_alike_at_any_size():
    small = blocks(3, (80, 150))
    large = np.kron(small, np.ones((4, 4), np.uint8))
    alike = boundary_weights(large)[2::4, 2::4] == boundary_weights(small)
    assert alike.mean() > 0.95  # a pixel is not a point


def logits_of(shares: np.ndarray) -> torch.Tensor:
    """(B, K, H, W) whose softmax is this."""
    return torch.from_numpy(np.log(shares)).float()


def test_the_boundary_loss_is_the_papers():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(3), (2, 4, 5))  # (B, H, W, K)
    labels = rng.choice([0, 1, 2, VOID], (2, 4, 5))
    weights = rng.choice([1.0, 2, 4, 8], labels.shape) * (labels != VOID)
    total, count = 0.0, 0
    for at in np.ndindex(labels.shape):
        if weights[at] > 0:
            p = shares[at][labels[at]]
            total -= weights[at] * np.exp(0.5 * (1 - p)) * np.log(p)
            count += 1
    logits = logits_of(shares.transpose(0, 3, 1, 2))
    found = boundary_loss(logits, torch.from_numpy(labels), torch.from_numpy(weights).float())
    assert float(found) == pytest.approx(total / count, rel=1e-5)


def test_what_is_hard_is_weighed_but_not_learnt_through():
    logits = torch.tensor([[[[0.3]], [[-0.2]]]], requires_grad=True)  # (1, 2, 1, 1)
    labels = torch.zeros(1, 1, 1, dtype=torch.long)
    boundary_loss(logits, labels, torch.full((1, 1, 1), 4.0)).backward()
    p = float(logits.detach().softmax(1)[0, 0])
    factor = 4 * np.exp(0.5 * (1 - p))
    expected = [factor * (p - 1), factor * (1 - p)]  # of plain cross-entropy, times the factor
    np.testing.assert_allclose(logits.grad.flatten(), expected, rtol=1e-5)


@given(LABELS, st.integers(0, 10**6))
def test_of_hard_predictions_lovasz_is_one_minus_the_iou(labels, seed):
    said = np.random.default_rng(seed).integers(0, 3, labels.shape)
    hard = F.one_hot(torch.from_numpy(said), 3).permute(2, 0, 1)[None] * 200.0
    missed = [
        1 - ((said == c) & (labels == c)).sum() / ((said == c) | (labels == c)).sum()
        for c in np.unique(labels)
    ]
    found = lovasz_softmax(hard, torch.from_numpy(labels).long()[None])
    assert float(found) == pytest.approx(np.mean(missed), abs=1e-5)


@given(LABELS, st.integers(0, 10**6))
def test_lovasz_is_the_extension_of_one_minus_the_iou(labels, seed):
    """Its value is the mean of 1 − IoU over thresholds of the errors: the integral's definition."""
    shares = np.random.default_rng(seed).dirichlet(np.ones(3), labels.shape)
    expected = []
    for c in np.unique(labels):
        truth = labels == c
        errors = np.abs(truth - shares[..., c])
        steps = np.unique(np.concatenate([[0.0], errors.ravel()]))
        total = 0.0
        for low, high in itertools.pairwise(steps):
            wrong = errors > (low + high) / 2
            total += (high - low) * wrong.sum() / (truth | wrong).sum()
        expected.append(total)
    logits = logits_of(shares.transpose(2, 0, 1)[None])
    found = lovasz_softmax(logits, torch.from_numpy(labels).long()[None])
    assert float(found) == pytest.approx(np.mean(expected), abs=1e-5)


def test_what_has_no_class_counts_nowhere():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 6, requires_grad=True)
    labels = torch.randint(0, 3, (2, 4, 6))
    labels[:, 2:] = VOID
    weights = torch.from_numpy(np.stack([boundary_weights(x) for x in labels.numpy()]))
    (boundary_loss(logits, labels, weights) + lovasz_softmax(logits, labels)).backward()
    assert (logits.grad[:, :, 2:] == 0).all()
    assert (logits.grad[:, :, :2] != 0).any()


def test_a_batch_without_any_class_teaches_nothing():
    logits = torch.randn(1, 3, 4, 6, requires_grad=True)
    labels = torch.full((1, 4, 6), VOID)
    weights = torch.from_numpy(boundary_weights(labels[0].numpy().astype(np.uint8))[None])
    loss = boundary_loss(logits, labels, weights) + lovasz_softmax(logits, labels)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()
