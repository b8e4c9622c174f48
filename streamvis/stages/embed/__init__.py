"""Appearance embeddings of detected people."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np

from streamvis.fields import Share
from streamvis.messages import Detections, Embeddings, Packet, Part
from streamvis.stages.protocol import Parts, Site, Stage, StageConfig


class Appearance(StageConfig, frozen=True, tag="appearance"):
    """Compute appearance embeddings of detected people, for re-identification."""

    weights: str = "person-r18"  # name of shipped weights, or path to a .safetensors or .pth file
    min_score: Share = 0.3  # detections with a lower score get no embedding
    on_demand: bool = True  # the tracker computes the embeddings that it needs, in its own worker
    # and on its device; false: this stage computes all
    masks: bool = False  # blank the pixels that the detector's mask assigns to the background
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # arithmetic of the network; auto: bf16
    # where the hardware supports it
    engine: Literal["auto", "torch", "openvino"] = "auto"  # inference engine; auto: OpenVINO on a
    # CPU when it is installed, else torch

    reads: ClassVar[Parts] = frozenset({Detections})

    writes: ClassVar[type[Part]] = Embeddings
    torch: ClassVar[bool] = True

    @property
    def reads_masks(self) -> bool:
        return self.masks

    def build(self, site: Site) -> Stage:
        if self.on_demand:
            return NoEmbeddings()
        from streamvis.stages.embed.stage import EmbedStage

        return EmbedStage(self, site)


class NoEmbeddings(Stage):
    """Leaves the embeddings to the tracker, which has the settings of this stage."""

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Embeddings]:
        for _ in packets:
            yield Embeddings(vectors=np.zeros((0, 0), np.float32))
