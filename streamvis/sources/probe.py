"""Describe a source by opening it and decoding its first picture; a live one is measured too."""

import time

import msgspec

from streamvis.messages import Clock
from streamvis.sources import open_source
from streamvis.sources.container import Facts
from streamvis.sources.picture import StreamStats
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
    measured_fps: float | None = None  # of a live source: pictures that arrived in a second
    clock: Clock | None = None  # of a live source: where its capture times come from
    clock_offset_ms: float | None = None  # arrival − capture time, when it sends RTCP reports
    frames: int | None  # as promised by the container
    duration_s: float | None
    ground_plane: bool  # whether a homography from pixels to metres is known
    errors: int  # pictures that could not be decoded before the first that could
    stream: Facts | None = None  # of files, cameras and URLs


MEASURED_S = 3.0  # for which a live source is measured


def probe(spec: SourceSpec) -> Probe:
    """Open a source, decode its first picture and close it; SourceError if that fails.

    Of a live source, the rate and clock are measured for some seconds before.
    """
    source = open_source(spec)
    try:
        info = source.info
        facts = source.facts if isinstance(source, VideoSource) else None
        counted = info.frames / info.fps if info.frames and info.fps else None
        clock = _measure(source) if isinstance(source, VideoSource) and info.live else None
        stats = source.stats if isinstance(source, VideoSource) else StreamStats()
        offset_us = stats.offset_us
        return Probe(
            id=info.id,
            label=info.label,
            kind=spec.kind,
            live=info.live,
            width=info.width,
            height=info.height,
            fps=info.fps or None,
            measured_fps=round(stats.fps, 2) if stats.fps else None,
            clock=clock,
            clock_offset_ms=None if offset_us is None else offset_us / 1000,
            frames=info.frames,
            duration_s=counted or (facts.duration_s if facts else None),
            ground_plane=info.ground_plane is not None,
            errors=source.errors,
            stream=facts,
        )
    finally:
        source.close()


def _measure(source: VideoSource) -> Clock | None:
    """Read a live source for some seconds; return the clock of its last picture."""
    clock: Clock | None = None
    until = time.monotonic() + MEASURED_S
    for picture in source:
        clock = picture.clock
        if time.monotonic() > until:
            break
    return clock
