"""The samples in other languages print the events of a feed, and exactly what was lost of it.

`first_client.py` is the plain sample of the first release: it is never changed.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from waiting import PATIENCE_S

from streamvis.events.feed import Feed, Message

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
FIRST_CLIENT = ROOT / "tests" / "events" / "fixtures" / "first_client.py"
GOLDEN = ROOT / "tests" / "events" / "golden"
CRATES = Path("/usr/share/cargo/registry")
CPP = "install g++, libzmq3-dev, cppzmq-dev and nlohmann-json3-dev"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """The command of the Node sample, with its package installed."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("no Node.js: install node and npm")
    home = tmp_path_factory.mktemp("node")
    for name in ("package.json", "subscribe.mjs"):
        shutil.copy(SAMPLES / name, home)
    quick = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0"]
    try:
        done = subprocess.run(
            ["npm", "install", *quick], cwd=home, capture_output=True, text=True, timeout=120
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm install took over 120 s: the package registry is unreachable")
    if done.returncode:
        pytest.skip(
            f"npm cannot install zeromq, give it a registry: {done.stderr.splitlines()[:1]}"
        )
    return ["node", str(home / "subscribe.mjs")]


@pytest.fixture(scope="module")
def cpp(tmp_path_factory):
    """The command of the C++ sample, compiled."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip(f"no C++ compiler: {CPP}")
    headers = "#include <zmq.hpp>\n#include <nlohmann/json.hpp>\n"
    check = [compiler, "-x", "c++", "-E", "-o", os.devnull, "-"]
    if subprocess.run(check, input=headers, capture_output=True, text=True).returncode:
        pytest.skip(f"no headers of ZeroMQ or JSON: {CPP}")
    program = tmp_path_factory.mktemp("cpp") / "subscribe"
    strict = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-O0"]
    command = [*strict, str(SAMPLES / "subscribe.cpp"), "-o", str(program), "-lzmq"]
    subprocess.run(command, check=True, timeout=300)
    return [str(program)]


@pytest.fixture(scope="module")
def rust(tmp_path_factory):
    """The command of the Rust sample, built from the sources that Debian has of its crates."""
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.skip("no cargo: install cargo or rustup")
    if not all(any(CRATES.glob(f"{crate}-[0-9]*")) for crate in ("zmq", "serde_json")):
        pytest.skip(
            "no crates without internet: install librust-zmq-dev and librust-serde-json-dev"
        )
    home = tmp_path_factory.mktemp("rust")
    for name in ("Cargo.toml", "subscribe.rs"):
        shutil.copy(SAMPLES / name, home)
    (home / ".cargo").mkdir()
    (home / ".cargo" / "config.toml").write_text(
        f'[source.crates-io]\nreplace-with = "here"\n[source.here]\ndirectory = "{CRATES}"\n'
    )
    environment = {**os.environ, "RUSTFLAGS": "-D warnings", "CARGO_TARGET_DIR": str(home / "to")}
    subprocess.run(
        [cargo, "build", "--quiet", "--offline"], cwd=home, env=environment, check=True, timeout=300
    )
    return [str(home / "to" / "debug" / "subscribe")]


@pytest.fixture(params=["node", "cpp", "rust"])
def client(request):
    return request.getfixturevalue(request.param)


@contextmanager
def listening(client, endpoint, prefix):
    command = [*client, endpoint, prefix]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            yield run
        finally:
            run.send_signal(signal.SIGTERM)
            run.wait(PATIENCE_S)


def printed_until(run, last):
    lines = []
    while last not in lines:
        line = run.stdout.readline()
        assert line, run.stderr.read()
        lines.append(line.rstrip("\n"))
    return lines


def message(source, kind, tseq, epoch="e"):
    """A golden event as a message of the feed."""
    event = json.loads((GOLDEN / f"{kind}.json").read_bytes())
    event |= {"source": source, "tseq": tseq, "epoch": epoch}
    return Message(source, kind.partition(".")[0], tseq, json.dumps(event).encode(), ())


def test_events_and_losses(client):
    with closing(Feed("tcp://127.0.0.1:*", epoch="e")) as feed:
        for source in ("cam1", "cam10"):
            feed.open_source(source)
        with listening(client, feed.endpoint, "sv1/cam1/") as run:
            printed_until(run, "sv1/cam1/hb/ heartbeat")  # it is subscribed
            feed.publish(
                [
                    message("cam1", "track.begin", 7),
                    message("cam10", "track.begin", 1),
                    message("cam1", "track.update", 8),
                    message("cam1", "track.update", 8),  # again, as after a restart
                    message("cam1", "track.end", 11),
                    message("cam1", "action.begin", 1),
                    message("cam1", "scene.update", 1),
                ]
            )
            lines = printed_until(run, "sv1/cam1/scene/ 1 scene.update")
            feed.open_source("cam1", {"track": 13, "action": 1, "zone": 3})  # in its heartbeat
            lines += printed_until(run, "sv1/cam1/track/ lost 12-13")
            feed.publish([message("cam1", "track.begin", 14), message("cam1", "action.end", 3)])
            lines += printed_until(run, "sv1/cam1/action/ 3 action.end")
    assert [line for line in lines if not line.endswith("heartbeat")] == [
        "sv1/cam1/track/ 7 track.begin",
        "sv1/cam1/track/ 8 track.update",
        "sv1/cam1/track/ lost 9-10",
        "sv1/cam1/track/ 11 track.end",
        "sv1/cam1/action/ 1 action.begin",
        "sv1/cam1/scene/ 1 scene.update",
        "sv1/cam1/track/ lost 12-13",
        "sv1/cam1/track/ 14 track.begin",
        "sv1/cam1/action/ lost 2-2",
        "sv1/cam1/action/ 3 action.end",
    ]


def test_numbers_of_another_run_begin_anew(client):
    with closing(Feed("tcp://127.0.0.1:*", epoch="e")) as feed:
        feed.open_source("cam1")
        with listening(client, feed.endpoint, "sv1/cam1/track/") as run:
            while run.poll() is None:  # without heartbeats: until a message arrives
                feed.publish([message("cam1", "track.begin", 5)])
                if _readable(run):
                    break
            feed.publish([message("cam1", "track.begin", 2, epoch="f")])
            lines = printed_until(run, "sv1/cam1/track/ 2 track.begin")
    assert lines == ["sv1/cam1/track/ 5 track.begin", "sv1/cam1/track/ 2 track.begin"]


def test_the_tracks_of_frames_are_printed(client):
    """They are published since the client names their topic."""
    event = json.loads((GOLDEN / "frame.tracks.json").read_bytes())
    event["tracks"].append({"id": "cam1:3:58", "box_px": [0.4, 1.6, 1279.0, 719.7]})
    with closing(Feed("tcp://127.0.0.1:*", epoch="e")) as feed:
        feed.open_source("cam1")
        with listening(client, feed.endpoint, "sv1/cam1/frame/") as run:
            deadline = time.monotonic() + PATIENCE_S
            while not feed.wants_frames("cam1"):
                assert time.monotonic() < deadline, "nobody subscribes"
                time.sleep(0.01)
            for tseq in (31, 33):
                event |= {"source": "cam1", "epoch": "e", "tseq": tseq}
                payload = json.dumps(event).encode()
                feed.publish([Message("cam1", "frame", tseq, payload, ())])
            tracks = "cam1:3:57 432,497,544,854 cam1:3:58 0,2,1279,720"
            lines = printed_until(run, f"sv1/cam1/frame/ 33 frame.tracks {tracks}")
    assert lines == [
        f"sv1/cam1/frame/ 31 frame.tracks {tracks}",
        "sv1/cam1/frame/ lost 32-32",
        f"sv1/cam1/frame/ 33 frame.tracks {tracks}",
    ]


def _readable(run):
    return bool(select.select([run.stdout], [], [], 0.05)[0])


def one_of_each_type():
    kinds = sorted(path.stem for path in GOLDEN.glob("*.json") if path.stem not in ("schema", "hb"))
    numbers: Counter[str] = Counter()
    for kind in kinds:
        if not kind.startswith("sys."):
            numbers[kind.partition(".")[0]] += 1
            yield kind, message("cam1", kind, numbers[kind.partition(".")[0]])


def types_printed(client, heartbeat):
    """Return the types of the lines that a client prints for one event of each type."""
    kinds, messages = zip(*one_of_each_type(), strict=True)
    with closing(Feed("tcp://127.0.0.1:*", epoch="e")) as feed:
        feed.open_source("cam1")
        with listening(client, feed.endpoint, "sv1/") as run:
            printed_until(run, heartbeat)
            feed.publish(messages)
            last = messages[-1]
            lines = printed_until(run, f"sv1/cam1/{last.family}/ {last.tseq} {kinds[-1]}")
    assert len(kinds) > 20
    return kinds, tuple(
        line.split()[2] for line in lines if "/hb/" not in line and "_sys" not in line
    )


def test_every_type_is_printed(client):
    kinds, printed = types_printed(client, "sv1/cam1/hb/ heartbeat")
    assert printed == kinds


def test_the_client_of_the_first_release_prints_every_type():
    kinds, printed = types_printed([sys.executable, str(FIRST_CLIENT)], "sv1/cam1/hb/ 0 hb")
    assert printed == kinds
