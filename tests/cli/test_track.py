"""The tracker alone on files of detections, as a user has them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.motchallenge import read_results
from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.weights import save
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence

FRAMES = 40


def walkers(path: Path, frames: int = FRAMES, scores: tuple[float, ...] = (60, 70)) -> Path:
    """Two people who cross, and now and then a weak box of nobody."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for n in range(1, frames + 1):
        rows.append(f"{n},-1,{100 + 4 * n},100,40,100,{scores[0]},-1,-1,-1")
        rows.append(f"{n},-1,{400 - 4 * n},130,40,100,{scores[1]},-1,-1,-1")
        if n % 5 == 0:
            rows.append(f"{n},-1,{17 * n % 500},300,40,100,{scores[0] / 20},-1,-1,-1")
    path.write_text("\n".join(rows) + "\n")
    return path


def track(*arguments: object):
    return CliRunner().invoke(app, ["track", *map(str, arguments)])


def test_people_keep_their_ids(tmp_path):
    out = tmp_path / "sub/res.txt"
    det = walkers(tmp_path / "det.txt")
    result = track(det, "--out", out, "--fps", 10, "--size", "640x480", "--json")
    assert result.exit_code == 0, result.stderr
    found = read_results(out, FRAMES)
    assert set(found.ids.tolist()) == {1, 2}
    for id_ in (1, 2):  # who starts on the left ends on the right
        left = found.boxes[found.ids == id_, 0]
        assert abs(left[-1] - left[0]) > 100
    told = json.loads(result.stdout)
    assert (told["frames"], told["people"], told["rows"]) == (FRAMES, 2, len(found))
    assert told["hz"] > 0


def test_frames_that_follow_change_no_row(tmp_path):
    """Not the tracker, nor what its scores are taken for."""
    arguments = ("--fps", 10, "--size", "640x480")
    late = walkers(tmp_path / "late.txt")
    with late.open("a") as file:  # what comes then is on another scale
        file.writelines(f"{FRAMES},-1,{9 * i},300,40,100,{900 * i},-1,-1,-1\n" for i in range(9))
    track(walkers(tmp_path / "det.txt", FRAMES - 1), "--out", tmp_path / "a.txt", *arguments)
    track(late, "--out", tmp_path / "b.txt", *arguments)
    first = (tmp_path / "a.txt").read_text().splitlines()
    assert len(first) > 40
    assert (tmp_path / "b.txt").read_text().splitlines()[: len(first)] == first


def test_a_sequences_folder_says_rate_size_and_ground(tmp_path):
    folder = write_sequence(
        tmp_path / "made-up", SyntheticScene(seed=3, people=3, size=(320, 240), fps=8, seconds=3)
    )
    rows = [row.split(",") for row in (folder / "gt/gt.txt").read_text().splitlines()]
    (folder / "det").mkdir()
    text = "".join(",".join([r[0], "-1", *r[2:6], "2.5", "-1", "-1", "-1"]) + "\n" for r in rows)
    (folder / "det/det.txt").write_text(text)
    (folder / "gt/gt.txt").unlink()  # it is not needed
    for space, placed in (("auto", True), ("ground", True), ("image", False)):
        arguments = ("--out", tmp_path / "res.txt", "--space", space, "--looks", "none")
        result = track(folder / "det/det.txt", *arguments, "--json")
        assert json.loads(result.stdout)["camera"] is True  # its video is there
        assert result.exit_code == 0, result.stderr
        found = read_results(tmp_path / "res.txt", 24)
        assert len(found) > 20
        assert (found.world[:, 0] == found.world[:, 0]).all() == placed  # no NaN


def test_a_video_says_rate_and_size_and_what_people_look_like(tmp_path):
    folder = write_sequence(
        tmp_path / "made-up", SyntheticScene(seed=3, people=3, size=(320, 240), fps=8, seconds=1)
    )
    weights = tmp_path / "untrained.safetensors"
    save(Embedder(ARCHITECTURES["person-r18"]), weights, {})
    det = walkers(tmp_path / "det.txt", 10)
    video = folder / "video.mp4"
    arguments = ("--out", tmp_path / "a.txt", "--video", video, "--looks", weights, "--json")
    result = track(det, *arguments)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["looks"], told["camera"], told["frames"]) == (str(weights), True, 10)
    assert "2 of 10 frames have no picture" in result.stderr
    assert "taken for" not in result.stderr
    result = track(det, *arguments, "--size", "640x480")
    assert result.exit_code == 2
    assert "320x240" in result.stderr


