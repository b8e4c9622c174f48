"""How sure of what moves there: of films that scroll, whose classes are their shades of grey."""

import math
import zlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.driving import DriveSampling
from streamvis.errors import ConfigError, DataError
from streamvis.models import swiftnet, weights
from streamvis.models.forecasting import ForecasterConfig
from streamvis.models.warp_calibrator import CUES, FAR, WarpCalibrator
from streamvis.training.loop import Schedule, read_log
from streamvis.training.scenes import feature_cache, forecaster, warp_calibrator
from streamvis.training.scenes.forecaster import ForecasterRecipe, load_recipe, run

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("sky", "road", "tree", "car")  # of the darkest quarter of greys, … of the brightest
STAND, CAR = np.array([32, 96, 160]), np.array([224])  # greys of what stands, and of what does not
ROAD = STAND[1:2]
CLEAR = 6.0  # logit of the class that is seen
FLICKER = 0.3  # of places whose class is drawn by lot
SIZE, FRAMES, STEP = (64, 96), 14, 8  # STEP: px of a film in 0.1 s
RECIPE = ForecasterRecipe(
    architecture=ForecasterConfig(
        name="tiny", kind="moved", channels=4, stride=4, width=8, depth=2, past=2,
        every_s=0.1, horizon_s=0.1,
    ),
    schedule=Schedule(steps=60, warmup=5, average=0.8, save_every=20, weight_decay=0.0),
    sampling=DriveSampling(size=SIZE, cut=-1),  # what scrolls is not alike
    batch=4,
    rate=3e-2,
)  # fmt: skip


def shown(pixels: np.ndarray) -> np.ndarray:
    """Classes (⌈H/4⌉, ⌈W/4⌉) of a picture, whose edges go on."""
    grey = np.pad(pixels.mean(-1), [(0, -n % 4) for n in pixels.shape[:2]], "edge")
    return (_places(grey) * len(NAMES) // 256).astype(int)


def _places(x: np.ndarray) -> np.ndarray:
    return x.reshape(x.shape[0] // 4, 4, x.shape[1] // 4, 4).mean((1, 3))


def sees(pixels: np.ndarray) -> np.ndarray:
    """A map (8, h, w) of 1 where a class is, padded as real ones are, with what is none."""
    return _map(shown(pixels))


def flickers(pixels: np.ndarray) -> np.ndarray:
    """The same, but at some places another class comes by lot, for each picture anew."""
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(pixels).tobytes()))
    classes = shown(pixels)
    lots = rng.integers(0, len(STAND), classes.shape)
    return _map(np.where(rng.random(classes.shape) < FLICKER, lots, classes))


def _map(classes: np.ndarray) -> np.ndarray:
    padded = np.pad(classes, [(0, -n % 16) for n in classes.shape], constant_values=7)
    return (np.arange(8)[:, None, None] == padded).astype(np.float16)


@pytest.fixture
def segmenter(tmp_path, monkeypatch) -> str:
    """Its head reads the first four channels of a map as its classes."""
    monkeypatch.setattr(feature_cache, "_encoder", lambda model: sees)
    torch.manual_seed(0)
    model = swiftnet.SwiftNet(
        swiftnet.SwiftNetConfig("tiny", "efficientnet_lite0", NAMES, (8, 8, 8))
    )
    torch.nn.init.zeros_(model.classes[-1].bias)
    model.classes[-1].weight.data = CLEAR * torch.eye(len(NAMES), 8)[..., None, None]
    weights.save(model, tmp_path / "tiny.safetensors", {})
    return str(tmp_path / "tiny.safetensors")


