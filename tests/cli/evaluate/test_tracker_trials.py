"""The command of tracker trials: a sequence, a scene, an earlier run to compare, refusals."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.config import Jipda
from streamvis.datasets.motchallenge import read_sequence
from streamvis.runners import tracking
from streamvis.runners.tracker_inputs import Cues
from streamvis.runners.tracker_trials import inputs
from streamvis.runners.tracker_trials.report import TrialReport
from streamvis.synthetic.street_scenes import SCENES, StreetSetup

SCENE = ("--only", "sparse, many misses, 5 fps", "--copies", "2")


def call(*arguments: object):
    return CliRunner().invoke(app, ["eval", "tracker-trials", *map(str, arguments)])


def trials(*arguments: object) -> TrialReport:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return msgspec.json.decode(result.stdout, type=TrialReport)


def brief_scenes() -> tuple[StreetSetup, ...]:
    """A third of each scene."""
    return tuple(replace(one, seconds=one.seconds / 3) for one in SCENES)


@pytest.fixture(scope="module", autouse=True)
def brief():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "SCENES", brief_scenes())
        yield


@pytest.fixture(scope="module")
def of_today(brief) -> str:
    """The report of the scene with the settings as they are."""
    return call(*SCENE, "--json").stdout


def write_public(sequence: Path, folder: Path) -> Path:
    """The sequence with its truth as public detections."""
    folder.mkdir()
    for name in ("gt", "seqinfo.ini", "ground_plane.json", "video.mp4"):
        (folder / name).symlink_to(sequence / name)
    (folder / "det").mkdir()
    cells = [line.split(",") for line in (sequence / "gt/gt.txt").read_text().splitlines()]
    lines = [",".join([row[0], "-1", *row[2:6], "0.9", "-1", "-1", "-1"]) for row in cells]
    (folder / "det/det.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_a_recorded_sequence_has_the_scores_of_eval_mot_and_is_read_from_the_cache(
    sequence, looks, tmp_path
):
    folder, cache = write_public(sequence, tmp_path / "public"), tmp_path / "cache"
    given = (folder, "--no-scenes", "--cache", cache, "--looks", looks, "--drop", 0, "--copies", 1)
    (first,) = trials(*given).results
    assert sorted(one.inputs for one in first.scores) == [
        "own detections, boxes",
        "own detections, embeddings",
        "public detections, boxes",
        "public detections, embeddings",
    ]
    one = read_sequence(folder)
    public = first.scores[:2]
    for score, cues in zip(public, (Cues(None, True), Cues(str(looks), True)), strict=True):
        result = tracking.track_public(one, Jipda(), cues)
        expected = tracking.report([result], "image")[0]
        assert {name: getattr(score, name) for name in ("mota", "idf1", "hota", "idsw")} == {
            name: expected[name] for name in ("mota", "idf1", "hota", "idsw")
        }
    kept = sorted(cache.iterdir())
    assert len(kept) == 2
    for path in kept:
        path.touch()
    before = [path.stat().st_mtime_ns for path in kept]
    (again,) = trials(*given).results
    assert again.scores == first.scores
    assert [path.stat().st_mtime_ns for path in kept] == before  # not measured again
    kept[0].write_bytes(b"no frames")
    broken = call(*given)
    assert broken.exit_code != 0
    assert "delete it, and it is measured again" in broken.stderr


def test_a_change_is_told_against_today_and_against_a_file(of_today, tmp_path):
    today, changed = trials(*SCENE, "--set", "memory_s=0.1").results
    assert (today.setting, changed.setting) == ("as it is", "memory_s=0.1")
    assert today.change is None
    cell = changed.change.cells[0]
    pairs = zip(today.scores[:2], changed.scores[:2], strict=True)
    differences = [after.idf1 - before.idf1 for before, after in pairs]
    assert cell.idf1.mean == pytest.approx(sum(differences) / 2)
    assert any(differences)

    file = tmp_path / "today.json"
    file.write_text(of_today)
    known, only = trials(*SCENE, "--against", file, "--set", "memory_s=0.1").results
    assert (known.setting, known.scores) == ("today.json", today.scores)
    assert only.change == changed.change
    _, same = trials(*SCENE, "--against", file).results
    assert {one.idf1.mean for one in same.change.cells} == {0.0}
    other = call(*SCENE[:2], "--copies", 3, "--against", file)
    assert "its trials are of 2 copies" in other.stderr


def test_candidates_are_chosen_by_the_sequences_left_out():
    given = ("--only", "misses, 5 fps", "--only", "misses, 10 fps", "--copies", 1)
    candidates = ("--candidate", "memory_s=0.1", "--candidate", "memory_s=4")
    result = trials(*given, *candidates)
    assert set(result.choice.means) == {"as it is", "memory_s=0.1", "memory_s=4"}
    assert set(result.choice.folds) == {
        "sparse, many misses, 5 fps",
        "sparse, many misses, 10 fps",
    }
    text = call(*SCENE[:2], "--copies", 1, *candidates, "--cells").stdout
    assert "no choice: it takes two sequences" in text
    assert "memory_s=4, minus as it is: sequences" in text


def test_several_processes_change_nothing(of_today):
    """In a process of its own, since Python keeps one that watches over those of a pool."""
    code = (
        "from streamvis.cli.main import app\n"
        "from test_tracker_trials import brief_scenes, inputs\n"
        "inputs.SCENES = brief_scenes(); app()"
    )
    command = [sys.executable, "-c", code, "eval", "tracker-trials", *SCENE, "--json"]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [*command, "--jobs", "2"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert json.loads(done.stdout) == json.loads(of_today)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "nothing of this name"), "no sequence and no scene to try"),
        (("--set", "memry_s=1"), "did you mean memory_s"),
        (("--against", "nowhere.json"), "cannot be read: No such file"),
        (("--against", __file__), "is no report of trials"),
        (("nowhere",), "no such directory"),
    ],
)
def test_refusals_are_one_line(arguments, message):
    result = call(*arguments)
    assert result.exit_code not in (0, 1)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
