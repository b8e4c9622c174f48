"""Finds the nearest neighbour of each tracked person, and for how long it has been close."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from crowding import Crowding, Neighbours
from streamvis.messages import Ending, Packet, SourceInfo, Tracks
from streamvis.stages.per_source import PerSource
from streamvis.stages.protocol import StatefulStage

NOBODY = (np.empty(0, np.int64), np.empty((0, 2, 2)))  # ids and feet


class CloseSince:
    """Since when each person of one source has had a close neighbour: id -> media time, µs."""

    def __init__(self) -> None:
        self.since: dict[int, int] = {}

    def restart(self) -> None:
        self.since = {}  # ids and media time start anew

    def resize(self, width: int, height: int) -> None:
        return  # of another frame size nothing here depends

    def state(self) -> bytes:
        return msgspec.msgpack.encode(self.since)

    def restore(self, state: bytes) -> None:
        self.since = msgspec.msgpack.decode(state, type=dict[int, int])


class CrowdingStage(StatefulStage):
    """Write who is close to whom; what it remembers of a source is a few numbers."""

    def __init__(self, config: Crowding) -> None:
        self.config = config
        self.sources: PerSource[CloseSince] = PerSource("crowding")

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        self.sources.begin(source, CloseSince(), state)

    def state(self, source: str) -> bytes:
        return self.sources.state(source)

    def finish(self, source: str, ending: Ending) -> None:
        self.sources.finish(source)

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Neighbours]:
        for packet in packets:
            kept, now_us = self.sources.at(packet.frame), packet.frame.media_us
            tracks = packet.part(Tracks)  # None when a frame was skipped by the tracker
            ids, feet = close_pairs(tracks, self.config.near_heights) if tracks else NOBODY
            kept.since = {int(id_): kept.since.get(int(id_), now_us) for id_ in ids}
            yield Neighbours(
                ids=ids.astype(np.int64),
                feet=feet.astype(np.float32),
                close_us=np.array([now_us - since for since in kept.since.values()], np.int64),
            )


def close_pairs(tracks: Tracks, near_heights: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids (N,) of close people, and (N, 2, 2) their and their neighbours' feet."""
    x1, _, x2, bottom = tracks.boxes.T  # (M,) each
    feet = np.stack([(x1 + x2) / 2, bottom], axis=1)  # (M, 2)
    heights = tracks.boxes[:, 3] - tracks.boxes[:, 1]
    apart = np.linalg.norm(feet[:, None] - feet, axis=2)  # (M, M) px
    apart /= np.maximum((heights[:, None] + heights) / 2, 1)  # body heights
    np.fill_diagonal(apart, np.inf)
    close = np.flatnonzero(apart.min(axis=1, initial=np.inf) < near_heights)
    nearest = apart[close].argmin(axis=1) if len(close) else close
    return tracks.ids[close], np.stack([feet[close], feet[nearest]], axis=1)
