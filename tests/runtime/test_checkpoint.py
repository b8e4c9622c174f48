"""A checkpoint is read as it was written, or not at all."""

import msgspec
import pytest

from streamvis.runtime.checkpoint import DIGEST, CheckpointWriter, load
from streamvis.runtime.gaps import Gap, GapNotices
from streamvis.runtime.output import CHECKPOINT
from streamvis.runtime.protocol import SourceCheckpoint

SAVED = SourceCheckpoint(
    info=None,
    epoch=1,
    known_epoch=1,
    admitted=7,
    last_n=8,
    last_us=320_000,
    states={"track": b"seven"},
    gaps=GapNotices({"overload": Gap("overload", 2, 3, 5)}, {"decode": 1.0}),
)


@pytest.fixture
def written(tmp_path):
    CheckpointWriter(tmp_path, "epoch", {}).save("a", SAVED)
    return tmp_path / CHECKPOINT


def test_what_is_saved_is_loaded(written):
    (loaded,) = load(written.parent, "epoch").values()
    assert msgspec.to_builtins(loaded) == msgspec.to_builtins(SAVED)
    assert loaded.at == (1, 6)


def test_the_checkpoint_of_another_run_is_not_used(written):
    assert load(written.parent, "another") == {}


@pytest.mark.parametrize("at", [0, DIGEST, -1])
def test_a_damaged_file_is_not_used_and_warned_of(written, at, capsys):
    data = bytearray(written.read_bytes())
    data[at] ^= 1
    written.write_bytes(data)
    assert load(written.parent, "epoch") == {}
    assert f"{written} is damaged" in capsys.readouterr().err


def test_the_keys_in_the_file_stay(written):
    """Runs of older versions can be resumed."""
    stored = msgspec.msgpack.decode(written.read_bytes()[DIGEST:])
    assert stored.keys() == {"epoch", "sources"}
    assert set(stored["sources"]["a"]) == {
        "info",
        "epoch",
        "known_epoch",
        "admitted",
        "last_n",
        "last_us",
        "turns",
        "states",
        "poisoned",
        "dropped",
        "gaps",
        "errors",
        "past_errors",
        "ending",
        "zones",
        "logged",
    }
    assert set(stored["sources"]["a"]["gaps"]) == {"unreported", "reported_s"}


def test_a_full_disk_ends_checkpoints_and_not_the_run(tmp_path, capsys):
    writer = CheckpointWriter(tmp_path / "absent", "epoch", {})
    writer.save("a", SAVED)
    writer.save("a", SAVED)
    assert capsys.readouterr().err.count("cannot be written") == 1
