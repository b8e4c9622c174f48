"""Many files, each a run of its own in a process of its own, so that none harms another.

A job goes to its process on standard input, so paths and settings need no quoting; the process
answers with lines of JSON: its status once a second, then its summary or its error.
"""

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal

import msgspec

from streamvis.cli.report import INTERRUPTED, put_table, say
from streamvis.config import Pipeline, Placement
from streamvis.errors import StreamvisError
from streamvis.runtime.processes import discard_closed, open_terminals
from streamvis.sources.spec import SourceSpec

PARTIAL = 5
HEED_S = 0.5

State = Literal["done", "skipped", "failed", "interrupted"]


class Job(msgspec.Struct, frozen=True):
    """One file to process."""

    spec: SourceSpec
    pipeline: Pipeline
    placement: Placement
    out: str


class Result(msgspec.Struct, frozen=True):
    """What became of it."""

    id: str
    label: str
    state: State
    out: str
    frames: int = 0
    seconds: float = 0.0
    error: str = ""


class Said(msgspec.Struct):
    """One line of a job's process."""

    status: Any = None
    summary: Any = None
    error: str = ""


def is_done(job: Job) -> bool:
    """Whether an earlier batch has processed this file with this very pipeline to its end."""
    try:
        summary = json.loads((Path(job.out) / "summary.json").read_text())
        (source,) = summary["sources"]
        same = summary["pipeline"] == job.pipeline.hash and source["label"] == job.spec.label
        return bool(same and source["ending"] == "eof" and not summary["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def process(jobs: Sequence[Job], at_once: int, resume: bool) -> list[Result]:
    """Run the jobs; Ctrl-C or SIGTERM lets those that run finish what is in flight, then ends."""
    crew = _Crew()
    with _bar() as bar, crew.listening():
        total = bar.add_task("files", total=len(jobs), fps="")

        def one(job: Job) -> Result:
            if resume and is_done(job):
                result = Result(job.spec.id, job.spec.label, "skipped", job.out)
            else:
                result = crew.run(job, bar)
            bar.advance(total)
            if result.error:
                say(f"streamvis: {result.error}")
            return result

        with ThreadPoolExecutor(at_once) as pool:
            futures = [pool.submit(one, job) for job in jobs]
            while wait(futures, HEED_S).not_done:
                pass  # a signal that comes just as a wait begins is heeded only when that ends
            return [future.result() for future in futures]


def exit_code(results: Sequence[Result]) -> int:
    """0 when all is done, 130 when interrupted, 5 when some failed."""
    states = {result.state for result in results}
    return INTERRUPTED if "interrupted" in states else PARTIAL if "failed" in states else 0


def put_results(results: Sequence[Result]) -> None:
    rows = [(r.id, r.state, r.frames, round(r.seconds, 1), r.error or r.out) for r in results]
    put_table("", ("file", "state", "frames", "seconds", "out, or what went wrong"), rows)


class _Crew:
    """The processes that run jobs now."""

    def __init__(self) -> None:
        self.stopping = False
        self._terminals = open_terminals()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()

    def run(self, job: Job, bar: Any) -> Result:
        spec = job.spec
        with self._lock:
            if self.stopping:
                return Result(spec.id, spec.label, "interrupted", job.out)
            child = subprocess.Popen(
                [sys.executable, "-m", "streamvis.cli.batch"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                process_group=0,  # Ctrl-C reaches us alone
            )
            self._running.add(child)
            if self.stopping:  # a signal came while it was started, and `stop` has not seen it
                child.terminate()
        task = bar.add_task(spec.id, total=None, fps="")
        try:
            with child:
                return self._followed(child, job, bar, task)
        finally:
            with self._lock:
                self._running.discard(child)
            bar.remove_task(task)

    def _followed(self, child: "subprocess.Popen[str]", job: Job, bar: Any, task: Any) -> Result:
        spec = job.spec
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError), child.stdin:
            child.stdin.write(msgspec.json.encode(job).decode())
        said = Said()
        for line in child.stdout:
            said = msgspec.json.decode(line, type=Said)
            if said.status:
                (source,) = said.status["sources"]
                fps = f"{source['fps']:.1f} fps"
                bar.update(task, completed=source["admitted"], fps=fps)
        if said.summary is None:
            code = child.wait()
            if self.stopping and code == -signal.SIGTERM:  # told to end before it had begun
                return Result(spec.id, spec.label, "interrupted", job.out)
            error = said.error or f"{spec.label}: its process {_how_it_went(code)}"
            return Result(spec.id, spec.label, "failed", job.out, error=error)
        (source,) = said.summary["sources"]
        state: State = "interrupted" if said.summary["interrupted"] else "done"
        seconds = said.summary["wall_s"]
        return Result(spec.id, spec.label, state, job.out, source["admitted"], seconds)

    def stop(self, number: int, *_: object) -> None:
        """Tell every process to drain; a second time, to end at once."""
        if number == signal.SIGHUP:
            discard_closed(self._terminals)
        self.stopping = True
        for child in list(self._running):
            child.terminate()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Signals end the batch; SIGHUP stays ignored where it was (nohup)."""
        taken = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            taken.append(signal.SIGHUP)
        before = {number: signal.signal(number, self.stop) for number in taken}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _how_it_went(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}; --resume takes the file up again"
    return f"ended with exit code {code} and without a result; what it printed stands above"


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[fps]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


def _work() -> None:
    """The process of one job."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)

    def tell(**said: Any) -> None:
        sys.stdout.write(msgspec.json.encode(Said(**said)).decode() + "\n")
        sys.stdout.flush()

    from streamvis.runtime import launch

    try:
        summary = launch.run(
            job.pipeline,
            job.placement,
            [job.spec],
            out=Path(job.out),
            on_used="overwrite",
            on_status=lambda status: tell(status=status),
        )
        tell(summary=summary)
    except StreamvisError as error:
        tell(error=str(error))


if __name__ == "__main__":
    _work()
