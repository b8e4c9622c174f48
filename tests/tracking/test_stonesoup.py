"""Weights, marginals and updates equal Stone-Soup's on random scenes."""

import sys
from pathlib import Path

import numpy as np
import pytest

from streamvis.tracking import filters
from streamvis.tracking.association import lbp_marginals

sys.path.append(str(Path(__file__).parents[1] / "oracles"))
pytest.importorskip("stonesoup", reason="Stone-Soup is not installed; it comes with [dev]")
from stonesoup_jpda import predicted, scene, stonesoup

SCENES = [(1, 2, 4.0), (2, 1, 4.0), (4, 2, 6.0), (5, 5, 30.0), (12, 10, 25.0), (30, 20, 60.0)]


def ours(scene, filtered, **options):
    x, P, H = predicted(scene)
    constants = {"p_detect": scene.p_detect, "p_gate": scene.p_gate, "clutter": scene.clutter}
    return filtered(x, P, scene.z, scene.R, H, **constants, **options)


@pytest.mark.parametrize("size", SCENES)
@pytest.mark.parametrize(
    ("name", "method"), [("PDA", filters.pda), ("EHM", filters.jpda), ("EHM2", filters.jpda)]
)
def test_marginals_and_update_equal_stonesoup(name, method, size):
    for seed in range(2):
        case = scene(seed, *size)
        after = ours(case, method)
        beta, x, P = stonesoup(case, name)
        np.testing.assert_allclose(after.beta, beta, atol=1e-9)
        np.testing.assert_allclose(after.x, x, atol=1e-8)
        np.testing.assert_allclose(after.P, P, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_marginals_equal_the_enumeration_of_stonesoup(seed):
    case = scene(seed, 3, 1, 4.0)
    np.testing.assert_allclose(ours(case, filters.jpda).beta, stonesoup(case, "JPDA")[0], atol=1e-9)


@pytest.mark.parametrize("size", SCENES[1:])
def test_belief_propagation_settles_where_that_of_stonesoup_does(size):
    case = scene(0, *size)
    beta = ours(case, filters.jpda, method=lbp_marginals).beta
    np.testing.assert_allclose(beta, stonesoup(case, "LBP")[0], atol=2e-3)  # it stops early
