"""Quick paths find what the plain one finds."""

import pytest
import torch

from streamvis.errors import ModelError
from streamvis.models import accelerate as module
from streamvis.models.accelerate import accelerate, cpu_has_bf16
from streamvis.models.weights import load_detector
from streamvis.sources.synthetic import Scene


@torch.inference_mode()
def found(precision: module.Precision):
    model = accelerate(load_detector("person-lite"), "cpu", precision)
    model.roi_heads.min_score = 0.5
    scene = Scene(seed=5, people=4, size=(320, 240), fps=5, seconds=4)
    images = [torch.from_numpy(scene.picture(n).copy()).permute(2, 0, 1) for n in (5, 12)]
    return model(images)


def test_bf16_finds_the_same_people_within_a_few_percent_of_their_size():
    if not cpu_has_bf16():
        pytest.skip("this CPU has no bf16 arithmetic")
    for plain, quick in zip(found("fp32"), found("bf16"), strict=True):
        sure = plain.scores > 0.7
        assert sure.any()
        for box, score in zip(plain.boxes[sure], plain.scores[sure], strict=True):
            tolerance = 0.06 * float((box[2:] - box[:2]).max())
            near = (quick.boxes - box).abs().amax(1) < tolerance
            assert near.any()
            assert (quick.scores[near] - score).abs().min() < 0.1


def test_auto_is_fp32_where_bf16_would_be_emulated(monkeypatch):
    monkeypatch.setattr(module, "cpu_has_bf16", lambda: False)
    model = accelerate(load_detector("person-lite"), "cpu", "auto")
    assert model.backbone.dtype == torch.float32
    with pytest.raises(ModelError, match="'cpu' has no bf16"):
        accelerate(load_detector("person-lite"), "cpu", "bf16")
