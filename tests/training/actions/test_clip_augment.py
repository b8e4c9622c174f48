"""Augmented views of clips, and batches that depend on seed and step only."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labelled_clips import SIZE, drawn_filters

from streamvis.models.off import Off, OffConfig
from streamvis.training.actions.clip_augment import (
    ClipAugment,
    TrunkMaps,
    augment_clip,
    clips_of_step,
    map_batches,
    pixel_batches,
    rows_of,
    trunk_maps,
    whole_frames,
)
from streamvis.training.actions.clip_sampling import ClipFrames

PLAIN = ClipAugment(scales=(1.0,), mirror=0, light=0)
FIRST = np.array([0, 4, 6, 11])  # of three clips


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


@given(st.integers(0, 500))
def test_a_crop_has_sides_of_neighbouring_scales_at_a_corner_or_the_centre(seed):
    """Read back from a picture whose values are its own coordinates."""
    y, x = np.mgrid[0:200, 0:200].astype(np.uint8)
    how = ClipAugment(scales=(1.0, 0.8, 0.5), distort=1, mirror=0, light=0)
    pixels = np.stack([y, x, x], -1)[None]
    (found,) = augment_clip(pixels, (200, 200), "rgb", how, np.random.default_rng(seed))
    places, scales = [], []
    for line in (found[:, 100, 0].astype(int), found[100, :, 1].astype(int)):
        low, high = line[0], line[-1] + 1
        scales.append(how.scales.index((high - low) / 200))
        slack = 200 - (high - low)
        places.append(low / slack if slack else None)
    assert abs(scales[0] - scales[1]) <= 1
    assert set(places) <= {0, 0.5, 1, None}
    assert (places[0] == 0.5) == (places[1] == 0.5) or None in places


@pytest.mark.parametrize("channels", [3, 10, 18])
@pytest.mark.parametrize("size", [(32, 48), (80, 96)])
def test_every_channel_of_a_stack_is_resized_by_itself(channels, size):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 60, channels), np.uint8)
    found = whole_frames(pixels, size)
    how = cv2.INTER_AREA if size[0] < 40 else cv2.INTER_LINEAR
    for frame, channel in np.ndindex(2, channels):
        alone = cv2.resize(
            np.ascontiguousarray(pixels[frame, ..., channel]), size[::-1], interpolation=how
        )
        np.testing.assert_array_equal(found[frame, ..., channel], alone)
    assert whole_frames(pixels, (40, 60)) is pixels


def numbered_frames() -> ClipFrames:
    """Three clips whose pixels are the number of their frame."""
    numbers = np.arange(FIRST[-1], dtype=np.uint8)
    return ClipFrames(np.broadcast_to(numbers[:, None, None, None], (11, *SIZE, 3)).copy(), FIRST)


def numbered_maps(views: int) -> TrunkMaps:
    """Two levels whose values are the number of the frame, and 100 more in each further view."""
    values = 100 * np.arange(views)[:, None] + np.arange(FIRST[-1])
    return TrunkMaps([values[..., None].astype(np.float16)] * 2, FIRST)


def test_a_batch_of_frames_has_the_labels_of_its_clips_and_is_the_same_after_a_stop():
    clips, labels = np.array([0, 2]), np.array([5, 6, 7])
    given = numbered_frames(), clips, labels, (2, 3), SIZE, "rgb", PLAIN, 7
    whole, later = pixel_batches(*given), pixel_batches(*given, step=2)
    batches = [next(whole) for _ in range(4)]
    for batch in batches:
        assert batch.pixels.shape == (2, 3, *SIZE, 3)
        assert sorted(batch.labels.tolist()) == [5, 7]  # clip 1 is held out
        for shown, label in zip(batch.pixels[:, :, 0, 0, 0].tolist(), batch.labels, strict=True):
            low, high = FIRST[label - 5], FIRST[label - 4]
            assert low <= shown[0] < shown[1] < shown[2] < high
    for expected in batches[2:]:
        found = next(later)
        assert torch.equal(found.pixels, expected.pixels)
        assert torch.equal(found.labels, expected.labels)
    assert any(not torch.equal(batches[0].pixels, other.pixels) for other in batches[1:])


@pytest.mark.parametrize("backwards", [0.0, 1.0])
def test_a_batch_of_maps_shows_each_clip_in_one_of_its_views(backwards):
    how = ClipAugment(backwards=backwards)
    clips, labels = np.arange(3), np.array([5, 6, 7])
    given = numbered_maps(views=2), clips, labels, (3, 2), how, 7
    whole, later = map_batches(*given), map_batches(*given, step=3)
    batches, views = [next(whole) for _ in range(6)], set()
    for batch in batches:
        assert batch.pixels is None
        fine, coarse = (level.reshape(3, 2) for level in batch.maps)  # clips, moments
        assert torch.equal(fine, coarse)
        for (first, second), label in zip(fine.tolist(), batch.labels, strict=True):
            assert second - first == (-1 if backwards else 1)
            assert FIRST[label - 5] <= first % 100 < FIRST[label - 4]
            views.add(first // 100)
    assert views == {0, 1}
    for expected in batches[3:]:
        assert torch.equal(next(later).maps[0], expected.maps[0])


@pytest.fixture(scope="module")
def network() -> Off:
    model = Off(OffConfig(name="a", actions=("a", "b"), size=SIZE, classifier="motion")).eval()
    model.body.load_state_dict(drawn_filters(model.body))
    return model


def clips_of_noise() -> ClipFrames:
    pixels = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), np.uint8)
    return ClipFrames(pixels, np.array([0, 2, 3]))


def test_cached_maps_are_those_of_the_network_and_are_computed_once(network, tmp_path, one_thread):
    frames = clips_of_noise()
    found = trunk_maps(network, frames, ClipAugment(), 2, tmp_path / "maps")
    with torch.inference_mode():
        expected = network.tap_maps(network.normalise(frames.pixels))
    assert len(found.levels) == len(expected)
    for level, maps in zip(found.levels, expected, strict=True):
        assert level.shape == (2, *maps.shape)
        np.testing.assert_allclose(level[0], maps, rtol=2e-3, atol=2e-3)  # whole frames, as fp16
        assert not np.array_equal(level[1], level[0])
    blank = frames._replace(pixels=np.zeros_like(frames.pixels))
    again = trunk_maps(network, blank, ClipAugment(), 2, tmp_path / "maps")
    np.testing.assert_array_equal(again.levels[-1], found.levels[-1])
    (last,) = trunk_maps(network, frames, ClipAugment(), 1, tmp_path / "last", taps=False).levels
    np.testing.assert_array_equal(last[0], found.levels[-1][0])


def test_maps_of_a_stopped_computation_are_computed_again(network, tmp_path, one_thread):
    trunk_maps(network, clips_of_noise(), ClipAugment(), 1, tmp_path)
    (tmp_path / "done").unlink()
    np.save(tmp_path / "0.npy", np.zeros((1, 3), np.float16))
    found = trunk_maps(network, clips_of_noise(), ClipAugment(), 1, tmp_path)
    assert found.levels[0].ndim == 5
    assert found.levels[0].any()
