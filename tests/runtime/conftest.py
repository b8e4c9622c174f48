"""Makes `toys`, and what all tests share, importable in the processes that tests start."""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))


@pytest.fixture(autouse=True)
def toys_importable(monkeypatch):
    for folder in (HERE.parent, HERE):
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
