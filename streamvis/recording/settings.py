"""Settings of the recordings of a source."""

from typing import Annotated

from msgspec import Meta, Struct

EventType = Annotated[str, Meta(pattern=r"^[a-z_]+\.[a-z_]+$")]


class Segments(Struct, frozen=True, forbid_unknown_fields=True):
    """All that the camera sends, in files of about equal length."""

    seconds: Annotated[float, Meta(ge=1, le=86400)] = 60.0  # a file ends at the first key frame
    # after this time
    keep_days: Annotated[float, Meta(gt=0)] | None = None  # older ones are deleted; none: kept
    keep_gb: Annotated[float, Meta(gt=0)] | None = None  # of this source; the oldest are deleted


class Clips(Struct, frozen=True, forbid_unknown_fields=True):
    """A file around each event of certain types."""

    on: Annotated[list[EventType], Meta(min_length=1)]  # types of events, such as track.begin
    before_s: Annotated[float, Meta(ge=0, le=600)] = 5.0  # from the key frame before this time
    after_s: Annotated[float, Meta(ge=0, le=600)] = 10.0  # to this time after the event
    memory_mb: Annotated[float, Meta(ge=1, le=4096)] = 64.0  # for what was received before an event
    keep_days: Annotated[float, Meta(gt=0)] | None = None  # older ones are deleted; none: kept
    keep_gb: Annotated[float, Meta(gt=0)] | None = None  # of this source; the oldest are deleted


class Recording(Struct, frozen=True, forbid_unknown_fields=True):
    """What is recorded of a source: its packets as the camera sends them."""

    segments: Segments | None = None  # all packets; none: no segments
    clips: Clips | None = None  # the packets around events; none: no clips
    unmasked: bool = False  # record a source that has privacy masks: its packets are without them
    min_free_gb: Annotated[float, Meta(ge=0)] | None = None  # free on the disk, below which the
    # oldest recordings of all sources are deleted; none: the smaller of 1 GB and 5 % of the disk

    def __post_init__(self) -> None:
        if self.segments is None and self.clips is None:
            raise ValueError("expected `segments`, `clips` or both; found neither")
