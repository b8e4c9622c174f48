"""Derive the events of poses: postures by hysteresis in clearness and media time, updates. Pure.

A posture begins after it has been at least as clear as `begin` for `min_s` (of `fallen`,
`fallen_s`), and is over after it has been less clear than `end` for as long. A frame in which it is
unknown decides nothing; one that has not begun has to become clear anew after as much time of such
frames. The postures of a track end with it, and as lost once nothing was known of them for
`LOST_US`.
"""

import msgspec
import numpy as np

from streamvis.events.deriver import Draft, FrameEvents, rounded
from streamvis.events.envelope import EventBody, Reason
from streamvis.messages import Findings, Packet, Poses, SourceInfo, Tracks
from streamvis.stages.hysteresis import Hysteresis, ended_with_tracks
from streamvis.stages.pose import PoseEstimation
from streamvis.stages.pose.events import (
    EndedPosture,
    Keypoints,
    OpenPosture,
    PoseUpdate,
    PostureBegin,
    PostureEnd,
    PostureReason,
)
from streamvis.stages.pose.keypoints import POSTURES, Posture

LOST_US = 10_000_000


class PostureProgress(msgspec.Struct, array_like=True):
    """A posture that may begin, is open, or may end."""

    hysteresis: Hysteresis
    clear: float
    clear_max: float
    known_us: int  # media time when something was last known of it


class PoseEventState(msgspec.Struct):
    """The state of the pose events of one source."""

    source: str
    epoch: int  # stream epoch
    open: dict[int, dict[Posture, PostureProgress]] = {}  # track -> posture
    published_us: dict[int, int] = {}  # track -> media time of its last update
    begun: dict[str, int] | None = None  # by label; None before postures were estimated


