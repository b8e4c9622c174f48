"""Recipes of action networks: what is read, built, trained and weighed."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from labelled_clips import RECIPE, STAGED, drawn_filters

from streamvis.errors import ConfigError
from streamvis.training.actions import recipe as actions
from streamvis.training.actions.recipe import (
    build,
    load_recipe,
)

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[3]


def test_first_blocks_stay_as_they_were(monkeypatch):
    monkeypatch.setattr(actions, "_trunk", lambda recipe, body: drawn_filters(body))
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
