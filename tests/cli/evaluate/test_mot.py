"""The command that scores the tracker, on made-up people."""

import json
from pathlib import Path

from typer.testing import CliRunner

from streamvis.cli.main import app


def scores(*arguments: object):
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def write_public(sequence: Path, folder: Path, scale: float = 50.0) -> Path:
    """The sequence with its truth as public detections, scored on some scale; without its video."""
    folder.mkdir()
    for name in ("gt", "seqinfo.ini", "ground_plane.json"):
        (folder / name).symlink_to(sequence / name)
    (folder / "det").mkdir()
    lines = (sequence / "gt/gt.txt").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    rows = [
        ",".join([row[0], "-1", *row[2:6], str(scale + i % 7), "-1", "-1", "-1"])
        for i, row in enumerate(cells)
    ]
    (folder / "det/det.txt").write_text("\n".join(rows) + "\n")
    return folder


def test_it_scores_our_own_detections_and_draws(sequence, looks, tmp_path):
    out, timeline, switches = tmp_path / "results", tmp_path / "t.png", tmp_path / "s.png"
    files = ("--out", out, "--timeline", timeline, "--switches", switches)
    one, both = scores("eval", "mot", sequence, "--space", "ground", *files, "--looks", looks)
    assert both["name"] == "COMBINED"
    assert one["looks"] == both["looks"] == str(looks)
    assert one["camera"] is both["camera"] is True
    assert one["mota"] > 0.5
    assert one["ground"]["mota"] > 0.5
    assert one["ground"]["motp"] > 0.7  # 1 − metres
    (written,) = out.iterdir()
    assert len(written.read_text().splitlines()) > 30
    assert timeline.read_bytes().startswith(b"\x89PNG")
    assert switches.read_bytes().startswith(b"\x89PNG")


def test_it_scores_a_folder_of_public_detections(sequence, tmp_path):
    write_public(sequence, tmp_path / "a")
    write_public(sequence, tmp_path / "b", scale=-3.0)
    (tmp_path / "b/seqinfo.ini").unlink()
    info = (sequence / "seqinfo.ini").read_text().replace("name=made-up", "name=other")
    (tmp_path / "b/seqinfo.ini").write_text(info)
    first, second, both = scores("eval", "mot", tmp_path, "--detections", "public")
    assert first["mota"] == second["mota"] > 0.7  # the scale of the scores does not matter
    assert first["idf1"] > 0.7
    assert "ground" not in first
    for count in ("tp", "fp", "fn", "idsw", "frag", "mt", "ml", "people"):
        assert both[count] == first[count] + second[count]
    assert 0 < min(first["hz"], second["hz"]) <= both["hz"] <= max(first["hz"], second["hz"])


def test_it_looks_at_people_where_there_are_pictures(sequence, looks, tmp_path):
    blind = write_public(sequence, tmp_path / "a")
    seen = write_public(sequence, tmp_path / "b")
    (seen / "video.mp4").symlink_to(sequence / "video.mp4")
    public = ("--detections", "public", "--looks", looks)
    (one, both) = scores("eval", "mot", seen, *public, "--out", tmp_path / "seen")
    assert (one["looks"], one["camera"]) == (both["looks"], both["camera"]) == (str(looks), True)
    assert one["mota"] > 0.7
    neither = ("--detections", "public", "--looks", "none", "--no-camera")
    (one, _) = scores("eval", "mot", seen, *neither, "--out", tmp_path / "not")
    assert (one["looks"], one["camera"]) == (None, False)
    result = CliRunner().invoke(
        app, ["eval", "mot", str(blind), *map(str, public), "--out", str(tmp_path / "blind")]
    )
    assert "without pictures, which appearance and camera motion need" in result.stderr
    tracks = [(tmp_path / name / "made-up.txt").read_bytes() for name in ("seen", "not", "blind")]
    assert tracks[1] == tracks[2]
    assert len(tracks[0]) > 1000


def test_it_tells_of_a_mode_that_needs_looks(sequence, tmp_path):
    folder = write_public(sequence, tmp_path / "a")
    arguments = ["eval", "mot", str(folder), "--detections", "public", "--set", "mode=gnn_embed"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "mode=gnn_embed" in result.stderr
    assert "--looks" in result.stderr


def test_it_takes_settings_of_the_tracker(sequence, tmp_path):
    folder = write_public(sequence, tmp_path / "a")
    arguments = ("eval", "mot", folder, "--detections", "public")
    assert scores(*arguments, "--set", "birth_score=1")[0]["tp"] == 0


def test_it_compares_covariances_with_errors(sequence, tmp_path):
    folder = write_public(sequence, tmp_path / "a")
    arguments = ("eval", "mot", folder, "--detections", "public")
    one, both = scores(*arguments, "--consistency")
    assert one["consistency"] == both["consistency"]
    found = one["consistency"]
    assert found["nis"]["n"] > 30
    assert found["nis"]["mean"] < 0.5  # the detections are the truth
    assert found["components"]["across"]["detection_rms"] < 0.05  # m; clipped boxes are completed
    assert found["groups"]["all"]["calibration"][-1]["right"] > 0.9
    assert "consistency" not in scores(*arguments)[0]
    result = CliRunner().invoke(app, [*map(str, arguments), "--consistency"])
    assert result.exit_code == 0, result.stderr
    for title in ("Consistency", "Components", "Probability of existence", "not seen"):
        assert title in result.stdout


def test_it_tells_what_is_missing(sequence, tmp_path):
    folder = write_public(sequence, tmp_path / "a")

    def told(*arguments) -> str:
        result = CliRunner().invoke(app, ["eval", "mot", *map(str, arguments)])
        assert result.exit_code == 2
        return result.stderr

    assert "has neither the video" in told(folder)
    assert "leave out --switches" in told(
        folder, "--detections", "public", "--switches", tmp_path / "s.png"
    )
    assert "two sequences are called" in told(folder, folder, "--detections", "public")
    public = ("--detections", "public")
    assert "birth_score" in told(folder, *public, "--set", "speed=3")
    assert "nowhere: no such directory" in told(tmp_path / "nowhere", *public)
    (tmp_path / "empty").mkdir()
    assert "empty: no seqinfo.ini here" in told(tmp_path / "empty", *public)
    (folder / "det/det.txt").unlink()
    assert "no det/det.txt" in told(folder, *public)


def test_it_on_the_ground_needs_a_truth_that_lies_there(sequence, tmp_path):
    folder = write_public(sequence, tmp_path / "a")
    rows = [line.split(",") for line in (sequence / "gt/gt.txt").read_text().splitlines()]
    (folder / "gt").unlink()
    (folder / "gt").mkdir()
    (folder / "gt/gt.txt").write_text("".join(",".join(r[:7]) + ",-1,-1,-1\n" for r in rows))
    arguments = ["eval", "mot", str(folder), "--detections", "public", "--space", "ground"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "no world coordinates" in result.stderr
    assert "--space image" in result.stderr
