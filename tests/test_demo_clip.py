"""The clip of the demo comes from the cache, a package, or is a synthetic scene."""

import hashlib
import subprocess
import urllib.error
import urllib.request

import pytest

from streamvis import demo_clip


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No data, an empty cache, no network, and no package to take the clip from."""

    def refused(*_, **__):
        raise urllib.error.URLError("refused")

    monkeypatch.delenv("STREAMVIS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(urllib.request, "urlopen", refused)
    monkeypatch.setattr(demo_clip.shutil, "which", lambda name: None)


@pytest.mark.usefixtures("offline")
def test_a_clip_in_the_cache_is_used_only_if_it_is_the_right_one(tmp_path, monkeypatch):
    cached = tmp_path / "cache/streamvis/vtest.avi"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"something else")
    assert demo_clip.find_clip(print) == demo_clip.SYNTHETIC
    assert not cached.exists()
    cached.write_bytes(b"the clip")
    monkeypatch.setattr(demo_clip, "SHA256", hashlib.sha256(b"the clip").hexdigest())
    assert demo_clip.find_clip(print) == str(cached)


@pytest.mark.usefixtures("offline")
def test_a_package_that_cannot_be_fetched_is_reported(tmp_path, monkeypatch, capsys):
    failed = subprocess.CompletedProcess([], 100, stdout="", stderr="E: no such package\n")
    monkeypatch.setattr(demo_clip.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(demo_clip.subprocess, "run", lambda *_, **__: failed)
    assert demo_clip.find_clip(print) == demo_clip.SYNTHETIC
    assert "apt-get failed: E: no such package" in capsys.readouterr().out
