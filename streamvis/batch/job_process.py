"""The process of one job: `python -m streamvis.batch.job_process`.

Reads a `Job` as JSON from standard input, so paths and settings need no quoting. Writes one `Reply`
per line to standard output: the status once a second, then the summary or the error.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from streamvis.batch.jobs import Job
from streamvis.errors import EndedEarlyError, InUseError, StreamvisError, UsageError


class Reply(msgspec.Struct):
    """One line from the process of a job."""

    status: Any = None
    summary: Any = None
    error: str = ""
    refused: bool = False  # another run uses the directory


def main() -> None:
    """Run the job on standard input."""
    from streamvis.runtime import launch

    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    try:
        summary = launch.run(
            job.pipeline,
            job.placement,
            [job.spec],
            out=Path(job.out),
            on_used=job.on_used,
            on_status=lambda status: _send(Reply(status=status)),
        )
        _send(Reply(summary=summary))
    except (InUseError, UsageError) as error:  # the directory belongs to another run
        _send(Reply(error=str(error), refused=True))
    except EndedEarlyError as error:
        _send(Reply(error=str(error)))
        sys.exit(error.exit_code)
    except StreamvisError as error:
        _send(Reply(error=str(error)))


def _send(reply: Reply) -> None:
    try:
        sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # the batch was killed: drain, then end
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the end of the process
        signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    main()
