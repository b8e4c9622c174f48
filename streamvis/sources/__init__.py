"""Video sources: files, images, cameras, URLs and synthetic scenes."""

from streamvis.errors import SourceError
from streamvis.sources.picture import Ended, LiveSource, Picture, Source, Waiting, whole
from streamvis.sources.recordable import not_recordable
from streamvis.sources.spec import SourceSpec, Unusable, resolve, starting

__all__ = [
    "Ended",
    "LiveSource",
    "Picture",
    "Source",
    "SourceSpec",
    "Unusable",
    "open_source",
    "resolve",
    "starting",
    "whole",
]


def open_source(spec: SourceSpec, epoch: int = 1, waiting: Waiting | None = None) -> Source:
    """Open a source and decode its first picture; SourceError when that fails.

    While a live stream has no picture yet, `waiting` gets the reason about once a second.
    """
    if reason := not_recordable(spec):
        raise SourceError(f"source '{spec.label}': {reason}")
    if spec.kind == "images":
        from streamvis.sources.images import ImageSource

        return ImageSource(spec, epoch)
    if spec.kind == "synthetic":
        from streamvis.sources.synthetic import SyntheticSource

        return SyntheticSource(spec, epoch)
    from streamvis.sources.video import VideoSource

    return VideoSource(spec, epoch, waiting)
