"""Whole runs under trouble. Makes the helpers importable here and in processes that are started."""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HELPERS = [str(HERE), str(HERE.parent), str(HERE.parent / "runtime"), str(HERE.parent / "sources")]
sys.path += HELPERS


@pytest.fixture(autouse=True)
def helpers_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(HELPERS), prepend=os.pathsep)
