"""Configuration as types: pipelines (*what* runs), placements (*where*), and the kinds of stage.

pipeline = load_pipeline(Path("pipelines/people.yaml"), {"detect.min_score": "0.6"})
placement = load_placement(Path("configs/one-gpu.yaml"), pipeline)
"""

from streamvis.config.pipeline import (
    Pipeline,
    StageSpec,
    default_pipeline,
    inputs_of,
    lender_of,
    load_pipeline,
    missing_input,
    to_dot,
    to_text,
    topological_order,
    with_record,
    without_feed,
)
from streamvis.config.placement import (
    Placement,
    WorkerSpec,
    default_placement,
    load_placement,
)
from streamvis.config.registry import (
    Alarm,
    Appearance,
    CameraMotion,
    Forecaster,
    Jipda,
    MaskRcnn,
    Name,
    OffActions,
    Publish,
    Record,
    Run,
    Segment,
    Zone,
)

__all__ = [
    "Alarm",
    "Appearance",
    "CameraMotion",
    "Forecaster",
    "Jipda",
    "MaskRcnn",
    "Name",
    "OffActions",
    "Pipeline",
    "Placement",
    "Publish",
    "Record",
    "Run",
    "Segment",
    "StageSpec",
    "WorkerSpec",
    "Zone",
    "default_pipeline",
    "default_placement",
    "inputs_of",
    "lender_of",
    "load_pipeline",
    "load_placement",
    "missing_input",
    "to_dot",
    "to_text",
    "topological_order",
    "with_record",
    "without_feed",
]
