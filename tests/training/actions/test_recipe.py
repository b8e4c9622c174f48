"""From clips to weights that tell what moves from what stands still."""

import json
from pathlib import Path

import av
import cv2
import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.clips import Clip, read_clips
from streamvis.errors import ConfigError, DataError, StreamvisError
from streamvis.models import weights
from streamvis.models.off import Calibration, Off
from streamvis.training.actions import cross_validation
from streamvis.training.actions import recipe as actions
from streamvis.training.actions.clip_augment import (
    ClipAugment,
    augment_clip,
    clips_of_step,
    rows_of,
)
from streamvis.training.actions.clip_sampling import (
    ClipSampling,
    gather,
    sample_clip,
    sample_indexes,
)
from streamvis.training.actions.recipe import (
    ActionRecipe,
    NetworkSettings,
    TrainingStage,
    build,
    corpus_of,
    load_recipe,
)
from streamvis.training.actions.ridge import Ridge
from streamvis.training.loop import Schedule

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[3]
SIZE = (64, 64)
RECIPE = ActionRecipe(
    name="tiny",
    start="none",
    network=NetworkSettings(size=SIZE, every_s=0.1, classifier="motion"),
    ridge=Ridge(strengths=(0.1, 1.0)),
    views=2,
    augment=ClipAugment(scales=(1.0, 0.875)),
    precision="fp32",
)
STAGE = TrainingStage(
    schedule=Schedule(steps=2, warmup=1), clips=2, moments=2, body=1e-3, frozen_blocks=3
)
STAGED = msgspec.structs.replace(
    RECIPE,
    network=NetworkSettings(spatial=2, temporal=8, widths=(4, 4, 8), size=SIZE, every_s=0.1),
    ridge=None,
    frames=STAGE,
    guided=msgspec.structs.replace(STAGE, body=0.0),
    flow=STAGE,
    fit_to_taps=True,
)


def _drawn(body) -> dict[str, torch.Tensor]:
    """A trunk without ImageNet: filters drawn at random see motion too."""
    torch.manual_seed(1)
    return {
        name: torch.randn_like(v) * (2 / v[0].numel()) ** 0.5 if v.dim() == 4 else v
        for name, v in body.state_dict().items()
    }


@pytest.fixture(autouse=True)
def untrained_trunk(monkeypatch):
    monkeypatch.setattr(actions, "_trunk", lambda recipe, body: _drawn(body))


