"""`run --sources`: a service that is asked and changed from outside, as its commands do it."""

import json
import os
import signal
import subprocess
import sys

from typer.testing import CliRunner
from waiting import PATIENCE_S, until

from streamvis.cli.main import app
from streamvis.errors import RunError
from streamvis.runtime.control import ListSources
from streamvis.runtime.control_client import ask, find_run

PIPELINE = "stages: [{name: camera, run: {kind: camera_motion}}]\n"
SCENE = "synthetic:walkers?live=true&people=1&seconds=3600&fps=5&size=64x48"


def site_of(**scenes):
    entries = [f"{{id: {name}, uri: '{SCENE}&seed={seed}'}}" for name, seed in scenes.items()]
    return f"sources: [{', '.join(entries)}]\n"


def streamvis(*arguments, stdin=""):
    return CliRunner().invoke(app, [*map(str, arguments)], input=stdin)


def states(out):
    try:
        found = ask(find_run(str(out)), ListSources()).sources
    except RunError:  # it has yet to begin
        return {}
    return {source.id: source.state for source in found}


def test_a_service_is_changed_by_commands_and_by_its_file(tmp_path):
    pipeline, site, out = (tmp_path / name for name in ("p.yaml", "site.yaml", "out"))
    pipeline.write_text(PIPELINE)
    site.write_text(site_of(gate=1, yard=2))
    command = ["run", pipeline, "--sources", site, "--out", out]
    with subprocess.Popen(
        [sys.executable, "-m", "streamvis", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as service:
        try:
            until(lambda: states(out) == {"gate": "online", "yard": "online"})
            added = streamvis("sources", "add", "-", "--run", out, stdin=f"hall={SCENE}\n")
            assert (added.exit_code, added.stderr) == (0, "added hall\n")
            until(lambda: states(out).get("hall") == "online")
            site.write_text(site_of(gate=1, dock=4))
            os.kill(service.pid, signal.SIGHUP)
            expected = {"gate": "online", "yard": "ended", "hall": "online", "dock": "online"}
            until(lambda: states(out) == expected)
            listed = json.loads(streamvis("sources", "list", "--json", "--run", out).stdout)
            assert {source["id"]: source["state"] for source in listed} == expected
            assert streamvis("sources", "remove", "hall", "--run", out).stderr == "removed hall\n"
            told = streamvis("status", "--run", out)
            assert (told.exit_code, told.stderr) == (0, "")
            assert "hall" in told.stdout
            assert f"disk of {out}" in told.stdout
        finally:
            service.send_signal(signal.SIGTERM)
            _, said = service.communicate(timeout=PATIENCE_S)
    assert service.returncode == 0, said
    assert "sources file applied" in said
    summary = json.loads((out / "summary.json").read_bytes())
    for source in summary["sources"]:
        assert source["decoded"] == source["admitted"] + sum(source["dropped"].values())
        assert source["admitted"] > 0
    assert not (out / "control.json").exists()
