"""Our tracker among others: the scenes, the adapters' contract, and what the report holds."""

import json
import math
import shutil
import sys
from functools import partial
from types import ModuleType, SimpleNamespace

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamvis.benchmarks import (
    jpda_step,
    peers,
    simulated_detections,
    tracker_accuracy,
    tracker_speed,
)
from streamvis.benchmarks.peers import Peer, Reported
from streamvis.cli.main import app
from streamvis.geometry import iou
from streamvis.messages import Detections
from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.weights import save

FPS = 10.0


def detections(boxes, scores):
    return Detections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        labels=np.ones(len(scores), np.int32),
        masks=np.zeros((0, 0, 0), np.uint8),
    )


@settings(max_examples=20)
@given(people=st.integers(2, 80), frames=st.integers(1, 4), seed=st.integers(0, 99))
def test_scenes_have_the_same_counts_in_each_frame_and_room_for_all(people, frames, seed):
    scene = simulated_detections.scene(people, frames, seed)
    assert scene.truth.shape == (frames, people, 4)
    assert scene.width * scene.height >= people * simulated_detections.ROOM_PX**2 * 0.99
    assert (scene.truth >= 0).all()
    assert (scene.truth <= np.tile([scene.width, scene.height], 2)).all()
    for truth, found in zip(scene.truth, scene.frames, strict=True):
        assert len(found.boxes) == len(found.scores) == simulated_detections.detections_of(people)
        assert (np.diff(found.scores) <= 0).all()
        detected = iou(truth, found.boxes.astype(float)).max(axis=1) > 0.4
        assert detected.sum() >= round(simulated_detections.DETECTED * people)


@settings(max_examples=10)
@given(people=st.integers(2, 40), seed=st.integers(0, 99))
def test_a_scene_is_the_same_for_the_same_seed_only(people, seed):
    boxes = [
        simulated_detections.scene(people, 2, s).frames[1].boxes for s in (seed, seed, seed + 1)
    ]
    np.testing.assert_array_equal(boxes[0], boxes[1])
    assert not np.array_equal(boxes[0], boxes[2])


def test_people_walk_and_turn_back_at_the_edge():
    truth = simulated_detections.scene(30, 500).truth
    moved = np.linalg.norm(np.diff(truth[..., :2], axis=0), axis=2)
    assert moved.max() < 5 * simulated_detections.SPEED_PX_S / simulated_detections.FPS
    assert np.median(moved.sum(axis=0)) > 5 * simulated_detections.ROOM_PX


def test_a_step_of_ours_and_of_stone_soup_have_the_same_marginals():
    pytest.importorskip("stonesoup", reason="Stone-Soup is not installed; it comes with [dev]")
    case = jpda_step.step(simulated_detections.scene(12, 3), 2)
    beta = jpda_step.ours(case)()
    assert beta.shape == (12, 1 + simulated_detections.detections_of(12))
    associators = jpda_step.associators()
    assert list(associators) == ["Stone-Soup LBP", "Stone-Soup EHM2"]
    np.testing.assert_allclose(associators["Stone-Soup EHM2"](case)(), beta, atol=1e-9)


def test_contenders_take_turns_and_the_warm_up_does_not_count(monkeypatch):
    calls: list[tuple[str, int]] = []

    def contender(name):
        return lambda frame: lambda: calls.append((name, frame)) or frame

    contenders = {name: contender(name) for name in "ab"}
    taken = tracker_speed.turns(contenders, range(5, 9), warm_up=1)
    assert calls == [(name, frame) for frame in range(5, 9) for name in "ab"]
    assert taken["a"].results == [6, 7, 8]
    assert len(taken["a"].seconds) == 3
    monkeypatch.setattr(tracker_speed, "BUDGET_S", 0)
    assert tracker_speed.turns(contenders, range(5), warm_up=0)["a"].ms is None


def test_who_is_slow_is_not_shown_larger_scenes(monkeypatch):
    slow = tracker_speed.Turns([0.1, 3.0, 4.0], [])
    fast = tracker_speed.Turns([0.1], [])
    none = tracker_speed.Turns([], [])
    before = {10: {"fast": fast, "slow": slow, "none": none}}
    contenders = dict.fromkeys(("fast", "slow", "none", "new"), tracker_speed._whole)
    assert list(tracker_speed._able(contenders, before)) == ["fast", "new"]
    part = tracker_speed._summary({**before, 20: {"fast": fast}}, lambda taken: {})
    assert part["sizes"]["10"]["ms"] == {"fast": 100.0, "slow": 3000.0, "none": None}
    assert part["sizes"]["20"]["ms"] == {"fast": 100.0, "slow": None, "none": None}
    assert part["given_up"] == {
        "slow": "3.0 s for a frame of 10 people",
        "none": "more than 5 s for the first frames of 10 people",
    }


