"""Training of pose networks: what is learnt from, what is left out, and that the loss falls."""

import shutil
from itertools import islice

import msgspec
import numpy as np
import pytest
import torch
from keypoint_folders import write_folder

from streamvis.datasets.keypoints import is_tuned_on, read_keypoints
from streamvis.errors import ConfigError, DataError
from streamvis.models import weights
from streamvis.models.hrnet import ARCHITECTURES, HrnetConfig
from streamvis.training.loop import Schedule, read_log
from streamvis.training.pose import recipe as module
from streamvis.training.pose.dataset import PoseAugment
from streamvis.training.pose.recipe import (
    PoseRecipe,
    build,
    chances,
    load_recipe,
    people_to_train_on,
    run,
)

GENTLE = PoseAugment(rotated=0.0, half_body=0.0, occlude=0.0, scale=0.1)
SHORT = PoseRecipe(
    architecture="pose-lite",
    start="person-lite",
    size=(128, 96),
    sigma=1.0,
    batch=8,
    schedule=Schedule(steps=12, warmup=2, save_every=6),
    augment=GENTLE,
)
W8 = HrnetConfig(name="hrnet-w8", width=8, size=(128, 96), modules=(1, 1, 1), blocks=1)


def with_start(start: str, architecture: str = "pose-lite") -> PoseRecipe:
    return msgspec.structs.replace(SHORT, start=start, architecture=architecture)


@pytest.mark.parametrize("architecture", ["pose-lite", "hrnet-w8"])
def test_a_short_training_lowers_the_loss_and_its_weights_load(tmp_path, monkeypatch, architecture):
    monkeypatch.setitem(ARCHITECTURES, "hrnet-w8", W8)
    data = write_folder(tmp_path / "taught", taught=True)
    recipe = with_start("person-lite" if architecture == "pose-lite" else "none", architecture)
    path = run(recipe, [data], tmp_path / "out")
    losses = [row["points"] for row in read_log(tmp_path / "out/log.jsonl").values()]
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    assert path.name == f"{architecture}.safetensors"
    found = weights.load_pose(str(path)).architecture
    assert (found.name, found.size, found.sigma) == (architecture, (128, 96), 1.0)
    about = weights.describe(str(path)).metadata
    assert (about["steps"], about["data"]) == ("12", "taught")


def test_a_stopped_training_goes_on_as_if_it_had_not_been(tmp_path):
    data = write_folder(tmp_path / "taught", 2, taught=True)
    recipe = msgspec.structs.replace(
        SHORT, batch=2, schedule=Schedule(steps=4, warmup=1, save_every=2), precision="fp32"
    )
    whole = run(recipe, [data], tmp_path / "whole")
    stopped = tmp_path / "stopped"
    fit = module.fit

    def interrupted(model, groups, data, losses, schedule, out):
        def until(step):
            yield from islice(data(step), 2 - step)

        return fit(model, groups, until, losses, schedule, out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "fit", interrupted)
        run(recipe, [data], stopped)
    again = run(recipe, [data], stopped)
    first, second = (weights.read(path)[0] for path in (whole, again))
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-3, atol=1e-4)


def test_of_pictures_labelled_by_hand_a_third_is_trained_on(tmp_path):
    data = write_folder(tmp_path / "hand", 30)
    people = read_keypoints(data)
    learnt = people_to_train_on(SHORT, [data])
    assert {one.path for one in learnt} == {p.path for p in people if is_tuned_on(p.path)}
    assert 0.15 < len(learnt) / len(people) < 0.5
    everybody = msgspec.structs.replace(SHORT, measured=True)
    assert len(people_to_train_on(everybody, [data])) == len(people)


def test_teachers_do_not_label_pictures_again_that_are_labelled_by_hand(tmp_path):
    hand = write_folder(tmp_path / "hand", 6)
    taught = write_folder(tmp_path / "taught", 8, taught=True)
    names = sorted((hand / "images").iterdir())
    for path, other in zip(names, sorted((taught / "images").iterdir()), strict=False):
        shutil.copyfile(path, other)
    learnt = people_to_train_on(SHORT, [hand, taught])
    assert {one.path.name for one in learnt if one.taught} == {"taught-0006.png", "taught-0007.png"}


def test_held_out_sources_and_people_with_few_points_are_not_trained_on(tmp_path, capsys):
    a = write_folder(tmp_path / "a", 2, taught=True, source="a")
    b = write_folder(tmp_path / "b", 2, taught=True, source="b")
    held = msgspec.structs.replace(SHORT, hold_out=("b", "c"))
    assert {one.source for one in people_to_train_on(held, [a, b])} == {"a"}
    assert "hold_out: c not found" in capsys.readouterr().err
    demanding = msgspec.structs.replace(SHORT, hold_out=("a", "b"))
    with pytest.raises(DataError, match="all of the data is held out: a, b"):
        people_to_train_on(demanding, [a, b])


def test_shares_are_of_the_draws(tmp_path):
    a = read_keypoints(write_folder(tmp_path / "a", 3, source="street-1"))
    b = read_keypoints(write_folder(tmp_path / "b", 1, source="pose"))
    found = chances([*a, *b], {"street": 0.25})
    assert found[:6].sum() == pytest.approx(0.25)
    assert found[6:].sum() == pytest.approx(0.75)
    with pytest.raises(ConfigError, match=r"shares are 1\.5 in all"):
        chances(a, {"street": 1.0, "pose": 0.5})
    whole = {"street": 0.33, "pose": 0.56, "other": 0.11 + 4e-16}
    assert sum(whole.values()) > 1  # by rounding, also where sum compensates it: Python 3.12
    assert chances([*a, *b], whole)[:6].sum() == pytest.approx(0.33 / 0.89)
    with pytest.raises(ConfigError, match="of pose, but nobody is from there; sources are street"):
        chances(a, {"pose": 1.0})
    with pytest.raises(ConfigError, match="shares are 1 in all of pose, x, y"):
        chances(a, {"pose": 0.7, "x": 0.2, "y": 0.1})  # less than 1, by rounding


@torch.no_grad()
def test_a_light_network_begins_with_the_trunk_of_a_detector():
    model = build(SHORT)
    detector = weights.load_detector("person-lite")
    assert model.trunk is not None
    theirs = detector.backbone.body.state_dict()
    for name, value in model.trunk.state_dict().items():
        torch.testing.assert_close(value, theirs[name].float())
    x = torch.randn(1, 3, 192, 128)
    seen = []
    model.trunk.blocks[-1].register_forward_hook(lambda _, __, y: seen.append(y))
    model.eval()(x)
    y = model.stem(x)
    for block in model.trunk.blocks[3:]:
        y = block(y)
    torch.testing.assert_close(seen[0], y, rtol=1e-3, atol=1e-3)  # nothing is added to it as yet


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (with_start("none", "pose-large"), "architecture is 'pose-large'; expected one of hrnet"),
        (with_start("imagenet", "hrnet-w32"), "no package has ImageNet weights of hrnet-w32"),
    ],
)
def test_impossible_recipes_are_refused(recipe, message):
    with pytest.raises(ConfigError, match=message):
        build(recipe)


@pytest.mark.parametrize("name", ["pose-lite", "pose-lite-finish"])
def test_shipped_recipes_load(name):
    recipe = load_recipe(module.Path(name), ["none"])
    assert recipe.architecture == "pose-lite"
    assert recipe.hold_out == ()
    assert sum(recipe.shares.values()) < 1
