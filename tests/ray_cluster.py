"""A Ray cluster of real nodes on one machine, for tests; everything that it starts ends."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from waiting import PATIENCE_S, until

TOKEN = "0123456789abcdef" * 4
START = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start"]
SMALL = ["--object-store-memory=80000000", "--disable-usage-stats", "--block"]
NODE = "STREAMVIS_TEST_NODE"  # variable that marks the processes of a node
ANY_PORT = ["--min-worker-port=0", "--max-worker-port=0"]


class Cluster:
    """Nodes by their addresses; the first one that is started is the head.

    `enter`: words before a command that take it to the namespace of an address, on loopback none.
    """

    def __init__(self, home, paths, enter=None):
        self.port = free_port()
        self.head = self.address = ""
        self.enter = enter or {}
        self.nodes = {}  # address -> process
        self._home = home
        self._environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_timeout_ms": "2000",
            "RAY_health_check_failure_threshold": "3",
            "RAY_DISABLE_IMPORT_WARNING": "1",
        }

    def start(self, address, cpus=4, **resources):
        """Start a node; it joins while the caller goes on, but the head is up on return."""
        head = not self.nodes
        if head:
            self.head, self.address = address, f"{address}:{self.port}"
        where = [
            "--head",
            f"--port={self.port}",
            "--include-dashboard=false",
            f"--temp-dir={self._home}",
        ]
        command = [
            *self.enter.get(address, []),
            *START,
            *(where if head else [f"--address={self.address}"]),
            *(f"--node-ip-address={address}", f"--num-cpus={cpus}"),
            *(f"--resources={json.dumps(resources)}", *SMALL, *ANY_PORT),
        ]
        log = open(self._home.with_suffix(f".{address}.log"), "w")  # noqa: SIM115 - the child's
        with log:
            self.nodes[address] = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment | {NODE: f"{self._home}@{address}"},
                start_new_session=True,
            )
        if head:
            until(self._answers, lambda: Path(log.name).read_text())

    def kill(self, address):
        """Kill a node with all its processes, at once."""
        process = self.nodes.pop(address)
        while theirs := self._processes(address):
            for each in theirs:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            time.sleep(0.01)
        process.wait()

    def signal(self, address, number):
        """Send all processes of a node a signal; after SIGSTOP it is there, and does not answer."""
        for each in self._processes(address):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, number)

    def pids(self, address, name="ray::"):
        """Return the pids of the processes on a node whose command line begins like this."""
        return [each for each in self._processes(address) if _command(each).startswith(name)]

    def _processes(self, address):
        """Return the pids of all processes of a node.

        Those that change their names lose their variables, and are found as children of others.
        """
        mark = f"{NODE}={self._home}@{address}".encode()
        found, parents = [], {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                pid = int(path.parent.name)
                _, _, rest = path.read_text().rpartition(")")
                state, parent = rest.split()[:2]
                if state == "Z":
                    continue
                parents[pid] = int(parent)
                if mark in (path.parent / "environ").read_bytes().split(b"\0"):
                    found.append(pid)
        for each in found:
            found += [pid for pid, parent in parents.items() if parent == each and pid not in found]
        return found

    def close(self):
        for address in list(self.nodes):
            self.kill(address)
        shutil.rmtree(self._home, ignore_errors=True)

    def _answers(self):
        probe = ["bash", "-c", f"</dev/tcp/{self.head}/{self.port}"]
        command = [*self.enter.get(self.head, []), *probe]
        return not subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode


def _command(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def free_port():
    with socket.create_server(("127.0.0.2", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def cluster(*paths, enter=None):
    """Yield a cluster without nodes."""
    home = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    started = Cluster(home, paths, enter)
    try:
        yield started
    finally:
        started.close()
        for log in home.parent.glob(f"{home.name}.*.log"):
            log.unlink()


def alive_nodes(cluster_, count):
    """Wait, in this process, until so many nodes are alive."""
    import ray

    deadline = time.monotonic() + PATIENCE_S
    while len([one for one in ray.nodes() if one["Alive"]]) < count:
        assert time.monotonic() < deadline
        time.sleep(0.2)
