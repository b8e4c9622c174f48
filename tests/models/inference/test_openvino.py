"""OpenVINO: pictures of all sizes, and a process that signals are sent to."""

import subprocess
import sys
from importlib.util import find_spec
from itertools import chain

import pytest
import torch

from streamvis.models.layers import fuse
from streamvis.models.mask_rcnn import ARCHITECTURES, MaskRcnn

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="there is no OpenVINO here")

TWICE = """
import gc, os, signal
import torch
from streamvis.models.inference.openvino import CompiledParts

class Part(torch.nn.Module):
    def forward(self, x):
        return (x + 1,)

def compiled():
    return CompiledParts(Part(), [torch.zeros(1, 3, 8, 8)], torch.float32)

first, second = compiled(), compiled()
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize(
    "architecture",
    [
        ARCHITECTURES["person-lite"],
        ARCHITECTURES["maskrcnn_resnet50_fpn_v2"],
    ],
    ids=lambda one: one.name,
)
@torch.inference_mode()
def test_a_detector_is_converted_once_for_pictures_of_all_sizes(architecture, monkeypatch):
    """Conversion takes seconds; cameras of another size, and coarse looks, do not wait for it."""
    from streamvis.models.inference.openvino import CompiledDetector

    torch.manual_seed(3)
    model = MaskRcnn(architecture).eval()
    fuse(model)
    # short_side is set below to that of each picture: the input has its size
    model.short_side, model.long_side = 1, 10_000
    detector = CompiledDetector(model, torch.float32)
    monkeypatch.setattr("torch.jit.trace", lambda *_, **__: pytest.fail("converted again"))
    for height, width in ((96, 64), (150, 250), (33, 31)):
        model.short_side = min(height, width)
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
        dense, padded, size = detector.dense(image)
        assert size == (height, width)
        exact = model.dense(_padded(model, image, padded))
        for ours, expected in zip(chain(*dense), chain(*exact), strict=True):
            assert ours.shape == expected.shape
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


def _padded(model: MaskRcnn, image: torch.Tensor, padded: tuple[int, int]) -> torch.Tensor:
    """The picture on the mean colour in whole grey levels, as the compiled detector pads."""
    pixels = (model.mean * 255).round().to(torch.uint8).expand(3, *padded).clone()
    pixels[:, : image.shape[1], : image.shape[2]] = image
    return model.normalize(pixels[None])


def test_a_signal_after_networks_are_gone_is_handled():
    """In a process of its own: it crashed where cores were destroyed in their order."""
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
