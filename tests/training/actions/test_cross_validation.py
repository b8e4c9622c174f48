"""Folds over sources, from clips to calibrated weights that tell what moves."""

import json
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labelled_clips import RECIPE, STAGE, STAGED, drawn_filters, write_clips
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.clips import Clip, read_clips, source_folds
from streamvis.errors import DataError, StreamvisError, UsageError
from streamvis.models import weights
from streamvis.models.off import Calibration, Off
from streamvis.training.actions import cross_validation
from streamvis.training.actions import recipe as actions
from streamvis.training.actions.recipe import corpus_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(autouse=True)
def untrained_trunk(monkeypatch):
    monkeypatch.setattr(actions, "_trunk", lambda recipe, body: drawn_filters(body))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory) -> Path:
    """Folds and all, by the command that people give; module-wide, since it takes a while."""
    out = tmp_path_factory.mktemp("out")
    patch = pytest.MonkeyPatch()
    torch.set_num_threads(1)
    try:
        patch.setattr(actions, "_trunk", lambda recipe, body: drawn_filters(body))
        cross_validation.run(msgspec.structs.replace(RECIPE, folds=2), folder, out)
    finally:
        patch.undo()
    return out


def test_moving_clips_are_told_from_still_ones(trained, folder):
    """By OFF, that is; a single picture does not say which it is from."""
    result = CliRunner().invoke(
        app, ["eval", "actions", str(folder), "--folds", str(trained), "--json"]
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["off"]["auc"] >= 0.95
    assert found["off"]["auc"] > found["rgb"]["auc"]
    assert set(found["rgb+off"]["folds"]["auc"]) == {"mean", "spread", "each"}
    assert found["rgb"]["per_s"] > 0


def test_the_weights_are_calibrated_and_score_by_themselves(trained, folder, tmp_path):
    path, plot = trained / "tiny.safetensors", tmp_path / "confusion.png"
    model = weights.load_actions(str(path))
    assert model.architecture.actions == ("moving", "still")
    assert model.calibration.scale != 1.0
    result = CliRunner().invoke(
        app,
        ["eval", "actions", str(folder), "--weights", str(path), "--plot", str(plot)],
    )
    assert result.exit_code == 0, result.stderr
    assert "rgb+off" in result.stdout
    assert "time beside rgb alone" in result.stdout
    assert cv2.imread(str(plot)) is not None


def test_the_trunk_is_frozen(trained):
    state = weights.load_actions(str(trained / "tiny.safetensors")).body.state_dict()
    before = drawn_filters(Off(actions.architecture_of(RECIPE, ("moving", "still"), "rgb")).body)
    for name, value in state.items():
        torch.testing.assert_close(value, before[name].half().float(), atol=1e-3, rtol=1e-2)


def test_what_is_done_is_not_done_again(trained, folder, monkeypatch):
    monkeypatch.setattr(actions, "learn", None)  # training would call it
    found = cross_validation.run(
        msgspec.structs.replace(RECIPE, folds=2), folder, trained, final=False
    )
    assert len(found["folds"]) == 2
    assert found["together"][0]["off"].clips == 20


def test_further_clips_are_held_out_with_their_source_and_not_scored(folder, tmp_path):
    also = tmp_path / "also.csv"
    rows_ = [f"{folder}/moving/0.avi,moving,0", f"{folder}/still/1.avi,still,elsewhere"]
    also.write_text("\n".join(["path,label,source", *rows_]))
    recipe = msgspec.structs.replace(RECIPE, folds=2, views=1)
    found = cross_validation.run(recipe, folder, tmp_path, also=[also], final=False)
    clips = read_clips(folder)
    folds = source_folds(clips, 2)
    for number, ((_, held), scores) in enumerate(zip(folds, found["folds"], strict=True), 1):
        rows = np.load(tmp_path / f"fold-{number}/rgb.npz")["rows"].tolist()
        assert rows == held + [20] * ("0" in {clips[i].source for i in held})
        assert scores["off"].clips == len(held)


def test_another_recipe_is_refused_where_folds_are_kept(trained, folder):
    network = msgspec.structs.replace(RECIPE.network, window=3)
    recipe = msgspec.structs.replace(RECIPE, folds=2, network=network)
    with pytest.raises(
        DataError, match=r"another training: network\.window was \d+, is now 3\. Ch"
    ):
        cross_validation.run(recipe, folder, trained)


def test_networks_of_flow_take_part(folder, tmp_path):
    recipe = msgspec.structs.replace(STAGED, folds=5)
    found = cross_validation.run(
        recipe, folder, tmp_path, streams=("rgb", "off", "flow", "diff"), fold=2
    )
    (scores,) = found["folds"]
    assert set(scores) == {"rgb", "off", "rgb+off", "flow", "rgb+flow", "diff", "rgb+diff"}
    assert not (tmp_path / "tiny.safetensors").exists()  # one fold's is not for use
    model = weights.load_actions(str(tmp_path / "fold-2/tiny-flow.safetensors"))
    assert model.architecture.modality == "flow"
    assert model.body.stem.weight.shape[1] == 10


def test_stages_leave_weights_and_curves(folder, tmp_path):
    frames = msgspec.structs.replace(STAGE, body=0.0)
    cross_validation.run(msgspec.structs.replace(STAGED, frames=frames), folder, tmp_path)
    for name in ("tiny.safetensors", "curves-rgb-frames.png", "curves-rgb-guided.png"):
        assert (tmp_path / name).exists()
    model = weights.load_actions(str(tmp_path / "tiny.safetensors"))
    before = drawn_filters(Off(model.architecture).body)
    for name, value in model.body.state_dict().items():
        torch.testing.assert_close(value, before[name].half().float(), atol=1e-3, rtol=1e-2)


def test_calibration_by_what_was_held_out():
    random = np.random.default_rng(0)
    truth = (random.random(4000) < 0.5).astype(int)
    logits = random.normal(size=(4000, 2)) + 2 * np.eye(2)[truth]
    clips = [Clip(Path(f"{i}"), "ab"[t], "s") for i, t in enumerate(truth)]
    corpus = corpus_of(clips, Path())
    trial = cross_validation.FoldLogits(np.arange(4000), {"rgb": {"frame": 5 * logits}})
    found = cross_validation.calibrated(trial, corpus, Calibration())
    p = found.probabilities({"frame": torch.from_numpy(5 * logits)}).numpy()
    for low in (0.2, 0.4, 0.6, 0.8):
        inside = (p[:, 0] > low - 0.1) & (p[:, 0] < low + 0.1)
        assert abs((truth[inside] == 0).mean() - low) < 0.06


def test_what_cannot_be_meant_is_told(folder, tmp_path):
    with pytest.raises(StreamvisError, match="--fold 3"):
        cross_validation.run(msgspec.structs.replace(RECIPE, folds=2), folder, tmp_path, fold=3)
    with pytest.raises(StreamvisError, match="--streams sound"):
        cross_validation.run(RECIPE, folder, tmp_path, streams=("sound",))
    result = CliRunner().invoke(app, ["eval", "actions", str(folder), "--folds", str(tmp_path)])
    assert result.exit_code == 2
    assert "no fold-1/" in result.stderr


def corpus(labels: str):
    clips = [Clip(Path(f"{i}"), label, str(i)) for i, label in enumerate(labels)]
    return corpus_of(clips, Path())


def test_networks_of_flow_alone_are_trained_on_all_clips_without_a_calibration(folder, tmp_path):
    recipe = msgspec.structs.replace(STAGED, folds=2)
    found = cross_validation.run(recipe, folder, tmp_path, streams=("flow",))
    assert set(found["together"][0]) == {"flow"}
    model = weights.load_actions(str(tmp_path / "tiny-flow.safetensors"))
    assert model.calibration == Calibration()


def test_fused_streams_are_weighted_means_of_the_networks():
    rng = np.random.default_rng(0)
    frame, coarse, fine, flow, diff = rng.normal(size=(5, 4, 3))
    given = {
        "rgb": {"frame": frame, "coarse": coarse, "fine": fine},
        "flow": {"frame": flow},
        "diff": {"frame": diff},
    }
    calibration = Calibration(weights={"frame": 1.0, "coarse": 2.0, "fine": 3.0, "middle": 9.0})
    expected = {
        "rgb": frame,
        "flow": flow,
        "diff": diff,
        "off": (2 * coarse + 3 * fine) / 5,
        "rgb+off": (frame + 2 * coarse + 3 * fine) / 6,
        "rgb+flow": (frame + flow) / 2,
        "rgb+diff": (frame + diff) / 2,
    }
    found = cross_validation.fused(given, calibration)
    assert set(found) == set(expected)
    for name, logits in expected.items():
        np.testing.assert_allclose(found[name], logits)
    streams = {name: torch.from_numpy(x) for name, x in given["rgb"].items()}
    np.testing.assert_allclose(calibration.logits(streams), found["rgb+off"], rtol=1e-5)
    assert set(cross_validation.fused({"flow": {"frame": flow}}, calibration)) == {"flow"}


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=9))
def test_a_spread_is_over_the_folds_that_have_the_score(values):
    known = [v for v in values if v is not None]
    found = cross_validation.spread(values)
    assert (found is None) == (not known)
    if known:
        mean = sum(known) / len(known)
        deviation = (sum((v - mean) ** 2 for v in known) / len(known)) ** 0.5
        assert found == pytest.approx((mean, deviation), abs=1e-7)


