"""The metrics of a bridge, in the text format of Prometheus."""

from collections.abc import Callable
from http import HTTPStatus

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from streamvis.bridges.loop import Loop
from streamvis.runtime.page_server import METRICS, TEXT, Answer
from streamvis.runtime.prometheus import text_of

PREFIX = "streamvis_bridge_"


def exposition(loop: Loop, name: str, lag: tuple[int, float]) -> bytes:
    """Return the metrics of the bridge of this name; `lag` in events and seconds."""
    counts = loop.counts
    return text_of(
        [
            _counter("delivered", "Messages delivered.", name, counts.delivered),
            _counter("refused", "Messages refused for good.", name, counts.refused),
            _counter("failed", "Attempts that failed.", name, counts.failed),
            _counter("evicted", "Events evicted before their turn.", name, counts.evicted),
            _gauge("connected", "1 after an attempt that did not fail.", name, counts.connected),
            _gauge("lag_events", "Events of the log that are not delivered.", name, lag[0]),
            _gauge("lag_seconds", "Age of the oldest of them, 0 without one.", name, lag[1]),
        ]
    )


def pages(loop: Loop, name: str, lag: Callable[[], tuple[int, float]]) -> Callable[[str], Answer]:
    """Return the function that answers requests of a page server."""

    def answer(path: str) -> Answer:
        if path.partition("?")[0] == "/metrics":
            return HTTPStatus.OK, METRICS, exposition(loop, name, lag())
        return HTTPStatus.NOT_FOUND, TEXT, b"/metrics\n"

    return answer


def _counter(name: str, text: str, bridge: str, value: float) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}{name}", text, labels=["bridge"])
    family.add_metric([bridge], value)
    return family


def _gauge(name: str, text: str, bridge: str, value: float) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}{name}", text, labels=["bridge"])
    family.add_metric([bridge], float(value))
    return family
