"""The list of a batch: merged over batches, written whole, read by people and programs."""

import json
import multiprocessing
from pathlib import Path

import pytest

from streamvis.batch.results import (
    FILE_NAME,
    Index,
    Result,
    totals,
)
from streamvis.errors import DataError


def result(file: str, state: str = "done", **fields) -> Result:
    fields = {"directory": f"{file}-0123456789ab", "digest": file, "path": f"/in/{file}"} | fields
    return Result(file=file, state=state, **fields)


def note(out: Path, *results: Result) -> None:
    index = Index(out)
    for each in results:
        index.add(each)
    index.write()


def entries(out: Path) -> dict[str, str]:
    files = json.loads((out / FILE_NAME).read_bytes())["files"]
    assert len({(f["path"], f["directory"]) for f in files}) == len(files)
    return {f["file"]: f["state"] for f in files}


def test_batches_into_one_directory_are_merged(tmp_path):
    note(tmp_path, result("a"), result("b", "failed", directory=""))
    note(tmp_path, result("b"), result("c", "interrupted"))
    assert entries(tmp_path) == {"a": "done", "b": "done", "c": "interrupted"}
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o007 == 0


def test_what_was_refused_or_not_begun_leaves_what_is_noted(tmp_path):
    note(tmp_path, result("a"), result("b", "failed"))
    note(tmp_path, result("a", "refused"), result("b", "interrupted", why="not begun"))
    assert entries(tmp_path) == {"a": "done", "b": "failed"}


def test_what_was_skipped_is_what_it_was(tmp_path):
    note(tmp_path, result("a", "skipped", frames=4))
    note(tmp_path, result("b", "skipped", frames=4, frames_promised=6))
    assert entries(tmp_path) == {"a": "done", "b": "incomplete"}
    note(tmp_path, result("a", seconds=7.0, frames=4), result("b", "interrupted"))
    note(tmp_path, result("a", "skipped", frames=4), result("b", "skipped", frames=4))
    assert entries(tmp_path) == {"a": "done", "b": "done"}
    assert json.loads((tmp_path / FILE_NAME).read_bytes())["files"][0]["seconds"] == 7.0


def test_batches_at_the_same_time_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(tmp_path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        writer.close()
    assert set(entries(tmp_path)) == {f"{name}{number}" for name in "abc" for number in range(20)}


def _write_many(out: Path, name: str) -> None:
    index = Index(out)
    for number in range(20):
        index.add(result(f"{name}{number}"))
        index.write()


def test_a_list_that_is_none_is_not_written_over(tmp_path):
    (tmp_path / FILE_NAME).write_text("my notes")
    with pytest.raises(
        DataError,
        match=r"batch.json is not a list of results that a batch has written: .* Move it away",
    ):
        Index(tmp_path)
    assert (tmp_path / FILE_NAME).read_text() == "my notes"


def test_directories_are_found_by_their_keys_without_the_list(tmp_path):
    (tmp_path / "площадь-0123456789ab").mkdir()
    (tmp_path / "notes-0123456789ac").write_text("a file")
    (tmp_path / "gate").mkdir()
    index = Index(tmp_path)
    assert index.directory("0123456789ab") == "площадь-0123456789ab"
    assert index.directory("0123456789ac") is None


def test_totals_are_in_the_order_of_the_states():
    states = ("failed", "done", "failed", "skipped")
    assert list(totals([result(s, s) for s in states]).items()) == [
        ("done", 1),
        ("skipped", 1),
        ("failed", 2),
    ]
