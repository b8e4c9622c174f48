"""From driving video to weights that tell what comes."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.driving import DriveSampling
from streamvis.errors import ConfigError, DataError
from streamvis.models import swiftnet, weights
from streamvis.models.forecasting import Forecaster, ForecasterConfig
from streamvis.training.loop import Schedule, read_log
from streamvis.training.scenes import feature_cache
from streamvis.training.scenes.feature_cache import FeatureSequence
from streamvis.training.scenes.forecaster import (
    ForecasterLosses,
    ForecasterLossWeights,
    ForecasterRecipe,
    Pace,
    batches,
    build,
    load_recipe,
    run,
    split,
    starts,
    steps_of,
)

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[3]
ARCHITECTURE = ForecasterConfig(
    name="tiny", channels=8, stride=4, width=8, trunk=16, depth=1, past=2, warped=1, radius=2,
    step=1, every_s=0.1, horizon_s=0.1, deformable=False,
)  # fmt: skip
RECIPE = ForecasterRecipe(
    architecture=ARCHITECTURE,
    schedule=Schedule(steps=70, warmup=5, average=0.8, save_every=30, weight_decay=0.0),
    sampling=DriveSampling(size=(48, 64), cut=-1),  # what scrolls is not alike
    batch=4,
    rate=1e-2,
    loss=ForecasterLossWeights(reading=0.5, overlap=0.1),
    precision="fp32",
)


def smooth(pixels: np.ndarray) -> np.ndarray:
    """What a segmenter might see: colours of 4×4 px, mixed into 8 channels (8, H/4, W/4)."""
    x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255
    mixed = torch.tensor(np.random.default_rng(0).normal(size=(8, 3, 1, 1)), dtype=torch.float32)
    return F.conv2d(F.avg_pool2d(x, 4), mixed)[0].half().numpy()


@pytest.fixture
def segmenter(tmp_path, monkeypatch) -> str:
    monkeypatch.setattr(feature_cache, "_encoder", lambda model: smooth)
    torch.manual_seed(0)
    names = ("sky", "road", "car")
    model = swiftnet.SwiftNet(
        swiftnet.SwiftNetConfig("tiny", "efficientnet_lite0", names, (8, 8, 8))
    )
    weights.save(model, tmp_path / "tiny.safetensors", {})
    return str(tmp_path / "tiny.safetensors")


@pytest.fixture
def drives(tmp_path, filmed) -> Path:
    """Textures that go to the left by two places of the map in 0.1 s."""
    for seed in range(4):
        blocks = np.random.default_rng(seed).integers(0, 255, (12, 40, 3), np.uint8)
        scene = np.kron(blocks, np.ones((4, 8, 1), np.uint8))  # (48, 320, 3)
        pictures = [scene[:, 8 * n : 8 * n + 64] for n in range(16)]
        filmed(tmp_path / "drives" / f"drive{seed}.mp4", pictures, fps=10)
    return tmp_path / "drives"


def gathered(drives: Path, segmenter: str, out: Path) -> feature_cache.FeatureCache:
    return feature_cache.build_cache([drives], segmenter, RECIPE.sampling, out)


def test_it_learns_what_comes(drives, segmenter, tmp_path):
    recipe = msgspec.structs.replace(RECIPE, hold_out=("drive3",))
    path, told = run(recipe, [drives], segmenter, tmp_path / "out")
    assert told.pictures == 16 - 2
    assert told.gap is not None
    assert told.gap > 0.5
    about = weights.describe(str(path)).metadata
    assert about["segmenter"] == weights.sight(segmenter)
    assert about["held_out"] == "drive3"
    assert (tmp_path / "out" / "curves.png").stat().st_size > 0
    assert list(read_log(tmp_path / "out" / "log.jsonl")) == list(range(70))
    assert weights.load_forecaster(str(path)).architecture == ARCHITECTURE


def test_from_the_command_line(drives, segmenter, tmp_path):
    schedule = Schedule(steps=3, warmup=1)
    recipe = msgspec.structs.replace(RECIPE, schedule=schedule, hold_out=("drive0",))
    (tmp_path / "recipe.yaml").write_bytes(msgspec.yaml.encode(recipe))
    out = tmp_path / "out"
    command = ["train", "forecaster", str(tmp_path / "recipe.yaml"), "--data", str(drives)]
    done = CliRunner().invoke(app, [*command, "--weights", segmenter, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [str(out / "tiny.safetensors")]
    assert "held-out video, 14 forecasts: mIoU 0." in done.stderr
    (drives / "drive1.mp4").unlink()
    less = CliRunner().invoke(app, [*command, "--weights", segmenter, "--out", str(out)])
    assert less.exit_code == 2
    assert f"holds another training: --data was {drives} (" in less.stderr


def test_hold_outs_of_other_data_are_passed_over(drives, segmenter, tmp_path):
    """A shipped recipe names a video of its makers, which nobody else has."""
    schedule = Schedule(steps=2, warmup=1)
    recipe = msgspec.structs.replace(RECIPE, schedule=schedule, hold_out=("kitti",))
    (tmp_path / "recipe.yaml").write_bytes(msgspec.yaml.encode(recipe))
    command = ["train", "forecaster", str(tmp_path / "recipe.yaml"), "--data", str(drives)]
    command += ["--weights", segmenter, "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert (
        "kitti not found in the data, ignored; its videos: drive0, drive1, drive2, drive3"
        in done.stderr
    )
    names = [word for n in range(4) for word in ("--hold-out", f"drive{n}")]
    none = CliRunner().invoke(app, [*command, *names])
    assert none.exit_code == 2
    assert "held out: drive0, drive1, drive2, drive3. Give more --data" in none.stderr


def test_batches_go_on_after_a_stop(drives, segmenter, tmp_path):
    cache = gathered(drives, segmenter, tmp_path)
    whole = batches(cache, cache.sequences, RECIPE, 0)
    for _ in range(3):
        next(whole)
    torch.testing.assert_close(next(whole), next(batches(cache, cache.sequences, RECIPE, 3)))


def test_samples_are_maps_at_the_times_of_the_recipe_all_mirrored_or_none(
    drives, segmenter, tmp_path
):
    cache = gathered(drives, segmenter, tmp_path)
    slow = msgspec.structs.replace(ARCHITECTURE, every_s=0.2, horizon_s=0.4)
    paces = (Pace(1.0, 0.5), Pace(0.5, 0.5))
    recipe = msgspec.structs.replace(RECIPE, architecture=slow, paces=paces)
    seen = set()
    for _, batch in zip(range(5), batches(cache, cache.sequences[1:2], recipe, 0), strict=False):
        for sample in batch:
            found = [
                (flip, [_moment(cache, x.flip(-1) if flip else x) for x in sample])
                for flip in (False, True)
            ]
            (flip, moments), *_ = [one for one in found if None not in one[1]]
            seen.add((flip, moments[1] - moments[0], moments[2] - moments[1]))
    assert seen == {(flip, gap, 2 * gap) for flip in (False, True) for gap in (1, 2)}


def _moment(cache: feature_cache.FeatureCache, maps: torch.Tensor) -> int | None:
    """At which moment of the second drive these maps were seen."""
    sequence = cache.sequences[1]
    every = cache.read(sequence, range(sequence.length))
    return next((i for i, there in enumerate(every) if torch.equal(there, maps)), None)


def test_no_sample_goes_beyond_its_stretch():
    sequences = [FeatureSequence("a", 0, 5, 7), FeatureSequence("b", 0, 0, 3)]
    assert starts(sequences, [0, 2, 4]) == [(sequences[0], n) for n in (0, 1, 2)]
    assert starts(sequences, [0, 1, 7]) == []


def test_steps_are_those_of_media_time():
    a = msgspec.structs.replace(ARCHITECTURE, past=4, every_s=0.2, horizon_s=0.6)
    recipe = msgspec.structs.replace(RECIPE, architecture=a)
    assert steps_of(recipe) == [0, 2, 4, 6, 12]
    assert steps_of(recipe, 0.5) == [0, 1, 2, 3, 6]
    assert steps_of(recipe, 1.5) == [0, 3, 6, 9, 18]
    with pytest.raises(ConfigError, match=r"0\.25 × `every_s` is not a multiple of .*, 0.1 s"):
        steps_of(recipe, 0.25)


def test_what_is_held_out_is_not_learnt(drives, segmenter, tmp_path):
    cache = gathered(drives, segmenter, tmp_path)
    learnt, held = split(cache, ["drive1"])
    assert {s.name for s in held} == {"drive1"}
    assert {s.name for s in learnt} == {"drive0", "drive2", "drive3"}


def test_what_is_read_counts_from_its_step_on_and_not_below_the_picture(
    drives, segmenter, tmp_path
):
    cache = gathered(drives, segmenter, tmp_path)
    recipe = msgspec.structs.replace(
        RECIPE, loss=ForecasterLossWeights(reading=1.0, overlap=1.0, read_from=0.5)
    )
    head = weights.load_segmenter(segmenter).requires_grad_(False).classes
    model = build(recipe, cache)
    losses = ForecasterLosses(model, head, recipe)
    batch = next(batches(cache, cache.sequences, recipe, 0))
    assert list(losses(batch, 34)) == ["features"]
    full = losses(batch, 35)
    assert list(full) == ["features", "reading", "overlap"]
    padded = F.pad(batch, (0, 0, 0, 4))
    padded[:, -1, :, 12:] = 9.0  # the map's rows below a picture of 48 px
    with torch.no_grad():
        again = losses._class_terms(model.normalise(padded[:, 1].float()), padded[:, -1].float())
        there = losses._class_terms(model.normalise(batch[:, 1].float()), batch[:, -1].float())
    assert again["reading"] == pytest.approx(float(there["reading"]))
    perfect = losses._class_terms(model.normalise(batch[:, -1].float()), batch[:, -1].float())
    assert float(perfect["reading"]) == pytest.approx(0, abs=1e-5)


def test_another_horizon_may_start_from_one(drives, segmenter, tmp_path):
    cache = gathered(drives, segmenter, tmp_path)
    model = Forecaster(ARCHITECTURE)
    torch.nn.init.constant_(model.net.flow.conv.bias, 3.0)
    weights.save(model, tmp_path / "near.safetensors", {})
    far = msgspec.structs.replace(ARCHITECTURE, horizon_s=0.3)
    recipe = msgspec.structs.replace(
        RECIPE, architecture=far, start=str(tmp_path / "near.safetensors")
    )
    model = build(recipe, cache)
    assert model.net.flow.conv.bias.eq(3).all()
    torch.testing.assert_close(model.mean, cache.mean)
    assert model.architecture.horizon_s == 0.3


def test_a_segmenter_of_another_kind_of_map_is_refused(drives, segmenter, tmp_path):
    other = msgspec.structs.replace(ARCHITECTURE, channels=16)
    recipe = msgspec.structs.replace(RECIPE, architecture=other)
    with pytest.raises(ConfigError, match=r"16 channels at stride 4; .* have 8 channels at"):
        run(recipe, [drives], segmenter, tmp_path / "out")
    assert not (tmp_path / "out").exists()  # before anything is looked at


def test_videos_too_short_for_a_sample_are_told(drives, segmenter, tmp_path):
    far = msgspec.structs.replace(ARCHITECTURE, horizon_s=1.5)
    recipe = msgspec.structs.replace(RECIPE, architecture=far)
    with pytest.raises(DataError, match=r"a sample spans 1.6 s, but the longest .* has 1.6 s"):
        run(recipe, [drives], segmenter, tmp_path / "out")


@pytest.mark.parametrize("path", sorted((ROOT / "configs/training").glob("street-f*.yaml")))
def test_recipes_load(path):
    recipe = load_recipe(path)
    assert path.stem == recipe.architecture.name
    for pace in recipe.paces:
        assert len(steps_of(recipe, pace.times)) == recipe.architecture.past + 1
    assert sum(pace.share for pace in recipe.paces) == pytest.approx(1)


def test_a_recipe_that_is_none_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml: No such file"):
        load_recipe(tmp_path / "absent.yaml")
    (tmp_path / "r.yaml").write_text("architecture: {name: a}")
    with pytest.raises(ConfigError, match=r"r\.yaml: Object missing required field"):
        load_recipe(tmp_path / "r.yaml")
