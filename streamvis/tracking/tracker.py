"""Joint integrated probabilistic data association for the people of one source.

Musicki and Evans, "Joint integrated probabilistic data association", IEEE T-AES 2004. For each
frame: predict, gate, associate, update the existence probability and the state of each track, and
initiate tracks from unassociated detections.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from streamvis.errors import DataError
from streamvis.geometry import Overlaps, area, iou, overlaps
from streamvis.messages import Array, Detections, Embeddings, Motion, SourceInfo, Tracks
from streamvis.tracking import existence, filters, identity, kalman, track_array
from streamvis.tracking.admission import AdmittedDetections, admit
from streamvis.tracking.appearance import AppearanceLikelihood, distances, pair_distances, unit
from streamvis.tracking.association import Pairs
from streamvis.tracking.association_summary import (
    AssociationSummary,
    join_newborn,
    summarise,
    without_detections,
)
from streamvis.tracking.camera_state import CameraState, credible
from streamvis.tracking.parameters import TrackerParameters, TrackerSettings
from streamvis.tracking.space_choice import Space, choose_space, make_space
from streamvis.tracking.state_space import (
    H_STATE,
    MEASURED,
    StateSpace,
)
from streamvis.tracking.track_array import TrackArray

PARAMETERS = TrackerParameters()
EDGE = 0.1  # share of a box's height: margin at the frame's edge where people enter
REPORT_INSIDE = 0.3  # share of the box that must lie in the frame
REPORT_WHOLE = 0.95  # share of the box above which the person has not left the frame


class PredictedBoxes(NamedTuple):
    """The predicted boxes of N tracks, and how they overlap each other and the frame."""

    boxes: Array  # (N, 4)
    near: Overlaps  # overlaps of these boxes with each other
    inside: Array  # (N,) share of the box within the frame
    twin: Array  # (N,) probability that an older track follows the same person


class TrackerState(msgspec.Struct, frozen=True):
    """The complete state of a tracker, as written into checkpoints."""

    tracks: dict[str, bytes]
    lost: dict[str, bytes]
    width: int  # of embeddings
    likeness: AppearanceLikelihood
    camera: CameraState
    next_id: int
    now_us: int | None
    looked_us: int | None
    clutter: float
    refused: int
    size: tuple[int, int]
    refused_motions: int = 0
    space: Space | None = None  # of the tracks; None: the one that the tracker has


_decoder = msgspec.msgpack.Decoder(TrackerState)


class Tracker:
    """Tracks the people of one source; deterministic, and exact when resumed from `state`."""

    def __init__(self, source: SourceInfo, config: TrackerSettings) -> None:
        self.source, self.config = source, config
        self.size = (source.width, source.height)
        self.space = self._space(choose_space(source, config.space).space)
        self.tracks = track_array.blank(0, 0)
        self.lost = track_array.blank(0, 0)  # may be re-identified
        self.likeness = AppearanceLikelihood()
        self.camera = CameraState(width=source.width, height=source.height)
        self.next_id = 1
        self.now_us: int | None = None
        self.looked_us: int | None = None  # media time of the last detections
        self.clutter = 1.0  # estimated number of false detections in a frame
        self.refused = 0  # detections with invalid boxes, or outside of the state space
        self.refused_motions = 0  # camera motions that no camera makes, taken as unknown

    def update(
        self,
        detections: Detections,
        media_us: int,
        embeddings: Embeddings | None = None,
        motion: Motion | None = None,
    ) -> Tracks:
        """Update with the detections of a frame and return the confirmed tracks.

        `embeddings` are the appearance embeddings of the detections, `motion` is the camera motion
        since the frame before. Raises DataError if their shapes differ. A frame that is not later
        than the last detections is no further evidence: the tracks coast.
        """
        view, ended = self._advance(media_us, motion)
        if self.looked_us is not None and media_us <= self.looked_us:
            return self._coasted(view, ended)
        since_s = math.inf if self.looked_us is None else (media_us - self.looked_us) / 1e6
        self.looked_us = media_us
        found = admit(detections, self.space, self.size)
        self.refused += len(detections.boxes) - len(found.row)
        vectors = self._unit_embeddings(embeddings, found, len(detections.boxes))
        links, pairs = self._associate(view, found, vectors, media_us, since_s)
        unclaimed = np.clip(1 - pairs.of_detections(pairs.hit), 0, 1)
        boxes = self.space.boxes(self.tracks.x)
        if self.tracks.width:
            self._look(found, vectors, boxes, pairs, media_us)
        alive = (self.tracks.r > PARAMETERS.r_min) & _projectable(boxes)
        ended += self._lose(alive)
        born = self._births(found, unclaimed, boxes[alive])
        self._learn_clutter(found, unclaimed, since_s)
        newborn = _newborn(self.space, found, born, media_us, self.tracks.width)
        newborn.came_in = self._at_edge(found.boxes[born > 0])
        if vectors is not None:
            newborn.fresh[:] = vectors[born > 0]
            newborn.fresh_s[:] = 0.1 * np.any(newborn.fresh, axis=1)
        self.tracks = self.tracks.join(newborn)
        boxes = self.space.boxes(self.tracks.x)
        inside = self._inside(boxes)
        changes = self._confirm(inside)
        ended = np.setdiff1d([*ended, *changes.ended], self.tracks.id).tolist()
        return self._report(boxes, inside, join_newborn(links, alive, found, born), ended, changes)

    def coast(self, media_us: int, motion: Motion | None = None) -> Tracks:
        """Predict the tracks to a frame without detection and return the confirmed ones."""
        return self._coasted(*self._advance(media_us, motion))

    def restart(self) -> None:
        """Reset for a new stream epoch: no tracks, no time, ids from 1."""
        self.tracks = track_array.blank(0, self.tracks.width)
        self.lost = track_array.blank(0, self.tracks.width)
        self.next_id = 1
        self.now_us = self.looked_us = None

    def resize(self, width: int, height: int) -> None:
        """Rescale all tracks when the source changes its resolution."""
        sx, sy = width / self.size[0], height / self.size[1]
        self.size = (width, height)
        self.space = self._space(self.space.name)
        self.camera = self.camera.resize(width, height)
        for one in (self.tracks, self.lost):
            one.x, one.P = self.space.scaled(one.x, one.P, sx, sy)

    def state(self) -> bytes:
        """Encode the complete state; `restore` continues from it exactly."""
        return msgspec.msgpack.encode(
            TrackerState(
                self.tracks.pack(),
                self.lost.pack(),
                self.tracks.width,
                self.likeness,
                self.camera,
                self.next_id,
                self.now_us,
                self.looked_us,
                self.clutter,
                self.refused,
                self.size,
                self.refused_motions,
                self.space.name,
            )
        )

    def restore(self, state: bytes) -> None:
        """Continue from `state`; raises DataError if the bytes are not such a state."""
        try:
            was = _decoder.decode(state)
        except msgspec.DecodeError as error:
            raise DataError(f"not the state of a tracker ({len(state)} bytes): {error}") from None
        self.space = self._space(was.space or self.space.name)
        if was.size != self.size:
            self.resize(*was.size)
        self.tracks = track_array.unpack(was.tracks, was.width)
        self.lost = track_array.unpack(was.lost, was.width)
        self.likeness, self.camera = was.likeness, was.camera
        self.next_id = was.next_id
        self.now_us, self.looked_us = was.now_us, was.looked_us
        self.clutter, self.refused = was.clutter, was.refused
        self.refused_motions = was.refused_motions

    def _space(self, name: Space) -> StateSpace:
        metric = self.config.space != "image"
        return make_space(self.source, name, self.size, metric=metric)

    def _coasted(self, view: PredictedBoxes, ended: list[int]) -> Tracks:
        return self._report(view.boxes, view.inside, without_detections(len(self.tracks)), ended)

    def _clock(self, media_us: int) -> tuple[int, float, list[int]]:
        """Return the time that the tracks are predicted to, by how much, and the ids that end.

        Time never runs backwards: what lies between two time stamps counts once. A jump back by
        more than `memory_s` is a cut to another time, in which nobody is known.
        """
        if self.now_us is None:
            return media_us, 0.0, []
        if self.now_us - media_us > self.config.memory_s * 1e6:
            ended = [int(i) for i in self.tracks.id if i > 0]
            self.tracks = track_array.blank(0, self.tracks.width)
            self.lost = track_array.blank(0, self.tracks.width)
            self.looked_us = None
            return media_us, 0.0, ended
        now_us = max(media_us, self.now_us)
        return now_us, (now_us - self.now_us) / 1e6, []

    def _compensate(self, motion: Motion, dt: float) -> None:
        """Shift the tracks by the camera's motion, where the camera moves."""
        if not credible(motion.warp):
            self.refused_motions += 1
            return
        self.camera = self.camera.update(motion, dt)
        moving = self.config.camera == "moving" or self.camera.moving
        if moving and self.config.camera != "fixed":
            for one in (self.tracks, self.lost):
                one.x, one.P = self.space.shifted(one.x, one.P, motion.warp)

    def _advance(self, media_us: int, motion: Motion | None) -> tuple[PredictedBoxes, list[int]]:
        """Drop tracks undetected for too long and predict the others; also the ids that ended."""
        self.now_us, dt, ended = self._clock(media_us)
        media_us = self.now_us
        if motion is not None:
            self._compensate(motion, dt)
        tracks = self.tracks
        tracks.x, tracks.P = _predicted(self.space, tracks.x, tracks.P, dt)
        boxes = self.space.boxes(tracks.x)
        fresh = (media_us - tracks.seen_us <= self.config.memory_s * 1e6) & _projectable(boxes)
        ended += self._lose(fresh)
        tracks = self.tracks
        lost = self.lost
        lost.x, lost.P = _predicted(self.space, lost.x, lost.P, dt)
        recent = media_us - lost.seen_us <= self.config.remember_s * 1e6
        self.lost = lost.take(recent & _projectable(self.space.boxes(lost.x)))
        view = self._view(boxes[fresh])
        leaving = (
            1 / PARAMETERS.lifetime_s
            + (1 - view.inside) / PARAMETERS.leave_s
            + view.twin / PARAMETERS.twin_s
        )
        tracks.r = tracks.r * np.exp(-dt * leaving)
        return view, ended

    def _lose(self, alive: Array) -> list[int]:
        """Drop tracks, keep those with an embedding for re-identification; return their ids."""
        if alive.all():
            return []
        gone = self.tracks.take(~alive)
        self.tracks = self.tracks.take(alive)
        unknown = gone.known_s == 0
        gone.known[unknown], gone.known_s[unknown] = gone.fresh[unknown], gone.fresh_s[unknown]
        gone = gone.take(gone.id > 0)
        stayed = self.config.reentry | (self._inside(self.space.boxes(gone.x)) > REPORT_WHOLE)
        self.lost = self.lost.join(gone.take((gone.known_s > 0) & stayed))
        return [int(i) for i in gone.id]

    def _unit_embeddings(
        self, embeddings: Embeddings | None, found: AdmittedDetections, detected: int
    ) -> Array | None:
        """Return the unit embeddings (M, D) of the admitted detections, or None."""
        if embeddings is None:
            return None
        vectors = embeddings.vectors
        if vectors.ndim != 2 or len(vectors) != detected:
            raise DataError(
                f"source {self.source.id}: embeddings have shape {vectors.shape}, but "
                f"{detected} people were detected; the stage that embeds must write a row for each"
            )
        if detected == 0:
            return np.zeros((0, self.tracks.width))
        vectors = unit(vectors)[found.row]
        if vectors.shape[1] != self.tracks.width:
            self.tracks.widen(vectors.shape[1])
            self.lost.widen(vectors.shape[1])
        return vectors

    def _look(
        self,
        found: AdmittedDetections,
        vectors: Array | None,
        boxes: Array,
        pairs: Pairs,
        media_us: int,
    ) -> None:
        """Update embeddings of unoccluded tracks, and mark tracks whose ids may be swapped."""
        identity.mark_ambiguous(self.tracks, boxes, pairs, media_us)
        if vectors is None:
            return
        rows, seen = identity.unobstructed(found.boxes, boxes, pairs, np.any(vectors, axis=1))
        self.likeness = identity.update_appearance(
            self.tracks, rows, vectors[seen], media_us, self.likeness
        )

    def _position_log_ratio(self, missing: TrackArray, track: Array, lost: Array) -> Array:
        """Return log ratios (K,) of positions for tracks (K,) being lost people (K,)."""
        body = self.space.body(self.tracks.x)[track]
        gap_s = (self.tracks.seen_us[track] - missing.seen_us[lost]) / 1e6
        S = self.tracks.P[track, :2, :2] + missing.P[lost, :2, :2]
        S = S + (PARAMETERS.wander * gap_s * body)[:, None, None] ** 2 * np.eye(2)
        apart = self.tracks.x[track, :2] - missing.x[lost, :2]
        distance2 = np.einsum("ka,kab,kb->k", apart, np.linalg.inv(S), apart)
        ratio = identity.position_log_ratio(distance2, np.linalg.slogdet(S)[1], body)
        if not self.config.reentry:  # a person who enters is new
            ratio[(self.tracks.came_in & (self.tracks.group == 0))[track]] = -np.inf
        return ratio

    def _view(self, boxes: Array) -> PredictedBoxes:
        low, high = PARAMETERS.twin_iou
        near = overlaps(boxes, boxes)
        older = near.j < near.i
        i, j = near.i[older], near.j[older]
        alike = np.clip((near.iou[older] - low) / (high - low), 0, 1)
        twin = np.minimum(np.bincount(i, alike * self.tracks.r[j], len(boxes)), 1)
        together = 1 - np.minimum(self.tracks.apart_s / PARAMETERS.apart_s, 1)
        return PredictedBoxes(boxes, near, self._inside(boxes), twin * together)

    def _inside(self, boxes: Array) -> Array:
        """Return the share (N,) of each box that lies within the frame."""
        whole = area(boxes)
        seen = area(np.clip(boxes, 0, (*self.size, *self.size)))
        return np.divide(seen, whole, out=np.zeros(len(boxes)), where=whole > 0)

    def _at_edge(self, boxes: Array) -> Array:
        """Whether (N,) boxes (N, 4) reach the left, right or lower edge of the frame."""
        margin = EDGE * (boxes[:, 3] - boxes[:, 1])
        width, height = self.size
        x1, _, x2, y2 = boxes.T
        return (x1 < margin) | (x2 > width - margin) | (y2 > height - margin)

    def _associate(
        self,
        view: PredictedBoxes,
        found: AdmittedDetections,
        vectors: Array | None,
        media_us: int,
        since_s: float,
    ) -> tuple[AssociationSummary, Pairs]:
        """Associate the detections and update all tracks; also return the association weights."""
        tracks, at = self.tracks, found.at
        p_detect = self.config.p_detect * self._observable(view)
        log_odds = self._log_odds(found.scores)
        log_clutter = self._log_clutter_px() - 2 * math.log(PARAMETERS.size_range) - at.log_area
        if self.config.mode == "gnn_embed" and vectors is not None:
            after = filters.assign(
                tracks.x,
                tracks.P,
                tracks.r,
                at.z,
                at.R,
                H_STATE,
                p_detect=p_detect,
                p_gate=PARAMETERS.p_gate,
                gain=self._gain(view, found, vectors, media_us),
            )
        else:
            after = filters.associate(
                tracks.x,
                tracks.P,
                tracks.r,
                at.z,
                at.R,
                H_STATE,
                p_detect=p_detect,
                p_gate=PARAMETERS.p_gate,
                log_clutter=log_clutter - log_odds,
                log_ratio=self._likeness(vectors),
            )
        tracks.x, tracks.P = after.x, after.P
        tracks.r = self._existence(view, after.r, after.pairs, found.scores, since_s)
        links = summarise(found, after.pairs)
        hit = links.detection >= 0
        tracks.seen_us[hit] = media_us
        tracks.apart_s[hit & (view.twin == 0)] += min(since_s, PARAMETERS.apart_s / 2)
        return links, after.pairs

    def _gain(
        self, view: PredictedBoxes, found: AdmittedDetections, vectors: Array, media_us: int
    ) -> Array:
        """Return the gain (N, M) of `gnn_embed`: −inf for dissimilar or displaced pairs."""
        tracks = self.tracks
        gap = media_us - tracks.seen_us
        apart = (iou(view.boxes, found.boxes) == 0) & (gap < PARAMETERS.embed_gap_s * 1e6)[:, None]
        d = distances(self._look_of(), vectors)
        gain = tracks.r[:, None] * (PARAMETERS.embed_limit - d)
        return np.where((d < PARAMETERS.embed_limit) & ~apart, gain, -np.inf)

    def _look_of(self) -> Array:
        tracks = self.tracks
        return np.where((tracks.known_s > 0)[:, None], tracks.known, tracks.fresh)

    def _likeness(self, vectors: Array | None) -> Callable[[Array, Array], Array] | None:
        """Return the appearance log ratio of track-detection pairs (K,), None if it is not used."""
        if vectors is None or self.config.mode == "jipda":
            return None

        def log_ratio(track: Array, detection: Array) -> Array:
            apart = pair_distances(self._look_of(), vectors, track, detection)
            ratio = self.likeness.log_ratio(apart, PARAMETERS.appearance_limit)
            return PARAMETERS.appearance_power * ratio

        return log_ratio

    def _observable(self, view: PredictedBoxes) -> Array:
        """Return the factor (N,) of P_D for tracks occluded by nearer people or the frame edge."""
        low, high = PARAMETERS.open_share
        confirmed = self.tracks.r * (self.tracks.id > 0)
        visible = existence.visibility(view.boxes, view.near, confirmed)
        return np.clip((visible - low) / (high - low), 0.02, 1) * np.clip(2 * view.inside, 0.1, 1)

    def _log_odds(self, scores: Array) -> Array:
        """Return log P(score | person) / P(score | clutter), 0 at `birth_score`.

        A logistic calibration of fixed slope, clipped at `score_limit`.
        """
        nil = existence.logit(np.array(self.config.birth_score))
        odds = PARAMETERS.score_slope * (existence.logit(scores) - nil)
        return np.clip(odds, -PARAMETERS.score_limit, PARAMETERS.score_limit)

    def _log_clutter_px(self) -> float:
        """Return the log of the expected false detections per px²."""
        if self.config.clutter is not None:
            return math.log(self.config.clutter)
        return math.log(max(self.clutter, 0.01) / (self.size[0] * self.size[1]))

    def _existence(
        self, view: PredictedBoxes, after: Array, pairs: Pairs, scores: Array, since_s: float
    ) -> Array:
        """Return r (N,), limiting the posterior of JIPDA (`after`) of this frame.

        JIPDA assumes that clutter is independent from frame to frame, but false detections repeat
        at the same place. So a hit contributes the evidence of its score, and `novelty` more only
        for a tentative track, or for a strong detection of a track that was lost from view.
        """
        tracks, log_odds = self.tracks, self._log_odds(scores)
        again = (tracks.r < PARAMETERS.show)[pairs.track]
        again &= (scores >= self.config.birth_score)[pairs.detection]
        again |= (tracks.id == 0)[pairs.track]
        said = log_odds[pairs.detection] + PARAMETERS.novelty * again
        hit = pairs.of_tracks(pairs.hit * said)
        odds = existence.logit(tracks.r)
        change = np.minimum(existence.logit(after) - odds, hit)
        news = 1 - math.exp(-since_s / PARAMETERS.evidence_s)
        r = existence.sigmoid(odds + news * change)
        floor = PARAMETERS.r_hidden * (tracks.id > 0) * view.inside * (1 - view.twin)
        return np.clip(r, floor, PARAMETERS.r_max)

    def _births(self, found: AdmittedDetections, unclaimed: Array, boxes: Array) -> Array:
        """Return r (M,) of the tracks that the detections initiate, 0 for none.

        `unclaimed` (M,) is the probability that a detection belongs to no track; `boxes` (N, 4)
        are those of the tracks.
        """
        able = unclaimed * (found.scores >= self.config.birth_score)
        r = PARAMETERS.birth * found.scores * able  # (M,) without competing boxes
        own = np.flatnonzero(r > 5 * PARAMETERS.r_min)  # the others stay below the limit
        sure = np.where(self.tracks.id > 0, 1.0, self.tracks.r)
        taken = np.zeros(len(own))
        i, track = _same_person_pairs(found.boxes[own], boxes)
        np.maximum.at(taken, i, sure[track])
        i, rival = _same_person_pairs(found.boxes[own], found.boxes)
        better = rival < own[i]  # rows are best first
        np.maximum.at(taken, i[better], able[rival[better]])
        r[own] *= 1 - taken
        return np.where(r > 5 * PARAMETERS.r_min, r, 0)

    def _learn_clutter(self, found: AdmittedDetections, unclaimed: Array, since_s: float) -> None:
        share = 1 - math.exp(-min(since_s, 1.0) / PARAMETERS.clutter_s)
        self.clutter += share * (float(unclaimed @ (1 - found.scores)) - self.clutter)

    def _confirm(self, inside: Array) -> identity.IdentityChanges:
        """Confirm tracks, the oldest first: re-identify them or assign new ids."""
        tracks = self.tracks
        sure = (tracks.r >= PARAMETERS.confirm) & (inside >= REPORT_INSIDE)
        new = np.flatnonzero((tracks.id == 0) & sure)
        tracks.id[new] = -1 - np.arange(len(new))  # provisional, until re-identification
        changes = self._settle()
        new = np.flatnonzero(tracks.id < 0)
        tracks.id[new] = self.next_id + np.arange(len(new))
        self.next_id += len(new)
        return changes

    def _settle(self) -> identity.IdentityChanges:
        """Resolve ambiguous identities; undetected tracks are candidates like lost people."""
        tracks, now_us = self.tracks, self.now_us or 0
        settled = (tracks.id > 0) & (tracks.group == 0) & (tracks.known_s > 0)
        sought = np.flatnonzero(settled & (now_us - tracks.seen_us > PARAMETERS.sought_s * 1e6))
        missing = self.lost.join(tracks.take(sought))
        before = missing.id
        missing, self.next_id, changes = identity.resolve(
            tracks, missing, partial(self._position_log_ratio, missing), self.likeness, self.next_id
        )
        robbed = ~np.isin(
            missing.id, before
        )  # their position is uncertain, for the id was taken over
        body2 = self.space.body(missing.x[robbed]) ** 2
        missing.P[robbed, :2, :2] += body2[:, None, None] * np.eye(2)
        found = sought[~np.isin(tracks.id[sought], missing.id)]
        self.lost = missing.take(~np.isin(missing.id, tracks.id[sought]))
        tracks.id[found], tracks.r[found], tracks.known_s[found] = 0, 0.0, 0.0
        return changes

    def _report(
        self,
        boxes: Array,
        inside: Array,
        links: AssociationSummary,
        ended: list[int],
        changes: identity.IdentityChanges | None = None,
    ) -> Tracks:
        tracks, space = self.tracks, self.space
        variance = np.trace(tracks.P[:, :2, :2], axis1=1, axis2=2) / 2
        placed = np.sqrt(variance) < space.vague * space.body(tracks.x)
        placed |= links.detection >= 0
        shown = (tracks.id > 0) & (tracks.r >= PARAMETERS.show) & (inside >= REPORT_INSIDE) & placed
        rows = np.flatnonzero(shown)
        rows = rows[np.argsort(tracks.id[rows])]
        x, P = tracks.x[rows], tracks.P[rows]
        feet = space.on_ground(x, P)
        clipped = np.clip(boxes[rows], 0, np.tile(self.size, 2))
        return Tracks(
            ids=tracks.id[rows],
            boxes=clipped.astype(np.float32),
            scores=links.score[rows].astype(np.float32),
            existence=tracks.r[rows].astype(np.float32),
            velocity=space.foot_velocity(x).astype(np.float32),
            covariance=np.diagonal(P, axis1=1, axis2=2)[:, :4].astype(np.float32),
            ground=(np.full((len(x), 2), np.nan) if feet is None else feet.place).astype(
                np.float32
            ),
            entropy=links.entropy[rows].astype(np.float32),
            gated=links.gated[rows].astype(np.int32),
            detection=links.detection[rows].astype(np.int32),
            first_seen_us=tracks.first_us[rows],
            ended=np.array(sorted(ended), dtype=np.int64),
            space=space.name,
            ground_velocity=None if feet is None else feet.velocity.astype(np.float32),
            ground_covariance=None if feet is None else feet.covariance.astype(np.float32),
            merged=np.array(changes.merged, np.int64) if changes and changes.merged else None,
            split=np.array(changes.split, np.int64) if changes and changes.split else None,
        )


