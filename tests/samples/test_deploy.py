"""The files for operators: the unit is verified, the container's steps run, metrics named exist."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from status_samples import DISK, STATUS, USAGES

from streamvis.cli.main import app
from streamvis.runtime.prometheus import STATES, families

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "samples" / "deploy"
UNIT = DEPLOY / "streamvis.service"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
FAMILIES = list(families(STATUS, USAGES, DISK, 0.0))
SAMPLES = {sample.name: set() for family in FAMILIES for sample in family.samples}
for family in FAMILIES:
    for sample in family.samples:
        SAMPLES[sample.name] |= set(sample.labels)
TARGET_LABELS = {"job", "instance"}  # that Prometheus adds


# Metrics


def expressions(value):
    """Every query in a JSON or YAML document."""
    if isinstance(value, dict):
        yield from (v for k, v in value.items() if k in ("expr", "query") and isinstance(v, str))
        for one in value.values():
            yield from expressions(one)
    elif isinstance(value, list):
        for one in value:
            yield from expressions(one)


def queries():
    for name in ("grafana.json", "alerts.yml"):
        document = yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
        for text in expressions(document):
            if text != "prometheus":  # the kind of the data source
                yield pytest.param(text, id=f"{name}: {text[:50]}")


@pytest.mark.parametrize("query", list(queries()))
def test_every_query_names_metrics_and_labels_that_are_exported(query):
    names = re.findall(r"\bstreamvis_\w+", query)
    assert names
    assert set(names) <= set(SAMPLES)
    known = set().union(*(SAMPLES[name] for name in names)) | TARGET_LABELS
    filtered = re.findall(r"[{,](\w+)=~?\"", query)
    grouped = [
        label.strip()
        for group in re.findall(r"\bby \(([^)]*)\)", query)
        for label in group.split(",")
    ]
    shown = re.findall(r"label_values\([^,]*?(?:{[^}]*})?, (\w+)\)", query)
    assert {*filtered, *grouped, *shown} <= known
    for opening, closing in ("()", "{}", "[]"):
        assert query.count(opening) == query.count(closing)


def test_counters_are_read_as_rates_and_histograms_by_their_buckets():
    for parameter in queries():
        (query,) = parameter.values
        for match in re.finditer(r"(\w+\()?streamvis_\w+_(?:total|bucket)\b", query):
            assert match[1] in ("rate(", "increase("), query


def test_the_dashboard_has_unique_panels_that_do_not_overlap():
    board = json.loads((DEPLOY / "grafana.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    cells = [
        (x, y)
        for panel in board["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_the_page_lists_exactly_the_metrics_and_their_labels():
    table = OPERATIONS.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    listed = {}
    for row in re.findall(r"^\| (`.*?) \| (.*?) \|", table, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row[0]):
            listed[f"streamvis_{name}"] = set(re.findall(r"`(\w+)`", row[1]))
    exported = {re.sub(r"_(bucket|count|sum)$", "", name): SAMPLES[name] for name in SAMPLES}
    histograms = {family.name for family in FAMILIES if family.type == "histogram"}
    exported |= {name: exported[name] | {"le"} for name in histograms}
    assert listed == exported


def test_prometheus_and_its_rules_are_laid_out_as_it_expects():
    scrape = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    (job,) = scrape["scrape_configs"]
    assert [(DEPLOY / name).is_file() for name in scrape["rule_files"]] == [True]
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in alerts}) == len(alerts)
    for rule in alerts:
        assert set(rule) <= {"alert", "expr", "for", "annotations"}
        labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert labels <= set().union(*SAMPLES.values()) | TARGET_LABELS
    board = (DEPLOY / "grafana.json").read_text()
    assert f'job=\\"{job["job_name"]}\\"' not in board  # a variable, not a fixed name
    (target,) = job["static_configs"][0]["targets"]
    assert f"--metrics {target}" in UNIT.read_text()


# The service


def settings(text):
    """Assignments of a unit, with lines that a backslash continues."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line.split("=", 1) for line in joined.splitlines() if re.match(r"[A-Z]\w+=", line)]


