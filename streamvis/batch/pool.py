"""Runs each job in a process of its own, so that a failure ends one file and no other.

results = process(specs, plan, at_once=2, progress=progress)  # one result for each source
"""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from streamvis.batch.job_process import Reply
from streamvis.batch.jobs import Job, Plan
from streamvis.batch.results import NOT_BEGUN, Result, frames_of
from streamvis.errors import SourceError, StreamvisError
from streamvis.runtime.processes import discard_closed, open_terminals, signal_name
from streamvis.sources.identity import content_of
from streamvis.sources.spec import SourceSpec

POLL_S = 0.5  # at most this long until a signal is handled


class Progress(Protocol):
    """Receives the progress of a batch; its methods are called from several threads."""

    def started(self, file: str) -> Any:
        """A job has started; returns a handle for the two calls below."""

    def advanced(self, handle: Any, frames: int, fps: float) -> None:
        """The job has processed so many frames so far."""

    def ended(self, handle: Any) -> None:
        """The process of the job has ended."""

    def completed(self, result: Result, number: int) -> None:
        """The result of a file, the `number`-th of the batch, is known."""

    def warn(self, text: str) -> None:
        """Something failed that does not change the results."""


def process(
    specs: Sequence[SourceSpec], plan: Plan, at_once: int, progress: Progress
) -> list[Result]:
    """Process the sources in order, `at_once` of them at a time.

    SIGINT or SIGTERM drains the running jobs, then ends the batch.
    """
    pool = JobPool()
    results: dict[int, Result] = {}
    numbers = iter(range(len(specs)))
    turn = threading.Lock()  # sources are planned in order: of copies, the first is processed

    def work() -> None:
        while True:
            with turn:
                number = next(numbers, None)
                if number is None:
                    return
                result, job = _planned(specs[number], plan, pool)
            if job is not None:
                result = _checked(pool.run(job, result, progress), job.spec)
            with turn:
                results[number] = result
                plan.index.add(result)
                count = len(results)
            progress.completed(result, count)

    with pool.signals_handled():
        at_once = max(1, min(at_once, len(specs)))
        with ThreadPoolExecutor(at_once) as threads:
            futures = [threads.submit(work) for _ in range(at_once)]
            while wait(futures, POLL_S).not_done:
                pass  # a signal that comes just as a wait begins is handled only when it ends
            for future in futures:
                future.result()
    try:
        plan.index.write()
    except StreamvisError as error:  # the results are returned all the same
        progress.warn(str(error))
    return [results[number] for number in range(len(specs))]


def _planned(spec: SourceSpec, plan: Plan, pool: "JobPool") -> tuple[Result, Job | None]:
    if pool.stopping:
        return Result(file=spec.label, state="interrupted", why=NOT_BEGUN), None
    return plan.take(spec)


def _checked(result: Result, spec: SourceSpec) -> Result:
    """The result, marked incomplete when the file has changed while it was processed."""
    if result.state not in {"done", "incomplete"}:
        return result
    try:
        same = content_of(spec).digest == result.digest
    except SourceError:  # it was moved; the open file was read to its end
        same = True
    why = "it was written to while it was processed; --resume processes what it is then"
    return result if same else replace(result, state="incomplete", why=why)


class JobPool:
    """The processes that run jobs now."""

    def __init__(self) -> None:
        self.stopping = False
        self._terminals = open_terminals()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()

    def run(self, job: Job, result: Result, progress: Progress) -> Result:
        """Run the job to its end; `result` holds the fields that are known before."""
        with self._lock:
            if self.stopping:
                return replace(result, state="interrupted", why=NOT_BEGUN)
            try:
                child = _start()
            except OSError as error:
                why = f"{result.file}: no process can be started: {error.strerror}"
                return replace(result, state="failed", why=why)
            self._running.add(child)
            if self.stopping:  # a signal came after `stop` had listed the running processes
                child.terminate()
        handle = progress.started(result.file)
        try:
            with child:
                reply = _exchange(child, job, progress, handle)
                return self._outcome(child, result, reply)
        finally:
            with self._lock:
                self._running.discard(child)
            progress.ended(handle)

    def _outcome(self, child: "subprocess.Popen[str]", result: Result, reply: Reply) -> Result:
        if reply.summary is not None:
            return _finished(result, reply.summary)
        code = child.wait()
        if self.stopping and code == -signal.SIGTERM:  # terminated before it handled signals
            return replace(result, state="interrupted", why=NOT_BEGUN)
        if self.stopping and code == 128 + signal.SIGTERM:  # terminated by the second signal
            return replace(result, state="interrupted", why=reply.error)
        why = reply.error or f"{result.file}: its process {_exit_text(code)}"
        return replace(result, state="refused" if reply.refused else "failed", why=why)

    def stop(self, number: int, *_: object) -> None:
        """Make every process drain; called a second time, make it end at once."""
        if number == signal.SIGHUP:
            discard_closed(self._terminals)
            if self.stopping:  # a closed terminal may send the signal several times
                return
        self.stopping = True
        for child in list(self._running):
            child.terminate()

    @contextlib.contextmanager
    def signals_handled(self) -> Iterator[None]:
        """SIGINT, SIGTERM and SIGHUP stop the jobs; an ignored SIGHUP (nohup) stays ignored."""
        handled = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handled.append(signal.SIGHUP)
        before = {number: signal.signal(number, self.stop) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _start() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "streamvis.batch.job_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        process_group=0,  # Ctrl-C reaches only the parent
    )


def _exchange(child: "subprocess.Popen[str]", job: Job, progress: Progress, handle: Any) -> Reply:
    """Send the job; return the last reply."""
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(BrokenPipeError), child.stdin:
        child.stdin.write(msgspec.json.encode(job).decode())
    reply = Reply()
    for line in child.stdout:
        try:
            reply = msgspec.json.decode(line, type=Reply)
        except msgspec.DecodeError:  # printed by a library
            continue
        if reply.status:
            (source,) = reply.status["sources"]
            progress.advanced(handle, source["admitted"], source["fps"])
    return reply


def _finished(result: Result, summary: Any) -> Result:
    (source,) = summary["sources"]
    frames, promised = frames_of(source)
    result = replace(
        result, frames=frames, frames_promised=promised, seconds=round(summary["wall_s"], 3)
    )
    if summary["interrupted"]:
        return replace(result, state="interrupted", why="--resume goes on with it")
    if promised is None:
        errors = source.get("decode_errors", 0)
        note = f"{errors} picture{'s' * (errors != 1)} could not be decoded" if errors else ""
        return replace(result, state="done", why="; ".join(filter(None, (note, result.why))))
    return replace(
        result, state="incomplete", why=f"{source['decoded']} of {promised} promised frames decode"
    )


def _exit_text(code: int) -> str:
    if code < 0:
        return f"was killed by {signal_name(-code)}; --resume takes the file up again"
    return f"ended with exit code {code} and without a result; what it printed stands above"
