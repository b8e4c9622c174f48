"""Describe a source by opening it and decoding its first picture."""

import msgspec

from streamvis.sources import open_source
from streamvis.sources.container import Facts
from streamvis.sources.spec import Kind, SourceSpec
from streamvis.sources.video import VideoSource


class Probe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The output of `streamvis probe`; None: unknown."""

    id: str
    label: str
    kind: Kind
    live: bool
    width: int  # pixels as shown, after rotation
    height: int
    fps: float | None  # nominal; from seqinfo.ini or #fps= where one of them gives it
    frames: int | None  # as promised by the container
    duration_s: float | None
    ground_plane: bool  # whether a homography from pixels to metres is known
    errors: int  # pictures that could not be decoded before the first that could
    stream: Facts | None = None  # of files, cameras and URLs


def probe(spec: SourceSpec) -> Probe:
    """Open a source, decode its first picture and close it; SourceError if that fails."""
    source = open_source(spec)
    try:
        info = source.info
        facts = source.facts if isinstance(source, VideoSource) else None
        counted = info.frames / info.fps if info.frames and info.fps else None
        return Probe(
            id=info.id,
            label=info.label,
            kind=spec.kind,
            live=info.live,
            width=info.width,
            height=info.height,
            fps=info.fps or None,
            frames=info.frames,
            duration_s=counted or (facts.duration_s if facts else None),
            ground_plane=info.ground_plane is not None,
            errors=source.errors,
            stream=facts,
        )
    finally:
        source.close()