def systemd(*words):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: install systemd")
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_unit_is_valid():
    done = systemd("verify", "--man=no", str(UNIT))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_is_as_closed_as_the_page_says():
    done = systemd("security", "--no-pager", "--offline=true", str(UNIT))
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd is older than version 250")
    exposure = float(re.search(r"exposure level for streamvis.service: ([\d.]+)", done.stdout)[1])
    said = re.search(r"rates the unit ([\d.]+)", (DEPLOY / "README.md").read_text())
    assert exposure <= float(said[1])


def test_the_time_to_stop_and_to_hang_fit_the_run():
    values = dict(settings(UNIT.read_text()))
    assert int(values["TimeoutStopSec"]) > 10  # in which SIGTERM ends a run
    assert int(values["WatchdogSec"]) > 10  # in which `/health/live` fails
    assert values["Type"] == "notify"
    assert values["ExecReload"] == "/bin/kill -HUP $MAINPID"


def unit_command(state):
    """The words with which the service starts streamvis, as the shell gives them."""
    (line,) = [value for name, value in settings(UNIT.read_text()) if name == "ExecStart"]
    shell = shlex.split(line.replace("$$", "$").replace("%%", "%"))
    shown = shell[2].replace("exec streamvis", "printf '%s\\n'")
    environment = os.environ | {"STATE_DIRECTORY": str(state)}
    done = subprocess.run(
        [*shell[:2], shown], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def parsed(words):
    """What the command line makes of the words of `streamvis`."""
    commands: Any = typer.main.get_command(app)
    return commands.commands[words[0]].make_context("run", list(words[1:])).params


def test_the_unit_starts_a_run_in_a_directory_of_its_own(tmp_path):
    words = unit_command(tmp_path)
    options = parsed(words)
    assert re.fullmatch(rf"{tmp_path}/\d{{8}}T\d{{6}}Z", str(options["out"]))
    assert options["metrics"] == "127.0.0.1:9100"
    assert str(options["sources"]) == "/etc/streamvis/site.yaml"


def test_directories_of_runs_go_when_they_are_old_and_nothing_else_does(tmp_path):
    """What the unit does before each start; with DynamicUser its directory is a symbolic link."""
    state, link = tmp_path / "private", tmp_path / "state"
    for name, days in (("20260101T000000Z", 40), ("20260201T000000Z", 20), (".cache", 400)):
        (state / name).mkdir(parents=True)
        (state / name / "file").touch()
        at = time.time() - days * 86_400
        os.utime(state / name, (at, at))
    link.symlink_to(state)
    (line,) = [value for name, value in settings(UNIT.read_text()) if name == "ExecStartPre"]
    words = [word.replace("${STATE_DIRECTORY}", str(link)) for word in shlex.split(line)]
    subprocess.run([words[0].removeprefix("-"), *words[1:]], check=True, timeout=60)
    assert {path.name for path in state.iterdir()} == {"20260201T000000Z", ".cache"}


# The container


def instructions():
    """The instructions of the Containerfile: their names and arguments."""
    text = (DEPLOY / "Containerfile").read_text()
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def arguments(name):
    return [argument for kind, argument in instructions() if kind == name]


def test_the_container_runs_as_a_user_that_may_write_its_volume():
    kinds = [kind for kind, _ in instructions()]
    assert kinds.index("USER") < kinds.index("ENTRYPOINT")
    (made,) = [one for one in arguments("RUN") if one.startswith("useradd")]
    assert made.split()[-1] == arguments("USER")[0] == "streamvis"
    assert f"--home-dir {arguments('VOLUME')[0]} --create-home" in made
    options = parsed(json.loads(arguments("CMD")[0]))
    assert options["metrics"].endswith(f":{arguments('EXPOSE')[0]}")
    assert f":{arguments('EXPOSE')[0]}/health/live" in arguments("HEALTHCHECK")[0]
    assert "--shm-size" in (DEPLOY / "Containerfile").read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder in which the steps of the Containerfile that install streamvis were carried out.

    The packages that it needs are those of this interpreter, since an image takes minutes to load.
    """
    home = tmp_path_factory.mktemp("image")
    (home / "src").mkdir()
    for copied in arguments("COPY"):
        *names, target = copied.split()
        if names[0] != "--from=build":
            subprocess.run(["cp", "-r", *names, f"{home}{target}"], cwd=ROOT, check=True)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # means: without isolation
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    environment.pop("PYTHONPATH", None)
    steps = [step for step in arguments("RUN") if not step.startswith("useradd")]
    assert len(steps) == 3
    for step in steps:
        moved = re.sub(r"(?<= )/(src|wheels)\b", rf"{home}/\1", step)
        moved = moved.replace("/opt/streamvis", f"{home}/opt/streamvis")
        subprocess.run(
            moved, shell=True, env=environment, cwd=home, check=True, capture_output=True
        )
    return home / "opt" / "streamvis"


def contained(built, words, folder, **more):
    """Start the command of the container on `words`."""
    (entry,) = map(json.loads, arguments("ENTRYPOINT"))
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    environment = {
        "PATH": f"{built}/bin:/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join(packages),  # streamvis itself is not among them
        "OMP_NUM_THREADS": "1",
        "HOME": str(folder),
    }
    return subprocess.run(
        [str(built / "bin" / entry[0]), *words],
        env=environment | more,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_steps_of_the_container_install_what_runs(built, tmp_path):
    from streamvis import __version__

    assert contained(built, ["--version"], tmp_path).stdout.split()[-1] == __version__
    pipeline = tmp_path / "camera.yaml"
    pipeline.write_text("stages: [{name: camera, run: {kind: camera_motion}}]\n")
    scene = "a=synthetic:walkers?people=1&seconds=1&fps=5&size=64x48"
    words = ["run", str(pipeline), "--source", scene, "--out", "watch"]
    done = contained(built, [*words, "--metrics", "127.0.0.1:0"], tmp_path, **environment_of())
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "watch" / "summary.json").read_text())["sources"][0]["id"] == "a"
    entry = json.loads(done.stderr.splitlines()[0])
    assert entry["event"] == "metrics and health are served"
    names = (built / "lib").glob("python*/site-packages/streamvis/pipelines/*.yaml")
    assert {path.name for path in names} == {path.name for path in ROOT.glob("pipelines/*.yaml")}


def environment_of():
    words = shlex.split(" ".join(arguments("ENV")))
    values = dict(word.split("=", 1) for word in words)
    assert values.pop("PATH").startswith("/opt/streamvis/bin:")
    return values


def test_the_check_of_the_container_asks_for_a_page_that_is_served():
    from contextlib import closing

    from streamvis.runtime.monitor import Monitor

    check = json.loads(arguments("HEALTHCHECK")[0].partition("CMD ")[2])
    with closing(Monitor("127.0.0.1:0")) as running:
        asked = [word.replace("http://127.0.0.1:9100", running.url) for word in check]
        assert asked != check
        command = [sys.executable, *asked[1:]]
        assert subprocess.run(command, timeout=60, check=False).returncode == 0
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode != 0


# Pages


def test_the_page_shows_a_log_entry_as_it_is_written(capsys, monkeypatch):
    from streamvis import logs

    (shown,) = re.findall(r"```json\n(.*)\n```", OPERATIONS)
    entry = json.loads(shown)
    monkeypatch.setenv(logs.FORMAT, "json")
    fields = {k: v for k, v in entry.items() if k not in ("timestamp", "level", "event")}
    logs.log(entry["level"], entry["event"], **fields)
    written = json.loads(capsys.readouterr().err)
    assert len(written.pop("timestamp")) == len(entry.pop("timestamp"))
    assert written == entry


def test_every_reason_on_the_page_is_one_that_a_source_may_have():
    table = OPERATIONS.partition("| reason | look at |")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    reasons = [reason for cell in cells for reason in re.findall(r"`([^`]+)`", cell)]
    assert len(reasons) > 15
    files = [*ROOT.glob("streamvis/sources/*.py"), *ROOT.glob("streamvis/runtime/*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    assert [reason for reason in reasons if reason not in code] == []


def test_every_state_of_a_source_is_explained():
    table = OPERATIONS.partition("\n## States of a source")[2].partition("| reason |")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(STATES)


@pytest.mark.parametrize("page", [DEPLOY / "README.md", ROOT / "docs" / "operations.md"])
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_file_of_the_folder_is_described():
    page = (DEPLOY / "README.md").read_text(encoding="utf-8")
    for path in DEPLOY.iterdir():
        assert path.name == "README.md" or f"({path.name})" in page
