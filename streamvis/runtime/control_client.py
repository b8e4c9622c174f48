"""Asks a run that is under way: finds its control socket, sends a request, returns the reply."""

from contextlib import closing, suppress
from pathlib import Path

import zmq
import zmq.asyncio

from streamvis.errors import RunError, UsageError
from streamvis.runtime import control
from streamvis.runtime.control_files import (
    IN_OUT,
    RunFile,
    check_private,
    is_living,
    living_runs,
    read,
)

PATIENCE_S = 5.0  # for a reply: the hub answers between two frames


class NewerError(UsageError):
    """What was to be replaced is newer than the client knows."""


class UnknownSourceError(UsageError):
    """The run has no such source."""


def find_run(which: str | None = None) -> RunFile:
    """Return the run of a process id or an output directory; without, the only run of this user.

    Raises RunError when there is none, and UsageError when there are several.
    """
    if which is None:
        return _only(living_runs())
    if which.isdecimal():
        runs = [run for run in living_runs() if run.pid == int(which)]
        if not runs:
            raise RunError(f"--run {which}: no run of this user has this process id{_known()}")
        return _only(runs)
    return _run_in(Path(which))


def ask(run: RunFile, request: control.Request, timeout_s: float = PATIENCE_S) -> control.Reply:
    """Return the reply of a run; RunError when none comes, UsageError when it refuses.

    NewerError is the refusal to replace what is newer than the request says, UnknownSourceError
    that of a request about a source that the run does not have.
    """
    message = control.encode_request(request)
    if len(message) > control.LONGEST_REQUEST:
        raise UsageError(
            f"the request has {len(message)} bytes; a run takes at most {control.LONGEST_REQUEST}"
        )
    path = Path(run.socket)
    check_private(path.parent, by_root=True)
    if not is_living(run):
        raise RunError(f"the run has ended ({run.describe()})")
    data = _exchange(f"ipc://{path}", message, timeout_s)
    if data is None and not is_living(run):
        raise RunError(f"the run has ended ({run.describe()})")
    if data is None:
        raise RunError(
            f"the run did not answer within {timeout_s:g} s ({run.describe()}); is its process "
            "stopped?"
        )
    reply = control.decode_reply(data)
    if isinstance(reply, control.Refusal):
        kind = NewerError if reply.newer else UnknownSourceError if reply.unknown else UsageError
        raise kind(reply.message)
    return reply


def _exchange(endpoint: str, request: bytes, timeout_s: float) -> bytes | None:
    """Send a message and return the answer; None after the timeout."""
    with closing(_Dealer(endpoint)) as dealer:
        dealer.socket.send(request)
        if not dealer.socket.poll(round(timeout_s * 1000)):
            return None
        return dealer.socket.recv_multipart()[0]


class Conversation:
    """Sends requests to a run and collects the replies later, so that the caller never waits."""

    def __init__(self, run: RunFile) -> None:
        """Connect to the run. RunError when its socket is not private to this user."""
        path = Path(run.socket)
        check_private(path.parent, by_root=True)
        self.run = run
        self._dealer = _Dealer(f"ipc://{path}")

    def send(self, request: control.Request) -> None:
        with suppress(zmq.Again):  # the run takes nothing: there will be no reply either
            self._dealer.socket.send(control.encode_request(request), zmq.NOBLOCK)

    def replies(self) -> list[control.Reply]:
        """Return the replies that have arrived. RunError for one that cannot be read."""
        found = []
        with suppress(zmq.Again):
            while True:
                frames = self._dealer.socket.recv_multipart(zmq.NOBLOCK)
                found.append(control.decode_reply(frames[0]))
        return found

    def close(self) -> None:
        self._dealer.close()


class AsyncConversation:
    """Sends requests to a run and waits for the replies, in an event loop."""

    def __init__(self, run: RunFile) -> None:
        """Connect to the run. RunError when its socket is not private to this user."""
        path = Path(run.socket)
        check_private(path.parent, by_root=True)
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(f"ipc://{path}")

    async def send(self, request: control.Request) -> None:
        with suppress(zmq.Again):  # the run takes nothing: there will be no reply either
            await self._socket.send(control.encode_request(request), zmq.NOBLOCK)

    async def reply(self) -> control.Reply:
        """Return the next reply. RunError for one that cannot be read."""
        return control.decode_reply((await self._socket.recv_multipart())[0])

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()


class _Dealer:
    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)

    def close(self) -> None:
        self.socket.close(linger=0)
        self._context.term()


def _run_in(out: Path) -> RunFile:
    path = out / IN_OUT
    run = read(path)
    if run is None and path.exists():
        raise RunError(f"{path} cannot be read; name the run by its process id, --run PID")
    if run is None or not is_living(run):
        raise RunError(f"--run {out}: no run is under way there{_known()}")
    return run


def _only(runs: list[RunFile]) -> RunFile:
    if not runs:
        raise RunError(
            "no run of this user is under way; name that of another place by its output "
            "directory, --run OUT, and ask as the user that runs it"
        )
    if len(runs) > 1:
        listed = "; ".join(run.describe() for run in runs)
        raise UsageError(f"{len(runs)} runs are under way: choose one with --run PID: {listed}")
    return runs[0]


def _known() -> str:
    runs = living_runs()
    return f". Under way: {'; '.join(run.describe() for run in runs)}" if runs else ""
