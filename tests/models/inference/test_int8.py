"""Int8 on OpenVINO computes what the rounded network does, and is refused where it cannot run."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from streamvis.datasets.coco import ImageTruth
from streamvis.errors import ModelError, WeightsError
from streamvis.evaluation.detection import evaluate
from streamvis.models.inference import select
from streamvis.models.inference.hardware import cpu_has_int8
from streamvis.models.inference.select import accelerate_detector, openvino_fault
from streamvis.models.int8 import quantise, read_ranges
from streamvis.models.layers import fuse
from streamvis.models.mask_rcnn import Dense, MaskRcnn
from streamvis.models.weights import load_detector
from streamvis.stages.detect import MaskRcnn as DetectConfig
from streamvis.stages.detect.stage import PersonDetector
from streamvis.synthetic.render import SyntheticScene

needs_int8 = pytest.mark.skipif(
    not cpu_has_int8() or openvino_fault() is not None,
    reason="needs a CPU with VNNI or AMX, and OpenVINO: pip install openvino",
)


def scene() -> SyntheticScene:
    return SyntheticScene(seed=5, people=4, size=(480, 360), fps=5, seconds=6)


def flat(dense: Dense) -> list[torch.Tensor]:
    return [x.float().flatten() for x in (*dense.maps, *dense.logits, *dense.deltas)]


def alike(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    pairs = zip(one, other, strict=True)
    return min(float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs)


@needs_int8
@torch.inference_mode()
def test_int8_is_the_rounded_network_and_close_to_the_exact_one():
    image = torch.from_numpy(scene().picture(12).copy()).permute(2, 0, 1)
    exact, rounded = load_detector("person-lite"), load_detector("person-lite")
    fuse(rounded)
    quantise(rounded, read_ranges(rounded.source))
    plain, expected = (flat(m.dense(m.prepare([image])[0])) for m in (exact, rounded))
    compiled = accelerate_detector(load_detector("person-lite"), "cpu", "int8")
    found = flat(compiled.dense(image)[0])
    assert alike(found, expected) > 0.99
    assert alike(found, plain) > 0.98


@needs_int8
def test_int8_finds_people_as_well_as_fp32():
    street, shown = scene(), range(0, 30, 3)
    pictures = [street.picture(n) for n in shown]
    truths = []
    for n in shown:
        truth = street.truth(n)
        count = len(truth.ids)
        boxes = truth.visible_boxes.astype(float)
        hard, crowd = truth.visibility < 0.6, np.zeros(count, bool)
        truths.append(ImageTruth(str(n), 480, 360, boxes, hard, crowd, (None,) * count))
    scores = []
    for precision in ("fp32", "int8"):
        config = DetectConfig(precision=precision, min_score=0.01, masks=False)
        detector = PersonDetector(config, "cpu")
        scores.append(evaluate(truths, detector(pictures)).ap50)
    assert scores[1] > scores[0] - 0.005


@dataclass
class Compiled:
    """What OpenVINO would compile."""

    model: MaskRcnn
    dtype: torch.dtype

    @property
    def rounded(self) -> bool:
        return any("Int8" in type(module).__name__ for module in self.model.modules())


@pytest.fixture
def compiled(monkeypatch):
    """OpenVINO that keeps the network as it is."""
    if openvino_fault():
        pytest.skip("needs OpenVINO: pip install openvino")
    monkeypatch.setattr("streamvis.models.inference.openvino.CompiledDetector", Compiled)
    return lambda *given: accelerate_detector(load_detector("person-lite"), "cpu", *given)


def test_int8_is_taken_where_it_is_asked_for(compiled, monkeypatch):
    monkeypatch.setattr(select, "cpu_has_int8", lambda: True)
    assert compiled("int8").rounded
    assert not compiled("auto").rounded


def test_int8_that_cannot_run_is_named(compiled, monkeypatch, tmp_path):
    monkeypatch.setattr(select, "cpu_has_int8", lambda: False)
    with pytest.raises(ModelError, match="neither VNNI nor AMX"):
        compiled("int8")
    monkeypatch.setattr(select, "cpu_has_int8", lambda: True)
    with pytest.raises(ModelError, match="int8 runs on OpenVINO"):
        compiled("int8", "torch")
    model = load_detector("person-lite")
    model.source = tmp_path / "mine.safetensors"
    with pytest.raises(WeightsError, match=r"mine\.int8\.json: No such file"):
        accelerate_detector(model, "cpu", "int8")
    model.source = None
    with pytest.raises(ModelError, match="no weights file"):
        accelerate_detector(model, "cpu", "int8")
