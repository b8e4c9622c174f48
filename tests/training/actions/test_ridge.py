"""Ridge regression against its normal equations, strengths that fit, inputs against clips."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.datasets.clips import Clip
from streamvis.errors import ConfigError
from streamvis.models.off import LEVELS, Off, OffConfig, consensus
from streamvis.training.actions import ridge
from streamvis.training.actions.clip_augment import TrunkMaps
from streamvis.training.actions.ridge import (
    ClassifierInputs,
    Ridge,
    fit,
    learn,
    load_inputs,
    score,
    write_inputs,
)


def clips_of(count: int, sources: int = 10) -> list[Clip]:
    return [Clip(Path(str(i)), "a", str(i % sources)) for i in range(count)]


@given(st.integers(3, 30), st.integers(1, 40), st.integers(2, 3), st.integers(0, 99))
@settings(max_examples=30)
def test_a_ridge_solves_its_equations(count, numbers, actions, seed):
    """Few clips of many numbers, or the other way round: the gradient is nothing."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(2, count, numbers)) * random.uniform(0.5, 5, numbers) + 3
    labels = np.r_[np.arange(actions), random.integers(actions, size=count - actions)]
    prior = random.uniform(0.1, 2, numbers)
    (found,) = ridge._ridges(x, labels, actions, prior, (0.3,))
    z = (x - found.mean) / found.deviation
    targets = 2 * np.eye(actions)[labels] - 1
    shares = count / actions / np.bincount(labels)[labels] / 2  # of a clip's two views
    missed = z @ found.weight.T + found.bias - targets  # (2, count, K)
    slope = np.einsum("vnk,vnd,n->kd", missed, z, shares) + 0.3 * found.weight / prior
    np.testing.assert_allclose(slope, 0, atol=1e-8 * count)
    np.testing.assert_allclose(np.einsum("vnk,n->k", missed, shares), 0, atol=1e-8 * count)


def test_views_of_a_clip_weigh_as_one_clip():
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(1, 20, 30)), np.arange(20) % 2
    one, three = (
        next(ridge._ridges(np.repeat(x, n, 0), labels, 2, np.ones(30), (0.5,))) for n in (1, 3)
    )
    np.testing.assert_allclose(one.weight, three.weight, atol=1e-10)


def test_what_is_noise_is_held_down_and_what_is_not_is_not():
    random = np.random.default_rng(0)
    labels = np.arange(100) % 2
    noise = random.normal(size=(1, 100, 60))
    clear = noise.copy()
    clear[..., :5] += 3 * (2 * labels[:, None] - 1)
    how, prior = Ridge(strengths=(0.01, 1.0, 1000.0)), np.full(60, 1 / 60)
    weak, strong = (fit(x, labels, 2, prior, clips_of(100), how)[1] for x in (clear, noise))
    assert (weak, strong) == (0.01, 1000.0)


def test_one_source_cannot_be_held_out():
    x = np.random.default_rng(0).normal(size=(1, 8, 3))
    with pytest.raises(ConfigError, match="one source"):
        fit(x, np.arange(8) % 2, 2, np.ones(3), clips_of(8, sources=1), Ridge())


def test_a_score_of_pooled_inputs_is_that_of_the_clip(tmp_path):
    """Of one that moves, one that does not, and one of a single picture."""
    torch.manual_seed(0)
    about = OffConfig(name="a", actions=("a", "b", "c"), size=(64, 64), classifier="motion")
    model = Off(about).eval()
    for part in model.body.modules():  # numbers as large as trained ones'
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
    pictures = torch.randint(256, (8, 64, 64, 3), dtype=torch.uint8)
    pictures[4:7] = pictures[4]
    first = np.array([0, 4, 7, 8])
    with torch.inference_mode():
        seen = model.tap_maps(model.normalise(pictures))
        write_inputs(
            model, TrunkMaps([x.numpy()[None] for x in seen], first), tmp_path / "readings.npz"
        )
    inputs = load_inputs(tmp_path / "readings.npz")
    rows, labels = np.array([0, 1, 2]), np.array([0, 1, 2])
    learn(model, inputs, clips_of(3), labels, rows, Ridge(strengths=(0.1,)))
    found = score(model, inputs, rows)
    assert (found["frame"].argmax(1) == labels).all()
    moves = np.mean([found[name] for name in LEVELS], 0)[:, 0] > 0
    assert moves.tolist() == [True, False, False]  # and of the others neither does
    with torch.inference_mode():
        for i in rows:
            clip = pictures[first[i] : first[i + 1]]
            clip = torch.cat([clip, clip]) if len(clip) == 1 else clip
            for name, logits in consensus(model(model.normalise(clip[None]))).items():
                np.testing.assert_allclose(logits[0], found[name][i], atol=2e-3)


def test_views_but_the_first_are_not_scored():
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    model = Off(OffConfig(name="a", actions=("a", "b"), size=(64, 64), guided=False))
    model.head = torch.nn.Linear(3, 2)
    one, other = (score(model, ClassifierInputs(x[:n], []), [1, 3])["frame"] for n in (1, 2))
    np.testing.assert_array_equal(one, other)
