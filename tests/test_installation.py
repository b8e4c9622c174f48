"""What an installation brings, and what its commands end with, as the documents say."""

import re
import signal
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from streamvis import errors
from streamvis.cli.output import INTERRUPTED, PARTIAL

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OTHERS = {"opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"}


def brought(requirements: list[str]) -> set[str]:
    """The distributions that come with these, theirs included, as far as they are installed."""
    found: set[tuple[str, str]] = set()
    open_ = [(Requirement(text), "") for text in requirements]
    while open_:
        requirement, extra = open_.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras} - {e for n, e in found if n == name}:
            found.add((name, wanted))
            try:
                theirs = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                theirs = []
            if name == "streamvis":  # from the file, whatever was installed
                theirs = EXTRAS.get(wanted, [])
            open_ += [(Requirement(text), wanted) for text in theirs]
    return {name for name, _ in found}


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_no_extra_brings_an_opencv_that_needs_libgl(extra):
    names = brought([*PROJECT["dependencies"], *EXTRAS.get(extra, [])])
    assert "opencv-python-headless" in names
    assert names.isdisjoint(OTHERS)
    assert len(names) > 30


def test_what_an_extra_brings_is_followed_to_the_end():
    assert "pillow" in brought(["matplotlib"])
    assert "pycocotools" in brought(EXTRAS["dev"])
    if "trackeval" in {d.name for d in metadata.distributions()}:  # the Makefile leaves this out
        assert "opencv-python" in brought(["trackeval"])


def test_commands_to_install_name_no_distribution_of_ours():
    """There is none in any registry: somebody else might make one."""
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("streamvis/**/*.py")):
        assert not re.search(r"pip install +[-\w. ]*'?streamvis\b", path.read_text()), path


# Exit codes


def kinds(root: type[errors.StreamvisError]) -> list[type[errors.StreamvisError]]:
    return [root, *(kind for one in root.__subclasses__() for kind in kinds(one))]


def declared() -> dict[str, set[int]]:
    """Error -> codes, as the tree at the top of errors.py has them."""
    lines = re.findall(r"(\w+Error)\s+(?:exit code )?(\d[\d, ]*\d|\d)?", errors.__doc__ or "")
    return {name: set(map(int, codes.split(","))) for name, codes in lines if codes}


def table() -> dict[int, str]:
    """Code -> its row in docs/exit-codes.md."""
    text = (ROOT / "docs/exit-codes.md").read_text(encoding="utf-8")
    return {int(row[1]): row[0] for row in re.finditer(r"^\| (\d+) \|.*$", text, re.MULTILINE)}


@pytest.mark.parametrize("kind", kinds(errors.StreamvisError))
def test_every_error_stands_in_the_row_of_its_code(kind):
    if kind.__module__ != "streamvis.errors":
        pytest.skip("made by a test")
    codes = declared().get(kind.__name__, {kind.exit_code})
    if kind is errors.EndedEarlyError:  # its code depends on the signal
        assert codes == {kind("", number).exit_code for number in (signal.SIGINT, signal.SIGTERM)}
    else:
        assert codes == {kind.exit_code}
    for code in codes:
        assert re.search(rf"\b{kind.__name__}\b", table()[code])


def test_the_command_line_lists_exactly_the_codes_that_errors_have():
    from streamvis.cli import main

    codes = {0, PARTIAL, INTERRUPTED, *(c for many in declared().values() for c in many)}
    assert set(table()) == codes
    listed = re.search(r"Exit codes: (.*?)\.\s", main.__doc__ or "", re.DOTALL)
    assert listed is not None
    assert set(map(int, re.findall(r"\b\d+\b", listed[1]))) == codes
    assert "docs/exit-codes.md" in (ROOT / "README.md").read_text(encoding="utf-8")
