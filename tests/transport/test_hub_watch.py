"""A process ends when its hub cannot be reached any more, and not before."""

import json
import signal
import subprocess
import sys

import msgspec
import pytest
from waiting import PATIENCE_S

from streamvis.transport.keys import ClientKeys, new_pair

HUB = """
import json, sys
from streamvis.transport.keys import ServerKeys
from streamvis.transport.sockets import Server
server = Server("inproc://near")
keys, client = json.loads(sys.argv[1])
print(server.listen("tcp://127.0.0.1:*", ServerKeys(**keys), {client}), flush=True)
sys.stdin.read()
server.close()
"""
WATCHED = """
import json, sys
from streamvis.transport.hub_watch import exit_without_hub
from streamvis.transport.keys import ClientKeys
exit_without_hub(sys.argv[1], ClientKeys(**json.loads(sys.argv[2])), ping_s=0.2, give_up_s=2.0)
sys.stdin.read()
"""
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def start(code, *given):
    return subprocess.Popen([sys.executable, "-c", code, *given], text=True, **PIPES)


@pytest.fixture
def hub_and_process():
    server, client = new_pair(), new_pair()
    keys = {"public": server[0], "secret": server[1]}
    hub = start(HUB, json.dumps([keys, client[0]]))
    theirs = ClientKeys(server=server[0], public=client[0], secret=client[1])
    process = start(WATCHED, hub.stdout.readline().strip(), msgspec.json.encode(theirs).decode())
    yield hub, process
    for each in (hub, process):
        each.kill()
        each.communicate()


def test_it_ends_when_the_hub_has_been_silent_for_long_and_not_before(hub_and_process):
    hub, process = hub_and_process
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)  # the hub answers, and sends nothing
    hub.send_signal(signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.7)
    hub.send_signal(signal.SIGCONT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    hub.send_signal(signal.SIGSTOP)
    assert process.wait(PATIENCE_S) == 1
    assert "the hub does not answer: process ends" in process.stderr.read()
