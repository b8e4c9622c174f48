"""A sequence of made-up people as a user has it, and an embedder for them."""

from pathlib import Path

import msgspec
import pytest
import torch

from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.weights import save
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence


@pytest.fixture(scope="module")
def sequence(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sequences") / "made-up"
    write_sequence(folder, SyntheticScene(seed=3, people=3, size=(320, 240), fps=8, seconds=4))
    return folder


@pytest.fixture(scope="module")
def looks(tmp_path_factory) -> Path:
    """An untrained embedder: it tells colours apart, which is enough here."""
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    torch.manual_seed(0)
    save(Embedder(msgspec.structs.replace(ARCHITECTURES["person-r18"], size=(64, 32))), path, {})
    return path
