"""Recipes are read by path or shipped name, and faults are one line with the place."""

from pathlib import Path

import msgspec
import pytest
import yaml

from streamvis.errors import ConfigError
from streamvis.parsing import read_yaml
from streamvis.shipped import find
from streamvis.training.actions.recipe import ActionRecipe
from streamvis.training.detector.recipe import DetectorRecipe
from streamvis.training.recipes import read_recipe
from streamvis.training.scenes.forecaster import ForecasterRecipe


class Recipe(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    rate: float = 0.1


def test_a_recipe_is_read_with_the_defaults_of_what_it_leaves_out(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("name: mine\n")
    assert read_recipe(path, Recipe) == Recipe("mine", 0.1)


def test_a_shipped_recipe_is_found_by_its_name_unless_a_file_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_recipe(Path("fight-off"), ActionRecipe).name == "fight-off"
    Path("fight-off").write_text("name: mine\n")
    assert read_recipe(Path("fight-off"), Recipe).name == "mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: 3\n", r"recipe\.yaml: Expected `str`, got `int` - at `\$\.name`"),
        ("name: a\nrate: fast\n", r"recipe\.yaml: Expected `float`, got `str` - at `\$\.rate`"),
        ("name: a\nspeed: 1\n", r"recipe\.yaml: .*unknown field `speed`"),
        ("rate: 1\n", r"recipe\.yaml: .*missing required field `name`"),
        ("name: [\n", r"recipe\.yaml"),
        ("", r"recipe\.yaml: Expected `object`, got `null`"),
    ],
)
def test_a_fault_is_one_line_with_the_file_and_the_field(text, words, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_recipe(path, Recipe)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_refused_with_the_shipped_ones():
    with pytest.raises(ConfigError, match=r"nosuch: .*no training file of that name.*fight-off"):
        read_recipe(Path("nosuch"), DetectorRecipe)


@pytest.mark.parametrize(
    ("kind", "recipe", "change", "words"),
    [
        (DetectorRecipe, "fine-tune", "seed: -1", r"at `\$\.seed`"),
        (DetectorRecipe, "fine-tune", "augment: {canvases: []}", r"at `\$\.augment\.canvases`"),
        (DetectorRecipe, "fine-tune", "augment: {flip: 1.5}", r"at `\$\.augment\.flip`"),
        (
            DetectorRecipe,
            "fine-tune",
            "augment: {zoom: [2, 0.5]}",
            r"`zoom` is 2 to 0\.5; expected",
        ),
        (DetectorRecipe, "fine-tune", "schedule: {steps: 9, average: 1}", r"schedule\.average`"),
        (ActionRecipe, "fight-off", "augment: {scales: []}", r"at `\$\.augment\.scales`"),
        (ActionRecipe, "fight-off", "fusion: {frames: 1}", r"Invalid enum value .frames."),
        (ForecasterRecipe, "street-forecast-0.2", "paces: []", r"at `\$\.paces`"),
    ],
)
def test_values_that_no_training_can_have_are_refused(kind, recipe, change, words, tmp_path):
    path = tmp_path / "recipe.yaml"
    whole = read_yaml(find(Path(recipe), "training file"), ConfigError)
    path.write_text(yaml.safe_dump(whole | yaml.safe_load(change)))
    with pytest.raises(ConfigError, match=words):
        read_recipe(path, kind)
