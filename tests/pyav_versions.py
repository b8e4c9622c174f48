"""Run the tests of decoding and recording with each major version of PyAV.

    python tests/pyav_versions.py            # the Makefile's `test-pyav`
    python tests/pyav_versions.py --quick    # what CI adds to `make test`

Each version gets an environment of its own in `build/`, with the newest Python of this machine for
which it has a wheel, and without torch. A newer Python brings newer versions of NumPy and of other
packages, so tests of the tracker and of zones are run with it too; and from 3.13 on it warns of
connections of SQLite that are not closed, so those of event logs. `--quick` leaves out the
version in `.venv`, with which all tests are run anyway, runs the first of the tests only, and ends
between two of them after three minutes. An environment that cannot be made in that time is no
failure.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
VERSIONS = {18: (3, 11), 19: (3, 12)}  # major: the oldest Python that has a wheel
QUICK_S = 180.0
SLOWEST_S = 45.0  # for the test under way when time is up
INTERRUPTED = 2  # exit code of pytest
LEFT_OUT = re.compile(r"(av|torch|openvino)\b")  # networks are large, and not tested here
TOOLS = re.compile(r"(hypothesis|pytest)\b")
LOGS = [f"tests/events/test_{name}.py" for name in ("log", "lane_index", "merge", "retention")]
QUICK_TESTS = [  # those that new versions of packages concern most
    *LOGS,
    "tests/stages/zones/test_cases.py",
    "tests/tracking/test_tracker.py",
    *(f"tests/sources/test_{name}.py" for name in ("container", "start", "video", "timestamps")),
    *(f"tests/recording/test_{name}.py" for name in ("segments", "clips", "source")),
    "tests/runtime/test_decode.py",
]
TESTS = [
    *(*LOGS, "tests/stages/zones", "tests/tracking", "tests/sources", "tests/recording"),
    *("tests/runtime/test_cameras.py", "tests/runtime/test_decode.py"),
]


def main() -> int:
    """Return 0 when no test failed."""
    parser = argparse.ArgumentParser(description="test with each major version of PyAV")
    parser.add_argument("--quick", action="store_true", help="other versions than that of .venv")
    parser.add_argument("--here", type=float, metavar="SECONDS", help="with this Python's PyAV")
    given = parser.parse_args()
    if given.here is not None:
        return test_here(given.here)
    quick = given.quick
    until = time.monotonic() + (QUICK_S if quick else float("inf"))
    found = pythons()
    failed = False
    for major, oldest in VERSIONS.items():
        if quick and installed_major() == major:
            say(major, "skipped: it is in .venv, with which `make test` runs all tests")
            continue
        able = {version: path for version, path in found.items() if version >= oldest}
        if not able:
            versions = ", ".join(f"{a}.{b}" for a, b in found) or "none"
            needed = f"{oldest[0]}.{oldest[1]}"
            say(
                major,
                f"skipped: its wheels need Python {needed} or newer, and found are {versions}; "
                f"install Python {needed} with its venv module",
            )
            continue
        for version, path in reversed(able.items()):
            home = ROOT / "build" / f"pyav-{major}-python-{version[0]}.{version[1]}"
            if (passed := tested(major, path, home, until)) is not None:
                failed |= not passed
                break
    return int(failed)


def pythons() -> dict[tuple[int, int], str]:
    """Return a path for each version of Python that can make environments, the oldest first."""
    names = [f"python3.{minor}" for minor in range(11, 20)]
    paths = [shutil.which(name) for name in names]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    paths += [sys.executable, *map(str, sorted(pyenv.glob("3.*/bin/python")))]
    code = "import sys, ensurepip, venv; print(*sys.version_info[:2])"
    found: dict[tuple[int, int], str] = {}
    for path in filter(None, paths):
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            major, minor = map(int, done.stdout.split())
            found.setdefault((major, minor), path)
    return dict(sorted(found.items()))


def installed_major() -> int | None:
    """Return the major version of PyAV in .venv; None without it."""
    code = "from importlib.metadata import version; print(version('av').partition('.')[0])"
    python = ROOT / ".venv/bin/python"
    if not python.exists():
        return None
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 else None


def tested(major: int, base: str, home: Path, until: float) -> bool | None:
    """Return whether no test failed with this version; None where it has no wheel for Python."""
    python = home / "bin/python"
    try:
        if not python.exists():
            run([base, "-m", "venv", str(home)], until)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if run([*install, "--only-binary", "av", f"av=={major}.*"], until) != 0:
            say(major, f"skipped: pip found no wheel of it for {base}")
            return None
        if run([*install, *requirements()], until) != 0:
            say(major, "skipped: pip could not install what the tests need")
            return until < float("inf")
    except TimeoutError:
        say(major, f"skipped: not installed after {QUICK_S:.0f} s")
        return True
    try:
        left_s = until - time.monotonic()
        code = run([str(python), __file__, "--here", f"{left_s:.0f}"], until + SLOWEST_S)
    except TimeoutError:
        say(major, f"failed: a test still busy after {QUICK_S:.0f} s")
        return False
    if code == INTERRUPTED and time.monotonic() >= until - 1:
        say(major, f"ended after {QUICK_S:.0f} s without a failure; all tests: make test-pyav")
        return True
    version = subprocess.check_output([python, "-c", "import av; print(av.__version__)"], text=True)
    say(major, f"{version.strip()} with {base}: {'failed' if code else 'passed'}")
    return code == 0


def requirements() -> list[str]:
    """Return what the tests need besides PyAV: our dependencies without networks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tools = [t for t in project["optional-dependencies"]["dev"] if TOOLS.match(t)]
    return [text for text in project["dependencies"] if not LEFT_OUT.match(text)] + tools


def run(command: list[str], until: float) -> int:
    """Run a command in the project and return its exit code; TimeoutError when time is up."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    left_s = None if until == float("inf") else max(until - time.monotonic(), 0.1)
    try:
        return subprocess.run(command, cwd=ROOT, env=environment, timeout=left_s).returncode
    except subprocess.TimeoutExpired:
        raise TimeoutError from None


class TimeIsUp:
    """A plugin of pytest that ends the session between two tests once time is up."""

    def __init__(self, left_s: float) -> None:
        self.until = time.monotonic() + left_s

    def pytest_runtest_teardown(self, item: Any) -> None:
        """Have the session end after this test."""
        if time.monotonic() >= self.until:
            item.session.shouldstop = "time is up"


def test_here(left_s: float) -> int:
    """Run the tests with the PyAV of this Python and return pytest's exit code."""
    import pytest

    tests = TESTS if left_s == float("inf") else QUICK_TESTS
    arguments = ["-x", "-p", "no:cacheprovider", *tests]
    return int(pytest.main(arguments, plugins=[TimeIsUp(left_s)]))


def say(major: int, text: str) -> None:
    print(f"PyAV {major}: {text}", flush=True)  # noqa: T201 - a command


if __name__ == "__main__":
    sys.exit(main())
