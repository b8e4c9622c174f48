"""Which recording is which, and where its results go: pure decisions, nothing is run."""

import json
import re
import shutil
import time
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.batch.jobs import (
    KEY_DIGITS,
    Job,
    Plan,
    directory_name,
    key_of,
    source_id,
    weights_of,
)
from streamvis.batch.results import Result
from streamvis.config import Jipda, MaskRcnn, Pipeline, Placement, StageSpec, WorkerSpec
from streamvis.errors import WeightsError
from streamvis.runtime.output import OnUsed
from streamvis.sources import SourceSpec, resolve
from streamvis.sources.identity import Content
from streamvis.sources.spec import ID

PEOPLE = Pipeline(stages=[StageSpec("detect", MaskRcnn())])
TRACKED = Pipeline(
    stages=[StageSpec("detect", MaskRcnn()), StageSpec("track", Jipda(), after=["detect"])]
)
TOGETHER = Placement(workers=[WorkerSpec(["detect"])])
KEY = "0123456789ab"


def clip(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def taken(
    out: Path, *paths: object, pipeline: Pipeline = PEOPLE, on_used: OnUsed = "resume"
) -> list[tuple[Result, Job | None]]:
    """What a batch of these decides for each."""
    out.mkdir(exist_ok=True)
    plan = Plan(pipeline, TOGETHER, out, on_used)
    return [plan.take(spec) for spec in resolve([str(path) for path in paths], recursive=True)]


def leave(out: Path, result: Result, **changes: object) -> None:
    """What a run that came to its end leaves, but for the changes."""
    source = {
        "id": result.source,
        "ending": changes.pop("ending", "eof"),
        "admitted": 4,
        "decoded": 4,
        "frames_promised": changes.pop("frames_promised", 4),
    }
    whole = {"sources": [source], "pipeline": result.pipeline, "error": "", "wall_s": 1.0}
    (out / result.directory).mkdir(exist_ok=True)
    (out / result.directory / "summary.json").write_text(json.dumps(whole | changes))


def spec(uri: str) -> SourceSpec:
    return SourceSpec(id="x", uri=uri, kind="file")


def test_files_of_one_name_have_a_directory_each(tmp_path):
    files = [
        clip(tmp_path / name, content=name)
        for name in ("mon/gate.mp4", "tue/gate.mp4", "tue/gate.avi", "wed/Gate.mp4")
    ]
    one = [result.directory for result, _ in taken(tmp_path / "out", *files)]
    assert len({name.lower() for name in one}) == 4
    assert [name.rpartition("-")[0] for name in one] == ["gate", "gate", "gate", "Gate"]
    separately = [taken(tmp_path / "out", file)[0][0].directory for file in files]
    assert separately == one


def test_a_name_depends_on_nothing_else_in_the_batch(tmp_path):
    first = clip(tmp_path / "in/b.mp4", "b")
    before = taken(tmp_path / "out", tmp_path / "in")[0][0].directory
    clip(tmp_path / "in/a/b.mp4", "another b")
    after = {r.path: r.directory for r, _ in taken(tmp_path / "out", tmp_path / "in")}
    assert after[str(first)] == before
    assert len(set(after.values())) == 2


@pytest.mark.parametrize(
    ("name", "directory", "id_"),
    [
        ("gate.mp4", "gate", "gate"),
        ("площадь.mp4", "площадь", "file"),
        ("正門 東.mp4", "正門-東", "file"),
        ("بوابة.mp4", "بوابة", "file"),
        ("café.mp4", "café", "cafe"),
        ("cafe\u0301.mp4", "café", "cafe"),  # as macOS writes it
        ("two words\nand a line.mp4", "two-words-and-a-line", "two-words-and-a-line"),
        ("--out.mp4", "out", "out"),
        ("..mp4", "file", "file"),
        ("a<b>:\"c\"|d?*\\e.mp4", "a-b-c-d-e", "a-b-c-d-e"),
        ("[bold]2024.01.15_x.mp4", "bold-2024.01.15_x", "bold-2024-01-15_x"),
        ("\u202egpj.mp4", "gpj", "gpj"),  # would turn the direction of what follows
    ],
)  # fmt: skip
def test_names_are_readable_in_any_script(name, directory, id_):
    (named,) = [SourceSpec(id=id_, uri=f"in/{name}", kind="file")]
    made = directory_name(named, KEY)
    assert made == f"{directory}-{KEY}"
    assert source_id(made, "file") == f"{id_}-{KEY}"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1))
