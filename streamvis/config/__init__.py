"""Configuration as types: pipelines (*what* runs), placements (*where*), sources (*on what*).

pipeline = load_pipeline(Path("pipelines/people.yaml"), {"detect.min_score": "0.6"})
placement = load_placement(Path("configs/one-gpu.yaml"), pipeline)
site = load_site(Path("configs/site.yaml"))
"""

from streamvis.config.machine import Machine, this_machine
from streamvis.config.pipeline import (
    Pipeline,
    Run,
    StageSpec,
    ancestors_of,
    default_pipeline,
    inputs_of,
    lender_of,
    load_pipeline,
    to_dot,
    to_text,
    topological_order,
    with_record,
    without_feed,
)
from streamvis.config.placement import (
    DecodeSpec,
    LocalSpec,
    Placement,
    RaySpec,
    SourcesSpec,
    WorkerSpec,
    default_placement,
    load_placement,
)
from streamvis.config.site import Site, SiteSource, load_site
from streamvis.config.zones import (
    GivenZones,
    check_zones,
    given_zones,
    pipeline_zones,
    read_zones,
    with_zones,
    without_zones,
    zones_of,
)
from streamvis.fields import Name
from streamvis.stages.actions import OffActions
from streamvis.stages.camera_motion import CameraMotion
from streamvis.stages.detect import MaskRcnn
from streamvis.stages.embed import Appearance
from streamvis.stages.forecast import Forecaster, Zone
from streamvis.stages.pose import PoseEstimation
from streamvis.stages.publish import Publish
from streamvis.stages.record import Record
from streamvis.stages.segment import Alarm, Segment
from streamvis.stages.track import Jipda
from streamvis.stages.yolox import Yolox

__all__ = [
    "Alarm",
    "Appearance",
    "CameraMotion",
    "DecodeSpec",
    "Forecaster",
    "GivenZones",
    "Jipda",
    "LocalSpec",
    "Machine",
    "MaskRcnn",
    "Name",
    "OffActions",
    "Pipeline",
    "Placement",
    "PoseEstimation",
    "Publish",
    "RaySpec",
    "Record",
    "Run",
    "Segment",
    "Site",
    "SiteSource",
    "SourcesSpec",
    "StageSpec",
    "WorkerSpec",
    "Yolox",
    "Zone",
    "ancestors_of",
    "check_zones",
    "default_pipeline",
    "default_placement",
    "given_zones",
    "inputs_of",
    "lender_of",
    "load_pipeline",
    "load_placement",
    "load_site",
    "pipeline_zones",
    "read_zones",
    "this_machine",
    "to_dot",
    "to_text",
    "topological_order",
    "with_record",
    "with_zones",
    "without_feed",
    "without_zones",
    "zones_of",
]
