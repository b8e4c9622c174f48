"""Joint integrated probabilistic data association for the people of one source.

Musicki and Evans, "Joint integrated probabilistic data association", IEEE T-AES 2004. Each frame:
predict, gate, associate, update the existence of each track and its state given that it exists,
start tracks from what is left.
"""

import math
from typing import NamedTuple

import msgspec
import numpy as np

from streamvis.config import Jipda
from streamvis.errors import ConfigError, DataError
from streamvis.geometry import covered, iou
from streamvis.messages import Array, Detections, SourceInfo, Tracks
from streamvis.tracking import bank, existence, filters, kalman
from streamvis.tracking.bank import Bank
from streamvis.tracking.found import Found, admit
from streamvis.tracking.link import Link, joined, link, unseen
from streamvis.tracking.model import Model
from streamvis.tracking.spaces import (
    H_STATE,
    MEASURED,
    GroundSpace,
    ImageSpace,
    Space,
)

MODEL = Model()
REPORT_INSIDE = 0.3  # of the box must lie in the picture


class View(NamedTuple):
    """How the predicted tracks stand in the picture."""

    boxes: Array  # (N, 4)
    inside: Array  # (N,) share of the box within the picture
    twin: Array  # (N,) how surely an older track follows the same person


class State(msgspec.Struct, frozen=True):
    """All that a tracker remembers."""

    tracks: dict[str, bytes]
    next_id: int
    now_us: int | None
    looked_us: int | None
    clutter: float
    refused: int
    size: tuple[int, int]


_decoder = msgspec.msgpack.Decoder(State)


