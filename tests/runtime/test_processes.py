import errno
import os
import select
import signal
import sys
import time

import pytest
from waiting import PATIENCE_S

from streamvis.errors import ConfigError
from streamvis.runtime import processes
from streamvis.runtime.processes import Child, Heartbeats, load
from streamvis.transport.sockets import Client, Server


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Starts a process that runs the code given."""
    children = []

    def start(code, **settings):
        (tmp_path / "fate.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        children.append(Child("detect.0", 1, "fate", "ipc://nowhere", **settings))
        return children[-1]

    yield start
    for child in children:
        if child.process.returncode is None:
            child.end()


def exited(child):
    readable, _, _ = select.select([child.exit], [], [], 20)
    return bool(readable)


def test_a_good_end_has_no_reason(child):
    one = child("print('hello')")
    assert exited(one)
    assert one.end() == "hello\n"
    assert one.reason() == ""


def test_an_exception_is_the_reason(child):
    one = child("raise ValueError('too blue')")
    assert exited(one)
    one.end()
    assert one.reason().startswith("exit code 1")
    assert "ValueError: too blue" in one.reason()


def test_a_signal_is_the_reason(child):
    one = child("import os; os.kill(os.getpid(), 11)")
    assert exited(one)
    one.end()
    assert one.reason() == "killed by SIGSEGV"


def test_a_signal_without_a_name_is_the_reason_too(child):
    one = child("import os; os.kill(os.getpid(), 40)")
    assert exited(one)
    one.end()
    assert one.reason() == "killed by signal 40"


def test_without_a_descriptor_for_its_end_there_is_no_process(child, monkeypatch):
    started = []

    def refused(pid):
        started.append(pid)
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "pidfd_open", refused)
    with pytest.raises(OSError, match="too many open files"):
        child("import time; time.sleep(1000)")
    with pytest.raises(ProcessLookupError):  # and `nothing_left_behind` looks for its pipe
        os.kill(started[0], 0)


def test_a_process_that_ignores_signals_is_killed(child):
    one = child(
        "import signal, time\n"
        "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
        "print('ready', flush=True)\nwhile True: time.sleep(1)"
    )
    select.select([one.output], [], [], 20)
    one.end()
    assert one.process.returncode == -signal.SIGKILL


def test_only_its_last_lines_are_kept_however_much_it_prints(child):
    one = child("for i in range(10_000): print('line', i)")
    text = ""
    while (more := one.read()) is not None and not exited_now(one):
        text += more
        time.sleep(0.001)
    text += (more or "") + one.end()
    assert text.count("\n") == 10_000
    assert len(one.tail) == 20


def exited_now(child):
    return bool(select.select([child.exit], [], [], 0)[0])


def test_threads_and_cores_are_set_before_it_runs(child):
    core = min(os.sched_getaffinity(0))
    one = child(
        "import cv2, os\n"
        "print(os.environ['OMP_NUM_THREADS'], cv2.getNumThreads(), os.sched_getaffinity(0))",
        threads=3,
        cores=[core],
    )
    assert exited(one)
    assert one.end() == f"3 3 {{{core}}}\n"


def test_the_command_line_of_a_process_holds_only_where_to_connect(child):
    one = child("import sys; print(sys.argv[1:])")
    assert exited(one)
    assert one.end() == f"{['ipc://nowhere', 'detect.0#1', str(os.getpid())]}\n"


def test_a_function_is_loaded_by_its_name():
    assert load("os.path:join") is os.path.join
    assert load("sys:version") is sys.version


@pytest.mark.parametrize("reference", ["no_such_module:f", "os:no_such_thing", "os"])
def test_a_name_that_cannot_be_imported_is_refused(reference):
    with pytest.raises(ConfigError, match="cannot be imported as module:function"):
        load(reference)


class Seconds:
    """An event of which each wait does the next step, and at the end the event is there."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def wait(self, timeout):
        if self.steps:
            self.steps.pop(0)()
        return not self.steps

    def set(self):
        pass


def test_heartbeats_are_sent_where_no_messages_are(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "BEAT_S", 1000)  # of its thread: only the steps below count
    endpoint = f"ipc://{tmp_path}/hub"
    server, client = Server(endpoint), Client(endpoint, b"detect#1")
    beats = Heartbeats(client, endpoint, b"detect#1")
    waits, sent = beats._over, lambda: client.send([b"work"])
    beats._over = Seconds(sent, sent, lambda: None, sent, lambda: None, lambda: None)
    beats._run()
    beats._over = waits
    received = []
    while len(received) < 5:
        server.socket.poll(PATIENCE_S * 1000)
        received += [peer for peer, _ in server.receive()]
    assert sorted(received) == [b"detect#1"] * 3 + [b"detect#1~"] * 2
    beats.close()
    client.close()
    server.close()
