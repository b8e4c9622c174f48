import errno
import os
import subprocess
import tempfile
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit

import zmq
from test_launch import balanced, chain, run, source, workers

from streamvis.runtime import processes, protocol
from streamvis.runtime.protocol import Answer, Ready


def test_hostile_messages_are_refused_and_counted(tmp_path):
    """Another process of the same user sends messages to the hub; the run is not affected."""
    junk = [
        [b""],
        [b"\xff" * 1000],
        [b"x"] * 5000,
        [protocol.encode(Ready())],
        [protocol.encode(Answer(1, [], [], [])), b"blob"],
        [os.urandom(2**20)],
    ]
    context = zmq.Context()
    strangers = []

    def intrude(status):
        if strangers:
            return
        (home,) = Path(tempfile.gettempdir()).glob(f"streamvis-{os.getpid()}-*")
        for name in (b"stranger", b"detect.0#99", b"~"):
            stranger = context.socket(zmq.DEALER)
            strangers.append(stranger)
            stranger.setsockopt(zmq.LINGER, 0)
            stranger.setsockopt(zmq.IDENTITY, name)
            stranger.connect(f"ipc://{home}/hub")
            for message in junk:
                stranger.send_multipart(message)

    try:
        placement = workers(["detect"], ["track", "publish"])
        summary = run(chain(), placement, [source(frames=30)], tmp_path, on_status=intrude)
    finally:
        for stranger in strangers:
            stranger.close()
        context.term()
    assert summary.refused_messages == 3 * len(junk)
    assert balanced(summary)["a"].admitted == 30
    assert [stage.restarts for stage in summary.stages] == [0, 0, 0]


def test_a_process_that_cannot_be_started_is_tried_again(tmp_path, monkeypatch):
    """The system refuses one process, for want of descriptors: the run goes on."""
    popen, refused = subprocess.Popen, []

    def refuse_once(command, **how):
        if "streamvis.runtime.worker" in command and not refused:
            refused.append(command)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return popen(command, **how)

    monkeypatch.setattr(processes.subprocess, "Popen", refuse_once)
    placement = workers(["detect"], ["track", "publish"])
    summary = run(chain(), placement, [source(frames=5)], tmp_path)
    assert balanced(summary)["a"].admitted == 5
    assert [stage.restarts for stage in summary.stages] == [1, 0, 0]


def test_a_refused_process_says_which_limit_to_raise():
    error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    limit = getrlimit(RLIMIT_NOFILE)[0]
    text = f"Too many open files: raise the limit, which is {limit} (ulimit -n)"
    assert processes.why_refused(error) == text
    assert processes.why_refused(OSError(errno.ENOMEM, "no memory")) == "no memory"
