"""The operations of the health page: what is wrong, what the run uses, and how a run has ended."""

from collections.abc import Mapping
from contextlib import suppress

import msgspec

from streamvis.errors import DataError, StreamvisError
from streamvis.events.log import FILE_NAME
from streamvis.runtime.faults import Fault, faults
from streamvis.runtime.metrics import Status, Summary
from streamvis.runtime.resource_usage import Disk, disk_of, usages_of
from streamvis.web.operations import Answered, Call
from streamvis.web.run_folder import RunFolder

LONGEST_SUMMARY = 1 << 24  # bytes
LOG_FILES = (FILE_NAME, f"{FILE_NAME}-wal")


class RunProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the run, and what it uses."""

    name: str  # hub, decode-SOURCE, or STAGE.0 by the stages that it runs
    pid: int
    resident_bytes: int  # memory, with the shared memory that it maps
    open_fds: int  # file descriptors
    threads: int
    cpu_s: float  # user and system


class RunResources(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the run, and what it uses of this machine."""

    faults: list[Fault]  # errors first
    processes: list[RunProcess]  # none: the run is over, or its processes cannot be seen from here
    disk: Disk | None  # that the output directory is on
    log_bytes: int  # of the event log on the disk
    recorded_bytes: int  # written to recordings by this run
    viewers: dict[str, int]  # open WebSockets of this server, by path


class Resources:
    """What the run in a directory uses; `viewers` has the open WebSockets of the server."""

    def __init__(self, folder: RunFolder, viewers: Mapping[str, int]) -> None:
        self._folder = folder
        self._viewers = viewers

    def resources(self, call: Call) -> Answered:
        """Return what is wrong with the run, and what it uses of this machine."""
        disk = disk_of(self._folder.out)
        hub, status = self._living()
        shown = status if status is not None or hub else self._ended()
        sources = status.sources if status is not None else []
        return Answered(
            value=RunResources(
                faults=faults(shown, disk) if shown is not None else [],
                processes=_processes(status, hub) if status is not None else [],
                disk=disk,
                log_bytes=self._log_bytes(),
                recorded_bytes=sum(source.recorded_bytes for source in sources),
                viewers=dict(self._viewers),
            )
        )

    def summary(self, call: Call) -> Answered:
        """Return the summary of a run that is over."""
        return Answered(value=self._summary())

    def _summary(self) -> Summary:
        path = self._folder.out / "summary.json"
        try:
            with path.open("rb") as file:
                data = file.read(LONGEST_SUMMARY)
            return msgspec.json.decode(data, type=Summary)
        except OSError as error:
            raise DataError(
                f"summary.json of the run: {error.strerror}; expected the file that a run writes "
                "at its end"
            ) from None
        except (msgspec.DecodeError, RecursionError):
            raise DataError(
                "summary.json of the run is not the summary of this version of streamvis"
            ) from None

    def _ended(self) -> Status | None:
        """Return what the summary says as a status; None without one."""
        with suppress(DataError):
            summary = self._summary()
            return Status(wall_s=summary.wall_s, sources=summary.sources, stages=summary.stages)
        return None

    def _living(self) -> tuple[int, Status | None]:
        """Return the process id of the hub, and the status of the run; none while it is over."""
        run = self._folder.living()
        if run is None:
            return 0, None
        with suppress(StreamvisError):  # /api/status says why there is none
            return run.pid, self._folder.status()
        return run.pid, None

    def _log_bytes(self) -> int:
        total = 0
        for name in LOG_FILES:
            with suppress(OSError):
                total += (self._folder.out / name).stat().st_size
        return total


def _processes(status: Status, hub: int) -> list[RunProcess]:
    pids = {"hub": hub, **status.processes}
    return [
        RunProcess(
            name=name,
            pid=pids[name],
            resident_bytes=usage.resident_bytes,
            open_fds=usage.open_fds,
            threads=usage.threads,
            cpu_s=usage.cpu_s,
        )
        for name, usage in usages_of(status.processes, hub).items()
    ]
