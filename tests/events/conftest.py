"""The golden events, one of each type."""

import json
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def fixtures():
    """The golden events as JSON, by type."""
    paths = [path for path in GOLDEN.glob("*.json") if path.stem != "schema"]
    return {path.stem: json.loads(path.read_bytes()) for path in paths}