class Tracker:
    """Follows the people of one source; deterministic, and exact when resumed from `state`."""

    def __init__(self, source: SourceInfo, config: Jipda) -> None:
        self.source, self.config = source, config
        self.size = (source.width, source.height)
        self.space = _space(source, config, self.size)
        self.tracks = bank.empty()
        self.next_id = 1
        self.now_us: int | None = None
        self.looked_us: int | None = None  # when detections were last looked at
        self.clutter = 1.0  # expected false detections in a frame, estimated
        self.refused = 0  # detections that were no boxes, or that the space had no place for

    def update(self, detections: Detections, media_us: int) -> Tracks:
        """The confirmed tracks at this time, given the detections of its frame."""
        view, ended = self._advance(media_us)
        since_s = math.inf if self.looked_us is None else max(0, media_us - self.looked_us) / 1e6
        self.looked_us = media_us
        found = admit(detections, self.space, self.size)
        self.refused += len(detections.boxes) - len(found.row)
        links, unclaimed = self._associate(view, found, media_us, since_s)
        boxes = self.space.boxes(self.tracks.x)
        alive = (self.tracks.r > MODEL.r_min) & _pictured(boxes)
        ended += _reported(self.tracks.id[~alive])
        self.tracks = self.tracks.take(alive)
        born = self._births(found, unclaimed, boxes[alive])
        self._learn_clutter(found, unclaimed, since_s)
        self.tracks = self.tracks.join(_newborn(self.space, found, born, media_us))
        boxes = self.space.boxes(self.tracks.x)
        inside = self._inside(boxes)
        self._confirm(inside)
        return self._report(boxes, inside, joined(links, alive, found, born), ended)

    def coast(self, media_us: int) -> Tracks:
        """The confirmed tracks at this time, when nobody looked for people."""
        view, ended = self._advance(media_us)
        return self._report(view.boxes, view.inside, unseen(len(self.tracks)), ended)

    def restart(self) -> None:
        """Forget all tracks and the time: a new stream epoch, whose ids start from 1 again."""
        self.tracks = bank.empty()
        self.next_id = 1
        self.now_us = self.looked_us = None

    def resize(self, width: int, height: int) -> None:
        """Go on when the source changes its resolution and still shows the same view."""
        sx, sy = width / self.size[0], height / self.size[1]
        self.size = (width, height)
        self.space = _space(self.source, self.config, self.size)
        self.tracks.x, self.tracks.P = self.space.scaled(self.tracks.x, self.tracks.P, sx, sy)

    def state(self) -> bytes:
        """All that `resume` needs to go on exactly."""
        return msgspec.msgpack.encode(
            State(
                self.tracks.pack(),
                self.next_id,
                self.now_us,
                self.looked_us,
                self.clutter,
                self.refused,
                self.size,
            )
        )

    @classmethod
    def resume(cls, source: SourceInfo, config: Jipda, state: bytes) -> "Tracker":
        """The tracker that `state` was taken from; DataError when it is no such thing."""
        try:
            was = _decoder.decode(state)
        except msgspec.DecodeError as error:
            raise DataError(f"not the state of a tracker ({len(state)} bytes): {error}") from None
        tracker = cls(source, config)
        if was.size != tracker.size:
            tracker.resize(*was.size)
        tracker.tracks = bank.unpack(was.tracks)
        tracker.next_id = was.next_id
        tracker.now_us, tracker.looked_us = was.now_us, was.looked_us
        tracker.clutter, tracker.refused = was.clutter, was.refused
        return tracker

    def _advance(self, media_us: int) -> tuple[View, list[int]]:
        """Forget who was not seen for long, move the others on; also the ids that ended."""
        dt = 0.0 if self.now_us is None else max(0, media_us - self.now_us) / 1e6
        self.now_us = media_us
        tracks = self.tracks
        tracks.x, tracks.P = _moved(self.space, tracks.x, tracks.P, dt)
        boxes = self.space.boxes(tracks.x)
        fresh = (media_us - tracks.seen_us <= self.config.memory_s * 1e6) & _pictured(boxes)
        ended = _reported(tracks.id[~fresh])
        tracks = self.tracks = tracks.take(fresh)
        view = self._view(boxes[fresh])
        leaving = (
            1 / MODEL.lifetime_s + (1 - view.inside) / MODEL.leave_s + view.twin / MODEL.twin_s
        )
        tracks.r = tracks.r * np.exp(-dt * leaving)
        return view, ended

    def _view(self, boxes: Array) -> View:
        low, high = MODEL.twin_iou
        overlap = np.tril(iou(boxes, boxes), -1)  # with older tracks, which come first
        twin = np.clip((overlap - low) / (high - low), 0, 1) @ self.tracks.r
        return View(boxes, self._inside(boxes), np.minimum(twin, 1))

    def _inside(self, boxes: Array) -> Array:
        """Share (N,) of each box that lies within the picture."""
        return covered(boxes, np.array([[0.0, 0.0, *self.size]]))[:, 0]

    def _associate(
        self, view: View, found: Found, media_us: int, since_s: float
    ) -> tuple[Link, Array]:
        """Update all tracks; also the probability (M,) that a detection is no track's."""
        tracks, at = self.tracks, found.at
        p_detect = self.config.p_detect * self._observable(view)
        log_odds = self._log_odds(found.scores)
        log_clutter = self._log_clutter_px() - 2 * math.log(MODEL.size_range) - at.log_area
        after = filters.associate(
            tracks.x,
            tracks.P,
            tracks.r,
            at.z,
            at.R,
            H_STATE,
            p_detect=p_detect,
            p_gate=MODEL.p_gate,
            log_clutter=log_clutter - log_odds,
        )
        beta = after.beta
        tracks.x, tracks.P = after.x, after.P
        tracks.r = self._existence(view, after.r, beta, found.scores, since_s)
        links = link(found, beta, after.gated)
        tracks.seen_us[links.detection >= 0] = media_us
        return links, np.clip(1 - beta[:, 1:].sum(axis=0), 0, 1)

    def _observable(self, view: View) -> Array:
        """What is left (N,) of P_D where nearer people or the edge of the picture hide someone."""
        low, high = MODEL.open_share
        confirmed = self.tracks.r * (self.tracks.id > 0)
        visible = existence.visibility(view.boxes, confirmed)
        return np.clip((visible - low) / (high - low), 0.02, 1) * np.clip(2 * view.inside, 0.1, 1)

    def _log_odds(self, scores: Array) -> Array:
        """log P(score | person) / P(score | clutter), nil at the score that may start a track.

        A logistic calibration whose slope is fixed; scores far out are not believed further.
        """
        nil = existence.logit(np.array(self.config.birth_score))
        odds = MODEL.score_slope * (existence.logit(scores) - nil)
        return np.clip(odds, -MODEL.score_limit, MODEL.score_limit)

    def _log_clutter_px(self) -> float:
        """log of the expected false detections per px²."""
        if self.config.clutter is not None:
            return math.log(self.config.clutter)
        return math.log(max(self.clutter, 0.01) / (self.size[0] * self.size[1]))

    def _existence(
        self, view: View, after: Array, beta: Array, scores: Array, since_s: float
    ) -> Array:
        """r (N,), from what JIPDA makes of one look (`after`).

        JIPDA takes clutter to be new in every frame, but what looks like a person once does so
        again at the same place. So a hit counts for what its score says, and for a little more
        only while the track is tentative, or when it is strong and the track was lost from view.
        """
        tracks, log_odds = self.tracks, self._log_odds(scores)
        tentative = (tracks.id == 0)[:, None]
        again = (tracks.r < MODEL.show)[:, None] & (scores >= self.config.birth_score)
        said = log_odds + MODEL.novelty * (tentative | again)  # (N, M)
        hit = (beta[:, 1:] * said).sum(axis=1)
        odds = existence.logit(tracks.r)
        change = np.minimum(existence.logit(after) - odds, hit)
        r = existence.sigmoid(odds + min(1.0, since_s / MODEL.evidence_s) * change)
        floor = MODEL.r_hidden * (tracks.id > 0) * view.inside * (1 - view.twin)
        return np.clip(r, floor, MODEL.r_max)

    def _births(self, found: Found, unclaimed: Array, boxes: Array) -> Array:
        """r (M,) of the tracks that detections start, 0 where they start none.

        `unclaimed` (M,) says how probably each is no track's; `boxes` (N, 4) are the tracks'.
        """
        able = unclaimed * (found.scores >= self.config.birth_score)
        r = MODEL.birth * found.scores * able  # (M,) were there no rival
        own = np.flatnonzero(r > 5 * MODEL.r_min)  # the others start none in any case
        sure = np.where(self.tracks.id > 0, 1.0, self.tracks.r)
        known = _twins(found.boxes[own], boxes) * sure
        better = np.arange(len(able)) < own[:, None]  # rows are best first
        rival = _twins(found.boxes[own], found.boxes) * better * able
        r[own] *= 1 - np.concatenate([known, rival], axis=1).max(axis=1, initial=0)
        return np.where(r > 5 * MODEL.r_min, r, 0)

    def _learn_clutter(self, found: Found, unclaimed: Array, since_s: float) -> None:
        share = 1 - math.exp(-min(since_s, 1.0) / MODEL.clutter_s)
        self.clutter += share * (float(unclaimed @ (1 - found.scores)) - self.clutter)

    def _confirm(self, inside: Array) -> None:
        """Number those that have become certain, the oldest first."""
        tracks = self.tracks
        sure = (tracks.r >= MODEL.confirm) & (inside >= REPORT_INSIDE)
        new = np.flatnonzero((tracks.id == 0) & sure)
        tracks.id[new] = self.next_id + np.arange(len(new))
        self.next_id += len(new)

    def _report(self, boxes: Array, inside: Array, links: Link, ended: list[int]) -> Tracks:
        tracks, space = self.tracks, self.space
        shown = (tracks.id > 0) & (tracks.r >= MODEL.show) & (inside >= REPORT_INSIDE)
        rows = np.flatnonzero(shown)
        rows = rows[np.argsort(tracks.id[rows])]
        x, metric = tracks.x[rows], space.name == "ground"
        clipped = np.clip(boxes[rows], 0, np.tile(self.size, 2))
        return Tracks(
            ids=tracks.id[rows],
            boxes=clipped.astype(np.float32),
            scores=links.score[rows].astype(np.float32),
            existence=tracks.r[rows].astype(np.float32),
            velocity=space.foot_velocity(x).astype(np.float32),
            covariance=np.diagonal(tracks.P[rows], axis1=1, axis2=2)[:, :4].astype(np.float32),
            ground=space.ground(x).astype(np.float32),
            entropy=links.entropy[rows].astype(np.float32),
            gated=links.gated[rows].astype(np.int32),
            detection=links.detection[rows].astype(np.int32),
            first_seen_us=tracks.first_us[rows],
            ended=np.array(sorted(ended), dtype=np.int64),
            space=space.name,
            ground_velocity=x[:, 2:4].astype(np.float32) if metric else None,
            ground_covariance=tracks.P[rows, :2, :2].astype(np.float32) if metric else None,
        )


