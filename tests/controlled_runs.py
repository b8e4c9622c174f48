"""A run as its control socket shows it, for tests of the clients: sources, no frames."""

import tempfile
import threading
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from streamvis.runtime import control, control_files
from streamvis.runtime.control_socket import Control
from streamvis.runtime.metrics import Quantiles, SourceReport, StageReport, Status
from streamvis.runtime.protocol import AddSource, RemoveSource
from streamvis.sources.spec import SourceSpec


def camera(name, host="10.0.0.2", **fields):
    return SourceSpec(id=name, uri=f"rtsp://joe:s3cret@{host}/{name}", kind="url", **fields)


def report(name, **fields):
    given = {
        "label": "",
        "decoded": 0,
        "frames_promised": None,
        "admitted": 0,
        "dropped": {},
        "poisoned": 0,
        "decode_errors": 0,
        "restarts": 0,
        "ending": None,
        "error": "",
        "fps": 0.0,
        "latency_ms": Quantiles(),
    }
    return SourceReport(id=name, **{**given, **fields})


def stage(name, **fields):
    given = {"count": 40, "skipped": 0, "restarts": 0, "queue": 2, "fps": 12.5}
    return StageReport(name=name, service_ms=Quantiles(p50=3.25, p99=7.5), **{**given, **fields})


def picture(source, n=1, jpeg=b"\xff\xd8 picture", **fields):
    """A picture as a run sends it."""
    given = {"stream_epoch": 1, "media_us": 40_000 * n, "capture_us": 7, "width": 64, "height": 48}
    return control.SourcePicture(source=source, jpeg=jpeg, n=n, **{**given, **fields})


def movie(name):
    return SourceSpec(id=name, uri=f"{name}.mp4", kind="file")


def view_of(*specs, ended=None, **fields):
    status = Status(wall_s=7.0, sources=[report(spec.id) for spec in specs], stages=[])
    given = {"at": 12.5, "status": status, "specs": {spec.id: spec for spec in specs}}
    return control.View(**{**given, "ended": ended or {}, **fields})


RUN = view_of(
    *(camera("gate"), camera("yard"), camera("leaver"), movie("film"), movie("old")),
    ended={"yard": "failed", "old": "eof"},
    leaving={"leaver"},
)
NEW = camera("dock", retry_s=8.0, open_s=3.0)


def ids(*specs):
    return {spec.id: spec for spec in specs}


@contextmanager
def private_home():
    """Have control sockets in a directory of this test alone; names of sockets must be short."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short, pytest.MonkeyPatch.context() as patch:
        patch.setattr(control_files, "directories", lambda: [Path(short) / "streamvis"])
        yield Path(short) / "streamvis"


class Run:
    """Carries out decisions at once: an added source is online, a removed one has ended."""

    def __init__(self, specs, out, load_file=None, listed=None, zones=None):
        self.zones = zones
        self.specs = {spec.id: spec for spec in specs}
        self.reports = {name: report(name, state="online") for name in self.specs}
        self.ended = {}
        self.facts = []
        self._stack = ExitStack()
        self.file = self._stack.enter_context(control_files.registered(out, "people"))
        self._control = Control(f"ipc://{self.file.socket}", load_file, listed)
        self._stack.enter_context(closing(self._control))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def view(self):
        sources = list(self.reports.values())
        status = Status(wall_s=7.0, sources=sources, stages=[stage("detect")])
        return control.View(
            at=1.0, status=status, specs=self.specs, ended=self.ended, zones=self.zones
        )

    def close(self):
        """End as a run does: its socket and its files are gone."""
        self._over.set()
        self._thread.join()
        self._stack.close()

    def _serve(self):
        while not self._over.is_set():
            if self._control.socket.poll(20):
                for decision in self._control.decisions(self.view):
                    self._apply(decision)

    def _apply(self, decision):
        self.facts += decision.facts
        self.specs.update(decision.specs)
        for fact in decision.facts:
            name = fact.source
            if isinstance(fact, AddSource):
                self.ended.pop(name, None)
                self.reports[name] = report(name, state="online")
            if isinstance(fact, RemoveSource):
                self.ended[name] = "drained"
                self.reports[name] = report(name, state="ended", ending="drained")


@contextmanager
def under_way(*specs, out=None, **file):
    with closing(Run(specs, out, **file)) as run:
        yield run
