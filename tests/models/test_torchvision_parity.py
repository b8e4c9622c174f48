"""The same weights and images give what torchvision's own Mask R-CNN finds.

tests/oracles/torchvision_mask_rcnn.py made the goldens; its docstring says how to make them anew.
"""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from streamvis.models.layers import FrozenBatchNorm2d, fuse
from streamvis.models.mask_rcnn import ARCHITECTURES, MaskRcnn

sys.path.append(str(Path(__file__).parents[1] / "oracles"))
from deterministic import CASES, CELLS, Case, fill, picture

pytestmark = pytest.mark.usefixtures("one_thread")

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture(scope="module", params=CASES)
def model(request) -> MaskRcnn:
    model = MaskRcnn(ARCHITECTURES[request.param])
    state = model.state_dict()
    model.load_state_dict({k: torch.from_numpy(fill(k, tuple(v.shape))) for k, v in state.items()})
    return model.eval()


@torch.inference_mode()
def assert_finds_the_golden(model: MaskRcnn, case: Case) -> None:
    model.short_side = case.short_side
    model.rpn.keep_after = case.proposals
    model.roi_heads.most = case.most
    model.roi_heads.min_score = case.min_score
    found = model([torch.from_numpy(picture(*image)) for image in case.images])
    with np.load(GOLDENS / f"{model.architecture.name}.npz") as golden:
        for index, ours in enumerate(found):
            boxes, scores, labels, masks = (
                golden[f"{case.name}.{index}.{key}"]
                for key in ("boxes", "scores", "labels", "masks")
            )
            np.testing.assert_array_equal(ours.labels.numpy(), labels)
            np.testing.assert_allclose(ours.boxes.numpy(), boxes, rtol=0, atol=1e-3)
            np.testing.assert_allclose(ours.scores.numpy(), scores, rtol=0, atol=1e-5)
            np.testing.assert_allclose(ours.masks[:, *CELLS].numpy(), masks, rtol=0, atol=1e-4)


def test_a_small_picture_a_wide_one_and_a_batch_of_two_sizes(model):
    _, wide, pair = CASES[model.architecture.name]
    assert_finds_the_golden(model, wide)
    assert_finds_the_golden(model, pair)


def test_fused_and_at_the_full_800_pixels(model):
    fused = fuse(copy.deepcopy(model))
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in fused.modules())
    square, _, pair = CASES[model.architecture.name]
    assert_finds_the_golden(fused, square)
    assert_finds_the_golden(fused, pair)


@pytest.mark.parametrize("name", CASES)
def test_the_goldens_are_worth_comparing_with(name):
    sides = []
    with np.load(GOLDENS / f"{name}.npz") as golden:
        for key in golden:
            if key.endswith(".labels"):
                assert len(golden[key]) >= 12
                assert len(set(golden[key])) > 5
            if key.endswith(".boxes"):
                sides.append((golden[key][:, 2:] - golden[key][:, :2]).prod(1) ** 0.5)
    assert np.concatenate(sides).max() > 8 * np.concatenate(sides).min()
