"""The appearance embedding stage."""

from collections.abc import Iterator, Sequence

from streamvis.messages import Detections, Embeddings, Packet
from streamvis.stages.embed import Appearance
from streamvis.stages.embed.embedder import PersonEmbedder
from streamvis.stages.protocol import Site


class EmbedStage:
    """Embed the people of all frames of a call in one batch."""

    def __init__(self, config: Appearance, site: Site) -> None:
        self.pixels = site.pixels
        self.embedder = PersonEmbedder(config, site.device)

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Embeddings]:
        return self.embedder(
            [self.pixels(packet.frame) for packet in packets],
            [packet.part(Detections) for packet in packets],
        )

    def close(self) -> None:
        """There are no resources to release."""