def test_folds_together_score_each_clip_by_the_network_that_had_not_seen_it():
    data, logits = corpus("abcabc"), np.eye(3)[[0, 1, 2, 0, 1, 0]]  # the last is wrong
    trials = [
        cross_validation.FoldLogits(np.array(rows), {"rgb": {"frame": logits[rows]}})
        for rows in ([5, 1], [0, 3], [4, 2])
    ]
    whole = cross_validation.together(trials)
    assert whole.rows.tolist() == [5, 1, 0, 3, 4, 2]
    (scores,) = cross_validation.scores_of(whole, data, Calibration()).values()
    assert (scores.clips, scores.top1) == (6, pytest.approx(5 / 6))
    report = cross_validation.report({"together": [{"rgb": scores}]})
    assert report["together"][0]["rgb"]["top1"] == scores.top1


def test_the_temperature_of_three_actions_is_the_one_that_scores_were_scaled_by():
    rng = np.random.default_rng(0)
    scores = 2 * rng.normal(size=(20000, 3))
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    truth = (rng.random((20000, 1)) > p.cumsum(1)).sum(1)
    data = corpus("".join("abc"[i] for i in truth))
    trial = cross_validation.FoldLogits(np.arange(20000), {"rgb": {"frame": scores / 4}})
    found = cross_validation.calibrated(trial, data, Calibration())
    assert found.scale == pytest.approx(4, rel=0.07)
    assert found.shift == ()


