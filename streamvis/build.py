"""Builds stages from their configuration; the only module that imports every stage class.

Imports are inside the branches, so that a worker loads only what it runs: torch alone costs 1.5 s
and 500 MB a process.
"""

from streamvis.config import (
    Appearance,
    CameraMotion,
    Forecaster,
    Jipda,
    MaskRcnn,
    OffActions,
    Publish,
    Record,
    Segment,
    StageSpec,
)
from streamvis.messages import Site, Stage


def build_stage(spec: StageSpec, site: Site) -> Stage:
    """Build one stage in the process that runs it; raises ModelError, RunError, …"""
    match spec.run:
        case MaskRcnn():
            from streamvis.stages.detect.stage import DetectStage

            return DetectStage(spec.run, site)
        case Appearance():
            from streamvis.stages.embed.stage import EmbedStage

            return EmbedStage(spec.run, site)
        case CameraMotion():
            from streamvis.stages.camera_motion.stage import CameraStage

            return CameraStage(site)
        case Jipda():
            from streamvis.stages.track.stage import TrackStage

            return TrackStage(spec.run)
        case OffActions():
            from streamvis.stages.actions.stage import ActStage

            return ActStage(spec.run, site)
        case Segment():
            from streamvis.stages.segment.stage import SegmentStage

            return SegmentStage(spec.run, site, spec.name)
        case Forecaster():
            from streamvis.stages.forecast.stage import ForecastStage

            return ForecastStage(spec.run, site, spec.after)
        case Publish():
            from streamvis.stages.publish.stage import PublishStage

            return PublishStage(spec.run, site)
        case Record():
            from streamvis.stages.record.stage import RecordStage

            return RecordStage(spec.run, site)