def _space(source: SourceInfo, config: Jipda, size: tuple[int, int]) -> Space:
    """The space of a source that now has this size."""
    if config.space == "ground" and source.ground_plane is None:
        raise ConfigError(
            f"source {source.id}: the tracker is to work on the ground, but no ground plane is "
            "known. Give the source its homography, or set space to auto or image."
        )
    if config.space == "image" or source.ground_plane is None:
        return ImageSpace()
    back = np.diag([source.width / size[0], source.height / size[1], 1])
    return GroundSpace(np.array(source.ground_plane).reshape(3, 3) @ back, *size)


def _pictured(boxes: Array) -> Array:
    """Whether (N,) each track has a place in the picture or beside it, not past the horizon."""
    return np.asarray(np.isfinite(boxes).all(axis=1))


def _twins(boxes: Array, others: Array) -> Array:
    """Whether each box (M, 4) may show the same person as each of the others (N, 4): (M, N)."""
    close = iou(boxes, others) > MODEL.twin_birth_iou
    return close | (covered(boxes, others) > MODEL.twin_birth_inside)


def _reported(ids: Array) -> list[int]:
    return [int(i) for i in ids if i > 0]


def _moved(space: Space, x: Array, P: Array, dt: float) -> tuple[Array, Array]:
    F = np.eye(6)
    F[:4, :4], unit = kalman.constant_velocity(dt)
    Q = np.zeros((len(x), 6, 6))
    Q[:, :4, :4] = (MODEL.acceleration * space.body(x))[:, None, None] ** 2 * unit
    Q[:, [4, 5], [4, 5]] = MODEL.size_drift**2 * dt
    return kalman.predict(x, P, F, Q)


def _newborn(space: Space, found: Found, born: Array, media_us: int) -> Bank:
    own = np.flatnonzero(born)
    at = found.at
    x = np.zeros((len(own), 6))
    x[:, MEASURED] = at.z[own]
    P = np.zeros((len(own), 6, 6))
    P[:, :2, :2] = at.R[own, :2, :2]
    P[:, 4:, 4:] = at.R[own, 2:, 2:]
    P[:, [2, 3], [2, 3]] = (MODEL.speed * space.body(x))[:, None] ** 2
    when = np.full(len(own), media_us, dtype=np.int64)
    ids = np.zeros(len(own), dtype=np.int64)
    return Bank(id=ids, x=x, P=P, r=born[own], first_us=when, seen_us=when.copy())
