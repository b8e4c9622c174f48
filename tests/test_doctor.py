"""`streamvis doctor` examines this machine: facts, weights verified, and an exit code."""

import json

import av
import pytest
from typer.testing import CliRunner

from streamvis import doctor
from streamvis.cli.main import app
from streamvis.models.weights import shipped


@pytest.fixture(scope="module")
def report():
    return doctor.examine()


def test_a_machine_that_runs_the_tests_is_not_broken(report):
    assert not report.broken
    assert {"streamvis", "python", "cores", "torch", "opencv", "video"} <= set(report.facts)
    assert all(report.facts.values())


def test_every_shipped_file_of_weights_is_verified(report):
    assert len(shipped()) > 3
    assert {report.facts[name] for name in shipped()} == {"verified"}


def test_each_device_that_may_decode_is_usable_or_has_a_reason(report):
    for device in ("cuda", "qsv", "drm"):
        assert report.facts[f"hwaccel={device}"]


def test_a_driver_without_its_decoder_and_an_untested_pyav_get_advice(monkeypatch):
    reasons = {"cuda": "Cannot load libnvcuvid.so.1", "qsv": None}
    monkeypatch.setattr("streamvis.sources.hwaccel.faults", lambda: reasons)
    monkeypatch.setattr(av, "__version__", "16.1.0")
    report = doctor.examine()
    assert report.facts["hwaccel=cuda"] == "Cannot load libnvcuvid.so.1"
    assert report.facts["hwaccel=qsv"] == "decodes H.264"
    advice = " ".join(report.advice)
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video" in advice
    assert "pip install 'av>=18,<20'" in advice
    assert not report.broken


@pytest.mark.parametrize(("free_mib", "sources"), [(1024, 21), (48, 1), (16, 0)])
def test_shared_memory_is_measured_in_sources(monkeypatch, free_mib, sources):
    usage = (2048 * doctor.MEBIBYTE, 0, free_mib * doctor.MEBIBYTE)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    report = doctor.examine()
    assert report.facts["shared memory"] == (
        f"{free_mib} of 2048 MiB free in /dev/shm: {sources} sources of 1080p with 8 slots each"
    )
    assert any("--shm-size" in advice for advice in report.advice) == (sources == 0)


@pytest.mark.parametrize("broken", [False, True])
def test_the_command_prints_facts_and_advice_and_fails_when_something_is_broken(
    monkeypatch, broken
):
    found = doctor.Examination({"torch": "2.9"}, ["pip install x"], broken)
    monkeypatch.setattr(doctor, "examine", lambda: found)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == broken
    assert json.loads(result.stdout) == {
        "facts": {"torch": "2.9"},
        "advice": ["pip install x"],
        "broken": broken,
    }
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == broken
    assert [line.split(maxsplit=1) for line in result.stdout.splitlines()] == [
        ["torch", "2.9"],
        ["advice", "pip install x"],
    ]
