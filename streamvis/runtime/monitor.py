"""An HTTP server for those who operate a run: its metrics and its health.

    GET /metrics        in the text format of Prometheus
    GET /health/live    200 while the hub turns, else 503
    GET /health/ready   200 while all workers are ready and a source is online, else 503

It has no authentication and changes nothing. It never waits for the run, nor the run for it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path

import msgspec

from streamvis.logs import log
from streamvis.runtime import health
from streamvis.runtime.metrics import Status
from streamvis.runtime.page_server import JSON, METRICS, TEXT, Answer, PageServer
from streamvis.runtime.resource_usage import disk_of, usages_of

OnStatus = Callable[[Status], None]


class Monitor:
    """Serves the latest status over HTTP, from threads of its own."""

    def __init__(self, address: str, out: Path | None = None) -> None:
        """Bind to `address`. UsageError for one that is none, RunError for one in use."""
        from streamvis.runtime import prometheus  # needs prometheus-client: 0.06 s to import

        self._exposition = prometheus.exposition
        self._out = out
        self._status: Status | None = None
        self._at = time.monotonic()
        self._server = PageServer(address, self.answer)

    @property
    def url(self) -> str:
        return self._server.url

    def update(self, status: Status) -> None:
        """Take the latest status; the hub calls this about once a second."""
        self._status, self._at = status, time.monotonic()

    def close(self) -> None:
        """End all connections and threads, and free the address."""
        self._server.close()

    def answer(self, path: str) -> Answer:
        """Return the answer to a request."""
        status, age_s = self._status, time.monotonic() - self._at
        match path.partition("?")[0]:
            case "/health/live":
                live = age_s < health.LIVE_S
                return _verdict(live, {"live": live, "status_age_s": round(age_s, 3)})
            case "/health/ready":
                reasons = health.unready(status)
                if age_s >= health.LIVE_S:
                    reasons = [f"the hub has not reported for {age_s:.0f} s", *reasons]
                return _verdict(not reasons, {"ready": not reasons, "reasons": reasons})
            case "/metrics" if status is None:
                return HTTPStatus.SERVICE_UNAVAILABLE, TEXT, b"the run is starting\n"
            case "/metrics" if status is not None:
                return HTTPStatus.OK, METRICS, self._metrics(status, age_s)
        return HTTPStatus.NOT_FOUND, TEXT, b"/metrics, /health/live or /health/ready\n"

    def _metrics(self, status: Status, age_s: float) -> bytes:
        disk = disk_of(self._out) if self._out is not None else None
        return self._exposition(status, usages_of(status.processes), disk, age_s)


@contextmanager
def monitored(address: str | None, out: Path | None) -> Iterator[OnStatus | None]:
    """Serve metrics and health at `address`, if there is one; yield what takes the statuses."""
    if address is None:
        yield None
        return
    with closing(Monitor(address, out)) as monitor:
        log("info", "metrics and health are served", address=monitor.url)
        yield monitor.update


def each_of(*takers: OnStatus | None) -> OnStatus | None:
    """Return a function that gives a status to all of them; None where there is none."""
    present = [taker for taker in takers if taker is not None]

    def give(status: Status) -> None:
        for taker in present:
            taker(status)

    return give if present else None


def _verdict(good: bool, body: Mapping[str, object]) -> Answer:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return status, JSON, msgspec.json.encode(body) + b"\n"
