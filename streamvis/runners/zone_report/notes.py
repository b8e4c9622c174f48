"""What a reader of a report has to know of its log."""

from collections.abc import Iterator

from streamvis.runners.zone_report.report import ZoneReport


def notes(report: ZoneReport) -> Iterator[str]:
    """Yield a line for each thing that is missing, and what to do about it."""
    path = report.path
    if report.older_runs:
        yield f"{path} holds several runs; the latest of them is reported"
    if not report.events:
        yield f"{path} holds no events of tracks, zones or lines yet; nothing is reported"
        return
    if not report.has_zones:
        yield (
            f"{path} holds no events of zones or lines. Add the stage `zones` to the pipeline, or "
            f"compute them from its tracks: streamvis zones replay {path} --zones zones.yaml"
        )
    if not report.has_tracks:
        yield f"{path} holds no updates of tracks: queues and the heat map are left out"
    for name, source in report.sources.items():
        if source.units:
            limit = f"{report.options.queue_speed:g} {' or '.join(sorted(source.units))}"
            yield f"{name}: who is slower than {limit} in a zone counts as queueing"
