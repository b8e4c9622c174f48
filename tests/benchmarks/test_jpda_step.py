"""One step of JPDA, ours and that of Stone-Soup."""

import numpy as np
import pytest

from streamvis.benchmarks import jpda_step, simulated_detections


def test_a_step_of_ours_and_of_stone_soup_have_the_same_marginals():
    pytest.importorskip("stonesoup", reason="Stone-Soup is not installed; it comes with [dev]")
    case = jpda_step.step(simulated_detections.scene(12, 3), 2)
    beta = jpda_step.ours(case)()
    assert beta.shape == (12, 1 + simulated_detections.detections_of(12))
    associators = jpda_step.associators()
    assert list(associators) == ["Stone-Soup LBP", "Stone-Soup EHM2"]
    np.testing.assert_allclose(associators["Stone-Soup EHM2"](case)(), beta, atol=1e-9)