def film(path: Path, moves: bool, seed: int, fps: int = 10, frames: int = 10) -> None:
    """A textured square on a texture of its own; it wanders about, or it does not."""
    random = np.random.default_rng(seed)
    back = cv2.resize(random.integers(60, 200, (12, 12, 3), np.uint8), (96, 96))
    thing = cv2.resize(random.integers(0, 255, (6, 6, 3), np.uint8), (40, 40))
    x, y = random.integers(10, 40, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.bit_rate = 96, 96, 2_000_000
        for _ in range(frames):
            if moves:
                x, y = np.clip(np.add((x, y), random.choice([-9, 9], 2)), 2, 54)
            picture = back.copy()
            picture[y : y + 40, x : x + 40] = thing
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    rows = ["path,label,source"]
    for i in range(10):
        for label in ("moving", "still"):
            name = f"{label}/{i}.avi"
            film(root / name, label == "moving", seed=i)
            rows.append(f"{name},{label},{i}")
    (root / "clips.csv").write_text("\n".join(rows))
    return root


# When pictures are taken


@given(st.floats(5, 60), st.floats(0.05, 0.5), st.integers(2, 80))
def test_moments_are_the_first_pictures_that_are_not_before_them(fps, every_s, frames):
    times = np.arange(frames) * 1e6 / fps
    at = sample_indexes(times, every_s)
    wanted = np.arange(len(at)) * every_s * 1e6
    assert at[0] == 0
    assert (times[at] >= wanted - 1000).all()
    assert (times[np.maximum(at - 1, 0)] < wanted - 1000)[at > 0].all()
    assert wanted[-1] <= times[-1] + 1000 < wanted[-1] + every_s * 1e6 + 1


def test_a_clip_between_two_times(folder):
    whole = Clip(folder / "moving/0.avi", "moving", "0")
    part = Clip(whole.path, "moving", "0", 0.3, 0.65)
    sampling = ClipSampling(size=SIZE, every_s=0.1)
    np.testing.assert_array_equal(sample_clip(part, sampling), sample_clip(whole, sampling)[3:7])


def test_moments_lie_in_a_file_that_is_made_once(folder, tmp_path):
    clips = read_clips(folder)[:3]
    sampling = ClipSampling(size=SIZE, every_s=0.2)
    moments = gather(clips, sampling, tmp_path)
    assert moments.first.tolist() == [0, 5, 10, 15]
    for i, clip in enumerate(clips):
        np.testing.assert_array_equal(moments.of(i), sample_clip(clip, sampling))
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    gather(clips, sampling, tmp_path)
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


@pytest.mark.parametrize("fps", [10, 20])
@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_flow_is_the_same_at_every_frame_rate(tmp_path, fps, method):
    """A texture that goes 60 px/s to the right and 40 down, in steps of 0.04 s."""
    random = np.random.default_rng(0)
    texture = cv2.GaussianBlur(random.integers(0, 255, (300, 300, 3), np.uint8), (0, 0), 2)
    path = tmp_path / "moving.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuvj444p"
        for n in range(fps):
            x, y = 100 - round(60 * n / fps), 100 - round(40 * n / fps)
            picture = np.ascontiguousarray(texture[y : y + 96, x : x + 128])
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    sampling = ClipSampling(size=(96, 128), every_s=0.2, modality="flow", method=method)
    flow = sample_clip(Clip(path, "a", "b"), sampling)
    assert flow.shape == (5, 96, 128, 10)
    px = (np.median(flow[:4, 20:-20, 20:-20], (0, 1, 2)) - 128) * 20 / 127
    np.testing.assert_allclose(px[::2], 60 * 0.04, atol=0.7)
    np.testing.assert_allclose(px[1::2], 40 * 0.04, atol=0.7)


def test_pictures_of_a_moment_for_differences(folder):
    clip = Clip(folder / "moving/1.avi", "moving", "1")
    sampling = ClipSampling(size=SIZE, every_s=0.1, modality="diff", step_s=0.1)
    six = sample_clip(clip, sampling).reshape(10, *SIZE, 6, 3)
    rgb = sample_clip(clip, ClipSampling(size=SIZE, every_s=0.1))
    for step in range(6):
        np.testing.assert_array_equal(six[0, ..., step, :], rgb[step])
        np.testing.assert_array_equal(six[-1, ..., step, :], rgb[-1])


# What is made of them


def test_a_mirror_turns_flow_round():
    random = np.random.default_rng(0)
    flow = random.integers(1, 256, (3, 64, 64, 10), np.uint8)
    how = ClipAugment(scales=(1.0,), mirror=1.0)
    mirrored = augment_clip(flow, SIZE, "flow", how, np.random.default_rng(1)).astype(int)
    np.testing.assert_array_equal(mirrored[..., 1::2], flow[:, :, ::-1, 1::2])
    x = flow[:, :, ::-1, ::2].astype(int)
    np.testing.assert_array_equal(mirrored[..., ::2] - 128, np.minimum(128 - x, 127))


@given(st.integers(0, 500))
def test_all_moments_of_a_view_are_changed_alike(seed):
    picture = np.random.default_rng(seed).integers(0, 256, (1, 48, 80, 3), np.uint8)
    clip = np.repeat(picture, 4, 0)
    found = augment_clip(clip, SIZE, "rgb", ClipAugment(backwards=0.5), np.random.default_rng(seed))
    assert found.shape == (4, *SIZE, 3)
    assert (found == found[:1]).all()


def test_a_clip_may_be_shown_backwards():
    clip = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, *SIZE, 3), np.uint8)
    how = ClipAugment(scales=(1.0,), mirror=0, light=0, backwards=1.0)
    np.testing.assert_array_equal(
        augment_clip(clip, SIZE, "rgb", how, np.random.default_rng(0)), clip[::-1]
    )


