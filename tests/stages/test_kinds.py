"""Kinds of stages of other packages: those that fit are added, the others are named in one line."""

import sys
from importlib.metadata import PathDistribution

import pytest

from streamvis.errors import ConfigError
from streamvis.stages import KINDS, InstalledKinds, with_entries

HEAD = """
import msgspec
from streamvis.events.family import EventTypes
from streamvis.messages import Receipt, Tracks
from streamvis.stages.protocol import StageConfig


class Own(msgspec.Struct, frozen=True, tag="own_part"):
    pass


class Began(msgspec.Struct, frozen=True, tag_field="type", tag="own.begin"):
    pass


def row(what):
    return [{}]

"""
GOOD = """
class Kind(StageConfig, frozen=True, tag="own"):
    writes = Own

    @classmethod
    def event_types(cls):
        return EventTypes((Began,), str, row)
"""
BROKEN = {  # the text of the module, and what the line says
    "import nowhere_to_be_found": (
        "cannot be imported: ModuleNotFoundError: No module named 'nowhere_to_be_found'; install"
    ),
    "raise RuntimeError('two\\nlines')": "cannot be imported: RuntimeError: two lines; install",
    "Other = 1": "cannot be imported: AttributeError",
    "Kind = 7": "found 7, expected a subclass of streamvis.stages.protocol.StageConfig; name",
    GOOD.replace('tag="own"', 'tag="else"'): "has the tag 'else', expected 'own', the name of the",
    GOOD.replace("writes = Own", "writes = int"): "its part int is no msgspec.Struct; set `writes`",
    GOOD.replace("writes = Own", "every_s: float = 1.0\n    writes = Own"): (
        "it has a setting `every_s`, which every stage has beside its settings; rename it"
    ),
    "class Bare(msgspec.Struct):\n    pass\n" + GOOD.replace("writes = Own", "writes = Bare"): (
        "its part Bare has no tag; expected one"
    ),
    HEAD.replace('"own_part"', '"tracks"') + GOOD: (
        "its part Own has the tag 'tracks', which streamvis.messages.Tracks has; choose another tag"
    ),
    HEAD.replace('"own.begin"', '"track.begin"') + GOOD: (
        "events of type 'track.begin'; correct the package"
    ),
    GOOD.replace("return EventTypes", "import own.absent; return EventTypes"): (
        "its event types cannot be imported: ModuleNotFoundError"
    ),
    GOOD.replace("return EventTypes", "return str"): "cannot be imported: TypeError",
    GOOD.replace("EventTypes((Began,), str, row)", "7"): "`event_types` returns 7, expected an",
}


def package(home, module, text, name="own"):
    """Write a package as pip installs it, and return its entry points."""
    if text is not None:
        (home / f"{module}.py").write_text(HEAD + text)
    about = home / f"{module}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[streamvis.stages]\n{name} = {module}:Kind\n")
    return list(PathDistribution(about).entry_points)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_kind_that_fits_is_added(home):
    found = with_entries(package(home, "own_pack", GOOD))
    assert found.kinds[:-1] == KINDS
    assert found.kinds[-1].__name__ == "Kind"
    assert (found.packages, found.problems) == ({"own": "own_pack 1.0"}, {})


@pytest.mark.parametrize("text", BROKEN, ids=[str(i) for i in range(len(BROKEN))])
def test_a_kind_that_does_not_fit_is_named_in_one_line(home, text):
    found = with_entries(package(home, "own_pack", text))
    assert found.kinds == KINDS
    assert found.packages == {}
    (line,) = found.problems.values()
    assert line.startswith("package own_pack 1.0, entry point 'own' = 'own_pack:Kind': ")
    assert BROKEN[text] in line
    assert "\n" not in line


def test_a_package_whose_files_are_gone_is_named(home):
    (line,) = with_entries(package(home, "own_gone", None)).problems.values()
    assert "own_gone 1.0" in line
    assert "No module named 'own_gone'; install the package again" in line


def test_of_two_kinds_with_one_name_the_first_stays(home):
    entries = package(home, "a_pack", GOOD) + package(home, "b_pack", GOOD)
    found = with_entries(entries)
    assert found.packages == {"own": "a_pack 1.0"}
    assert "a_pack 1.0 has a kind 'own', too; rename one, or uninstall" in found.problems["own"]


def test_a_kind_of_streamvis_is_not_replaced(home):
    entries = package(home, "own_pack", GOOD.replace('tag="own"', 'tag="jipda"'), "jipda")
    found = with_entries(entries)
    assert found.kinds == KINDS
    assert "streamvis has a kind 'jipda', too" in found.problems["jipda"]


def test_only_a_pipeline_that_names_the_broken_kind_is_refused(home, monkeypatch):
    from streamvis import config
    from streamvis.config import pipeline as module

    found = with_entries(package(home, "own_gone", None))
    assert isinstance(found, InstalledKinds)
    monkeypatch.setattr(module, "installed_kinds", lambda: found)
    assert config.load_pipeline(None).stages
    path = home / "p.yaml"
    path.write_text("stages: [{name: mine, run: {kind: own}}]")
    with pytest.raises(ConfigError) as error:
        config.load_pipeline(path)
    assert str(error.value).startswith(
        f"{path}: stage 'mine' has kind 'own' of package own_gone 1.0, entry point 'own' = "
    )
