"""The losses against the sheet's numbers, all triplets one by one, and numeric gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from streamvis.training.losses.reid import AngularLoss, angular_loss, relation_loss

SAME = torch.tensor([0, 0, 1, 1, 1, 2, 3])[:, None] == torch.tensor([0, 0, 1, 1, 1, 2, 3])


def unit(seed: int, count: int = len(SAME), size: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, size, generator=generator, dtype=torch.float64), dim=1)


def triplets(same: torch.Tensor, other: torch.Tensor):
    for a in range(len(same)):
        for p in range(a + 1, len(same)):
            if same[a, p]:
                yield a, p, [n for n in range(len(same)) if other[a, n] and other[p, n]]


def brute_force(v: np.ndarray, same: torch.Tensor, other: torch.Tensor, how: AngularLoss) -> float:
    """As the sheet has it, by distances and centres instead of products."""
    tan2 = math.tan(math.radians(how.alpha)) ** 2
    violations, pairs = [], []
    for a, p, others in triplets(same, other):
        centre = (v[a] + v[p]) / 2
        for n in others:
            excess = np.sum((v[a] - v[p]) ** 2) - 4 * tan2 * np.sum((v[n] - centre) ** 2)
            violations.append(max(excess + how.margin, 0))
        f = [4 * tan2 * (v[a] + v[p]) @ v[n] - 2 * (1 + tan2) * v[a] @ v[p] for n in others]
        pairs.append(math.log(1 + sum(math.exp(x + how.margin) for x in f)))
    violated = [x for x in violations if x > 0]
    return sum(violated) / max(len(violated), 1) if how.reading == "hinge" else np.mean(pairs)


@given(
    seed=st.integers(0, 1000),
    reading=st.sampled_from(["hinge", "smooth"]),
    alpha=st.floats(20, 60),
    margin=st.floats(0, 2),
)
def test_all_triplets_one_by_one_give_the_same(seed, reading, alpha, margin):
    v, how = unit(seed), AngularLoss(reading=reading, alpha=alpha, margin=margin)
    found = float(angular_loss(v, SAME, ~SAME, how))
    assert found == pytest.approx(brute_force(v.numpy(), SAME, ~SAME, how), abs=1e-9)


def test_at_45_degrees_the_hinge_is_the_one_of_the_sheet():
    v = unit(3, 3)
    a, p, n = v
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    found = angular_loss(v, same, ~same, AngularLoss(margin=10.0))
    assert float(found) == pytest.approx(float(-4 - 4 * a @ p + 4 * (a + p) @ n + 10.0))


def test_negatives_at_the_same_place_cost_what_the_margin_says():
    v = torch.tensor([[1.0, 0.0]] * 3)  # ‖a−p‖ = ‖n−c‖ = 0
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    assert float(angular_loss(v, same, ~same, AngularLoss(margin=0.2))) == pytest.approx(0.2)
    smooth = AngularLoss(reading="smooth", margin=0.2)  # f = 4·2 − 4 = 4
    assert float(angular_loss(v, same, ~same, smooth)) == pytest.approx(math.log1p(math.exp(4.2)))


@pytest.mark.parametrize("reading", ["hinge", "smooth"])
def test_who_may_be_either_takes_no_part(reading):
    other = ~SAME
    other[5], other[:, 5] = False, False
    v, how = unit(1), AngularLoss(reading=reading, margin=2.0)
    moved = v.clone()
    moved[5] = -v[5]
    assert float(angular_loss(v, SAME, other, how)) == float(angular_loss(moved, SAME, other, how))
    assert float(angular_loss(v, SAME, ~SAME, how)) != float(angular_loss(moved, SAME, ~SAME, how))


@pytest.mark.parametrize("reading", ["hinge", "smooth"])
def test_gradients_are_those_of_small_differences(reading):
    raw = unit(7).requires_grad_(True)
    how = AngularLoss(reading=reading, margin=1.0)
    assert torch.autograd.gradcheck(
        lambda x: angular_loss(F.normalize(x, dim=1), SAME, ~SAME, how), raw
    )


@pytest.mark.parametrize("reading", ["hinge", "smooth"])
def test_without_pairs_or_others_there_is_nothing_to_learn(reading):
    v = unit(2).requires_grad_(True)
    alone = torch.eye(len(v), dtype=torch.bool)
    for same, other in ((alone, ~alone), (~alone | alone, alone & False)):
        loss = angular_loss(v, same, other, AngularLoss(reading=reading))
        loss.backward()
        assert float(loss.detach()) == 0
        assert torch.isfinite(v.grad).all()


def test_relations_cost_nothing_when_they_are_the_teachers():
    v = unit(4)
    assert float(relation_loss(v, v @ v.T, 0.1)) == pytest.approx(0, abs=1e-12)
    assert float(relation_loss(v, v @ v.T + 0.3, 0.1)) == pytest.approx(0, abs=1e-9)  # all alike
    assert float(relation_loss(v, unit(5) @ unit(5).T, 0.1)) > 0.01


def test_gradients_of_relations_are_those_of_small_differences():
    raw, teacher = unit(7).requires_grad_(True), unit(8)
    assert torch.autograd.gradcheck(
        lambda x: relation_loss(F.normalize(x, dim=1), teacher @ teacher.T, 0.2), raw
    )
