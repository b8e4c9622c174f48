"""check says where stages would run on this machine; doctor says what is broken, and its repair."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from streamvis import doctor, installation
from streamvis.cli.main import app
from streamvis.models.inference import select

NO_LIBGL = "libGL.so.1: cannot open shared object file: No such file or directory"


def check(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


@pytest.fixture
def gpus(monkeypatch):
    """Set how many GPUs there are; none at first."""

    def there_are(count):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    there_are(0)
    return there_are


@pytest.fixture
def quick(monkeypatch):
    """Weights are verified elsewhere."""
    monkeypatch.setattr(doctor, "_weights", lambda report: None)


def placement(folder: Path, device: str) -> Path:
    path = folder / "on.yaml"
    rest = "{stages: [camera, track, publish], device: 'cuda:7'}"  # no network in it
    path.write_text(f"workers: [{{stages: [detect, embed], device: '{device}'}}, {rest}]")
    return path


def test_without_its_gpu_a_placement_falls_back_and_check_says_so(gpus):
    checked = check("--on", "one-gpu")
    assert checked.exit_code == 0
    assert "cuda:0 -> cpu (not here)" in checked.stdout
    assert "embed, track, publish would fall back to the cpu" in checked.stdout
    assert json.loads(check("--on", "one-gpu", "--json").stdout)["devices"] == ["cpu"] * 3
    gpus(1)
    assert "cpu (" not in check("--on", "one-gpu").stdout
    assert json.loads(check("--on", "one-gpu", "--json").stdout)["devices"][0] == "cuda:0"


@pytest.mark.parametrize(("device", "count"), [("cuda:0", 0), ("cuda", 0), ("cuda:1", 1)])
def test_what_a_run_would_refuse_check_refuses(device, count, gpus, tmp_path):
    gpus(count)
    path = placement(tmp_path, device)
    checked = check("--on", path)
    assert checked.exit_code == 4
    assert f"{device} (not here: refused)" in checked.stdout
    assert "sound" not in checked.stdout
    assert f"device '{device}' is not there; this machine has cpu" in checked.stderr
    assert json.loads(check("--on", path, "--json").stdout)["devices"] == [None, "cuda:7"]
    gpus(2)
    assert check("--on", path).exit_code == 0


def test_check_imports_torch_for_gpus_only():
    code = (
        "import sys; from streamvis.cli.main import app; "
        "app(['check', '--on', sys.argv[1]], standalone_mode=False); print('torch' in sys.modules)"
    )
    for name, imported in (("two-cores", "False"), ("one-gpu", "True")):
        command = [sys.executable, "-c", code, name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == imported


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--source", "synthetic:walkers?seconds=1", "--set", "publish.bind=null"],
        ["probe", "synthetic:walkers?seconds=1"],
        ["doctor"],
    ],
)
def test_an_opencv_that_cannot_be_imported_is_told_in_one_line(command, tmp_path):
    """As it is where opencv-python came over the headless build and libGL is not there."""
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2/__init__.py").write_text(f"raise ImportError({NO_LIBGL!r}, name='cv2')")
    path = f"{tmp_path}:{Path(doctor.__file__).parents[2]}"
    done = subprocess.run(
        [sys.executable, "-m", "streamvis", *command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 1
    assert f"cannot be imported: {NO_LIBGL}" in done.stdout + done.stderr
    assert "pip install --force-reinstall --no-deps opencv-python-headless" in (
        done.stdout + done.stderr
    )
    assert done.stderr.count("\n") == (command != ["doctor"])


@pytest.mark.usefixtures("quick")
def test_doctor_tells_of_an_opencv_over_the_headless_one(monkeypatch):
    monkeypatch.setattr(installation, "_installed", lambda name: name == "opencv-python")
    report = doctor.examine()
    assert report.facts["opencv"].endswith(", opencv-python")
    assert not report.broken
    (advice,) = [line for line in report.advice if "libGL" in line]
    assert advice.endswith(
        "pip uninstall --yes opencv-python && "
        "pip install --force-reinstall --no-deps opencv-python-headless"
    )
    monkeypatch.setattr(installation, "_installed", lambda name: False)
    report = doctor.examine()
    assert report.facts["opencv"].endswith(", headless")
    assert not any("libGL" in line for line in report.advice)


@pytest.mark.usefixtures("quick")
def test_without_torch_or_openvino_doctor_says_so_and_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "streamvis.models.inference.openvino", None)
    report = doctor.examine()
    assert report.facts["networks on cpu"].startswith("torch, ")
    assert "cannot be imported" in report.facts["openvino"]
    assert not report.broken
    assert select.choose("cpu", "auto", "auto")[0] == "torch"
    monkeypatch.setitem(sys.modules, "torch", None)
    report = doctor.examine()
    assert report.broken
    assert "cannot be imported" in report.facts["torch"]
    assert "video" in report.facts


@pytest.mark.usefixtures("quick")
def test_extras_that_are_absent_are_named_by_package(monkeypatch):
    monkeypatch.setitem(doctor.EXTRAS, "eval", ("no_such_package_here", "matplotlib"))
    advice = doctor.examine().advice
    assert "for `streamvis eval`: pip install no_such_package_here" in advice


def test_an_import_error_of_ours_stays_what_it_is():
    with pytest.raises(ImportError), installation.imports_of_packages():
        import streamvis.no_such_module  # noqa: F401
    with pytest.raises(ImportError), installation.imports_of_packages("mine"):
        raise ImportError(name="mine.stages")


def test_check_reads_a_sources_file_and_connects_to_nothing(tmp_path, monkeypatch):
    site = tmp_path / "site.yaml"
    site.write_text('sources: [{id: gate, uri: "rtsp://joe:${GATE}@10.0.0.9/main"}]')
    monkeypatch.setenv("GATE", "s3same")
    checked = check("--sources", site)
    assert checked.exit_code == 0
    assert checked.stdout.splitlines()[-1] == "source 'gate': rtsp://10.0.0.9/main"
    listed = json.loads(check("--sources", site, "--json").stdout)["sources"]
    assert listed == {"gate": "rtsp://10.0.0.9/main"}
    monkeypatch.delenv("GATE")
    refused = check("--sources", site)
    assert refused.exit_code == 2
    assert "GATE" in refused.stderr
