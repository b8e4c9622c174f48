import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import gettempdir

import av
import msgspec
import pytest
import toys
from process_tree import children
from waiting import PATIENCE_S, until

from streamvis.config import (
    DecodeSpec,
    Jipda,
    MaskRcnn,
    Pipeline,
    Placement,
    Publish,
    StageSpec,
    WorkerSpec,
)
from streamvis.errors import DataError, DeviceError, RunError, SourceError, UsageError, WeightsError
from streamvis.runtime import inline, launch
from streamvis.runtime.supervision import Limits
from streamvis.sources.spec import SourceSpec

HASTY = Limits(backoff_s=(0.0,))


def source(name="a", frames=20, **options):
    options = {key: str(value) for key, value in options.items()}
    return SourceSpec(id=name, uri=f"toy:{frames}", kind="file", options=options)


def chain(detect="detect", track="track", publish="publish", every_s=0.0):
    return Pipeline(
        stages=[
            StageSpec(detect, MaskRcnn(), every_s=every_s),
            StageSpec(track, Jipda(), after=[detect]),
            StageSpec(publish, Publish(), after=[track]),
        ]
    )


def workers(*groups, slots=4, **settings):
    return Placement(
        workers=[WorkerSpec(stages=list(group), **settings) for group in groups], slots=slots
    )


def run(pipeline, placement, sources, out, **settings):
    return launch.run(
        pipeline,
        placement,
        sources,
        build="toys:build",
        open_source="toys:open_toy",
        out=out,
        **settings,
    )


def undisturbed(pipeline, sources, out):
    inline.run(pipeline, sources, build=toys.build, open_source=toys.open_toy, out=out)
    return logs(out)


def logs(out):
    return {path.name: path.read_text() for path in out.glob("*.log")}