def test_any_name_makes_a_directory_and_an_id(stem):
    (made,) = {directory_name(spec(f"in/{stem}.mp4"), KEY)}
    assert len(made.encode()) <= 120
    assert made.endswith(f"-{KEY}")
    assert made[0] not in "-."
    assert made.isprintable()
    assert not set(made) & set('/\\<>:"|?* \t\n')
    assert ID.fullmatch(source_id(made, "file"))


def test_an_id_that_was_given_names_the_directory(tmp_path):
    file = clip(tmp_path / "gate.mp4", "x")
    ((result, _),) = taken(tmp_path / "out", f"north={file}")
    assert re.fullmatch(rf"north-[0-9a-f]{{{KEY_DIGITS}}}", result.directory)
    assert result.source == result.directory


def test_what_results_depend_on_has_a_key_of_its_own(tmp_path):
    content = Content(1, 1, "d" * 32)
    plain = spec("a.mp4")
    with_plane = msgspec.structs.replace(plain, ground_plane=(1.0,) * 9)
    keys = [
        key_of(content, plain, PEOPLE, {}),
        key_of(msgspec.structs.replace(content, digest="e" * 32), plain, PEOPLE, {}),
        key_of(content, plain, TRACKED, {}),
        key_of(content, with_plane, PEOPLE, {}),
        key_of(content, msgspec.structs.replace(plain, fps=7.0), PEOPLE, {}),
        key_of(content, plain, PEOPLE, {"mine.safetensors": "1"}),
        key_of(content, plain, PEOPLE, {"mine.safetensors": "2"}),
    ]
    assert len(set(keys)) == len(keys)
    for same in (
        key_of(content, spec("elsewhere/b.mp4"), PEOPLE, {}),
        key_of(content, msgspec.structs.replace(plain, id="y", read_s=1.0), PEOPLE, {}),
        key_of(msgspec.structs.replace(content, mtime_ns=2), plain, PEOPLE, {}),
    ):
        assert same == keys[0]


def test_weights_of_ones_own_are_told_by_what_they_hold(tmp_path):
    path = tmp_path / "mine.safetensors"
    own = Pipeline(stages=[StageSpec("detect", MaskRcnn(weights=str(path)))])
    path.write_text("one")
    one = weights_of(own)
    path.write_text("two")
    assert weights_of(own) != one
    assert weights_of(PEOPLE) == {}
    path.unlink()
    with pytest.raises(WeightsError, match=r"no weights '.*mine.safetensors'"):
        weights_of(own)


def test_resume_skips_what_is_done_wherever_it_lies_now(tmp_path):
    out, file = tmp_path / "out", clip(tmp_path / "gate.mp4", "gate")
    ((result, job),) = taken(out, file)
    assert job is not None
    leave(out, result)
    moved = shutil.move(file, clip(tmp_path / "archive/x", "").with_name("old gate.mp4"))
    ((again, none),) = taken(out, moved)
    assert none is None
    assert (again.state, again.directory, again.source) == (
        "skipped",
        result.directory,
        result.source,
    )
    assert (again.frames, again.frames_promised) == (4, None)
    assert "content and pipeline are the same" in again.why