def test_folds_are_of_sources_unless_a_published_split_or_none_is_asked_for(folder):
    clips = read_clips(folder)
    five = msgspec.structs.replace(RECIPE, folds=5)
    assert cross_validation.folds_of(five, folder, clips, None) == source_folds(clips, 5, five.seed)
    assert cross_validation.folds_of(RECIPE, folder, clips, None) == []
    with pytest.raises(DataError, match="has no published splits"):
        cross_validation.folds_of(five, folder, clips, 1)


def test_clips_outside_of_the_data_are_named_for_the_provenance(tmp_path):
    paths = [tmp_path / "data/b.mp4", tmp_path / "z.mp4", tmp_path / "data/../a.mp4"]
    clips = [Clip(path, "a", "s") for path in [*paths, paths[1]]]
    assert cross_validation.outside([tmp_path / "data"], clips) == [paths[2], paths[1]]


def test_a_network_is_made_for_each_modality_once():
    assert cross_validation.modalities(("off", "rgb", "flow")) == ["rgb", "flow"]
    with pytest.raises(UsageError, match="--streams sound: expected one or more of rgb, off, flow"):
        cross_validation.modalities(("rgb", "sound"))


def test_scores_of_another_split_are_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(actions, "_trunk", None)  # training would call it
    clips = read_clips(folder)
    data = corpus_of(clips, tmp_path)
    (tmp_path / "fold").mkdir()
    np.savez(tmp_path / "fold/rgb.npz", rows=[0, 1], frame=np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"rgb\.npz belongs to another split; choose another --out"):
        cross_validation._fold(RECIPE, data, ([0, 1], [2, 3]), tmp_path / "fold", ["rgb"])


def test_scores_whose_writing_was_stopped_are_computed_again(folder, tmp_path, monkeypatch):
    data, whole = corpus_of(read_clips(folder), tmp_path / "clips"), np.savez

    def stopped(file, *arrays, **named):
        whole(file, *arrays, **named)
        if named:
            file.truncate(100)
            raise KeyboardInterrupt

    split = (list(range(4)), [4, 5])
    monkeypatch.setattr(np, "savez", stopped)
    with pytest.raises(KeyboardInterrupt):
        cross_validation._fold(RECIPE, data, split, tmp_path / "fold-1", ["rgb"])
    monkeypatch.setattr(np, "savez", whole)
    found = cross_validation._fold(RECIPE, data, split, tmp_path / "fold-1", ["rgb"])
    assert found.rows.tolist() == [4, 5]
    assert found.streams["rgb"]["frame"].shape == (2, 2)