def runs(pid):
    """Whether the process is there, and not only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def balanced(summary):
    for report in summary.sources:
        assert report.decoded == report.admitted + sum(report.dropped.values())
    return {report.id: report for report in summary.sources}


def test_many_processes_give_what_one_gives(tmp_path):
    """A diamond with a rest, replicas, batches, a gap, a failure, and pictures that grow."""
    pipeline = Pipeline(
        stages=[
            StageSpec("detect", MaskRcnn(), every_s=0.1),
            StageSpec("track", Jipda(), after=["detect"]),
            StageSpec("other", Jipda(), after=["detect"], every_s=0.3),
            StageSpec("publish", Publish(), after=["track", "other"]),
        ]
    )
    placement = Placement(
        workers=[
            WorkerSpec(["detect"], replicas=2, batch=3, wait_ms=2),
            WorkerSpec(["track", "publish", "other"], batch=2),
        ],
        slots=4,
    )
    sources = [
        source("a", 60, jump=7),
        source("b", 40, fail=30, password="geheim"),
        source("c", 50, grow=20),
    ]
    seen = []

    def look(status):
        seen.append(status)
        assert not children(word="geheim")

    summary = run(pipeline, placement, sources, tmp_path / "many", on_status=look)
    assert logs(tmp_path / "many") == undisturbed(pipeline, sources, tmp_path / "one")
    reports = balanced(summary)
    assert [reports[name].admitted for name in "abc"] == [59, 30, 50]
    assert [reports[name].ending for name in "abc"] == ["eof", "failed", "eof"]
    assert reports["b"].error == "toy: torn at 30"
    assert reports["a"].decode_errors == 1
    stages = {stage.name: stage for stage in summary.stages}
    assert stages["detect"].count + stages["detect"].skipped == 139
    assert stages["publish"].count == 139
    assert summary.refused_messages == 0
    assert json.loads((tmp_path / "many/summary.json").read_bytes()) == msgspec.to_builtins(summary)
    assert seen


def test_kill_9_of_every_kind_of_worker_changes_nothing(tmp_path):
    rng = random.Random(os.environ.get("STREAMVIS_SEED", "5"))
    pipeline = chain(every_s=0.1)
    placement = workers(["detect"], ["track"], ["publish"], batch=2)
    sources = [source("a", 220, pause=0.004)]
    victims = ["decode-a#", "detect.0#", "track.0#", "publish.0#"]
    rng.shuffle(victims)
    moments = sorted(rng.sample(range(5, 190), len(victims)))
    killed = []

    def kill():
        log = tmp_path / "many/publish-a.log"
        for victim, moment in zip(victims, moments, strict=True):
            while not log.exists() or len(log.read_text().splitlines()) < moment:
                if over.wait(0.001):
                    return
            for pid in children(word=victim):
                os.kill(pid, signal.SIGKILL)
                killed.append(victim)

    over = threading.Event()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        summary = run(pipeline, placement, sources, tmp_path / "many")
    finally:
        over.set()
        killer.join()
    assert killed == victims
    assert logs(tmp_path / "many") == undisturbed(pipeline, sources, tmp_path / "one")
    assert balanced(summary)["a"].admitted == 220
    restarts = {stage.name: stage.restarts for stage in summary.stages}
    assert restarts == {"detect": 1, "track": 1, "publish": 1}
    assert summary.sources[0].restarts == 1


def test_a_frame_that_kills_two_workers_is_given_up_and_reported(tmp_path):
    pipeline = chain(detect="detect-die-7")
    placement = workers(["detect-die-7"], ["track", "publish"], batch=3)
    summary = run(pipeline, placement, [source(frames=12)], tmp_path, limits=HASTY)
    lines = (tmp_path / "publish-a.log").read_text().splitlines()
    assert lines[7] == "gap poison 7-7 1"
    assert [line.split()[1] for line in lines if line[0].isdigit()] == [
        str(n) for n in range(12) if n != 7
    ]
    assert lines[-1] == "end eof"
    assert summary.sources[0].poisoned == 1
    assert summary.sources[0].admitted == 12


def test_a_worker_that_keeps_dying_fails_the_run_with_a_reason(tmp_path):
    pipeline = chain(track="track-crash-eof")
    with pytest.raises(RunError) as caught:
        run(
            pipeline,
            workers([s.name for s in pipeline.stages]),
            [source(frames=3)],
            tmp_path,
            limits=Limits(deaths=2, backoff_s=(0.0,)),
        )
    message = str(caught.value)
    assert "'track-crash-eof'" in message
    assert "died more than 2 times in 60 s" in message
    assert "ValueError: toy cannot do eof" in message
    assert json.loads((tmp_path / "summary.json").read_bytes())["error"] == message


@pytest.mark.parametrize(
    ("trouble", "error", "message"),
    [
        ("data-7", DataError, "toy: 7 is not a number"),
        ("full-7", RunError, "toy: no space left"),
        ("crash-7_die-7", RunError, "died more than 0 times"),
    ],
)
def test_a_fatal_error_ends_in_good_order_where_the_publisher_lives(
    tmp_path, trouble, error, message
):
    """Its frame and those that wait are dropped with a notice; open tracks end."""
    name = f"detect-{trouble}"
    placement = workers([name], ["track", "publish"])
    with pytest.raises(error, match=message):
        run(chain(detect=name), placement, [source()], tmp_path, limits=Limits(deaths=0))
    lines = (tmp_path / "publish-a.log").read_text().splitlines()
    assert lines[-1] == "end drained"
    assert lines[-2].startswith("offline the run has ended")
    assert lines[-3].startswith("gap drained 7-")
    summary = json.loads((tmp_path / "summary.json").read_bytes())
    assert message in summary["error"]
    (report,) = summary["sources"]
    assert (report["ending"], report["admitted"]) == ("drained", len(lines) - 3)
    assert report["decoded"] == report["admitted"] + report["dropped"]["drained"]


def test_a_full_disk_ends_the_run_at_once_without_poison_frames(tmp_path):
    pipeline = chain(publish="publish-full-3")
    with pytest.raises(RunError, match=r"^toy: no space left$"):
        run(pipeline, workers([s.name for s in pipeline.stages]), [source()], tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_bytes())
    assert summary["error"] == "toy: no space left"
    assert summary["sources"][0]["poisoned"] == 0
    assert [stage["restarts"] for stage in summary["stages"]] == [0, 0, 0]


def test_the_first_error_precedes_a_summary_that_cannot_be_written(tmp_path):
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(RunError, match="no space left"):
        run(
            chain(detect="detect-full-0"),
            workers(["detect-full-0", "track", "publish"]),
            [source()],
            tmp_path,
        )
    assert [path.name for path in tmp_path.iterdir() if "summary" in path.name] == ["summary.json"]


def test_too_little_shared_memory_is_in_the_summary(tmp_path, monkeypatch):
    def nothing_free(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", nothing_free)
    with pytest.raises(RunError, match=r"source .a. .* needs 4 slots"):
        run(chain(), workers(["detect", "track", "publish"]), [source()], tmp_path)
    assert "needs 4 slots" in json.loads((tmp_path / "summary.json").read_bytes())["error"]


def test_a_source_that_never_opened_has_a_label_without_credentials(tmp_path):
    address = "rtsp://me:geheim@toy/absent"
    lost = SourceSpec(id="b", uri=address, kind="url", options={"refuse": ""}, retry_s=0)
    summary = run(chain(), workers(["detect", "track", "publish"]), [source(), lost], tmp_path)
    assert {s.id: s.label for s in summary.sources}["b"] == "rtsp://toy/absent"
    assert b"geheim" not in (tmp_path / "summary.json").read_bytes()


@pytest.mark.parametrize("name", ["file", "file/below", b"\xff"])
def test_an_unwritable_directory_is_refused_before_anything_starts(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot be written to|not UTF-8"):
        run(
            chain(),
            workers(["detect", "track", "publish"]),
            [source()],
            tmp_path / os.fsdecode(name),
        )


@pytest.mark.parametrize(
    ("name", "device", "error", "message"),
    [
        ("unweighted", "cpu", WeightsError, "toy.safetensors does not fit"),
        ("nodevice", "cuda:1", DeviceError, "no cuda:1 here"),
        ("unbuildable", "cpu", RunError, "unbuildable cannot be built: ValueError"),
    ],
)
def test_a_stage_that_cannot_be_built_is_reported_once(tmp_path, name, device, error, message):
    pipeline = Pipeline(stages=[StageSpec(name, MaskRcnn())])
    with pytest.raises(error, match=message):
        run(pipeline, workers([name], device=device), [source()], tmp_path)
    (stage,) = json.loads((tmp_path / "summary.json").read_bytes())["stages"]
    assert stage["restarts"] == 0


def test_the_fallback_device_is_used_and_logged(tmp_path, capfd):
    pipeline = Pipeline(stages=[StageSpec("nodevice", MaskRcnn())])
    placement = workers(["nodevice"], device="cuda:1", fallback="cpu")
    summary = run(pipeline, placement, [source(frames=3)], tmp_path)
    assert summary.stages[0].count == 3
    assert "no cuda:1 here" in capfd.readouterr().err


def test_one_source_that_cannot_be_opened_is_the_error(tmp_path):
    with pytest.raises(SourceError, match="toy:20: nobody there"):
        run(chain(), workers(["detect", "track", "publish"]), [source(refuse=1)], tmp_path)


def test_a_source_that_cannot_be_opened_does_not_hold_back_the_others(tmp_path):
    sources = [source("bad", refuse=1), source("good", 5)]
    summary = run(chain(), workers(["detect", "track", "publish"]), sources, tmp_path)
    reports = balanced(summary)
    assert reports["bad"].ending == "failed"
    assert "nobody there" in reports["bad"].error
    assert reports["good"].admitted == 5


def test_a_live_source_drops_what_it_cannot_wait_for_and_counts_it(tmp_path):
    pipeline = chain(detect="detect-slow")
    placement = workers(["detect-slow", "track", "publish"], slots=2)
    summary = run(pipeline, placement, [source(frames=200, live=1, pause=0.001)], tmp_path)
    report = balanced(summary)["a"]
    assert report.decoded == 200
    assert report.dropped["overload"] > 0
    lines = (tmp_path / "publish-a.log").read_text().splitlines()
    counts = [int(line.split()[3]) for line in lines if line.startswith("gap overload")]
    assert sum(counts) == report.dropped["overload"]
    assert len(counts) <= 2 + summary.wall_s
    *_, last = (line for line in lines if line[0].isdigit())
    assert last.split()[1] == "199"  # the newest is never dropped for nothing


def test_small_shared_memory_is_a_clear_error(tmp_path, monkeypatch):
    def full(fd, offset, length):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match=r"source 'a' \(32×16\) needs 4 slots .* MB are free"):
        run(chain(), workers(["detect", "track", "publish"]), [source()], tmp_path)


def test_a_stage_that_fails_to_close_fails_the_run(tmp_path):
    pipeline = chain(publish="badclose")
    with pytest.raises(RunError, match=r"while closing its stages.*toy cannot close"):
        run(pipeline, workers(["detect", "track", "badclose"]), [source(frames=2)], tmp_path)


def test_sources_need_distinct_ids(tmp_path):
    with pytest.raises(UsageError, match="two sources are called 'a'"):
        run(chain(), workers(["detect", "track", "publish"]), [source(), source()], tmp_path)
    with pytest.raises(UsageError, match="no source"):
        run(chain(), workers(["detect", "track", "publish"]), [], tmp_path)


HUB = """
import sys
from pathlib import Path
sys.path.append({tests!r})
from streamvis.errors import StreamvisError
from test_launch import Limits, chain, run, source, workers
placement = workers(["{detect}"], ["track", "publish"])
sources = [source(frames=10**6, pause=0.002)]
try:
    summary = run(chain(detect="{detect}"), placement, sources, Path({out!r}), limits={limits!r})
