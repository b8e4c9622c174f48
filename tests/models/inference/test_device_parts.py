"""The parts of networks that run as CUDA graphs do nothing that a graph cannot hold."""

import numpy as np
import pytest
import torch
from operators import check_stays_on_device
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
)

from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.inference.actions import TorchActions
from streamvis.models.inference.device import Part
from streamvis.models.inference.segmentation import TorchSegmenter
from streamvis.models.inference.select import EmbedderGraph, accelerate_embedder
from streamvis.models.off import Off, OffConfig
from streamvis.models.swiftnet import SwiftNet, SwiftNetConfig
from streamvis.models.weights import load_embedder

SHAPES = {"embed": (4, 128, 48, 3), "segment": (1, 72, 100, 3), "actions": (2, 64, 96, 3)}
COLOURS = np.random.default_rng(0).integers(0, 256, (7, 4, 2, 3), dtype=np.uint8)
CROPS = np.repeat(np.repeat(COLOURS, 32, 1), 24, 2)  # (7, 128, 48, 3)


def part(name: str) -> Part:
    if name == "embed":
        whole = EmbedderGraph(Embedder(ARCHITECTURES["person-r18"]).eval(), torch.float32)
        return lambda crops: (whole(crops),)
    if name == "segment":
        about = SwiftNetConfig("untrained", "efficientnet_lite0", ("a", "b"), (16, 16, 16))
        segmenter = TorchSegmenter(SwiftNet(about).eval(), "cpu", torch.float32, 72)
        return segmenter.run.build(SHAPES[name])
    small = {"widths": (8, 8, 8), "temporal": 8, "spatial": 4, "size": (64, 96)}
    model = Off(OffConfig(name="untrained", actions=("a", "b"), **small)).eval()
    return TorchActions(model, "cpu", torch.float32).run.build(SHAPES[name])


@pytest.mark.parametrize("name", SHAPES)
def test_a_part_stays_on_the_device(name):
    pixels = torch.randint(0, 256, SHAPES[name], dtype=torch.uint8)
    check_stays_on_device(part(name), pixels)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda x: (x * x.float().mean().item(),), DataDependentOutputException),
        (lambda x: (x[x > 3],), DynamicOutputShapeException),
        (lambda x: (x * torch.tensor([1, 2]),), AssertionError),
    ],
)
def test_reading_a_value_or_copying_a_constant_is_noticed(wrong, error):
    with pytest.raises(error):
        check_stays_on_device(wrong, torch.arange(8, dtype=torch.uint8).view(4, 2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU and a torch with CUDA")
def test_a_gpu_embeds_as_the_cpu():
    on_gpu = accelerate_embedder(load_embedder("person-r18", "cuda:0"), "cuda:0", "fp32")
    expected = accelerate_embedder(load_embedder("person-r18"), "cpu", "fp32", "torch")(CROPS)
    for count in (7, 1, 7, 3, 7):
        apart = 1 - (on_gpu(CROPS[:count]) * expected[:count]).sum(1)
        assert apart.max() < 1e-3
