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
from streamvis.geometry import Overlaps, iou, overlaps
from streamvis.messages import Array, Detections, Embeddings, Motion, SourceInfo, Tracks
from streamvis.tracking import cut_boxes, existence, filters, identity, track_array
from streamvis.tracking.admission import AdmittedDetections, admit
from streamvis.tracking.appearance import AppearanceLikelihood, age, distances, pair_distances
from streamvis.tracking.association import Pairs
from streamvis.tracking.association_summary import (
    AssociationSummary,
    join_newborn,
    summarise,
    without_detections,
)
from streamvis.tracking.border import at_edge, leaving_rate, outward, share_inside
from streamvis.tracking.camera_state import CameraState, credible
from streamvis.tracking.look_demand import FrameEmbeddings, Look, look_of, needed
from streamvis.tracking.motion_model import stand_still, walk_on
from streamvis.tracking.newcomers import newborn_existence, newborn_tracks
from streamvis.tracking.parameters import TrackerParameters, TrackerSettings
from streamvis.tracking.reported_boxes import follow_across
from streamvis.tracking.space_choice import Space, choose_space, make_space
from streamvis.tracking.state_space import H_STATE, StateSpace
from streamvis.tracking.track_array import TrackArray

PARAMETERS = TrackerParameters()
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
        self._nil = existence.logit(np.array(config.birth_score))
        self.tracks = track_array.blank(0, 0)
        self.lost = track_array.blank(0, 0)  # may be re-identified
        self.likeness = AppearanceLikelihood()
        self.camera = CameraState(width=source.width, height=source.height)
        self.space = self._space(choose_space(source, config.space).space)
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
        embeddings: Embeddings | Look | None = None,
        motion: Motion | None = None,
    ) -> Tracks:
        """Update with the detections of a frame and return the confirmed tracks.

        `embeddings` are the appearance embeddings of the detections, or a function that computes
        those of some rows; `motion` is the camera motion since the frame before. Raises DataError
        if their shapes differ. A frame that is not later than the last detections is no
        further evidence: the tracks coast. Detections of a frame that was not looked at, since
        nothing had moved, have the tracks held.
        """
        if not detections.looked:
            return self.hold(media_us, motion)
        view, ended = self._advance(media_us, motion)
        if self.looked_us is not None and media_us <= self.looked_us:
            return self._coasted(view, ended)
        since_s = math.inf if self.looked_us is None else (media_us - self.looked_us) / 1e6
        self.looked_us = media_us
        found = admit(detections, self.space, self.size)
        self.refused += len(detections.boxes) - len(found.row)
        looks = None
        if embeddings is not None:
            every = self.config.refresh_s == 0 or self.config.mode == "gnn_embed"
            look = look_of(embeddings, len(detections.boxes), self.source.id)
            looks = FrameEmbeddings(look, found.row, self.tracks, self.lost, every=every)
        links, pairs = self._associate(view, found, looks, media_us, since_s)
        vectors = None if looks is None else looks.vectors
        unclaimed = np.clip(1 - pairs.of_detections(pairs.hit), 0, 1)
        boxes = self.space.boxes(self.tracks.x)
        if self.tracks.width:
            self._look(found, vectors, boxes, pairs, media_us)
        alive = (self.tracks.r > PARAMETERS.r_min) & _projectable(boxes)
        ended += self._lose(alive)
        born = self._births(found, unclaimed, boxes[alive], since_s)
        self._learn_clutter(found, unclaimed, since_s)
        boxes = boxes[alive]
        if born.any():
            width = self.tracks.width
            newborn = newborn_tracks(self.space, found, born, media_us, width, PARAMETERS)
            newborn.came_in = at_edge(found.boxes[born > 0], self.size)
            if vectors is not None:
                newborn.fresh[:] = vectors[born > 0]
                newborn.fresh_s[:] = 0.1 * np.any(newborn.fresh, axis=1)
            self.tracks = self.tracks.join(newborn)
            boxes = self.space.boxes(self.tracks.x)
        inside = share_inside(boxes, self.size)
        changes = self._confirm(inside)
        ended = list({*ended, *changes.ended} - set(self.tracks.id.tolist()))
        return self._report(boxes, inside, join_newborn(links, alive, found, born), ended, changes)

    def coast(self, media_us: int, motion: Motion | None = None) -> Tracks:
        """Predict the tracks to a frame without detection and return the confirmed ones."""
        return self._coasted(*self._advance(media_us, motion))

    def hold(self, media_us: int, motion: Motion | None = None) -> Tracks:
        """Keep the tracks where they are, in a frame that shows no movement since the last look."""
        view, ended = self._advance(media_us, motion, still=True)
        return self._coasted(view, ended, held=self.tracks.seen_us == (self.looked_us or 0))

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
        if was.size != self.size:
            self.resize(*was.size)
        self.tracks = track_array.unpack(was.tracks, was.width)
        self.lost = track_array.unpack(was.lost, was.width)
        self.likeness, self.camera = was.likeness, was.camera
        self.space = self._space(was.space or self.space.name)
        self.next_id = was.next_id
        self.now_us, self.looked_us = was.now_us, was.looked_us
        self.clutter, self.refused = was.clutter, was.refused
        self.refused_motions = was.refused_motions

    def _space(self, name: Space) -> StateSpace:
        metric = self.config.space != "image"
        return make_space(self.source, name, self.size, metric=metric, fixed=not self._moving)

    @property
    def _moving(self) -> bool:
        setting = self.config.camera
        return setting == "moving" or (setting == "auto" and self.camera.moving)

    def _coasted(self, view: PredictedBoxes, ended: list[int], held: Array | None = None) -> Tracks:
        links = without_detections(len(self.tracks))
        return self._report(view.boxes, view.inside, links, ended, held=held)

    def _clock(self, media_us: int) -> tuple[int, float, list[int]]:
        """Return the time that the tracks are predicted to, by how much, and the ids that end.

        Time never runs backwards: what lies between two time stamps counts once. A jump back by
        more than `memory_s` is a cut to another time, in which all people are new.
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
        before = self._moving
        self.camera = self.camera.update(motion, dt)
        if self._moving != before:
            self.space = self._space(self.space.name)
        if self._moving:
            for one in (self.tracks, self.lost):
                one.x, one.P = self.space.shifted(one.x, one.P, motion.warp)

    def _advance(
        self, media_us: int, motion: Motion | None, *, still: bool = False
    ) -> tuple[PredictedBoxes, list[int]]:
        """Drop tracks undetected for too long and predict the others; also the ids that ended.

        still: nothing has moved, so nobody has left or come out from behind something.
        """
        self.now_us, dt, ended = self._clock(media_us)
        media_us = self.now_us
        if motion is not None:
            self._compensate(motion, dt)
        tracks = self.tracks
        predict = stand_still if still else walk_on
        tracks.x, tracks.P = predict(tracks.x, tracks.P, dt, self.space, PARAMETERS)
        boxes = self.space.boxes(tracks.x)
        fresh = (media_us - tracks.seen_us <= self.config.memory_s * 1e6) & _projectable(boxes)
        ended += self._lose(fresh)
        tracks, lost = self.tracks, self.lost
        if len(lost):
            lost.x, lost.P = walk_on(lost.x, lost.P, dt, self.space, PARAMETERS)
            recent = media_us - lost.seen_us <= self.config.remember_s * 1e6
            self.lost = lost.take(recent & _projectable(self.space.boxes(lost.x)))
        view = self._view(boxes[fresh])
        if still:
            return view, ended
        seen = tracks.seen_us == (self.looked_us or 0)
        speed = outward(view.boxes, self.space.foot_velocity(tracks.x), self.size)
        rate = leaving_rate(view.inside, speed, seen, PARAMETERS) + view.twin / PARAMETERS.twin_s
        tracks.r = tracks.r * np.exp(-dt * rate)
        tracks.hidden = existence.hiding(tracks.hidden, dt, PARAMETERS.hide_s, PARAMETERS.appear_s)
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
        stayed = self.config.reentry | (
            share_inside(self.space.boxes(gone.x), self.size) > REPORT_WHOLE
        )
        self.lost = self.lost.join(gone.take((gone.known_s > 0) & stayed))
        return [int(i) for i in gone.id]

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
        together = missing.seen_us[lost] - self.tracks.first_us[track] > PARAMETERS.sought_s * 1e6
        ratio[together] = -np.inf
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
        return PredictedBoxes(boxes, near, share_inside(boxes, self.size), twin * together)

    def _associate(
        self,
        view: PredictedBoxes,
        found: AdmittedDetections,
        looks: FrameEmbeddings | None,
        media_us: int,
        since_s: float,
    ) -> tuple[AssociationSummary, Pairs]:
        """Associate the detections and update all tracks; also return the association weights."""
        tracks, at = self.tracks, found.at
        detectable = self.config.p_detect * self._observable(view)
        p_detect = detectable * (1 - tracks.hidden)
        if self.config.mode == "gnn_embed" and looks is not None:
            gain = self._gain(view, found, looks.vectors, media_us)
            after = filters.assign(
                tracks.x, tracks.P, tracks.r, at.z, at.R, H_STATE,
                p_detect=p_detect, p_gate=PARAMETERS.p_gate, gain=gain,
            )  # fmt: skip
        else:
            after = self._jipda(view, found, looks, p_detect, media_us)
        tracks.x, tracks.P = after.x, after.P
        self._exist(view, after, detectable * PARAMETERS.p_gate, found.scores, since_s)
        links = summarise(found, after.pairs)
        believed = (tracks.r >= PARAMETERS.lost_view) | (tracks.id == 0)
        hit = (links.detection >= 0) & believed  # false boxes do not keep a lost track
        tracks.seen_us[hit] = media_us
        tracks.apart_s[hit & (view.twin == 0)] += min(since_s, PARAMETERS.apart_s / 2)
        return links, after.pairs

    def _jipda(
        self,
        view: PredictedBoxes,
        found: AdmittedDetections,
        looks: FrameEmbeddings | None,
        p_detect: Array,
        media_us: int,
    ) -> filters.Associated:
        """Associate by joint probability; on the ground also what cut boxes put out of the gates.

        `p_detect` (N,) is the P_D of each track.
        """
        tracks, at = self.tracks, found.at
        log_clutter = self._log_clutter_px() - 2 * math.log(PARAMETERS.size_range) - at.log_area
        need = partial(needed, tracks, view.boxes, found, self.config, media_us)
        likeness = self._likeness(looks)
        associate = partial(
            filters.associate,
            r=tracks.r,
            z=at.z,
            R=at.R,
            H=H_STATE,
            p_detect=p_detect,
            p_gate=PARAMETERS.p_gate,
            log_clutter=log_clutter - self._log_odds(found.scores),
            log_ratio=likeness,
            ask=None if looks is None else looks.asking(need),
        )
        after = associate(tracks.x, tracks.P)
        if self.space.name != "ground":
            return after
        boxes, least = view.boxes, self.config.birth_score
        cut = cut_boxes.cut_short(tracks, boxes, found, after.pairs, likeness, least, PARAMETERS)
        P = cut_boxes.widened(tracks, self.space, found, *cut, PARAMETERS)
        return after if P is None else associate(tracks.x, P)

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

    def _likeness(self, looks: FrameEmbeddings | None) -> Callable[[Array, Array], Array] | None:
        """Return the appearance log ratio of track-detection pairs (K,), None if it is not used."""
        if looks is None or self.config.mode == "jipda":
            return None

        tracks = self.tracks
        known_s = np.where(tracks.known_s > 0, tracks.known_s, tracks.fresh_s)
        ages = age(((self.now_us or 0) - tracks.look_us) / 1e6, known_s)

        def log_ratio(track: Array, detection: Array) -> Array:
            apart = pair_distances(self._look_of(), looks.vectors, track, detection)
            ratio = self.likeness.log_ratio(apart, PARAMETERS.appearance_limit, ages[track])
            return np.maximum(ratio, -PARAMETERS.appearance_against)

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
        odds = PARAMETERS.score_slope * (existence.logit(scores) - self._nil)
        return existence.limited(odds, -PARAMETERS.score_limit, PARAMETERS.score_limit)

    def _log_clutter_px(self) -> float:
        """Return the log of the expected false detections per px²."""
        if self.config.clutter is not None:
            return math.log(self.config.clutter)
        return math.log(max(self.clutter, 0.01) / (self.size[0] * self.size[1]))

    def _exist(
        self,
        view: PredictedBoxes,
        after: filters.Associated,
        seen: Array,
        scores: Array,
        since_s: float,
    ) -> None:
        """Update r and `hidden`, limiting the posterior of JIPDA (`after`) of this frame.

        JIPDA assumes that detections are independent from frame to frame, but clutter and misses
        repeat at the same place. So a hit contributes the evidence of its score, and `novelty` more
        only for a tentative track, or for a strong detection of a track that was lost from view.
        `seen` (N,) is P_D·P_G of those who are not hidden.
        """
        tracks, pairs, log_odds = self.tracks, after.pairs, self._log_odds(scores)
        again = (tracks.r < PARAMETERS.lost_view)[pairs.track]
        again &= (scores >= self.config.birth_score)[pairs.detection]
        again |= (tracks.id == 0)[pairs.track]
        said = log_odds[pairs.detection] + PARAMETERS.novelty * again
        odds = existence.logit(tracks.r)
        change = np.minimum(existence.logit(after.r) - odds, pairs.of_tracks(pairs.hit * said))
        news = 1 - math.exp(-since_s / PARAMETERS.evidence_s)
        missed = existence.missed_likelihood(tracks.hidden, seen, news)
        alone = existence.missed_likelihood(tracks.hidden, seen)
        change = news * change + pairs.miss * (np.log(missed) - news * np.log(alone))
        whole = view.inside > REPORT_WHOLE
        floor = PARAMETERS.r_hidden * (tracks.id > 0) * whole * (1 - view.twin)
        tracks.r = np.clip(existence.sigmoid(odds + change), floor, PARAMETERS.r_max)
        share = np.clip(1 - pairs.of_tracks(pairs.hit) / after.r, 0, 1)  # missed, if it exists
        tracks.hidden = share * tracks.hidden / missed

    def _births(
        self, found: AdmittedDetections, unclaimed: Array, boxes: Array, since_s: float
    ) -> Array:
        """Return r (M,) of the tracks that the detections initiate, 0 for none.

        `unclaimed` (M,) is the probability that a detection belongs to no track; `boxes` (N, 4)
        are those of the tracks.
        """
        able = unclaimed * (found.scores >= self.config.birth_score)
        log_odds = self._log_odds(found.scores)
        r = newborn_existence(found.boxes, found.scores, log_odds, since_s, PARAMETERS)
        r *= able  # (M,) without competing boxes
        own = np.flatnonzero(r > 5 * PARAMETERS.r_min)  # the others stay below the limit
        sure = np.where(self.tracks.id > 0, 1.0, self.tracks.r)
        taken = np.zeros(len(own))
        i, track = cut_boxes.same_person_pairs(found.boxes[own], boxes, PARAMETERS)
        np.maximum.at(taken, i, sure[track])
        i, rival = cut_boxes.same_person_pairs(found.boxes[own], found.boxes, PARAMETERS)
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
        if not tracks.width:
            return identity.IdentityChanges()
        identity.ask_again(tracks)
        if not identity.due(tracks):
            return identity.IdentityChanges()
        settled = (tracks.id > 0) & (tracks.group == 0) & (tracks.known_s > 0)
        sought = np.flatnonzero(settled & (now_us - tracks.seen_us > PARAMETERS.sought_s * 1e6))
        missing = self.lost.join(tracks.take(sought))
        before = missing.id
        missing, self.next_id, changes = identity.resolve(
            tracks, missing, partial(self._position_log_ratio, missing), self.likeness, self.next_id
        )
        robbed = ~np.isin(missing.id, before)  # the id was taken over: the position is uncertain
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
        held: Array | None = None,
    ) -> Tracks:
        tracks, space = self.tracks, self.space
        variance = np.trace(tracks.P[:, :2, :2], axis1=1, axis2=2) / 2
        placed = np.sqrt(variance) < space.vague * space.body(tracks.x)
        placed |= links.detection >= 0
        least = np.where(inside > REPORT_WHOLE, PARAMETERS.show, PARAMETERS.show_leaving)
        shown = (tracks.id > 0) & (tracks.r >= least) & (inside >= REPORT_INSIDE) & placed
        rows = np.flatnonzero(shown)
        rows = rows[np.argsort(tracks.id[rows])]
        x, P = tracks.x[rows], tracks.P[rows]
        feet = space.on_ground(x, P)
        boxes = follow_across(boxes[rows], links.box[rows], self.size, PARAMETERS.follow_across)
        return Tracks(
            ids=tracks.id[rows],
            boxes=np.clip(boxes, 0, np.tile(self.size, 2)).astype(np.float32),
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
            held=None if held is None else held[rows],
        )


def _projectable(boxes: Array) -> Array:
    """Whether (N,) each box is finite: the track is not beyond the horizon."""
    return np.asarray(np.isfinite(boxes).all(axis=1))
