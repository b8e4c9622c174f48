"""Jitter of the poses of people who are tracked in a video, before and after smoothing."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from streamvis.api.packet import StreamPacket
from streamvis.api.runs import Settings, stream
from streamvis.datasets.keypoints import NAMES
from streamvis.errors import DataError
from streamvis.evaluation.pose_jitter import NO_JITTER, Jitter, jitter
from streamvis.messages import Array, Frame, SourceInfo
from streamvis.models.pose import PoseNetwork
from streamvis.runners.tables import Table
from streamvis.stages.pose import PoseEstimation
from streamvis.stages.pose.state import NONE, SourcePoses


class VideoJitter(NamedTuple):
    """The jitter of the network's answers, and of the keypoints smoothed from them."""

    before: Jitter
    after: Jitter


@dataclass
class _Path:
    """The keypoints of one person, one row for each estimate."""

    times_us: list[int] = field(default_factory=list)
    before: list[Array] = field(default_factory=list)  # (17, 2) px of the first frame
    after: list[Array] = field(default_factory=list)
    known: list[Array] = field(default_factory=list)  # (17,) bool
    sizes: list[float] = field(default_factory=list)  # px


def measure(
    video: str,
    config: PoseEstimation,
    *,
    seconds: float | None = None,
    device: str = "cpu",
    settings: Settings | None = None,
) -> VideoJitter:
    """Track the people of a video by the pipeline `people`, and measure the jitter of their poses.

    Where the camera moves, keypoints are compared in the first frame, to which the motion of the
    background leads back. seconds: of media time, from the begin. Raises DataError when nobody is
    estimated three times in succession.
    """
    network = PoseNetwork.load(config.weights, device, config.precision, config.engine)
    paths: dict[int, _Path] = {}
    with closing(stream(video, "people", settings=settings, device=device)) as packets:
        _follow(packets, config, network, seconds, paths)
    before = after = NO_JITTER
    for path in paths.values():
        known, sizes, times = np.array(path.known), np.array(path.sizes), np.array(path.times_us)
        before = before.plus(jitter(times, np.array(path.before), known, sizes))
        after = after.plus(jitter(times, np.array(path.after), known, sizes))
    if not before.samples.sum():
        raise DataError(
            f"{video}: of {len(paths)} people nobody was estimated three times in succession; give "
            "a video in which people are taller, or a lower --min-height"
        )
    return VideoJitter(before, after)


def _follow(
    packets: Iterator[StreamPacket],
    config: PoseEstimation,
    network: PoseNetwork,
    seconds: float | None,
    paths: dict[int, _Path],
) -> None:
    """Estimate and smooth as the stage does, and note the paths of all people."""
    poses: SourcePoses | None = None
    background = np.eye(3)  # from the first frame to this one
    for packet in packets:
        if seconds is not None and packet.time_s >= seconds:
            return
        frame, motion = packet.frame, packet.motion
        if poses is None:
            poses = SourcePoses(config, _source(frame))
        if motion is not None:
            background = np.vstack([motion.warp, [0, 0, 1]]) @ background
        demand = poses.demand(frame, packet.tracks, motion)
        (found,) = network.estimate([packet.pixels], [demand.boxes]) if len(demand.ids) else (NONE,)
        part = poses.complete(demand, found)
        points, scores, _ = found
        back = np.linalg.inv(background)
        rows = np.searchsorted(part.ids, demand.ids)
        sides = (demand.boxes[:, 2:] - demand.boxes[:, :2]).max(axis=1, initial=0)
        for k, id_ in enumerate(demand.ids.tolist()):
            path = paths.setdefault(id_, _Path())
            path.times_us.append(frame.media_us)
            path.before.append(_warped(points[k], back))
            path.after.append(_warped(part.points[rows[k]], back))
            path.known.append(scores[k] >= config.min_score)
            path.sizes.append(float(sides[k]))


def _source(frame: Frame) -> SourceInfo:
    width, height = frame.width, frame.height
    return SourceInfo(id="a", label="a", fps=0, live=False, width=width, height=height)


def _warped(points: Array, warp: Array) -> Array:
    return np.asarray(points @ warp[:2, :2].T + warp[:2, 2])


def report(results: Mapping[str, VideoJitter]) -> dict[str, Any]:
    """Return the jitter by video, as JSON holds it: statures/s²."""
    return {
        video: {
            "samples": int(one.before.samples.sum()),
            "before": one.before.mean,
            "after": one.after.mean,
            "keypoints": {
                name: {"before": before, "after": after}
                for name, before, after in zip(
                    *(NAMES, _plain(one.before), _plain(one.after)), strict=True
                )
            },
        }
        for video, one in results.items()
    }


def tables(results: Mapping[str, VideoJitter]) -> Iterator[Table]:
    """Yield the jitter of the videos, then of each keypoint in them."""
    rows = [
        (video, int(one.before.samples.sum()), one.before.mean, one.after.mean)
        for video, one in results.items()
    ]
    title = "Acceleration of keypoints, statures/s²"
    yield Table(title, ("video", "samples", "network", "smoothed"), rows)
    columns = [c for one in results.values() for c in (_plain(one.before), _plain(one.after))]
    heads = [f"{video}: {what}" for video in results for what in ("network", "smoothed")]
    joints = [(name, *values) for name, *values in zip(NAMES, *columns, strict=True)]
    yield Table("Each keypoint", ("keypoint", *heads), joints)


def _plain(one: Jitter) -> list[float | None]:
    return [None if np.isnan(value) else value for value in one.by_keypoint.tolist()]
