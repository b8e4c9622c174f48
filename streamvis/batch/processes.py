"""Many files, each a run of its own in a process of its own, so that none harms another.

A job goes to its process on standard input, so paths and settings need no quoting; the process
answers with lines of JSON: its status once a second, then its summary or its error.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from streamvis.batch.jobs import Job, Plan
from streamvis.batch.results import NOT_BEGUN, Result, frames_of, printable, told
from streamvis.cli.output import say
from streamvis.errors import EndedEarlyError, InUseError, SourceError, StreamvisError, UsageError
from streamvis.runtime.processes import discard_closed, open_terminals
from streamvis.sources.identity import content_of
from streamvis.sources.spec import SourceSpec

HEED_S = 0.5


class Said(msgspec.Struct):
    """One line of a job's process."""

    status: Any = None
    summary: Any = None
    error: str = ""
    refused: bool = False  # another run has the directory


def process(specs: Sequence[SourceSpec], plan: Plan, at_once: int) -> list[Result]:
    """Process the sources in order, `at_once` of them at a time.

    Ctrl-C or SIGTERM lets those that run finish what is in flight, then ends.
    """
    crew = _Crew()
    results: dict[int, Result] = {}
    numbers = iter(range(len(specs)))
    turn = threading.Lock()  # of copies, the first is processed: they are looked at in order
    with _bar() as bar, crew.listening():
        total = bar.add_task("files", total=len(specs), fps="")

        def work() -> None:
            while True:
                with turn:
                    number = next(numbers, None)
                    if number is None:
                        return
                    result, job = _taken(specs[number], plan, crew)
                if job is not None:
                    result = _unchanged(crew.run(job, result, bar), job.spec)
                with turn:
                    results[number] = result
                    plan.index.add(result)
                bar.advance(total)
                if result.state != "skipped":
                    say(f"[{len(results)}/{len(specs)}] {told(result)}")

        at_once = max(1, min(at_once, len(specs)))
        with ThreadPoolExecutor(at_once) as pool:
            futures = [pool.submit(work) for _ in range(at_once)]
            while wait(futures, HEED_S).not_done:
                pass  # a signal that comes just as a wait begins is heeded only when that ends
            for future in futures:
                future.result()
    try:
        plan.index.write()
    except StreamvisError as error:  # the results are there, and are listed on stdout
        say(f"streamvis: {error}")
    return [results[number] for number in range(len(specs))]


def _taken(spec: SourceSpec, plan: Plan, crew: "_Crew") -> tuple[Result, Job | None]:
    if crew.stopping:
        return Result(file=spec.label, state="interrupted", why=NOT_BEGUN), None
    return plan.take(spec)


def _unchanged(result: Result, spec: SourceSpec) -> Result:
    """The result; it is not that of a whole recording when the file has changed meanwhile."""
    if result.state not in {"done", "incomplete"}:
        return result
    try:
        same = content_of(spec).digest == result.digest
    except SourceError:  # it was moved away: what was open was read to its end
        same = True
    why = "it was written to while it was processed; --resume processes what it is then"
    return result if same else replace(result, state="incomplete", why=why)


class _Crew:
    """The processes that run jobs now."""

    def __init__(self) -> None:
        self.stopping = False
        self._terminals = open_terminals()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()

    def run(self, job: Job, result: Result, bar: Any) -> Result:
        """What becomes of the job; `result` says what is known of it before."""
        with self._lock:
            if self.stopping:
                return replace(result, state="interrupted", why=NOT_BEGUN)
            try:
                child = _start()
            except OSError as error:
                why = f"{result.file}: no process can be started: {error.strerror}"
                return replace(result, state="failed", why=why)
            self._running.add(child)
            if self.stopping:  # a signal came while it was started, and `stop` has not seen it
                child.terminate()
        task = bar.add_task(printable(result.file), total=None, fps="")
        try:
            with child:
                return self._followed(child, job, result, bar, task)
        finally:
            with self._lock:
                self._running.discard(child)
            bar.remove_task(task)

    def _followed(
        self, child: "subprocess.Popen[str]", job: Job, result: Result, bar: Any, task: Any
    ) -> Result:
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError), child.stdin:
            child.stdin.write(msgspec.json.encode(job).decode())
        said = Said()
        for line in child.stdout:
            try:
                said = msgspec.json.decode(line, type=Said)
            except msgspec.DecodeError:  # a library has printed something
                continue
            if said.status:
                (source,) = said.status["sources"]
                fps = f"{source['fps']:.1f} fps"
                bar.update(task, completed=source["admitted"], fps=fps)
        if said.summary is not None:
            return _finished(result, said.summary)
        code = child.wait()
        if self.stopping and code == -signal.SIGTERM:  # told to end before it had begun
            return replace(result, state="interrupted", why=NOT_BEGUN)
        if self.stopping and code == 128 + signal.SIGTERM:  # told so a second time
            return replace(result, state="interrupted", why=said.error)
        why = said.error or f"{result.file}: its process {_how_it_went(code)}"
        return replace(result, state="refused" if said.refused else "failed", why=why)

    def stop(self, number: int, *_: object) -> None:
        """Tell every process to drain; a second time, to end at once."""
        if number == signal.SIGHUP:
            discard_closed(self._terminals)
            if self.stopping:  # a closed terminal may say so several times
                return
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


def _start() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "streamvis.batch.processes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        process_group=0,  # Ctrl-C reaches us alone
    )


def _finished(result: Result, summary: Any) -> Result:
    (source,) = summary["sources"]
    frames, promised = frames_of(source)
    result = replace(
        result, frames=frames, frames_promised=promised, seconds=round(summary["wall_s"], 3)
    )
    if summary["interrupted"]:
        return replace(result, state="interrupted", why="--resume goes on with it")
    if promised is None:
        return replace(result, state="done")
    return replace(
        result, state="incomplete", why=f"{source['decoded']} of {promised} promised frames decode"
    )


def _how_it_went(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}; --resume takes the file up again"
    return f"ended with exit code {code} and without a result; what it printed stands above"


def _bar() -> Any:
    """Progress on stderr; without a terminal there are only the lines that files end with."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[fps]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _work() -> None:
    """The process of one job."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)

    def tell(**said: Any) -> None:
        try:
            sys.stdout.buffer.write(msgspec.json.encode(Said(**said)) + b"\n")
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # the batch was killed: end in good order
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the end of the process
            signal.raise_signal(signal.SIGTERM)

    from streamvis.runtime import launch

    try:
        summary = launch.run(
            job.pipeline,
            job.placement,
            [job.spec],
            out=Path(job.out),
            on_used=job.on_used,
            on_status=lambda status: tell(status=status),
        )
        tell(summary=summary)
    except (InUseError, UsageError) as error:  # the directory is another run's
        tell(error=str(error), refused=True)
    except EndedEarlyError as error:
        tell(error=str(error))
        sys.exit(error.exit_code)
    except StreamvisError as error:
        tell(error=str(error))


if __name__ == "__main__":
    _work()
