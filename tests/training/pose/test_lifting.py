"""Training of lifters: samples, augmentation, the critic, and commands on walking people."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.keypoints import FLIPPED
from streamvis.errors import DataError
from streamvis.messages import KEYPOINTS
from streamvis.models.pose_lifting import LifterConfig
from streamvis.synthetic.walking_poses import walking_poses
from streamvis.training.pose.lift_data import (
    LiftAugment,
    Trust,
    _projected,
    _turned,
    batches,
    read_rows,
    rotation,
)
from streamvis.training.pose.lift_recipe import picture_loss
from streamvis.training.pose.pose_critic import (
    PoseCritic,
    geometric_descriptor,
    reversed_gradient,
)

STILL = LiftAugment(turned=0, noise=0, limb=0, lower_body=0, slower=0)
RECIPE = """
architecture: pose-3d
schedule: {steps: 100, warmup: 5, average: 0.9}
batch: [48, 16]
losses: {lifter_rate: 3.0e-3}
change: {turned: 0, limb: 0, lower_body: 0}
"""


def write_labels(folder: Path, *, seeds: tuple[int, ...] = (0, 1)) -> Path:
    """Write keypoints of walking people, 3 samples each; every 5th person has no `world`."""
    images: list[dict[str, object]] = []
    people: list[dict[str, object]] = []
    for seed in seeds:
        walks = walking_poses(seed, 3, 10.0)
        for i, (points, world) in enumerate(zip(walks.points, walks.world, strict=True)):
            for t in range(3):
                images.append(
                    {"id": len(images), "source": f"place {seed}", "media_us": 100_000 * t}
                )
                known = np.concatenate([points[t], np.full((KEYPOINTS, 1), 2)], 1)
                row: dict[str, object] = {
                    "image_id": images[-1]["id"],
                    "keypoints": known.ravel().tolist(),
                    "track": 1000 * seed + i,
                }
                if i % 5:
                    row["world"] = world.ravel().tolist()
                people.append(row)
    folder.mkdir()
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": people}))
    return folder


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    return write_labels(tmp_path_factory.mktemp("lift") / "walks")


def test_rows_are_seen_with_what_came_before_in_their_track(labels):
    rows = read_rows([labels], LifterConfig(rate_hz=10), Trust())
    assert rows.windows.shape == (len(rows), 9)
    assert rows.windows[5].tolist() == [3] * 7 + [4, 5]  # the third sample of the second person
    slow = read_rows([labels], LifterConfig(rate_hz=5), Trust())
    assert slow.windows[5].tolist() == [3] * 8 + [5]
    assert rows.solid[:6].tolist() == [False] * 3 + [True] * 3
    assert set(rows.sources) == {"place 0", "place 1"}


def test_people_of_whom_little_is_known_are_left_out(labels, tmp_path):
    text = json.loads((labels / "annotations.json").read_text())
    few, part, doubted, *rest = text["annotations"][3:]
    for person, known in ((few, 5), (part, 7)):
        person["keypoints"][3 * known :] = [0] * (51 - 3 * known)
    doubted["presence"] = 0.5
    text["annotations"] = [few, part, doubted, *rest[:4]]
    (tmp_path / "annotations.json").write_text(json.dumps(text))
    rows = read_rows([tmp_path], LifterConfig(), Trust())
    assert len(rows) == 5
    assert rows.solid.tolist() == [False, True, True, True, True]
    for person in text["annotations"]:
        person.pop("world", None)
    (tmp_path / "annotations.json").write_text(json.dumps(text))
    with pytest.raises(DataError, match="nobody has 13 sure keypoints and `world`; label people"):
        read_rows([tmp_path], LifterConfig(), Trust())


@pytest.mark.parametrize(
    ("name", "expected"), [("keypoints", 51), ("point_scores", 17), ("world", 51)]
)
def test_lists_of_another_length_are_named(labels, tmp_path, name, expected):
    text = json.loads((labels / "annotations.json").read_text())
    text["annotations"][2][name] = [0.5] * 50
    (tmp_path / "annotations.json").write_text(json.dumps(text))
    said = rf"annotations\[2\]: `{name}` has 50 numbers, expected {expected}"
    with pytest.raises(DataError, match=said):
        read_rows([tmp_path], LifterConfig(), Trust())


@given(st.floats(-3, 3), st.integers(0, 2))
def test_rotations_turn_about_their_axis(angle, axis):
    (turn,) = rotation(np.array([angle]), axis)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(turn) == pytest.approx(1)
    np.testing.assert_allclose(turn[axis], np.eye(3)[axis])
    assert np.trace(turn) == pytest.approx(1 + 2 * np.cos(angle))


@given(st.integers(0, 99))
def test_a_turned_person_keeps_its_bones_and_is_projected_from_there(seed):
    rng = np.random.default_rng(seed)
    world = rng.normal(0, 0.4, (3, 9, KEYPOINTS, 3))
    turned = _turned(world, LiftAugment(), rng)
    before, after = (np.linalg.norm(one[:, :, 0] - one[:, :, 9], axis=2) for one in (world, turned))
    np.testing.assert_allclose(after, before)
    far = _projected(turned, LiftAugment(distance_m=(1e4, 1e4 + 1)), rng)
    np.testing.assert_allclose(far * 10, turned[..., :2], rtol=0.01, atol=1e-3)


def test_batches_are_functions_of_their_step_and_hold_both_kinds(labels):
    rows = read_rows([labels], LifterConfig(), Trust())
    data = batches(rows, np.arange(len(rows)), (6, 2), LiftAugment(), 3)
    for one, other in zip(data(4), data(4), strict=False):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        break
    assert one.x.shape == (8, 9, KEYPOINTS, 3)
    assert one.solid.tolist() == [True] * 6 + [False] * 2
    assert not one.world[6:].any()


def test_mirrored_people_have_left_and_right_exchanged(labels):
    rows = read_rows([labels], LifterConfig(), Trust())
    solid = np.flatnonzero(rows.solid)[:1]
    batch = next(batches(rows, solid, (40, 0), STILL, 0)(0))
    plain, mirrored = rows.world[solid[0]], rows.world[solid[0]][FLIPPED] * [-1, 1, 1]
    same = np.isclose(batch.world.numpy(), plain, atol=1e-5).all((1, 2))
    other = np.isclose(batch.world.numpy(), mirrored, atol=1e-5).all((1, 2))
    assert (same ^ other).all()
    assert 8 < same.sum() < 32
    x = batch.x.numpy()[other][0, -1]
    expected = batch.x.numpy()[same][0, -1][FLIPPED] * [-1, 1, 1]
    np.testing.assert_allclose(x, expected, atol=1e-4)


def test_the_picture_decides_across_and_leaves_depth_free():
    pose = torch.randn(4, KEYPOINTS, 3)
    seen = torch.cat([3 * pose[..., :2] + 5, torch.rand(4, KEYPOINTS, 1)], 2)
    assert picture_loss(pose, seen) < 1e-3
    pose[..., 2] = torch.randn(4, KEYPOINTS)
    assert picture_loss(pose, seen) < 1e-3
    pose[:, 3, 0] += 1
    assert picture_loss(pose, seen) > 0.01


def test_the_descriptor_has_all_pairs_and_no_place():
    pose = torch.randn(2, KEYPOINTS, 3)
    found = geometric_descriptor(pose)
    assert found.shape == (2, 4 * 136)
    torch.testing.assert_close(geometric_descriptor(pose + 3), found, atol=1e-4, rtol=1e-4)
    first = pose[:, 0] - pose[:, 1]
    torch.testing.assert_close(found[:, :3], first)
    torch.testing.assert_close(found[:, 3], first.norm(dim=1), atol=1e-4, rtol=1e-4)


def test_what_the_critic_learns_the_lifter_unlearns():
    torch.manual_seed(0)
    critic = PoseCritic()
    lifted = torch.randn(4, KEYPOINTS, 3, requires_grad=True)
    seen = torch.rand(4, KEYPOINTS, 3)
    real = torch.randn(4, KEYPOINTS, 3)
    critic.loss(lifted, seen, real, seen).backward()
    assert lifted.grad is not None
    plain, lifted.grad = lifted.grad, None
    critic.loss(reversed_gradient(lifted, 0.5), seen, real, seen).backward()
    torch.testing.assert_close(lifted.grad, -0.5 * plain)


def test_a_lifter_is_trained_and_scored_by_the_commands(labels, tmp_path):
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(RECIPE)
    given = ["train", "pose-3d", recipe, "--data", labels, "--out", out, "--hold-out", "place 1"]
    result = CliRunner().invoke(app, list(map(str, given)))
    assert result.exit_code == 0, result.stderr
    said = re.search(r"sources held out: MPJPE ([0-9.]+) mm", result.stderr)
    assert said
    weights = out / "pose-3d.safetensors"
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {"points", "picture", "critic"} < set(log[0])
    command = ["eval", "pose-3d", labels, "synthetic:7", "--weights", weights, "--json"]
    result = CliRunner().invoke(app, [*map(str, command), "--source", "place 1"])
    assert result.exit_code == 0, result.stderr
    held, scene = json.loads(result.stdout)
    assert held["mpjpe_mm"] == pytest.approx(float(said[1]), abs=1)  # weights are saved as fp16
    for one in (held, scene):
        assert one["pa_mpjpe_mm"] <= one["sized_mm"] + 1e-6 <= one["mpjpe_mm"] + 2e-6
        assert one["mpjpe_mm"] < one["mean_pose_mm"]
        assert len(one["joints_mm"]) == KEYPOINTS
    result = CliRunner().invoke(
        app, [*map(str, command[:3]), "--weights", str(weights), "--source", "x"]
    )
    assert result.exit_code == 2
    assert "nobody of x has enough sure keypoints and `world`" in result.stderr
    assert "; its sources: place 0, place 1" in result.stderr
    nobody = [*map(str, given), "--hold-out", "place 0", "--overwrite"]
    result = CliRunner().invoke(app, nobody)
    assert result.exit_code == 2
    assert "all of the data is held out" in result.stderr
    assert weights.exists()