except StreamvisError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
print(summary.interrupted, summary.sources[0].ending)
"""


@pytest.fixture
def hub(tmp_path):
    """A run in a process of its own, in the midst of its source."""
    started = []

    def start(detect="detect", before="", limits=None, **settings):
        code = HUB.format(
            tests=str(Path(__file__).parent), detect=detect, out=str(tmp_path), limits=limits
        )
        pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE) | settings
        process = subprocess.Popen([sys.executable, "-c", before + code], text=True, **pipes)
        started.append(process)
        log, hung = tmp_path / "publish-a.log", tmp_path / f"{detect}.hung"
        # a run is ended at once before its publisher has begun
        while not log.exists() or (not hung.exists() and len(log.read_text()) < 500):
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.01)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_sigterm_drains_and_leaves_nothing(hub, tmp_path):
    process = hub()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, "SIGTERM drained\n"), err
    lines = (tmp_path / "publish-a.log").read_text().splitlines()
    assert lines[-1] == "end drained"
    report = json.loads((tmp_path / "summary.json").read_bytes())["sources"][0]
    assert sum(line[0].isdigit() for line in lines) == report["admitted"]
    assert report["decoded"] == report["admitted"] + sum(report["dropped"].values())
    assert not list(Path(gettempdir()).glob(f"streamvis-{process.pid}-*"))


def test_a_closed_terminal_drains_like_sigterm(hub, tmp_path):
    ours, its = os.openpty()
    take_it = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    std = dict.fromkeys(("stdin", "stdout", "stderr"), its)
    process = hub(before=take_it, start_new_session=True, **std)
    os.close(its)
    os.close(ours)
    assert process.wait(PATIENCE_S) == 0  # though it prints
    assert (tmp_path / "publish-a.log").read_text().splitlines()[-1] == "end drained"
    assert json.loads((tmp_path / "summary.json").read_bytes())["interrupted"] == "SIGHUP"
    assert not list(Path(gettempdir()).glob(f"streamvis-{process.pid}-*"))


def test_nohup_stays_in_effect(hub):
    process = hub(before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert out == "SIGTERM drained\n", err


def test_a_sigterm_that_timeout_sends_twice_is_one(hub):
    process = hub(detect="detect-hang-3", limits=Limits(drain_work_s=1.0))
    for _ in range(2):  # to the process, and to its group
        process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, "SIGTERM drained\n"), err


def test_the_second_sigterm_ends_it_at_once(hub, tmp_path):
    process = hub(detect="detect-hang-3")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGHUP)  # as systemd sends it too: this one does not count
    time.sleep(0.3)
    assert process.poll() is None  # it waits for frame 3
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert err.splitlines()[-1].startswith("the run was ended by a second signal (SIGTERM)")
    summary = json.loads((tmp_path / "summary.json").read_bytes())
    assert (summary["interrupted"], summary["sources"][0]["ending"]) == ("SIGTERM", None)
    assert "second signal" in summary["error"]
    assert not list(Path(gettempdir()).glob(f"streamvis-{process.pid}-*"))


def test_sigterm_does_not_wait_for_a_stage_that_never_returns(hub, tmp_path):
    process = hub(detect="detect-hang-3", limits=Limits(drain_work_s=0.5))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, "SIGTERM drained\n"), err
    gap, offline, end = (tmp_path / "publish-a.log").read_text().splitlines()[-3:]
    assert (gap[:14], offline[:7], end) == ("gap drained 3-", "offline", "end drained")
    report = json.loads((tmp_path / "summary.json").read_bytes())["sources"][0]
    assert report["admitted"] == 3
    assert report["decoded"] == report["admitted"] + report["dropped"]["drained"]


@pytest.mark.parametrize("who", ["detect", "track+publish"])
def test_sigterm_does_not_wait_for_a_worker_that_is_stopped(hub, tmp_path, who):
    process = hub(limits=Limits(drain_heartbeat_timeout_s=1.5))
    (victim,) = children(process.pid, f" {who}.0#")
    os.kill(victim, signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, "SIGTERM drained\n"), err
    lines = (tmp_path / "publish-a.log").read_text().splitlines()
    assert lines[-1] == "end drained"
    report = json.loads((tmp_path / "summary.json").read_bytes())["sources"][0]
    assert sum(line[0].isdigit() for line in lines) == report["admitted"]
    assert report["decoded"] == report["admitted"] + sum(report["dropped"].values())


def test_kill_9_of_the_hub_ends_its_workers_and_the_next_start_cleans_up(hub, tmp_path):
    process = hub()
    theirs = children(process.pid)
    assert len(theirs) == 3
    assert list(Path(gettempdir()).glob(f"streamvis-{process.pid}-*"))
    process.kill()  # its socket is left until a run starts, here or in another test
    process.communicate()
    until(lambda: not any(map(runs, theirs)))
    run(chain(), workers(["detect", "track", "publish"]), [source(frames=1)], tmp_path / "next")
    assert not list(Path(gettempdir()).glob(f"streamvis-{process.pid}-*"))


def test_a_placement_says_which_device_decodes(tmp_path):
    """The source has no setting of its own; this machine has no such device."""
    placement = msgspec.structs.replace(
        workers(["detect", "track", "publish"]), decode=DecodeSpec(hwaccel="drm")
    )
    film = tmp_path / "film.avi"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 64
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode())
    spec = SourceSpec(id="a", uri=str(film), kind="file")
    with pytest.raises(SourceError, match="hwaccel=drm cannot decode"):
        launch.run(chain(), placement, [spec], build="toys:build", out=tmp_path / "out")
