"""Where pictures come from: files, images, cameras, URLs and made-up scenes."""

from streamvis.sources.picture import Ended, Picture, Source
from streamvis.sources.spec import SourceSpec, resolve, starting

__all__ = ["Ended", "Picture", "Source", "SourceSpec", "open_source", "resolve", "starting"]


def open_source(spec: SourceSpec, epoch: int = 1) -> Source:
    """Open it and look at its first picture; SourceError says why that cannot be done."""
    if spec.kind == "images":
        from streamvis.sources.images import ImageSource

        return ImageSource(spec, epoch)
    if spec.kind == "synthetic":
        from streamvis.sources.synthetic import SyntheticSource

        return SyntheticSource(spec, epoch)
    from streamvis.sources.video import VideoSource

    return VideoSource(spec, epoch)