def test_what_the_command_line_says_comes_first(tmp_path):
    det = walkers(tmp_path / "det.txt")
    ini = "[Sequence]\nname=a\nframeRate=5\nseqLength=60\nimWidth=640\nimHeight=480\n"
    (tmp_path / "seqinfo.ini").write_text(ini)
    result = track(det, "--out", tmp_path / "a.txt", "--json")
    assert json.loads(result.stdout)["frames"] == 60  # nobody is found in the last of them
    track(det, "--out", tmp_path / "b.txt", "--size", "250x480")
    wide, narrow = (read_results(tmp_path / name, 60).boxes for name in ("a.txt", "b.txt"))
    assert wide[:, 2].max() > 260 > 250 >= narrow[:, 2].max()


def test_a_bare_file_is_taken_for_the_usual_and_that_is_told(tmp_path):
    det = walkers(tmp_path / "det.txt")
    result = track(det, "--out", tmp_path / "a.txt")
    assert result.exit_code == 0
    rows = [[float(cell) for cell in line.split(",")] for line in det.read_text().splitlines()]
    size = f"{max(r[2] + r[4] for r in rows):.0f}x{max(r[3] + r[5] for r in rows):.0f}"
    assert f"25 frames/s of {size}" in result.stderr
    track(det, "--out", tmp_path / "b.txt", "--fps", 25, "--size", size)
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()


def test_shares_stand_as_they_are_unless_they_are_to_be_calibrated(tmp_path):
    det = walkers(tmp_path / "det.txt", scores=(0.3, 0.9))
    arguments = ("--fps", 10, "--size", "640x480", "--out", tmp_path / "res.txt")

    def people(*more) -> int:
        assert track(det, *arguments, *more).exit_code == 0
        return len(set(read_results(tmp_path / "res.txt", FRAMES).ids.tolist()))

    assert people() == 1  # 0.3 starts no track
    assert people("--set", "birth_score=0.2") == 2
    walkers(det, scores=(0.6, 0.9))
    assert (people(), people("--scores", "calibrate")) == (1, 2)


def test_an_empty_file_gives_an_empty_file(tmp_path):
    (tmp_path / "det.txt").write_text("")
    result = track(
        tmp_path / "det.txt", "--out", tmp_path / "r.txt", "--fps", 10, "--size", "64x48"
    )
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "r.txt").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--fps", 10, "--size", "big"), "--size big: expected width and height"),
        (("--fps", 10, "--size", "64x48", "--space", "ground"), "no ground plane"),
        (("--fps", 10, "--size", "64x48", "--set", "speed=1"), "birth_score"),
        (
            ("--fps", 10, "--size", "64x48", "--set", "birth_score=7"),
            "settings of jipda: Expected",
        ),
        (("--seqinfo", "nowhere.ini"), "nowhere.ini"),
        (("--fps", 10, "--size", "64x48", "--ground-plane", "nowhere.json"), "nowhere.json"),
    ],
)
def test_errors_tell_what_to_do(arguments, told, tmp_path):
    result = track(walkers(tmp_path / "det.txt"), "--out", tmp_path / "res.txt", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_line_that_is_no_detection_is_named(tmp_path):
    det = walkers(tmp_path / "det.txt")
    det.write_text(det.read_text() + "41,-1,nine,1,1,1,1\n")
    result = track(det, "--out", tmp_path / "r.txt", "--fps", 10, "--size", "64x48")
    lines = len(det.read_text().splitlines())
    assert f"det.txt:{lines}: 'nine' is not a number" in result.stderr


def test_it_does_without_torch(tmp_path):
    det = walkers(tmp_path / "det.txt", 3)
    arguments = ["track", str(det), "--out", str(tmp_path / "r.txt"), "--fps", "9", "--size", "9x9"]
    code = (
        "import sys; from streamvis.cli.main import app; "
        f"app({arguments!r}, standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
