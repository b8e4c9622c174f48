"""The `golden` fixture compares, refuses what is too large, and writes under `--accept` alone."""

import pytest


@pytest.fixture
def accepting(pytestconfig, monkeypatch):
    """Set or clear `--accept` for one test, however pytest was started."""
    return lambda accept: monkeypatch.setattr(pytestconfig.option, "accept", accept)


def test_a_golden_is_compared(tmp_path, golden, accepting):
    accepting(False)
    path = tmp_path / "a.txt"
    path.write_text("one\n")
    golden(path, "one\n")
    with pytest.raises(AssertionError, match=r"a\.txt: `pytest --accept` writes it anew"):
        golden(path, "two\n")
    assert path.read_text() == "one\n"


def test_an_absent_golden_fails(tmp_path, golden, accepting):
    accepting(False)
    with pytest.raises(AssertionError, match="is not there"):
        golden(tmp_path / "a.txt", "one\n")


def test_accept_writes(tmp_path, golden, accepting):
    accepting(True)
    path = tmp_path / "new" / "a.txt"
    golden(path, "one\n")
    golden(path, "two\n")
    assert path.read_text() == "two\n"


@pytest.mark.parametrize("accept", [False, True])
def test_a_golden_has_50_kb_at_most(tmp_path, golden, accepting, accept):
    accepting(accept)
    with pytest.raises(AssertionError, match="50001 bytes; 50 kB at most"):
        golden(tmp_path / "a.txt", 50_001 * "x")
    assert not (tmp_path / "a.txt").exists()