@given(st.integers(1, 20), st.integers(1, 8), st.integers(0, 40), st.integers(0, 3))
def test_every_clip_has_its_turn_before_any_comes_again(count, size, step, seed):
    order = np.concatenate([clips_of_step(seed, count, size, s) for s in range(step + count)])
    for epoch in range(len(order) // count):
        assert sorted(order[epoch * count : (epoch + 1) * count]) == list(range(count))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_moments_of_a_batch_follow_each_other_within_their_clip(length, moments, seed):
    first = np.array([0, 5, 5 + length, 30])
    rows = rows_of(first, 1, moments, np.random.default_rng(seed))
    assert len(rows) == moments
    assert rows.min() >= 5
    assert rows.max() < 5 + length
    steps = np.diff(rows)
    assert ((steps == 1) | (rows[1:] == 4 + length)).all()


# Training


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory) -> Path:
    """Folds and all, by the command that people give; module-wide, since it takes a while."""
    out = tmp_path_factory.mktemp("out")
    patch = pytest.MonkeyPatch()
    torch.set_num_threads(1)
    try:
        patch.setattr(actions, "_trunk", lambda recipe, body: _drawn(body))
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
    before = _drawn(Off(actions.architecture_of(RECIPE, ("moving", "still"), "rgb")).body)
    for name, value in state.items():
        torch.testing.assert_close(value, before[name].half().float(), atol=1e-3, rtol=1e-2)


def test_what_is_done_is_not_done_again(trained, folder, monkeypatch):
    monkeypatch.setattr(actions, "learn", None)  # training would call it
    found = cross_validation.run(
        msgspec.structs.replace(RECIPE, folds=2), folder, trained, final=False
    )
    assert len(found["folds"]) == 2
    assert found["together"][0]["off"].clips == 20


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
    before = _drawn(Off(model.architecture).body)
    for name, value in model.body.state_dict().items():
        torch.testing.assert_close(value, before[name].half().float(), atol=1e-3, rtol=1e-2)


def test_first_blocks_stay_as_they_were():
    model = build(STAGED, ("a", "b"))
    trained = actions._trained(model.body, 3)
    names = {name for name, p in model.body.named_parameters() if any(p is q for q in trained)}
    assert not [n for n in names if n.startswith(("stem.", "blocks.0.", "blocks.2."))]
    assert {n.split(".")[1] for n in names if n.startswith("blocks.")} == {
        str(i) for i in range(3, 16)
    }


def test_rare_actions_weigh_more():
    labels = np.array([0] * 9 + [1] * 3)
    found = actions._class_weights(labels, 3)
    assert (found * torch.tensor([9.0, 3.0, 0.0])).tolist() == [6.0, 6.0, 0.0]


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


# Files


def test_the_recipe_of_the_shipped_weights_loads():
    recipe = load_recipe(ROOT / "configs/training/fight-off.yaml")
    a = actions.architecture_of(recipe, ("fight", "normal"), "rgb")
    assert (a.name, a.guided) == ("fight-off", True)


@pytest.mark.parametrize(
    "change",
    [
        {"network": {"size": [100, 100], "classifier": "motion"}},
        {"networks": {}},
        {"views": 0},
        {"ridge": None},
        {"network": {}},
        {"ridge": {"strengths": []}},
    ],
)
def test_a_wrong_recipe_is_told(tmp_path, change):
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(msgspec.to_builtins(RECIPE) | change))
    with pytest.raises(ConfigError):
        actions.architecture_of(load_recipe(path), ("a", "b"), "rgb")


def test_what_cannot_be_meant_is_told(folder, tmp_path):
    with pytest.raises(StreamvisError, match="--fold 3"):
        cross_validation.run(msgspec.structs.replace(RECIPE, folds=2), folder, tmp_path, fold=3)
    with pytest.raises(StreamvisError, match="--streams sound"):
        cross_validation.run(RECIPE, folder, tmp_path, streams=("sound",))
    result = CliRunner().invoke(app, ["eval", "actions", str(folder), "--folds", str(tmp_path)])
    assert result.exit_code == 2
    assert "no fold-1/" in result.stderr
