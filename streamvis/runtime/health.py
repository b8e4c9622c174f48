"""Whether a run is alive and ready, from its latest status."""

from streamvis.logs import redacted
from streamvis.runtime.metrics import SourceReport, StageReport, Status

LIVE_S = 10.0  # without a status for longer, the hub hangs


def unready_workers(status: Status) -> list[str]:
    """Say which stages have workers that are not ready; empty when all are."""
    return [_describe_stage(stage) for stage in status.stages if stage.ready < stage.workers]


def unready(status: Status | None) -> list[str]:
    """Say why the run is not ready; empty when every worker is, and at least one source online."""
    if status is None:
        return ["the run is starting"]
    reasons = unready_workers(status)
    if not any(source.state == "online" for source in status.sources):
        reasons += [_describe_source(source) for source in status.sources] or ["there is no source"]
    return reasons


def _describe_stage(stage: StageReport) -> str:
    return f"stage '{stage.name}': {stage.ready} of {stage.workers} workers are ready"


def _describe_source(source: SourceReport) -> str:
    why = f": {redacted(source.reason)}" if source.reason else ""
    return f"source '{source.id}' is {source.state} for {source.state_s:.0f} s{why}"