class PoseDeriver:
    """Derives the events of the poses of one source."""

    def __init__(self, config: PoseEstimation, source: SourceInfo, state: bytes | None) -> None:
        self.config = config
        self.min_us: dict[Posture, int] = dict.fromkeys(POSTURES, round(config.min_s * 1e6))
        self.min_us["fallen"] = round(config.fallen_s * 1e6)
        self.update_us = round(config.update_s * 1e6)
        self._state = (
            PoseEventState(source.id, source.epoch)
            if state is None
            else msgspec.msgpack.decode(state, type=PoseEventState)
        )

    def derive(self, packet: Packet) -> FrameEvents:
        """Return the ends of postures with their tracks, then begins and ends, then updates."""
        state, tracks, poses = self._state, packet.part(Tracks), packet.part(Poses)
        media_us = packet.frame.media_us
        state.epoch = packet.frame.epoch
        ends: list[EventBody] = []
        if tracks is not None:
            gone = ended_with_tracks(tracks)
            ends = self._end(gone, "lost")
            for one in gone:
                state.published_us.pop(one, None)
        if poses is None:
            return FrameEvents(ends=ends)
        bodies: list[EventBody] = [*self._observed(poses, media_us), *self._lost(media_us)]
        bodies += self._updates(poses, media_us)
        if poses.postures is not None:
            begun = state.begun = {} if state.begun is None else state.begun
            for what in bodies:
                if isinstance(what, PostureBegin):
                    begun[what.posture.label] = begun.get(what.posture.label, 0) + 1
        return FrameEvents(ends=ends, drafts=[Draft(what) for what in bodies])

    def close(self, reason: Reason) -> list[EventBody]:
        """End all open postures."""
        self._state.published_us.clear()
        return self._end(sorted(self._state.open), reason)

    def findings(self, so_far: Findings) -> Findings:
        """Return the findings with the number of postures that began."""
        return msgspec.structs.replace(so_far, postures=self._state.begun)

    def state(self) -> bytes:
        """Return open postures and the times of updates."""
        return msgspec.msgpack.encode(self._state)

    def _observed(self, poses: Poses, media_us: int) -> list[EventBody]:
        if poses.postures is None:
            return []
        sampled = np.ones(len(poses), bool) if poses.sampled is None else poses.sampled
        rows = zip(poses.ids[sampled].tolist(), poses.postures[sampled].tolist(), strict=True)
        return [
            what
            for id_, clear in rows
            for label, value in zip(POSTURES, clear, strict=True)
            for what in self._step(id_, label, value, media_us)
        ]

    def _step(self, id_: int, label: Posture, clear: float, media_us: int) -> list[EventBody]:
        postures = self._state.open.setdefault(id_, {})
        progress = postures.get(label)
        unknown = clear != clear  # NaN
        clear = 0.0 if unknown else rounded(clear, 3)
        if progress is None and clear >= self.config.begin:
            progress = postures[label] = PostureProgress(
                Hysteresis(media_us), clear, clear, media_us
            )
        if progress is not None and unknown and media_us - progress.known_us > self.min_us[label]:
            if not progress.hysteresis.begun:
                del postures[label]
        elif progress is not None and not unknown:
            progress.clear, progress.known_us = clear, media_us
            progress.clear_max = max(progress.clear_max, clear)
            begins, ends = clear >= self.config.begin, clear < self.config.end
            match progress.hysteresis.step(media_us, self.min_us[label], begins=begins, ends=ends):
                case "dropped":
                    del postures[label]
                case "begin":
                    return [PostureBegin(self._as_open(id_, label, progress))]
                case "end":
                    del postures[label]
                    return [PostureEnd(self._as_ended(id_, label, progress, "over"))]
        if not postures:
            self._state.open.pop(id_)
        return []

    def _lost(self, media_us: int) -> list[EventBody]:
        """End the postures of which nothing was known for long."""
        return [
            PostureEnd(self._as_ended(id_, label, postures.pop(label), "lost"))
            for id_, postures in sorted(self._state.open.items())
            for label, one in sorted(postures.items())
            if one.hysteresis.begun and media_us - one.known_us > LOST_US
        ]

    def _end(self, ids: list[int], reason: PostureReason) -> list[EventBody]:
        """End the open postures of these tracks."""
        return [
            PostureEnd(self._as_ended(id_, label, progress, reason))
            for id_ in ids
            for label, progress in self._state.open.pop(id_, {}).items()
            if progress.hysteresis.begun
        ]

    def _updates(self, poses: Poses, media_us: int) -> list[EventBody]:
        """Return the keypoints of the tracks that were estimated now, where an update is due."""
        sampled = np.ones(len(poses), bool) if poses.sampled is None else poses.sampled
        published = self._state.published_us
        bodies: list[EventBody] = []
        for row in np.flatnonzero(sampled).tolist():
            id_ = int(poses.ids[row])
            before = published.get(id_)
            if before is None or media_us - before >= self.update_us:
                published[id_] = media_us
                bodies.append(PoseUpdate(_keypoints(self._track(id_), poses, row)))
        return bodies

    def _track(self, id_: int) -> str:
        return f"{self._state.source}:{self._state.epoch}:{id_}"

    def _as_open(self, id_: int, label: Posture, one: PostureProgress) -> OpenPosture:
        since_us = one.hysteresis.since_us
        return OpenPosture(label=label, clear=one.clear, since_us=since_us, track=self._track(id_))

    def _as_ended(
        self, id_: int, label: Posture, one: PostureProgress, reason: PostureReason
    ) -> EndedPosture:
        return EndedPosture(
            label=label,
            clear=one.clear,
            clear_max=one.clear_max,
            since_us=one.hysteresis.since_us,
            reason=reason,
            track=self._track(id_),
        )


def _keypoints(track: str, poses: Poses, row: int) -> Keypoints:
    variances = np.trace(poses.covariances[row], axis1=1, axis2=2) / 2  # (17,) px²
    return Keypoints(
        track=track,
        points_px=tuple((rounded(x, 1), rounded(y, 1)) for x, y in poses.points[row].tolist()),
        scores=tuple(rounded(score, 2) for score in poses.scores[row].tolist()),
        sigma_px=tuple(rounded(sigma, 1) for sigma in np.sqrt(variances).tolist()),
    )
