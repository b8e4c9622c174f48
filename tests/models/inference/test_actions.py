"""Engines say of pictures and of pairs what the network itself says, one alone or in company."""

import copy

import numpy as np
import pytest
import torch

from streamvis.models.inference.actions import accelerate_actions, join_batch, split_batch
from streamvis.models.inference.select import cpu_has_bf16, openvino_version
from streamvis.models.off import LEVELS, Off, OffConfig

SMALL = {"widths": (8, 8, 8), "temporal": 8, "spatial": 4, "size": (64, 96)}
ENGINES = [("torch", "fp32"), ("torch", "bf16"), ("openvino", "fp32"), ("openvino", "bf16")]


def network(**changes) -> Off:
    torch.manual_seed(0)
    model = Off(OffConfig(name="untrained", actions=("a", "b", "c"), **{**SMALL, **changes}))
    for part in model.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
        if isinstance(part, torch.nn.Linear):
            torch.nn.init.normal_(part.weight, std=0.01)
    return model.eval()


def pictures(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 256, (count, 8, 12, 3), dtype=np.uint8)
    return np.repeat(np.repeat(rough, 8, 1), 8, 2)


@pytest.mark.parametrize(
    "part", [{"gradients": "diag"}, {"gradients": "sobel_xy"}, {"classifier": "motion"}]
)
@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_an_engine_says_what_the_network_says(engine, precision, part):
    if engine == "openvino" and openvino_version() is None:
        pytest.skip("openvino is not installed")
    if precision == "bf16" and not cpu_has_bf16():
        pytest.skip("this CPU has no bf16 arithmetic")
    model = network(**part)
    quick = accelerate_actions(copy.deepcopy(model), "cpu", precision, engine)
    zeroth, first, second = (pictures(3, seed) for seed in (2, 0, 1))
    with torch.inference_mode():
        earlier, before, now = (model.project(model.normalise(x)) for x in (zeroth, first, second))
        expected = torch.stack([model.pair(before, now, earlier)[name] for name in LEVELS], 1)
    long_ago, kept, after = map(quick.project, (zeroth, first, second))
    share = 1e-4
    if precision == "bf16":  # logarithms of small changes say more of rounding
        share = 0.2 if "classifier" in part else 0.1
    frames = torch.cat([one.frame.float() for one in kept])
    assert (frames - before.frame).abs().max() < share * before.frame.abs().max()
    levels = quick.pair(kept, after, long_ago)
    assert (levels - expected).abs().max() < share * expected.abs().max()
    alone = quick.pair(*(quick.project(x[1:2]) for x in (first, second, zeroth)))
    assert alone.shape == (1, 3, 3)
    assert (alone - levels[1:2]).abs().max() < share * expected.abs().max()


def test_what_is_kept_of_one_is_its_own():
    model = network()
    with torch.inference_mode():
        kept = model.project(model.normalise(pictures(4)))
    apart = split_batch(kept)
    assert apart[0].features[0].untyped_storage().nbytes() < kept.features[0].nbytes
    for one, other in zip(join_batch(apart)[1], kept.features, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_network_of_frames_has_no_levels(engine):
    if engine == "openvino" and openvino_version() is None:
        pytest.skip("openvino is not installed")
    quick = accelerate_actions(network(guided=False), "cpu", "fp32", engine)
    kept = quick.project(pictures(2))
    assert len(kept) == 2
    assert quick.pair(kept, kept).numel() == 0
