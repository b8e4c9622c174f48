"""The summary of a run as tables: frames, stages, and what was found."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from streamvis.messages import Findings
from streamvis.runners.tables import Table
from streamvis.runtime.metrics import Summary


def tables(summary: Summary) -> Iterator[Table]:
    """Yield the summary of a run as tables."""
    sources = [
        (
            *(s.id, s.decoded, s.admitted, sum(s.dropped.values()), s.decode_errors, s.ending),
            *(s.fps, round(s.latency_ms.p50), round(s.latency_ms.p99)),
        )
        for s in summary.sources
    ]
    counts = ("decoded", "admitted", "dropped", "errors", "ending")
    yield Table("", ("source", *counts, "fps", "p50 ms", "p99 ms"), sources)
    stages = [
        (
            *(g.name, g.count, g.skipped, g.restarts, g.fps),
            *(g.service_ms.p50, g.service_ms.p95, g.service_ms.p99),
        )
        for g in summary.stages
    ]
    columns = ("stage", "done", "skipped", "restarts", "fps", "p50 ms", "p95 ms", "p99 ms")
    yield Table("", columns, stages)
    yield from findings_table(summary)
    yield from counts_tables(summary)


def findings_table(summary: Summary) -> Iterator[Table]:
    """Yield the findings of each source, a column for each kind; none without any."""
    found = {s.id: s.found for s in summary.sources if s.found is not None}
    columns = {name: [value(one) for one in found.values()] for name, value in _COLUMNS}
    filled = {name: cells for name, cells in columns.items() if cells != [None] * len(found)}
    if filled:
        yield Table("", ("source", *filled), list(zip(found, *filled.values(), strict=True)))


def counts_tables(summary: Summary) -> Iterator[Table]:
    """Yield the visits of zones and the crossings of lines; none without any zone or line."""
    found = [(s.id, s.found) for s in summary.sources if s.found is not None]
    visits = [(id, name, n) for id, one in found for name, n in (one.zones or {}).items()]
    crossings = [(id, name, *n) for id, one in found for name, n in (one.lines or {}).items()]
    if visits:
        yield Table("", ("source", "zone", "visits"), visits)
    if crossings:
        yield Table("", ("source", "line", "in", "out"), crossings)


def _longest(found: Findings) -> str | None:
    if found.longest is None:
        return None
    return f"{found.longest.track}, {found.longest.seconds:.1f} s"


def _busiest(found: Findings) -> str | None:
    if found.busiest is None:
        return None
    return f"{found.busiest.people} at {moment(found.busiest.media_us, found.busiest.capture_us)}"


def _counts(counts: dict[str, int] | None) -> str | None:
    if counts is None:
        return None
    return ", ".join(f"{label} {count}" for label, count in counts.items()) or "none"


def _forecasts(found: Findings) -> str | None:
    if found.forecasts is None:
        return None
    scores = found.forecasts.items()
    return "; ".join(f"{us / 1e6:g} s: {s.miou:.3f} of {s.count}" for us, s in scores) or "none"


_COLUMNS: tuple[tuple[str, Callable[[Findings], int | str | None]], ...] = (
    ("people", lambda found: found.people),
    ("tracks", lambda found: found.tracks),
    ("merges", lambda found: found.merges),
    ("splits", lambda found: found.splits),
    ("longest stay", _longest),
    ("busiest moment", _busiest),
    ("actions", lambda found: _counts(found.actions)),
    ("postures", lambda found: _counts(found.postures)),
    ("unknown objects", lambda found: found.unknown),
    ("mIoU of forecasts", _forecasts),
)


def moment(media_us: int, capture_us: int) -> str:
    """Format the wall clock in the local time zone where it is known, else the media time."""
    if capture_us:
        local = datetime.fromtimestamp(capture_us // 1_000_000, UTC).astimezone()
        return local.isoformat(" ")
    seconds, tenths = divmod(round(media_us / 100_000), 10)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}.{tenths}"
