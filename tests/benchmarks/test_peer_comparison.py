"""`bench peers`: the loops find what is in a film, each program has a row, costs are those used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx_files import onnx_file, yolox_rows
from typer.testing import CliRunner

from streamvis.benchmarks import peer_comparison, peer_loops
from streamvis.benchmarks.peer_comparison import PeersReport, absent, tables
from streamvis.benchmarks.peer_loops import (
    LOOPS,
    NMS_IOU,
    WEAK_SCORE,
    PeerLoop,
    PlainYolox,
    onnxruntime_network,
    opencv_pictures,
)
from streamvis.benchmarks.peer_process import family_cpu_s
from streamvis.cli.main import app
from streamvis.geometry import iou
from streamvis.models.inference.onnx_networks import EngineChoice
from streamvis.models.yolox import OnnxDetector

SIZE = (96, 128)  # of the network's input, height and width
FRAMES = 40
PEOPLE = np.array([(20, 10, 40, 60), (80, 20, 100, 80)], float)  # in the network's input
PICTURE = (144, 192)  # 1.5 times as large
TRUTH = PEOPLE * 1.5


@pytest.fixture(scope="module")
def film(tmp_path_factory, filmed):
    """A sequence of two people who stand in noise, and a network that finds them."""
    folder = tmp_path_factory.mktemp("peers") / "standing"
    noise = np.random.default_rng(0).integers(0, 256, (*PICTURE, 3), dtype=np.uint8)
    filmed(folder / "video.mp4", [noise] * FRAMES, 10)
    rows = [
        f"{n},{i},{x1},{y1},{x2 - x1},{y2 - y1},1,-1,-1,-1"
        for n in range(1, FRAMES + 1)
        for i, (x1, y1, x2, y2) in enumerate(TRUTH, 1)
    ]
    (folder / "gt").mkdir()
    (folder / "gt/gt.txt").write_text("\n".join(rows))
    (folder / "seqinfo.ini").write_text(
        "[Sequence]\nname=standing\nvideo=video.mp4\nframeRate=10\n"
        f"imWidth={PICTURE[1]}\nimHeight={PICTURE[0]}\nseqLength={FRAMES}\n"
    )
    boxes = [(*box, 0.9) for box in PEOPLE]
    onnx_file(folder / "yolox_nano.onnx", yolox_rows(SIZE, boxes, classes=80), size=SIZE)
    return folder


def loop_or_skip(name):
    if why := absent(LOOPS[name]):
        pytest.skip(why)
    return LOOPS[name]


def check_tracks(found):
    """From the tenth frame on both people have a track, and keep it."""
    assert len(found) == FRAMES
    ids = {tuple(sorted(one.ids.tolist())) for one in found[10:]}
    assert len(ids) == 1
    assert len(set(ids.pop())) == len(PEOPLE)
    for one in found[10:]:
        assert iou(TRUTH, np.asarray(one.boxes, float)).max(axis=1).min() > 0.9


@pytest.mark.parametrize("name", LOOPS)
def test_each_loop_finds_the_people_of_a_film(name, film):
    loop = loop_or_skip(name)
    check_tracks(list(loop.run(film / "video.mp4", film / "yolox_nano.onnx", 10.0)))


@pytest.mark.parametrize("name", ["ONNX Runtime + ByteTrack", "supervision"])
def test_each_loop_reads_a_directory_of_pictures(name, film, tmp_path):
    import cv2

    loop = loop_or_skip(name)
    for n, picture in enumerate(opencv_pictures(film / "video.mp4"), 1):
        cv2.imwrite(str(tmp_path / f"{n:06}.png"), picture)
    check_tracks(list(loop.run(tmp_path, film / "yolox_nano.onnx", 10.0)))


@pytest.mark.parametrize("name", LOOPS)
def test_each_loop_goes_on_where_there_is_nobody(name, film, tmp_path):
    loop = loop_or_skip(name)
    nobody = onnx_file(tmp_path / "none.onnx", yolox_rows(SIZE, [], classes=80), size=SIZE)
    found = list(loop.run(film / "video.mp4", nobody, 10.0))
    assert [len(one.ids) for one in found] == [0] * FRAMES


@pytest.mark.parametrize("shape", [(96, 128), (144, 192), (150, 150), (120, 200)])
def test_the_detector_of_the_loops_finds_what_ours_finds(shape, tmp_path):
    """Ours is the oracle; boxes depend on the mean of each colour, and some overlap."""
    pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
    rng = np.random.default_rng(shape[1])
    corners, sizes = rng.uniform(12, 48, (40, 2)), rng.uniform(6, 26, (40, 2))
    scores = rng.uniform(0, 1, (40, 1))
    rows = yolox_rows(SIZE, np.hstack([corners, corners + sizes, scores]).tolist())
    mix = rng.normal(0, 3e-4, (3, rows.shape[1])) * ([1] * 4 + [0] * (rows.shape[1] - 4))
    path = onnx_file(tmp_path / "random.onnx", rows, mix, size=SIZE)
    picture = rng.integers(0, 256, (*shape, 3), dtype=np.uint8) // np.array([1, 2, 4], np.uint8)
    boxes, scores = PlainYolox(path, onnxruntime_network, WEAK_SCORE)(picture[..., ::-1])
    choice = EngineChoice(engine="onnxruntime")
    ours = OnnxDetector(path, min_score=WEAK_SCORE, overlap=NMS_IOU, choice=choice)
    (expected,) = ours([np.ascontiguousarray(picture)])
    assert 5 < len(boxes) < 40
    order = np.argsort(-scores)
    np.testing.assert_allclose(scores[order], expected.scores, rtol=1e-4)
    alike = np.diag(iou(boxes[order], expected.boxes.astype(float)))
    assert alike.min() > 0.9  # of 120x200 scaled by 0.64, a part of a row is cut off


@pytest.fixture(scope="module")
def report(film):
    """What the command prints of a pipeline, a loop, one without its package and one that fails."""
    real = "ONNX Runtime + ByteTrack"
    loops = {
        real: loop_or_skip(real),
        "Absent": PeerLoop(LOOPS[real].run, 0.5, {"no_such_module": "pip install absent"}),
        "Broken": PeerLoop(LOOPS[real].run, 0.5, {}),  # its process does not know it
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peer_comparison, "PIPELINES", ("yolox",))
        patch.setattr(peer_loops, "LOOPS", loops)
        words = ["--weights", str(film / "yolox_nano.onnx"), "--repeats", "2", "--json"]
        result = CliRunner().invoke(app, ["bench", "peers", str(film), *words])
    assert result.exit_code == 0, result.output
    return msgspec.convert(json.loads(result.stdout)["peers"], PeersReport)


def test_each_program_is_scored_with_what_it_cost(report):
    assert [one.program for one in report.scores] == [
        "streamvis yolox",
        "ONNX Runtime + ByteTrack",
    ]
    ours, loop = report.scores
    for one in report.scores:
        assert one.sequence == "standing"
        assert len(one.fps_of_runs) == len(one.core_ms_of_runs) == report.repeats == 2
        assert min(one.fps_of_runs) <= one.fps <= max(one.fps_of_runs)
        assert one.mota > 0.8
        assert one.idf1 > 0.8
        assert one.idsw == 0
        assert one.core_ms >= 0  # in ticks of 10 ms, of all frames
        assert one.start_s > 0
        assert one.fps_ratio == pytest.approx(one.fps / ours.fps, rel=0.01)
    assert (ours.min_score, loop.min_score) == (0.1, 0.5)
    assert ours.fps_ratio == ours.core_ms_ratio == 1


def test_a_loop_without_its_packages_or_that_fails_is_left_out_with_the_reason(report):
    assert report.skipped["Absent"] == "no_such_module not installed: pip install absent"
    assert "standing" in report.skipped["Broken"]
    assert "KeyError" in report.skipped["Broken"]


def test_the_table_has_a_row_for_each_program(report):
    table, *lines = tables(report)
    programs = [row[1] for row in table.rows]
    assert programs == ["streamvis yolox", "ONNX Runtime + ByteTrack", "Absent", "Broken"]
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert None not in table.rows[0]
    assert table.rows[2][2:] == [None] * (len(table.columns) - 2)
    assert "Absent is left out: no_such_module not installed: pip install absent" in lines
    assert lines[-1] == peer_comparison.NOTE


def test_what_cannot_be_compared_is_refused_before_anything_runs(film, tmp_path):
    blind = tmp_path / "blind"
    blind.mkdir()
    (blind / "seqinfo.ini").write_text((film / "seqinfo.ini").read_text())
    weights = film / "yolox_nano.onnx"
    for folder, file, said in (
        (film, tmp_path / "none.onnx", "no such file; expected YOLOX-nano"),
        (blind, weights, "neither the video that seqinfo.ini names nor img1/"),
    ):
        words = ["bench", "peers", str(folder), "--weights", str(file)]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert said in result.output
        assert "run 1 of" not in result.output


def test_cpu_time_is_that_of_the_process_and_of_its_children():
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    before = family_cpu_s(os.getpid())
    subprocess.run([sys.executable, "-c", burn], check=True)
    ended = family_cpu_s(os.getpid())
    assert 0.45 < ended - before < 5
    with subprocess.Popen([sys.executable, "-c", f"{burn}\ninput()"], stdin=subprocess.PIPE) as run:
        stat = Path(f"/proc/{run.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "S":  # it waits for input
            pass
        assert family_cpu_s(os.getpid()) - ended > 0.45
        run.communicate(b"\n")
