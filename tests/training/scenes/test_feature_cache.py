"""Maps of driving video on disk: the segmenter's, made once, with cuts, statistics and greys."""

import numpy as np
import pytest
import torch

from streamvis.datasets.driving import DriveSampling, sample_drive
from streamvis.errors import DataError
from streamvis.models import weights
from streamvis.models.flow_warp import grey_half_size
from streamvis.models.swiftnet import SwiftNet, SwiftNetConfig
from streamvis.training.scenes import feature_cache
from streamvis.training.scenes.feature_cache import FeatureSequence, build_cache

pytestmark = pytest.mark.usefixtures("one_thread")

SAMPLING = DriveSampling(size=(48, 64))


def texture(seed: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    cells = np.random.default_rng(seed).integers(0, 255, (6, 8, 1), np.uint8)
    return np.kron(cells, np.ones((size[0] // 6, size[1] // 8, 3), np.uint8))


@pytest.fixture
def drives(tmp_path, filmed):
    """Two videos at 10 pictures a second: one with a cut, one wide enough for two views."""
    folder = tmp_path / "drives"
    filmed(folder / "cut.mp4", [np.roll(texture(n >= 4), n, 1) for n in range(7)], fps=10)
    filmed(folder / "wide.mp4", [np.roll(texture(2, (48, 96)), n, 1) for n in range(5)], fps=10)
    return folder


@pytest.fixture
def segmenter(tmp_path) -> str:
    torch.manual_seed(0)
    model = SwiftNet(SwiftNetConfig("tiny", "efficientnet_lite0", ("a", "b"), (8, 8, 8)))
    weights.save(model, tmp_path / "tiny.safetensors", {})
    return str(tmp_path / "tiny.safetensors")


def test_maps_are_those_of_the_segmenter(drives, segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "choose", lambda *_: ("torch", torch.float32))
    cache = build_cache([drives], segmenter, SAMPLING, tmp_path / "maps")
    assert cache.sequences == [
        FeatureSequence("cut", 0, 0, 4), FeatureSequence("cut", 0, 4, 3),
        FeatureSequence("wide", 0, 0, 5), FeatureSequence("wide", 1, 0, 5),
    ]  # fmt: skip
    model = weights.load_segmenter(segmenter)
    every = []
    for name in ("cut", "wide"):
        for n, seen in enumerate(sample_drive(drives / f"{name}.mp4", SAMPLING)):
            for view, pixels in enumerate(seen.views):
                with torch.inference_mode():
                    expected = model.features(model.normalise(pixels[None]))[0]
                sequence = next(
                    s for s in cache.sequences
                    if (s.name, s.view) == (name, view) and s.first <= n < s.first + s.length
                )  # fmt: skip
                (found,) = cache.read(sequence, [n - sequence.first])
                assert found.dtype == torch.float16
                spread = expected.std()
                assert (found.float() - expected).abs().mean() < 0.03 * spread
                every.append(found.double())
    maps = torch.stack(every)
    mean, std = maps.mean((0, 2, 3)), maps.std((0, 2, 3), correction=0)
    torch.testing.assert_close(cache.mean.double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(cache.std.double(), std, rtol=1e-4, atol=1e-5)


def test_what_is_there_is_not_made_again(drives, segmenter, tmp_path, monkeypatch):
    def broken(model):
        def look(pixels):
            looked.append(1)
            if len(looked) > 8:
                raise KeyboardInterrupt
            return np.full((8, 16, 16), len(looked), np.float16)

        return look

    looked: list[int] = []
    monkeypatch.setattr(feature_cache, "_encoder", broken)
    with pytest.raises(KeyboardInterrupt):
        build_cache([drives], segmenter, SAMPLING, tmp_path / "maps")
    looked.clear()
    monkeypatch.setattr(
        feature_cache, "_encoder", lambda model: lambda pixels: looked.append(1) or ONE
    )
    cache = build_cache([drives], segmenter, SAMPLING, tmp_path / "maps")
    assert len(looked) == 2 * 5  # the wide one alone, from its start
    assert cache.read(cache.sequences[0], [0, 2])[:, 0, 0, 0].tolist() == [1, 3]
    assert cache.read(cache.sequences[1], [0, 2])[:, 0, 0, 0].tolist() == [5, 7]
    assert not list((tmp_path / "maps").rglob(".*"))
    assert_greys_are_of_views(cache, drives, SAMPLING)


ONE = np.ones((8, 16, 16), np.float16)


def assert_greys_are_of_views(cache, drives, sampling):
    """Every one of every stretch, and there are no more of them."""
    looked = 0
    for name in ("cut", "wide"):
        samples = list(sample_drive(drives / f"{name}.mp4", sampling))
        for sequence in (s for s in cache.sequences if s.name == name):
            views = [
                samples[sequence.first + n].views[sequence.view] for n in range(sequence.length)
            ]
            expected = np.stack([grey_half_size(pixels, sampling.size) for pixels in views])
            found = cache.read_grey(sequence, range(sequence.length))
            assert found.dtype == np.uint8
            np.testing.assert_array_equal(found, expected)
            backwards = cache.read_grey(sequence, np.arange(sequence.length)[::-1])
            np.testing.assert_array_equal(backwards, expected[::-1])
            assert (np.diff(expected.astype(int), axis=0) != 0).any((1, 2)).all()  # order shows
            looked += sequence.length
    assert looked == sum(grey.shape[0] * grey.shape[1] for grey in cache.greys.values())


@pytest.mark.parametrize("size", [(48, 64), (49, 63)], ids=str)
def test_small_grey_pictures_are_kept_of_every_view(size, drives, segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "_encoder", lambda model: lambda pixels: ONE)
    sampling = DriveSampling(size=size)
    cache = build_cache([drives], segmenter, sampling, tmp_path / "maps")
    half = tuple(-(-n // 2) for n in size)
    assert cache.greys["cut"].shape == (7, 1, *half)
    assert cache.greys["wide"].shape == (5, 2, *half)
    assert_greys_are_of_views(cache, drives, sampling)


def test_a_video_is_done_when_all_is_known_of_it(drives, segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "_encoder", lambda model: lambda pixels: ONE)

    def stops(path, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as first:
        first.setattr(feature_cache, "replace", stops)
        with pytest.raises(KeyboardInterrupt):
            build_cache([drives], segmenter, SAMPLING, tmp_path / "maps")
    (grey,) = (tmp_path / "maps").rglob("*.grey")
    grey.write_bytes(b"half of it")
    looked: list[int] = []
    monkeypatch.setattr(
        feature_cache, "_encoder", lambda model: lambda pixels: looked.append(1) or 2 * ONE
    )
    cache = build_cache([drives], segmenter, SAMPLING, tmp_path / "maps")
    assert len(looked) == 7 + 2 * 5  # both from their start
    assert all(cache.read(s, range(s.length)).eq(2).all() for s in cache.sequences)
    assert_greys_are_of_views(cache, drives, SAMPLING)


def test_what_was_kept_in_an_older_format_is_made_again(drives, segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "_encoder", lambda model: lambda pixels: ONE)
    with monkeypatch.context() as earlier:
        earlier.setattr(feature_cache, "FORMAT", feature_cache.FORMAT - 1)
        build_cache([drives], segmenter, SAMPLING, tmp_path / "maps")
    monkeypatch.setattr(feature_cache, "_encoder", lambda model: lambda pixels: 2 * ONE)
    cache = build_cache([drives], segmenter, SAMPLING, tmp_path / "maps")
    assert cache.read(cache.sequences[0], [0]).eq(2).all()


def test_another_segmenter_has_maps_of_its_own(drives, segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "_encoder", lambda model: lambda pixels: ONE)
    build_cache([drives], segmenter, SAMPLING, tmp_path / "maps")
    model = weights.load_segmenter(segmenter)
    model.classes[-1].weight.data += 1
    weights.save(model, tmp_path / "tiny.safetensors", {})
    monkeypatch.setattr(feature_cache, "_encoder", lambda model: lambda pixels: 2 * ONE)
    cache = build_cache([drives], segmenter, SAMPLING, tmp_path / "maps")
    assert cache.read(cache.sequences[0], [0]).eq(2).all()


def test_maps_beyond_fp16_are_told(drives, segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "_encoder", lambda model: lambda pixels: ONE / 0)
    with np.errstate(divide="ignore"), pytest.raises(DataError, match="that fp16 cannot hold"):
        build_cache([drives], segmenter, SAMPLING, tmp_path / "maps")