def _projectable(boxes: Array) -> Array:
    """Whether (N,) each box is finite: the track is not beyond the horizon."""
    return np.asarray(np.isfinite(boxes).all(axis=1))


def _same_person_pairs(boxes: Array, others: Array) -> tuple[Array, Array]:
    """Return pairs (K,), (K,) of boxes that may show the same person."""
    near = overlaps(boxes, others)
    close = (near.iou > PARAMETERS.twin_birth_iou) | (near.first > PARAMETERS.twin_birth_inside)
    return near.i[close], near.j[close]


def _predicted(space: StateSpace, x: Array, P: Array, dt: float) -> tuple[Array, Array]:
    F = np.eye(6)
    F[:4, :4], unit = kalman.constant_velocity(dt)
    Q = np.zeros((len(x), 6, 6))
    Q[:, :4, :4] = (PARAMETERS.acceleration * space.body(x))[:, None, None] ** 2 * unit
    Q[:, [4, 5], [4, 5]] = PARAMETERS.size_drift**2 * dt
    return kalman.predict(x, P, F, Q)


def _newborn(
    space: StateSpace, found: AdmittedDetections, born: Array, media_us: int, width: int
) -> TrackArray:
    own = np.flatnonzero(born)
    at = found.at
    new = track_array.blank(len(own), width)
    new.x[:, MEASURED] = at.z[own]
    new.P[:, :2, :2] = at.R[own, :2, :2]
    new.P[:, 4:, 4:] = at.R[own, 2:, 2:]
    new.P[:, [2, 3], [2, 3]] = (PARAMETERS.speed * space.body(new.x))[:, None] ** 2
    new.r = born[own]
    new.first_us[:] = new.seen_us[:] = new.look_us[:] = media_us
    return new
