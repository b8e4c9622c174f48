"""Motion of the camera between frames."""

from typing import ClassVar

from streamvis.messages import Motion, Part
from streamvis.stages.protocol import Site, Stage, StageConfig


class CameraMotion(StageConfig, frozen=True, tag="camera_motion"):
    """Estimate the camera's motion from sparse features of the background. It has no settings."""

    writes: ClassVar[type[Part]] = Motion
    stateful: ClassVar[bool] = True

    def build(self, site: Site) -> Stage:
        from streamvis.stages.camera_motion.stage import CameraStage

        return CameraStage(site)