def test_another_recording_under_the_same_name_is_processed(tmp_path):
    out, file = tmp_path / "out", clip(tmp_path / "gate.mp4", "monday")
    plan = Plan(PEOPLE, TOGETHER, _made(out), "resume")
    result, _ = plan.take(resolve([str(file)])[0])
    leave(out, result)
    plan.index.add(msgspec.structs.replace(result, state="done"))
    file.write_text("tuesday")
    ((new, job),) = taken(out, file)
    assert job is not None
    assert new.directory != result.directory
    assert new.why == f"another recording of this name is in {result.directory}"
    ((other, job),) = taken(out, clip(tmp_path / "copy.mp4", "monday"), pipeline=TRACKED)
    assert job is not None
    assert other.why == f"with other pipeline {PEOPLE.hash} it is in {result.directory}"
    ((copy, _),) = taken(out, tmp_path / "copy.mp4")
    assert copy.why == f"done before as {file}: content and pipeline are the same"


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def test_copies_in_one_batch_are_processed_once(tmp_path):
    first, second = clip(tmp_path / "a/x.mp4", "same"), clip(tmp_path / "b/y.mp4", "same")
    (one, job), (two, none) = taken(tmp_path / "out", first, second, on_used="refuse")
    assert job is not None
    assert none is None
    assert (two.state, two.directory) == ("skipped", one.directory)
    assert one.directory.startswith("x-")
    assert two.why == f"its content is that of {first}"


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "done"),
        ({"ending": "drained"}, "unfinished"),
        ({"ending": None}, "unfinished"),
        ({"pipeline": "0123456789ab"}, "unfinished"),
        ({"sources": []}, "unfinished"),
        ({"sources": "none"}, "unfinished"),
        ({"error": "the disk was full"}, "failed"),
    ],
)
def test_what_lies_there_is_refused_or_resumed_or_overwritten(changes, state, tmp_path):
    out, file = tmp_path / "out", clip(tmp_path / "gate.mp4", "gate")
    ((result, _),) = taken(out, file)
    leave(out, result, **changes)
    ((refused, none),) = taken(out, file, on_used="refuse")
    assert none is None
    assert refused.state == "refused"
    assert f"{result.directory} holds a run of it ({state}); --resume" in refused.why
    ((_, resumed),) = taken(out, file, on_used="resume")
    assert resumed is None if state == "done" else resumed.on_used == "resume"
    ((_, anew),) = taken(out, file, on_used="overwrite")
    assert anew.on_used == "overwrite"
    assert anew.out == str(out / result.directory)


def test_a_run_that_failed_at_once_has_nothing_to_go_on_with(tmp_path):
    out, file = tmp_path / "out", clip(tmp_path / "gate.mp4", "gate")
    ((result, _),) = taken(out, file)
    leave(out, result, error="not a video", sources=[{"admitted": 0, "decoded": 0}])
    ((_, job),) = taken(out, file, on_used="resume")
    assert job.on_used == "overwrite"
    ((refused, none),) = taken(out, file, on_used="refuse")
    assert none is None
    assert refused.state == "refused"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"sources": [{}]}', b"\xff"])
def test_a_summary_that_is_none_is_an_unfinished_run(text, tmp_path):
    out, file = tmp_path / "out", clip(tmp_path / "gate.mp4", "gate")
    ((result, _),) = taken(out, file)
    (out / result.directory).mkdir()
    path = out / result.directory / "summary.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    ((_, job),) = taken(out, file)
    assert job.on_used == "resume"


def test_a_file_that_cannot_be_read_fails_alone(tmp_path):
    file, gone = clip(tmp_path / "a.mp4", "a"), clip(tmp_path / "b.mp4", "b")
    specs = resolve([str(gone), str(file)])
    gone.unlink()
    plan = Plan(PEOPLE, TOGETHER, _made(tmp_path / "out"))
    (failed, none), (_, job) = [plan.take(spec) for spec in specs]
    assert none is None
    assert (failed.state, failed.directory) == ("failed", "")
    assert "No such file" in failed.why
    assert job is not None


def test_thousands_of_files(tmp_path):
    """Each is looked at once: the time for a file does not grow with their number."""
    out, folder = _made(tmp_path / "out"), _made(tmp_path / "in")
    for number in range(2000):
        (folder / f"{number}.mp4").write_text(str(number))
    specs = resolve([str(folder)])
    spent = []
    for batch in range(2):
        plan = Plan(PEOPLE, TOGETHER, out, "resume")
        begun = time.process_time()
        results = [plan.take(spec) for spec in specs]
        for result, job in results:
            assert (job is None) == (batch == 1)
            if batch == 0:
                leave(out, result)
            plan.index.add(msgspec.structs.replace(result, state="done"))
        plan.index.write()
        spent.append(time.process_time() - begun)
    assert len({result.directory for result, _ in results}) == 2000
    assert [r.path for r, _ in results] == [str(folder / f"{n}.mp4") for n in range(2000)]
    entries = json.loads((out / "batch.json").read_text())["files"]
    assert len(entries) == 2000
    assert all(a["path"] < b["path"] for a, b in pairwise(entries))
    print(spent)  # noqa: T201 - timings are no test
