"""The names of the library: imported when they are used, documented, typed."""

import subprocess
import sys
from importlib import import_module, resources

import pytest

import streamvis
from streamvis.errors import StreamvisError

HEAVY = {"torch", "numpy", "cv2", "av", "zmq", "scipy", "msgspec", "yaml", "openvino"}


def loaded_by(code: str) -> set[str]:
    """The packages that a fresh Python has loaded after this code."""
    script = f"import sys; {code}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    return {name.partition(".")[0] for name in found.stdout.decode().split()}


def test_importing_streamvis_imports_nothing_else():
    assert not loaded_by("import streamvis") & HEAVY
    assert not loaded_by("import streamvis; dir(streamvis); repr(streamvis)") & HEAVY


def test_running_in_processes_needs_no_network_in_this_one():
    assert "torch" not in loaded_by("import streamvis; streamvis.run, streamvis.stream")


@pytest.mark.parametrize("name", streamvis.__all__)
def test_every_public_name_is_there_with_a_docstring(name):
    value = getattr(streamvis, name)
    assert value.__doc__
    assert getattr(import_module(value.__module__), name) is value
    assert name in dir(streamvis)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'streamvis' has no attribute 'Detecter'"):
        streamvis.Detecter  # noqa: B018
    assert not hasattr(streamvis, "networks")


def test_the_root_of_all_errors_is_public_and_the_package_is_typed():
    assert streamvis.StreamvisError is StreamvisError
    assert (resources.files("streamvis") / "py.typed").is_file()