def test_the_exponent_of_a_power_is_found():
    taken = {n: {"a": tracker_speed.Turns([1e-5 * n**1.5], [])} for n in (10, 50, 200, 500)}
    assert tracker_speed._exponents(taken) == {"a": 1.5}
    assert tracker_speed._exponents({50: taken[50]}) == {}


def walk(follow, frames=12):
    """Two people walk apart in plain view; what is reported in the end."""
    for k in range(frames):
        boxes = [[50 - k, 50, 90 - k, 150], [250 + k, 60, 290 + k, 160]]
        found = follow(detections(boxes, [0.9, 0.8]))
        assert isinstance(found, Reported)
        assert found.boxes.shape == (len(found.ids), 4)
        yield np.array(boxes, float), found


def check_contract(follow):
    *_, (_, before), (boxes, after) = walk(follow)
    assert sorted(before.ids) == sorted(after.ids)
    assert len(set(after.ids.tolist())) == 2
    assert np.issubdtype(after.ids.dtype, np.integer)
    assert iou(boxes, np.asarray(after.boxes, float)).max(axis=1).min() > 0.7
    assert follow(detections([], [])).boxes.shape[1] == 4


@pytest.mark.parametrize("name", peers.PEERS)
def test_the_peers_that_are_here_follow_two_people(name):
    here, missing = peers.installed()
    if name in missing:
        pytest.skip(f"{name} is not installed: {missing[name]}")
    check_contract(here[name].start(FPS, 0.5))


def test_ours_keeps_the_contract():
    source = tracker_speed._source(simulated_detections.scene(4, 1))
    check_contract(tracker_speed.ours(source, tracker_speed.Jipda()))


class Toy:
    """Stands for the trackers of `trackers`: everyone has the number of their row, or none."""

    def __init__(self, **settings):
        self.settings = settings

    def update(self, given):
        given.tracker_id = np.where(given.xyxy[:, 0] < 200, np.arange(len(given.xyxy)), -1)
        return given


def test_sort_is_not_shown_weak_detections_and_bytetrack_is(monkeypatch):
    toys = ModuleType("trackers")
    toys.SORTTracker = toys.ByteTrackTracker = Toy
    supervised = ModuleType("supervision")
    supervised.Detections = SimpleNamespace
    monkeypatch.setitem(sys.modules, "trackers", toys)
    monkeypatch.setitem(sys.modules, "supervision", supervised)
    given = detections([[0, 0, 9, 9], [300, 0, 309, 9], [20, 0, 29, 9]], [0.9, 0.8, 0.1])
    assert peers.sort(FPS, 0.5)(given).ids.tolist() == [0]
    assert peers.bytetrack(FPS, 0.5)(given).ids.tolist() == [0, 2]


def test_norfair_is_not_shown_weak_detections_and_lost_ones_are_not_reported(monkeypatch):
    class Tracker:
        def __init__(self, distance, **settings):
            assert 0 <= settings["initialization_delay"] < settings["hit_counter_max"]

        def update(self, given):
            return [
                SimpleNamespace(id=i, estimate=one.points, live_points=np.full(2, i != 1))
                for i, one in enumerate(given)
            ]

    toy = ModuleType("norfair")
    toy.Tracker, toy.Detection = Tracker, SimpleNamespace
    monkeypatch.setitem(sys.modules, "norfair", toy)
    boxes = np.arange(16).reshape(4, 4)
    found = peers.norfair(0.5, 0.5)(detections(boxes, [0.9, 0.8, 0.7, 0.1]))
    assert found.ids.tolist() == [0, 2]
    np.testing.assert_array_equal(found.boxes, boxes[[0, 2]])


def test_without_any_peer_the_report_is_ours_and_says_how_to_install_them(monkeypatch):
    monkeypatch.setattr(peers, "imports", lambda module: False)
    monkeypatch.setattr(jpda_step, "imports", lambda module: False)
    report = tracker_speed.measure((5, 10))
    assert set(report["not_installed"]) == {"Norfair", "SORT", "ByteTrack", "Stone-Soup"}
    for part in ("tracker", "jpda_step"):
        for people in (5, 10):
            at = report[part]["sizes"][str(people)]
            assert at["detections"] == simulated_detections.detections_of(people)
            assert list(at["ms"]) == [tracker_speed.OURS]
            assert at["ms"][tracker_speed.OURS] > 0
        assert report[part]["given_up"] == {}
    assert 0 < report["tracker"]["sizes"]["10"]["reported"][tracker_speed.OURS] < 14
    assert report["jpda_step"]["sizes"]["10"]["gated"] > 0.5
    json.dumps(report)


def toy_peer(fps, threshold):
    """Calls everyone by their row, and is of use at one threshold only."""

    def follow(detections):
        boxes = detections.boxes[:2] if math.isclose(threshold, 0.3) else detections.boxes[:1]
        return Reported(np.arange(len(boxes)), boxes)

    return follow


