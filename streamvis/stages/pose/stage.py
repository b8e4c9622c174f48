"""The pose stage: keypoints of the people of all frames of a call in one batch."""

from collections.abc import Iterator, Sequence

from streamvis.messages import Ending, Motion, Packet, Poses, SourceInfo, Tracks
from streamvis.models.pose import PoseNetwork
from streamvis.stages.per_source import PerSource
from streamvis.stages.pose import PoseEstimation
from streamvis.stages.pose.state import NONE, Demand, SourcePoses
from streamvis.stages.protocol import Site, StatefulStage


class PoseStage(StatefulStage):
    """Estimate poses of tracks, for each source on its own clock."""

    def __init__(self, config: PoseEstimation, site: Site) -> None:
        self.config = config
        self.pixels = site.pixels
        self.network = PoseNetwork.load(
            config.weights, site.device, config.precision, config.engine
        )
        self.sources: PerSource[SourcePoses] = PerSource("pose")

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or resume it from `state`."""
        self.sources.begin(source, SourcePoses(self.config, source), state)

    def state(self, source: str) -> bytes:
        """Return the state of the source's people, 3 kB each."""
        return self.sources.state(source)

    def finish(self, source: str, ending: Ending) -> None:
        """Forget a source that has ended."""
        self.sources.finish(source)

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Poses]:
        demands: list[tuple[SourcePoses, Demand]] = []
        for packet in packets:
            poses = self.sources.at(packet.frame)
            parts = packet.part(Tracks), packet.part(Motion)
            demands.append((poses, poses.demand(packet.frame, *parts)))
        looks = [demand for _, demand in demands if len(demand.ids)]
        images = [self.pixels(demand.frame) for demand in looks]
        boxes = [demand.boxes for demand in looks]
        found = iter(self.network.estimate(images, boxes) if looks else ())
        for poses, demand in demands:
            yield poses.complete(demand, next(found) if len(demand.ids) else NONE)
