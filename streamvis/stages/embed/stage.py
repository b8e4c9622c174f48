"""The appearance embedding stage, and the embedder in it: pictures, detections in, vectors out."""

from collections.abc import Iterator, Sequence

import numpy as np

from streamvis.messages import Array, Detections, Embeddings, Packet
from streamvis.models.crops import crop
from streamvis.models.inference.select import accelerate_embedder
from streamvis.models.weights import load_embedder
from streamvis.stages.embed import Appearance
from streamvis.stages.protocol import Site, Stage

SMALLEST = 4.0  # px of either side; smaller crops show a colour, no person


class PersonEmbedder:
    """Embed all detections of a call in one batch: those of `min_score` and `SMALLEST` px."""

    def __init__(self, config: Appearance, device: str) -> None:
        self.min_score = config.min_score
        self.masks = config.masks
        model = load_embedder(config.weights, device)
        self.size, self.width = model.size, model.outputs
        self.network = accelerate_embedder(model, device, config.precision, config.engine)

    def __call__(
        self, pictures: Sequence[Array], found: Sequence[Detections | None]
    ) -> Iterator[Embeddings]:
        """Yield the embeddings of each picture's people; pictures are (H, W, 3) uint8 RGB.

        They are zeros for people of a lower score or a smaller box.
        """
        looked = [self._worth(part) for part in found]
        crops = [self._crop(*one) for one in zip(pictures, found, looked, strict=True)]
        vectors = self.network(np.concatenate([np.empty((0, *self.size, 3), np.uint8), *crops]))
        ends = np.cumsum([len(some) for some in crops])
        for rows, some, end in zip(looked, crops, ends, strict=True):
            every = np.zeros((len(rows), self.width), np.float32)  # row for row with them
            every[rows] = vectors[end - len(some) : end]
            yield Embeddings(vectors=every)

    def rows(self, pixels: Array, found: Detections, rows: Array) -> Array:
        """Return the embeddings (K, D) of rows (K,) of one picture's people; zeros as above."""
        (part,) = self([pixels], [found[rows]])
        return part.vectors

    def _worth(self, found: Detections | None) -> Array:
        """Rows (N,) bool that are embedded."""
        if found is None:
            return np.zeros(0, bool)
        sides = found.boxes[:, 2:] - found.boxes[:, :2]
        return (found.scores >= self.min_score) & (sides >= SMALLEST).all(1)

    def _crop(self, pixels: Array, found: Detections | None, rows: Array) -> Array:
        if found is None or not rows.any():
            return np.empty((0, *self.size, 3), np.uint8)
        masks = found.masks[rows] if self.masks and len(found.masks) else None
        return crop(pixels, found.boxes[rows], self.size, masks)


class EmbedStage(Stage):
    """Embed the people of all frames of a call in one batch."""

    def __init__(self, config: Appearance, site: Site) -> None:
        self.pixels = site.pixels
        self.embedder = PersonEmbedder(config, site.device)

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Embeddings]:
        return self.embedder(
            [self.pixels(packet.frame) for packet in packets],
            [packet.part(Detections) for packet in packets],
        )
