"""Processes of a run are killed: a file is processed as if nothing had been."""

import os
import random
import signal
import subprocess
import threading
from contextlib import closing

import films
import pytest
import street
from commands import CAMERA, STREAMVIS, until
from process_tree import children

from streamvis.sources import resolve

ROUNDS = int(os.environ.get("STREAMVIS_ROUNDS", "1"))  # `make soak` sets more
FRAMES = 150
KINDS = ["decode-film", "detect.0", "track.0", "publish.0"]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    films.write(films.Film("mp4", "h264", reorder=True, frames=FRAMES), path)
    return path


@pytest.fixture(scope="module")
def expected(film, tmp_path_factory):
    found = street.undisturbed(resolve([str(film)]), tmp_path_factory.mktemp("one"))
    assert len(found) > FRAMES / 2
    return found


def pids(what):
    return list(children(word=f" {what}#"))


@pytest.mark.parametrize("number", range(ROUNDS))
def test_kill_9_of_any_process_leaves_the_log_of_an_undisturbed_run(
    film, expected, tmp_path, monkeypatch, number
):
    rng = random.Random(f"{os.environ.get('STREAMVIS_SEED', '1')}/{number}")
    victims = rng.sample(KINDS, len(KINDS))
    moments = sorted(rng.sample(range(5, len(expected) // 2), len(victims)))
    monkeypatch.setenv(street.SLOW_S, "0.01")
    killed, over = [], threading.Event()

    def kill():
        for victim, moment in zip(victims, moments, strict=True):
            while street.logged(tmp_path) < moment or not pids(victim):
                if over.wait(0.002):
                    return
            for pid in pids(victim):
                os.kill(pid, signal.SIGKILL)
            killed.append(victim)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        summary = street.run(resolve([str(film)]), tmp_path, street.APART)
    finally:
        over.set()
        killer.join()
    assert killed == victims
    assert street.rows(tmp_path) == expected
    report = street.balanced(summary)["film"]
    assert (report.admitted, report.restarts, report.ending) == (FRAMES, 1, "eof")
    assert [stage.restarts for stage in summary.stages] == [1, 1, 1]


@pytest.mark.parametrize("victim", ["camera.0", "decode-cam1"])
def test_a_process_that_dies_again_and_again_ends_the_run_with_a_reason(tmp_path, victim):
    (tmp_path / "camera.yaml").write_text(CAMERA)
    scene = "cam1=synthetic:walkers?people=1&seconds=9999&fps=25&size=64x48"
    command = [*STREAMVIS, "run", "camera.yaml", "--source", scene, "--out", "out"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    killed = set()
    with closing(Run(command, cwd=tmp_path, **pipes)) as process:

        def another():
            found = {*children(process.pid, f" {victim}#")} - killed
            return found or process.poll() is not None

        while process.poll() is None:
            if isinstance(found := until(another), set):
                for pid in found:
                    os.kill(pid, signal.SIGKILL)
                killed |= found
        out, err = process.communicate()
    assert len(killed) == 6
    assert (process.returncode, out) == (1, "")
    message = next(line for line in err.splitlines() if line.startswith("streamvis: "))
    assert "died more than 5 times in 60 s, the last time: killed by SIGKILL" in message
    assert {"camera.0": "stage 'camera'", "decode-cam1": "source 'cam1'"}[victim] in message


class Run(subprocess.Popen):
    def close(self):
        self.kill()
        self.communicate()
