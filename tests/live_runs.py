"""Runs of cameras in processes of their own, with a cheap detector and the real tracker."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from waiting import PATIENCE_S

from streamvis.errors import DataError
from streamvis.events.log import FILE_NAME, LogReader
from streamvis.sources.spec import SourceSpec
from streamvis.stages import event_codec

TOYS = Path(__file__).parent / "runtime"
OPENER = "streamvis.sources:open_source"
SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, {toys!r})
import msgspec
from streamvis.config import Pipeline, Placement, Publish, StageSpec, WorkerSpec, Jipda, MaskRcnn
from streamvis.runtime import launch
from streamvis.runtime.control_socket import ControlSettings
from streamvis.runtime.supervision import Limits
from streamvis.sources.spec import SourceSpec
from streamvis.stages.zones import ZoneCounter

settings = json.loads(sys.argv[1])
sources = msgspec.json.decode(settings["sources"], type=list[SourceSpec])
publish = Publish(bind=settings["bind"], keys=settings["keys"], update_every_s=0.0)
counted = ["zones"] if settings["zones"] else []
pipeline = Pipeline([
    StageSpec(settings["detect"], MaskRcnn(), skip_suspect=settings["skip_suspect"]),
    StageSpec("track", Jipda(), after=[settings["detect"]]),
    *(StageSpec(name, ZoneCounter(), after=["track"]) for name in counted),
    StageSpec("publish", publish, after=["track", *counted]),
])
placement = Placement(
    workers=[WorkerSpec([settings["detect"]]), WorkerSpec(["track", *counted, "publish"])],
    slots=settings["slots"],
)
if settings["most_bytes"]:  # as if /dev/shm were that small
    import errno, os
    allocate = os.posix_fallocate
    def limited(fd, offset, length):
        if length > settings["most_bytes"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        allocate(fd, offset, length)
    os.posix_fallocate = limited
out = Path(settings["out"])
def write(status):
    draft = out / "status.tmp"
    draft.write_bytes(msgspec.json.encode(status))
    draft.replace(out / "status.json")
launch.run(
    pipeline, placement, sources, build=settings["build"], out=out, on_status=write,
    open_source=settings["opener"],
    serve=settings["serve"], on_used=settings["on_used"],
    limits=Limits(drain_heartbeat_timeout_s=6.0),
    control=ControlSettings(pipeline="toys") if settings["control"] else None,
)
"""


class LiveRun:
    """A run that is under way, and what can be seen of it."""

    def __init__(self, process: "subprocess.Popen[str]", out: Path) -> None:
        self.process = process
        self.out = out

    def status(self) -> dict:
        """Return the last status; empty before the first."""
        with contextlib.suppress(OSError):
            return json.loads((self.out / "status.json").read_bytes())
        return {}

    def source(self, name: str) -> dict:
        sources = self.status().get("sources", [])
        return next((source for source in sources if source["id"] == name), {})

    def events(self, source: str) -> list:
        """Return the events logged of a source so far."""
        with (
            contextlib.suppress(DataError),  # it is being created
            contextlib.closing(LogReader(self.out / FILE_NAME)) as log,
        ):
            decode = event_codec().decode
            return [decode(row.payload) for row in log.events(source)]
        return []

    def types(self, source: str) -> list[str]:
        """Return the types of the source's events about its state."""
        types = [event.type for event in self.events(source)]
        return [type_ for type_ in types if type_.startswith("source.") and type_ != "source.gap"]

    def wait(self, met, timeout_s: float = PATIENCE_S):
        """Wait until `met()` is true and return its value; fail with what the run has printed."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if value := met():
                return value
            assert self.process.poll() is None, self.log()
            time.sleep(0.05)
        raise AssertionError(f"not met within {timeout_s:g} s: {self.status()}\n{self.log()}")

    def online(self, name: str, **how) -> float:
        """Wait until frames of the source are admitted; return the time."""
        self.wait(
            lambda: self.source(name).get("state") == "online" and self.source(name)["admitted"],
            **how,
        )
        return time.monotonic()

    def log(self) -> str:
        return (self.out / "stderr.txt").read_text()

    def end(self, timeout_s: float = PATIENCE_S) -> dict:
        """End the run by SIGTERM and return its summary."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout_s) == 0, self.log()
        return json.loads((self.out / "summary.json").read_bytes())


@contextlib.contextmanager
def running(
    out: Path,
    *sources: SourceSpec,
    detect: str = "detect",
    slots: int = 4,
    serve: bool = False,
    on_used: str = "refuse",
    most_bytes: int | None = None,
    skip_suspect: bool = False,
    control: bool = False,
    build: str = "toys:build_live",
    opener: str = OPENER,
    bind: str | None = None,
    keys: str | None = None,
    zones: bool = False,
) -> Iterator[LiveRun]:
    """Start a run; it is killed in the end if it still runs.

    `most_bytes`: of a segment of shared memory. `zones`: people are counted in zones.
    """
    settings = {
        "sources": msgspec.json.encode(list(sources)).decode(),
        "detect": detect,
        "slots": slots,
        "serve": serve,
        "on_used": on_used,
        "most_bytes": most_bytes,
        "skip_suspect": skip_suspect,
        "control": control,
        "build": build,
        "opener": opener,
        "bind": bind,
        "keys": keys,
        "zones": zones,
        "out": str(out),
    }
    out.mkdir(exist_ok=True)
    code = SCRIPT.format(toys=str(TOYS))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOYS), *sys.path])}
    with (out / "stderr.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(settings)],
            stdout=log,
            stderr=log,
            env=environment,
        )
        try:
            yield LiveRun(process, out)
        finally:
            process.kill()
            process.wait()
