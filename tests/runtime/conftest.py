"""Makes `toys` importable here and in the processes that tests start."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def toys_importable(monkeypatch):
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", here)
