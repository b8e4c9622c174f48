"""A short clip of people, and an untrained embedder that is quick."""

from pathlib import Path

import msgspec
import pytest
import torch
from walkers import SCENE

from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.hrnet import ARCHITECTURES as POSE_ARCHITECTURES
from streamvis.models.hrnet import Hrnet
from streamvis.models.weights import save
from streamvis.synthetic.sequence import write_sequence


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """15 frames of 320×240 px, 5 per second."""
    return write_sequence(tmp_path_factory.mktemp("clip") / "walkers", SCENE) / "video.mp4"


@pytest.fixture(scope="session")
def pose_weights(tmp_path_factory) -> str:
    """Weights of an untrained pose network."""
    path = tmp_path_factory.mktemp("weights") / "untrained-pose.safetensors"
    torch.manual_seed(0)
    save(Hrnet(POSE_ARCHITECTURES["pose-lite"]), path, {})
    return str(path)


@pytest.fixture(scope="session")
def looks(tmp_path_factory) -> str:
    """Weights of an untrained embedder: it tells colours apart."""
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    torch.manual_seed(0)
    architecture = msgspec.structs.replace(ARCHITECTURES["person-r18"], size=(64, 32))
    save(Embedder(architecture), path, {})
    return str(path)
