"""The tracking stage: a tracker for each source."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from streamvis.logs import log
from streamvis.messages import (
    Detections,
    Embeddings,
    Ending,
    Motion,
    Packet,
    SourceInfo,
    Tracks,
)
from streamvis.stages.embed import Appearance
from streamvis.stages.per_source import PerSource
from streamvis.stages.protocol import Site, StatefulStage
from streamvis.stages.track import Jipda
from streamvis.tracking.look_demand import Look
from streamvis.tracking.space_choice import choose_space
from streamvis.tracking.tracker import Tracker

if TYPE_CHECKING:
    from streamvis.stages.embed.stage import PersonEmbedder


class TrackStage(StatefulStage):
    """Track the people of every source; predict through frames without detections."""

    def __init__(self, config: Jipda, site: Site | None = None) -> None:
        """`site` has the pixels, and the settings of a stage that leaves embeddings to this one."""
        self.config, self.site = config, site
        self.sources: PerSource[Tracker] = PerSource("jipda")
        self.embedder: PersonEmbedder | None = None
        if site is not None:
            for above in site.above:
                if isinstance(above, Appearance) and above.on_demand:
                    self.embedder = _embedder(above, site.device)

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or resume it from `state`; the log says why a plane is not used."""
        choice = choose_space(source, self.config.space)
        if choice.gate_m2 is not None and choice.space == "image":
            log("info", "people are associated in the image", source=source.id, space=choice.text)
        self.sources.begin(source, Tracker(source, self.config), state)

    def state(self, source: str) -> bytes:
        """Return the state of the source's tracker."""
        return self.sources.state(source)

    def finish(self, source: str, ending: Ending) -> None:
        """Forget a source that has ended."""
        self.sources.finish(source)

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Tracks]:
        for packet in packets:
            tracker = self.sources.at(packet.frame)
            detections, media_us = packet.part(Detections), packet.frame.media_us
            motion = packet.part(Motion)
            if detections is None:
                yield tracker.coast(media_us, motion)
            else:
                yield tracker.update(detections, media_us, self._looks(packet, detections), motion)

    def _looks(self, packet: Packet, found: Detections) -> Embeddings | Look | None:
        looks = packet.part(Embeddings)
        if looks is None or self.embedder is None or self.site is None:
            return looks
        embedder, pixels = self.embedder, self.site.pixels
        return lambda rows: embedder.rows(pixels(packet.frame), found, rows)


def _embedder(config: Appearance, device: str) -> "PersonEmbedder":
    from streamvis.stages.embed.stage import PersonEmbedder  # torch, which other trackers need not

    return PersonEmbedder(config, device)