@pytest.fixture
def sequence(tmp_path):
    """Two people stand in ten frames, found at scores on a scale of their own."""
    folder = tmp_path / "toy"
    rows = [(n, i, 50 + 200 * i) for n in range(1, 11) for i in (0, 1)]
    for name, line in (
        ("gt", "{n},{id},{x},50,40,100,1,-1,-1,-1"),
        ("det", "{n},-1,{x},50,40,100,{s}"),
    ):
        (folder / name).mkdir(parents=True)
        lines = [line.format(n=n, id=i + 1, x=x, s=40 - 9 * i) for n, i, x in rows]
        (folder / name / f"{name}.txt").write_text("\n".join(lines))
    (folder / "seqinfo.ini").write_text(
        "[Sequence]\nname=toy\nframeRate=10\nimWidth=400\nimHeight=300\nseqLength=10\n"
    )
    return folder


@pytest.fixture
def one_toy(monkeypatch):
    """The toy is all that there is, and scenes are small."""
    toys = {
        "Toy": Peer(toy_peer, "json", "pip install toy"),
        "Absent": Peer(toy_peer, "no_such_module_here", "pip install absent"),
    }
    monkeypatch.setattr(peers, "PEERS", toys)
    monkeypatch.setattr(jpda_step, "imports", lambda module: False)
    monkeypatch.setattr(tracker_speed, "measure", partial(tracker_speed.measure, (5,)))


@pytest.mark.usefixtures("one_toy")
def test_the_command_scores_peers_at_their_best_threshold(sequence):
    result = CliRunner().invoke(app, ["bench", "tracker", str(sequence), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)["tracker"]
    assert list(report["tracker"]["sizes"]["5"]["ms"]) == [tracker_speed.OURS, "Toy"]
    assert report["not_installed"]["Absent"] == "pip install absent"
    assert "favours them" in report["note"]
    rows = {(row["sequence"], row["tracker"]): row for row in report["scores"]}
    assert set(rows) == {
        (where, who) for where in ("toy", "COMBINED") for who in ("streamvis", "Toy")
    }
    assert rows["toy", "Toy"]["mota"] == rows["COMBINED", "Toy"]["idf1"] == 1
    assert rows["toy", "Toy"]["threshold"] == 0.3
    assert rows["toy", "streamvis"]["threshold"] is None
    assert all(row["hz"] > 0 for row in rows.values())


@pytest.mark.usefixtures("one_toy")
def test_where_there_are_pictures_ours_takes_part_a_second_time(sequence, tmp_path, monkeypatch):
    weights = tmp_path / "untrained.safetensors"
    save(Embedder(msgspec.structs.replace(ARCHITECTURES["person-r18"], size=(64, 32))), weights, {})
    monkeypatch.setattr(tracker_accuracy, "LOOKS", str(weights))
    seen = tmp_path / "seen"
    shutil.copytree(sequence, seen)
    text = (sequence / "seqinfo.ini").read_text()
    (seen / "seqinfo.ini").write_text(text.replace("toy", "seen"))
    (seen / "img1").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    for n in range(1, 11):
        cv2.imwrite(str(seen / f"img1/{n:06}.png"), noise)
    result = CliRunner().invoke(app, ["bench", "tracker", str(sequence), str(seen), "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["tracker"]["scores"]
    ours = {(row["sequence"], row["tracker"]): row for row in rows if row["tracker"] != "Toy"}
    seeing = f"streamvis, {tracker_accuracy.SEEING}"
    everywhere = {("toy", "streamvis"), ("seen", "streamvis"), ("COMBINED", "streamvis")}
    assert set(ours) == everywhere | {("seen", seeing), ("COMBINED", seeing)}
    assert ours["seen", seeing]["mota"] > 0.5
    together = ours["COMBINED", seeing]["idsw"]  # without pictures, what ours made of boxes alone
    assert together == ours["toy", "streamvis"]["idsw"] + ours["seen", seeing]["idsw"]


@pytest.mark.usefixtures("one_toy")
def test_the_command_prints_tables(sequence):
    result = CliRunner().invoke(app, ["bench", "tracker", str(sequence)])
    assert result.exit_code == 0, result.output
    assert f"5 × {simulated_detections.detections_of(5)}" in result.stdout
    assert "Absent is not installed: pip install absent" in result.stdout
    assert tracker_accuracy.NOTE in result.stdout


@pytest.mark.usefixtures("one_toy")
def test_a_folder_without_detections_is_refused_before_anything_is_measured(sequence):
    (sequence / "det" / "det.txt").unlink()
    result = CliRunner().invoke(app, ["bench", "tracker", str(sequence)])
    assert result.exit_code == 2
    assert "det/det.txt" in result.output
    assert "measuring" not in result.output