def scene(seed: int, size: tuple[int, int], shades: np.ndarray = STAND) -> np.ndarray:
    """Blocks of 8 px in some shades, no two of them quite alike, (H, W, 3)."""
    rng = np.random.default_rng(seed)
    blocks = [-(-n // 8) for n in size]
    grey = rng.choice(shades, blocks) + rng.integers(-25, 26, blocks)
    whole = np.kron(grey, np.ones((8, 8), int))[: size[0], : size[1]]
    return np.dstack([whole.astype(np.uint8)] * 3)


def scrolled(seed: int, size: tuple[int, int], motion: tuple[int, int], count: int):
    """Pictures that look (x, y) px further on each time."""
    (x, y), (height, width) = np.array(motion) * count, size
    whole = scene(seed, (height + 2 * abs(y), width + 2 * abs(x)))
    lefts, tops = abs(x) + motion[0] * np.arange(count), abs(y) + motion[1] * np.arange(count)
    return [whole[t : t + height, s : s + width] for s, t in zip(lefts, tops, strict=True)]


@pytest.fixture
def drives(tmp_path, filmed) -> Path:
    """Four films that go to the left by two places in 0.1 s."""
    for seed in range(4):
        pictures = scrolled(seed, SIZE, (STEP, 0), FRAMES)
        filmed(tmp_path / "drives" / f"drive{seed}.mp4", pictures, fps=10)
    return tmp_path / "drives"


def gathered(drives: Path, segmenter: str, out: Path, size=SIZE) -> feature_cache.FeatureCache:
    return feature_cache.build_cache(
        [drives], segmenter, DriveSampling(size=size, cut=-1), out / "maps"
    )


def softmax_of(classes: np.ndarray) -> np.ndarray:
    """(K, h, w) of logits that are CLEAR where a class is."""
    there = math.exp(CLEAR) / (math.exp(CLEAR) + len(NAMES) - 1)
    known = np.arange(len(NAMES))[:, None, None] == classes
    return np.where(known, there, (1 - there) / (len(NAMES) - 1))


@pytest.mark.parametrize(
    ("motion", "steps", "size"),
    [
        ((8, 0), (0, 1, 2, 3), (96, 128)),
        ((-8, 0), (0, 1, 2, 3), (96, 128)),
        ((4, 0), (0, 1, 2, 4), (96, 128)),  # twice as far as between looks
        ((-4, 0), (0, 2, 4, 6), (96, 128)),
        ((8, 0), (1, 2, 3, 4), (90, 125)),  # neither side is whole places
    ],
    ids=str,
)
def test_what_comes_is_what_was_upstream(motion, steps, size, segmenter, filmed, tmp_path):
    pictures = scrolled(1, size, motion, steps[-1] + 3)
    filmed(tmp_path / "drives" / "a.mp4", even(pictures), fps=10)
    cache = gathered(tmp_path / "drives", segmenter, tmp_path, size)
    sample = warp_calibrator.WarpSampler(weights.load_segmenter(segmenter), cache, size)
    (sequence,) = cache.sequences
    shares, cues, came = sample(sequence, 2, steps)
    now, future = (shown(pictures[2 + step]) for step in steps[-2:])
    np.testing.assert_array_equal(came, future[None])

    back = np.array(motion) * (steps[-1] - steps[-2])  # px
    rows, columns = (
        np.minimum(4 * np.arange(count) + 2, px - 1)
        for count, px in zip(now.shape, size, strict=True)
    )
    x, y = np.meshgrid(columns + back[0], rows + back[1])
    upstream = now[(y // 4).clip(0, len(rows) - 1), (x // 4).clip(0, len(columns) - 1)]
    beyond = (x < 0) | (x >= size[1]) | (y < 0) | (y >= size[0])
    np.testing.assert_array_equal(upstream[~beyond], future[~beyond])  # so the film says, too
    # flow is seen, not known: here and there it is off by a px
    off = np.abs(shares.numpy() - softmax_of(upstream)).max((0, 1))
    assert (off < 1e-3).mean() > 0.98
    assert cues.shape == (1, CUES, *now.shape)
    assert cues[0, :2].flatten(1).median(1).values * FAR == pytest.approx(back)
    assert (np.abs(cues[0, :2].numpy() * FAR - back[:, None, None]) < 1.5).mean() > 0.98
    assert (cues[0, 2].numpy() == beyond).mean() > 0.98


def even(pictures):
    """With a side one longer where it is odd, as videos are."""
    return [np.pad(p, [(0, p.shape[0] % 2), (0, p.shape[1] % 2), (0, 0)], "edge") for p in pictures]


def test_a_thing_goes_its_own_way(segmenter, filmed, tmp_path):
    road, car = scene(1, (96, 128), ROAD), scene(2, (32, 40), CAR)
    pictures = [road.copy() for _ in range(4)]
    for n, pixels in enumerate(pictures):
        pixels[32:64, 64 - STEP * n :][:, :40] = car
    filmed(tmp_path / "drives" / "a.mp4", pictures, fps=10)
    cache = gathered(tmp_path / "drives", segmenter, tmp_path, (96, 128))
    sample = warp_calibrator.WarpSampler(weights.load_segmenter(segmenter), cache, (96, 128))
    shares, cues, came = sample(cache.sequences[0], 0, [0, 1, 2, 3])
    there = came[0] == NAMES.index("car")
    assert there.sum() == 8 * 10  # places
    told = shares[0].argmax(0) == NAMES.index("car")
    assert (told & there).sum() > 0.95 * (told | there).sum()  # 0.87, if it went as the road does
    assert (cues[0, 0][there] * FAR - STEP).abs().max() < 1.5  # as a whole
    assert (cues[0, :2, :, 28:] * FAR).abs().max() < 1.5  # far from it all stands


def test_what_is_mirrored_moves_the_other_way(drives, segmenter, tmp_path):
    (told, cues, came), (turned, other, back) = (
        next(drawn(drives, segmenter, tmp_path, mirror=mirror)) for mirror in (0.0, 1.0)
    )
    assert told.shape == (4, len(NAMES), SIZE[0] // 4, SIZE[1] // 4)
    torch.testing.assert_close(turned, told.flip(-1))
    torch.testing.assert_close(back, came.flip(-1))
    along, across, beyond = other.unbind(1)
    torch.testing.assert_close(along, -cues[:, 0].flip(-1))
    torch.testing.assert_close(across, cues[:, 1].flip(-1))
    torch.testing.assert_close(beyond, cues[:, 2].flip(-1))
    assert cues[:, 0].median() == pytest.approx(STEP / FAR)
    assert along.median() == pytest.approx(-STEP / FAR)


def drawn(drives, segmenter, out, step=0, mirror=0.5, seed=0):
    """Batches from a step on."""
    cache = gathered(drives, segmenter, out)
    recipe = msgspec.structs.replace(
        RECIPE,
        architecture=msgspec.structs.replace(
            RECIPE.architecture, past=warp_calibrator.FLOW_PICTURES
        ),
    )
    draw = forecaster.drawing(cache, cache.sequences, recipe)
    sample = warp_calibrator.WarpSampler(weights.load_segmenter(segmenter), cache, SIZE)
    return warp_calibrator.batches(sample, draw, RECIPE.batch, mirror, seed, step)


def test_batches_go_on_after_a_stop(drives, segmenter, tmp_path):
    whole = drawn(drives, segmenter, tmp_path)
    first, _, _, fourth = (next(whole) for _ in range(4))
    again = next(drawn(drives, segmenter, tmp_path, step=3))
    for one, other in zip(fourth, again, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not torch.equal(first[0], fourth[0])
    assert not torch.equal(first[0], next(drawn(drives, segmenter, tmp_path, seed=1))[0])


def test_it_learns_how_often_motion_errs(drives, segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "_encoder", lambda model: flickers)
    recipe = msgspec.structs.replace(RECIPE, hold_out=("drive3",))
    path, told = run(recipe, [drives], segmenter, tmp_path / "out")
    assert told.pictures == FRAMES - 3
    cache = gathered(drives, segmenter, tmp_path / "out")
    held = next(s for s in cache.sequences if s.name == "drive3")
    rows, columns = (n // 4 for n in SIZE)
    seen = cache.read(held, range(FRAMES)).argmax(1).numpy()[:, :rows, :columns]
    comes = seen[2:-1][..., np.arange(STEP // 4, columns + STEP // 4).clip(max=columns - 1)]
    right = (comes == seen[3:]).mean()
    sure = warp_calibrator.SURE * softmax_of(comes[0])[:, 0, 0].max() + (
        1 - warp_calibrator.SURE
    ) / len(NAMES)
    alone = -right * math.log(sure) - (1 - right) * math.log((1 - sure) / (len(NAMES) - 1))
    assert told.moved == pytest.approx(alone, rel=0.02)
    # no lot is a car; of a place alone, one cannot be told better than by how often it is right
    best = -right * math.log(right) - (1 - right) * math.log((1 - right) / (len(STAND) - 1))
    assert told.model == pytest.approx(best, rel=0.1)

    about = weights.describe(str(path)).metadata
    assert about["segmenter"] == weights.sight(segmenter)
    assert (about["data"], about["steps"], about["held_out"]) == ("drives", "60", "drive3")
    assert about["score"] == str(told)
    assert (tmp_path / "out" / "curves.png").stat().st_size > 0
    assert list(read_log(tmp_path / "out" / "log.jsonl")) == list(range(60))
    model = weights.load_forecaster(str(path))
    assert isinstance(model, WarpCalibrator)
    assert model.architecture == RECIPE.architecture
    sample = warp_calibrator.WarpSampler(weights.load_segmenter(segmenter), cache, SIZE)
    places = [(held, first) for first in range(FRAMES - 3)]
    again = warp_calibrator.check(model, sample, places, [0, 1, 2, 3])
    assert again.model == pytest.approx(told.model, rel=1e-3)  # weights are kept in fp16


class Lots:
    """Samples of places, of which a share is of another class than is seen, by video."""

    things = np.array([name == "car" for name in NAMES])

    def __init__(self, right: dict[str, float]) -> None:
        self.right = right

    def __call__(self, sequence, first, steps):
        rng = np.random.default_rng(first)
        seen = rng.integers(0, len(NAMES), (1, 24, 32))
        came = np.where(rng.random(seen.shape) < self.right[sequence.name], seen, 0)
        cues = torch.zeros(1, CUES, *seen.shape[1:])
        return torch.from_numpy(softmax_of(seen)[None]).float(), cues, torch.from_numpy(came)


def test_held_out_videos_tell_how_sure_a_network_may_be():
    """Each counts alike, however long: cars are as probable as they are right."""
    sample = Lots({"long": 0.9, "short": 0.7})
    shots = (("long", 0, 0, 30), ("short", 0, 0, 6))
    sequences = [feature_cache.FeatureSequence(*shot) for shot in shots]
    model = WarpCalibrator(RECIPE.architecture)
    torch.nn.init.constant_(model.doubt, -20.0)  # it is as sure as it is told, and nearly 1
    told = warp_calibrator.check(model, sample, forecaster.starts(sequences, [0, 1]), [0, 1])
    with torch.no_grad():
        shares, cues, _ = sample(sequences[0], 0, [0, 1])
        cars = model(shares, cues).softmax(1)[:, 3]
    assert float(cars.max()) == pytest.approx((0.9 + 0.7) / 2, abs=0.05)
    assert float(cars.min()) < 0.05
    assert told.confidence.temperature > 1
    assert set(told.without) == {"long", "short"}
    assert str(told.confidence) in str(told)


def test_what_was_stopped_goes_on_to_the_same_weights(drives, segmenter, tmp_path, monkeypatch):
    schedule = Schedule(steps=7, warmup=2, average=0.8, save_every=3)
    recipe = msgspec.structs.replace(RECIPE, schedule=schedule)
    whole, told = run(recipe, [drives], segmenter, tmp_path / "whole")
    loss, steps = warp_calibrator.loss, []

    def stopping(model, batch):
        steps.append(batch)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return loss(model, batch)

    monkeypatch.setattr(warp_calibrator, "loss", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, [drives], segmenter, tmp_path / "parts")
    again, _ = run(recipe, [drives], segmenter, tmp_path / "parts")
    assert len(steps) == 5 + 7 - 3  # from what was kept of it
    one, other = (weights.load_forecaster(str(path)).state_dict() for path in (whole, again))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0)
    assert told == warp_calibrator.HeldOutEntropy(0, None, None)  # nothing was held out
    assert not {"score", "held_out"} & set(weights.describe(str(whole)).metadata)


def test_a_segmenter_of_other_classes_is_refused(drives, segmenter, tmp_path):
    eleven = msgspec.structs.replace(RECIPE.architecture, channels=11)
    recipe = msgspec.structs.replace(RECIPE, architecture=eleven)
    with pytest.raises(ConfigError, match=r"channels is 11; the segmenter has 4 classes"):
        run(recipe, [drives], segmenter, tmp_path / "out")
    assert not (tmp_path / "out").exists()  # before anything is looked at


def test_losses_that_it_has_not_are_refused(drives, segmenter, tmp_path):
    recipe = msgspec.structs.replace(RECIPE, loss=forecaster.ForecasterLossWeights(reading=1.0))
    with pytest.raises(ConfigError, match="is trained with cross-entropy alone"):
        run(recipe, [drives], segmenter, tmp_path / "out")


def test_videos_too_short_for_a_sample_are_told(drives, segmenter, tmp_path):
    far = msgspec.structs.replace(RECIPE.architecture, horizon_s=1.2)  # after looks for 0.2 s
    recipe = msgspec.structs.replace(RECIPE, architecture=far)
    with pytest.raises(DataError, match=r"a sample spans 1.4 s, but the longest .* has 1.4 s"):
        run(recipe, [drives], segmenter, tmp_path / "out")


def test_another_horizon_may_start_from_one(drives, segmenter, tmp_path):
    near = WarpCalibrator(RECIPE.architecture)
    torch.nn.init.constant_(near.doubt, -2.5)
    weights.save(near, tmp_path / "near.safetensors", {})
    far = msgspec.structs.replace(RECIPE.architecture, horizon_s=0.3)
    recipe = msgspec.structs.replace(
        RECIPE, architecture=far, start=str(tmp_path / "near.safetensors")
    )
    cache = gathered(drives, segmenter, tmp_path)
    model = forecaster.build(recipe, cache)
    assert model.doubt.item() == -2.5
    assert model.architecture.horizon_s == 0.3


def test_from_the_command_line(drives, segmenter, tmp_path):
    recipe = msgspec.structs.replace(
        RECIPE, schedule=Schedule(steps=3, warmup=1), hold_out=("drive0",)
    )
    (tmp_path / "recipe.yaml").write_bytes(msgspec.yaml.encode(recipe))
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    out = tmp_path / "out"
    command = ["train", "forecaster", str(tmp_path / "recipe.yaml"), "--data", str(drives)]
    done = CliRunner().invoke(app, [*command, "--weights", segmenter, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [str(out / "tiny.safetensors")]
    said = " ".join(done.stderr.split())
    assert f"held-out video, {FRAMES - 3} forecasts: cross-entropy 0." in said
    assert "of warped classes without calibration 0." in said
