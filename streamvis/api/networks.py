"""Detector, embedder and segmenter: pictures in, parts out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack, overload

from streamvis.api.checks import (
    check_detections,
    check_device,
    check_weights,
    configured,
    pictures_of,
)
from streamvis.api.settings import DetectorSettings, EmbedderSettings, SegmenterSettings
from streamvis.errors import DataError, UsageError
from streamvis.messages import Array, Detections, Embeddings, Segmentation
from streamvis.stages.detect import MaskRcnn
from streamvis.stages.detect.stage import PersonDetector
from streamvis.stages.embed import Appearance
from streamvis.stages.embed.stage import PersonEmbedder
from streamvis.stages.segment import Segment
from streamvis.stages.segment.stage import SceneSegmenter


class Detector:
    """Detects people in pictures (H, W, 3) uint8 RGB.

    weights: a shipped name, or a path. device: cpu, cuda:0, …. Settings are those of `mask_rcnn`
    (docs/settings.md): min_score, tiles, region, precision, engine, ….
    """

    def __init__(
        self,
        weights: str | Path = "person-lite",
        *,
        device: str = "cpu",
        **settings: Unpack[DetectorSettings],
    ) -> None:
        given = {"weights": check_weights(weights, "Detector"), **settings}
        self.config = configured(MaskRcnn, "Detector", given)
        if self.config.gate is True:
            raise UsageError(
                "Detector: gate is true, but a detector looks at every picture that it is given; "
                "a pipeline has a gate: streamvis.stream(source, settings={'detect.gate': True})"
            )
        self.detector = PersonDetector(
            self.config, check_device(device, "Detector")
        )  # that stages use

    @overload
    def __call__(self, picture: Array) -> Detections: ...
    @overload
    def __call__(self, picture: Sequence[Array]) -> list[Detections]: ...
    def __call__(self, picture: Array | Sequence[Array]) -> Detections | list[Detections]:
        """Return the people in a picture, best first; of a list of pictures, a list.

        Raises DataError for anything but pictures.
        """
        pictures, batch = pictures_of(picture, "Detector")
        found = self.detector(pictures) if pictures else []
        return found if batch else found[0]

    def __repr__(self) -> str:
        return f"Detector({self.config.weights!r}, device={self.detector.device!r})"


class Embedder:
    """Computes appearance embeddings of detected people, by which they are re-identified.

    weights: a shipped name, or a path. Settings are those of `appearance` (docs/settings.md).
    """

    def __init__(
        self,
        weights: str | Path = "person-r18",
        *,
        device: str = "cpu",
        **settings: Unpack[EmbedderSettings],
    ) -> None:
        given = {"weights": check_weights(weights, "Embedder"), **settings}
        self.config = configured(Appearance, "Embedder", given)
        self._embed = PersonEmbedder(self.config, check_device(device, "Embedder"))

    @overload
    def __call__(self, picture: Array, found: Detections) -> Embeddings: ...
    @overload
    def __call__(
        self, picture: Sequence[Array], found: Sequence[Detections]
    ) -> list[Embeddings]: ...
    def __call__(
        self, picture: Array | Sequence[Array], found: Detections | Sequence[Detections]
    ) -> Embeddings | list[Embeddings]:
        """Return the embeddings of a picture's people, row for row; of lists of both, a list.

        Rows of people below `min_score` are zeros. Raises DataError for anything but pictures and
        their detections.
        """
        pictures, batch = pictures_of(picture, "Embedder")
        listed = isinstance(found, list | tuple)
        given: Any = found
        parts = list(given) if listed else [given]
        if len(parts) != len(pictures) or batch is not listed:
            raise DataError(
                f"Embedder: {len(pictures)} pictures with detections of {len(parts)}; expected a "
                "picture with its Detections, or a list of each, of the same length"
            )
        for part in parts:
            check_detections(part, "Embedder")
        looks = list(self._embed(pictures, parts))
        return looks if batch else looks[0]

    def __repr__(self) -> str:
        return f"Embedder({self.config.weights!r})"


class Segmenter:
    """Assigns a class to every pixel and, with suitable weights, finds out-of-distribution pixels.

    weights: a shipped name, or a path. Settings are those of `segment` (docs/settings.md).
    """

    def __init__(
        self,
        weights: str | Path = "street-seg",
        *,
        device: str = "cpu",
        **settings: Unpack[SegmenterSettings],
    ) -> None:
        given = {"weights": check_weights(weights, "Segmenter"), **settings}
        self.config = configured(Segment, "Segmenter", given)
        self._segment = SceneSegmenter(self.config, check_device(device, "Segmenter"))

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self._segment.labels

    @overload
    def __call__(self, picture: Array) -> Segmentation: ...
    @overload
    def __call__(self, picture: Sequence[Array]) -> list[Segmentation]: ...
    def __call__(self, picture: Array | Sequence[Array]) -> Segmentation | list[Segmentation]:
        """Return the classes of a picture, at the size of the network; of a list, a list."""
        pictures, batch = pictures_of(picture, "Segmenter")
        parts = [self._segment(pixels).part for pixels in pictures]
        return parts if batch else parts[0]

    def __repr__(self) -> str:
        return f"Segmenter({self.config.weights!r})"
