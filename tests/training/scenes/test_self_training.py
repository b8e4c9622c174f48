"""Labels that a segmenter gives to video: certain ones, that hold over time, in each class."""

import cv2
import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labelled_drives import untrained_weights

from streamvis.datasets.classes import CAMVID, VOID
from streamvis.datasets.street import read_labels, read_scenes
from streamvis.errors import ConfigError, DataError, RunError
from streamvis.models import weights
from streamvis.models.flow_warp import flow_frame
from streamvis.models.inference import select
from streamvis.training.scenes import self_training
from streamvis.training.scenes.segmenter import SegmenterRecipe, gather, train
from streamvis.training.scenes.self_training import (
    LEVELS,
    Segmenters,
    SelfTraining,
    VideoLabels,
    agreed,
    believed,
    label_videos,
    limits_of,
)

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = (64, 96)


def texture(seed: int, height: int = 64, width: int = 96) -> np.ndarray:
    cells = np.random.default_rng(seed).integers(0, 255, (height // 4, width // 4, 1), np.uint8)
    return np.kron(cells, np.ones((4, 4, 3), np.uint8))


@pytest.fixture(autouse=True)
def quick_to_start(monkeypatch):
    """Without compiling: it pays for hours of video, not for a handful of pictures."""
    monkeypatch.setattr(select, "openvino_version", lambda: None)


@pytest.fixture
def drives(tmp_path, filmed):
    folder = tmp_path / "drives"
    filmed(folder / "one.mp4", [np.roll(texture(0), n, 1) for n in range(9)], fps=10)
    return folder


@pytest.fixture
def segmenter(tmp_path) -> str:
    return str(untrained_weights(tmp_path)[0])


@given(st.integers(0, 2**32), st.floats(0, 1), st.floats(0.5, 1))
def test_of_each_class_the_surest_share_is_learnt_from_and_all_that_is_certain(seed, share, sharp):
    rng = np.random.default_rng(seed)
    how = SelfTraining(share=share, certain=0.9, least=0.3)
    found = [
        VideoLabels(
            "", np.zeros((0, 0, 3), np.uint8),
            rng.choice(np.array([0, 1, 2, VOID], np.uint8), (20, 30)),
            (LEVELS * rng.random((20, 30)) ** (1 - sharp + 0.01)).astype(np.uint8),
        )
        for _ in range(2)
    ]  # fmt: skip
    limits = limits_of(found, 4, how)
    kept = [believed(one, limits) for one in found]
    for number in range(3):
        sure = np.concatenate([one.sure[one.classes == number] for one in found])
        chosen = np.concatenate(
            [k[one.classes == number] for one, k in zip(found, kept, strict=True)]
        )
        learnt = sure[chosen == number]
        assert set(chosen.tolist()) <= {number, VOID}
        assert (learnt >= 0.3 * LEVELS - 1).all()
        assert (chosen[sure >= 0.9 * LEVELS + 1] == number).all()  # certain ones always
        weaker = sure[chosen == VOID]
        if len(weaker):
            assert len(learnt) == 0 or learnt.min() > weaker.max()
            # more would be learnt from only below the least probability, or beyond the share
            surest = (sure >= weaker.max()).mean()
            assert weaker.max() < 0.3 * LEVELS + 1 or surest > share - 1e-9
    assert all((k[one.classes == VOID] == VOID).all() for one, k in zip(found, kept, strict=True))


def test_labels_have_to_move_with_the_picture():
    before = np.zeros(SIZE, np.uint8)
    before[20:50, 30:60] = 8
    first, second = texture(0), np.roll(texture(0), 4, 1)
    flow = flow_frame(second, flow_frame(first, None, SIZE), SIZE)
    inside = np.s_[10:54, 16:80]  # what enters at the border has no place to come from
    moved = np.roll(before, 4, 1)
    assert (agreed(moved, before, flow)[inside] == moved[inside]).mean() > 0.97
    left = agreed(before, before, flow)  # a label that stays where the picture has moved on
    assert (left[24:46, 31:33] == VOID).all()
    assert (left[24:46, 40:56] == 8).all()
    assert (agreed(moved, before, flow_frame(second, None, SIZE)) == VOID).all()


def test_probabilities_are_the_mean_over_sizes_and_mirror_images(segmenter):
    pixels = texture(3)
    found = Segmenters(segmenter, (64,))(pixels)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-2)
    mirrored = Segmenters(segmenter, (64,))(np.ascontiguousarray(pixels[:, ::-1]))
    np.testing.assert_allclose(found, mirrored[:, :, ::-1], atol=1e-2)
    several = Segmenters(segmenter, (64, 96))(pixels)
    other = Segmenters(segmenter, (96,))(pixels)
    np.testing.assert_allclose(several, (found + other) / 2, atol=1e-2)


def test_a_folder_of_labels_is_made_once(drives, segmenter, tmp_path):
    how = SelfTraining(lines=(64,), certain=0.0, share=0.0, least=0.0)
    folder = label_videos([drives], segmenter, how, SIZE, tmp_path / "labelled")
    classes, scenes = read_scenes(folder)
    assert classes is CAMVID
    assert [scene.name for scene in scenes] == ["one_00002_0", "one_00004_0"]  # 0.4 s apart
    labels = read_labels(scenes[1].label, CAMVID)
    assert labels.shape == SIZE
    assert set(np.unique(labels)) - {VOID} <= set(range(11))
    report = msgspec.json.decode((folder / "labelled.json").read_bytes())
    assert report["pictures"] == 2
    scenes[0].label.unlink()
    label_videos([drives], segmenter, how, SIZE, tmp_path / "labelled")
    assert not scenes[0].label.exists()


def test_a_video_without_a_picture_to_label_and_a_folder_that_cannot_be_written(
    drives, segmenter, tmp_path
):
    with pytest.raises(DataError, match=r"no video is longer than 20 s"):
        label_videos([drives], segmenter, SelfTraining(every=100), SIZE, tmp_path / "labelled")
    out = tmp_path / "taken"
    (out / "images/one_00002_0.png").mkdir(parents=True)  # where a picture is to be
    how = SelfTraining(lines=(64,), certain=0.0, share=0.0, least=0.0)
    with pytest.raises(RunError, match=r"one_00002_0\.png cannot be written: Is a directory"):
        label_videos([drives], segmenter, how, SIZE, out)
    assert not (out / "labelled.json").exists()  # it is not taken for complete


def test_other_classes_than_those_that_are_written_are_refused(drives, tmp_path):
    from streamvis.models.swiftnet import SwiftNet, SwiftNetConfig

    model = SwiftNet(SwiftNetConfig("two", "efficientnet_lite0", ("a", "b"), (8, 8, 8), 64))
    weights.save(model, tmp_path / "two.safetensors", {})
    with pytest.raises(ConfigError, match="other classes than CamVid's"):
        label_videos(
            [drives], str(tmp_path / "two.safetensors"), SelfTraining(), SIZE, tmp_path / "out"
        )


def test_a_segmenter_learns_from_both_and_true_labels_are_half(
    drives, segmenter, tmp_path, monkeypatch
):
    street = tmp_path / "street"
    for name in ("images", "labels"):
        (street / name).mkdir(parents=True)
    cv2.imwrite(str(street / "images/a.png"), texture(9))
    cv2.imwrite(str(street / "labels/a.png"), np.full(SIZE, 3, np.uint8))
    about = weights.load_segmenter(segmenter).architecture
    recipe = msgspec.convert(
        {
            "architecture": msgspec.to_builtins(about),
            "start": segmenter,
            "unlabelled": {"lines": [64], "certain": 0, "share": 0, "least": 0},
            "schedule": {"steps": 2, "warmup": 1},
            "size": [64, 96],
            "batch": 2,
            "precision": "fp32",
        },
        SegmenterRecipe,
    )
    with pytest.raises(ConfigError, match="--unlabelled"):
        train(recipe, [street], tmp_path / "run")
    model = train(recipe, [street], tmp_path / "run", unlabelled=[drives])
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    made = read_scenes(tmp_path / "run/labelled")[1]
    streets = gather(recipe, [street], made)
    assert len(streets) == 2 * len(made) == 4
    assert streets.pictures[0] is streets.pictures[1]  # kept in memory once
    with pytest.raises(ConfigError, match=r"the recipe does not use it.*street-seg-2"):
        train(msgspec.structs.replace(recipe, unlabelled=None), [street], tmp_path / "other",
              unlabelled=[drives])  # fmt: skip
    monkeypatch.setattr(self_training, "Segmenters", None)  # a resumed training has its labels
    train(recipe, [street], tmp_path / "run", unlabelled=[drives])
