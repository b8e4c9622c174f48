"""Any detector as a function of pixels, and that it is the one the file says."""

import numpy as np
import pytest

from streamvis.config import MaskRcnn
from streamvis.errors import DeviceError, WeightsError
from streamvis.messages import Frame, Packet
from streamvis.runners.detectors import open_detector
from streamvis.stages.detect.stage import DetectStage
from streamvis.stages.protocol import Site
from streamvis.synthetic.render import SyntheticScene

SCENE = SyntheticScene(seed=5, people=4, size=(320, 240), fps=5, seconds=4)


def test_our_own_answers_as_its_stage_does():
    config = MaskRcnn(short_side=240, min_score=0.3, precision="fp32")
    detect = open_detector(config)
    shown = [SCENE.picture(n) for n in (3, 12)]
    site = Site(device="cpu", pixels=lambda frame: shown[int(frame.slot)], masks=True)
    stage = DetectStage(config, site)
    for i, pixels in enumerate(shown):
        found = detect(pixels)
        size = {"width": 320, "height": 240}
        frame = Frame(source="a", seq=0, n=0, media_us=0, slot=str(i), **size)
        (expected,) = stage([Packet(frame=frame)])
        assert len(found.boxes) > 0
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_array_equal(found.masks, expected.masks)


def test_an_onnx_file_is_read_as_yolox(data):
    path = str(data / "teachers/yolox_nano_416.onnx")
    all_, sure = (open_detector(MaskRcnn(weights=path, min_score=s)) for s in (0.0, 0.5))
    pixels = SCENE.picture(12)
    assert (sure(pixels).scores >= 0.5).all()
    assert len(all_(pixels).scores) > len(sure(pixels).scores)


@pytest.mark.parametrize("weights", ["nothing.onnx", "nothing.safetensors", "nothing"])
def test_weights_that_are_not_there_are_told(weights):
    with pytest.raises(WeightsError, match="nothing"):
        open_detector(MaskRcnn(weights=weights))


def test_a_device_that_is_not_there_is_told():
    with pytest.raises(DeviceError, match="cuda:7"):
        open_detector(MaskRcnn(), "cuda:7")
