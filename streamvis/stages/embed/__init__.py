"""Appearance embeddings of detected people."""

from typing import ClassVar, Literal

from streamvis.fields import Share
from streamvis.messages import Detections, Embeddings, Part
from streamvis.stages.protocol import Parts, Site, Stage, StageConfig


class Appearance(StageConfig, frozen=True, tag="appearance"):
    """Compute appearance embeddings of detected people, for re-identification."""

    weights: str = "person-r18"  # name of shipped weights, or path to a .safetensors or .pth file
    min_score: Share = 0.3  # detections with a lower score get no embedding
    masks: bool = False  # blank the pixels that the detector's mask assigns to the background
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # arithmetic of the network; auto: bf16
    # where the hardware supports it
    engine: Literal["auto", "torch", "openvino"] = "auto"  # inference engine; auto: OpenVINO on a
    # CPU when it is installed, else torch

    reads: ClassVar[Parts] = frozenset({Detections})

    writes: ClassVar[type[Part]] = Embeddings
    torch: ClassVar[bool] = True

    def build(self, site: Site) -> Stage:
        from streamvis.stages.embed.stage import EmbedStage

        return EmbedStage(self, site)
