"""Re-identification: ids are verified by appearance after occlusions and close encounters.

A new track has no identity yet, and tracks that came too close may have swapped ids. Such a track
is *ambiguous* until its unoccluded embeddings cover a minimum time. Then its mean embedding is
compared with those of all candidates: the id's own person, the tracks it was too close to, lost
people, or a new person. One linear assignment resolves all ambiguous tracks jointly.
"""

from collections.abc import Callable

import msgspec
import numpy as np
from scipy.optimize import linear_sum_assignment

from streamvis.geometry import overlaps
from streamvis.messages import Array
from streamvis.tracking.appearance import (
    AppearanceLikelihood,
    KnownDistances,
    age,
    blend,
    distances,
    pair_distances,
)
from streamvis.tracking.association import Pairs
from streamvis.tracking.track_array import TrackArray

IMPOSSIBLE = 1e6  # nats, cost of an excluded assignment

PositionLogRatio = Callable[
    [Array, Array], Array
]  # rows of tracks (K,) and of lost people (K,) -> nats (K,)


class IdentityParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Constants of the identity resolution, in seconds and nats."""

    close_iou: float = 0.4  # IoU above which two tracks may swap ids
    close_inside: float = 0.6  # or share of one box inside the other
    shared: float = 0.1  # or probability that both claim one detection
    clear: float = 0.6  # share of a box that must be free of other tracks
    sure: float = 0.8  # least association probability of an embedding
    need_s: float = 0.4  # unoccluded time that resolves an ambiguity
    ask_s: float = 8.0  # unoccluded time up to which a new person may turn out to be a lost one
    step_s: float = 0.5  # limit of the time that one embedding stands for
    fresh_step_s: float = 0.2  # and of an ambiguous track
    memory_s: float = 8.0  # time constant of mean embeddings
    learn_s: float = 30.0  # time constant of the densities of distances
    copy_s: float = 2.0  # age up to which copies of mean embeddings are kept to learn their change
    others: int = 64  # most tracks per frame that are sampled for the density of different people
    limit: float = 4.0  # nats, limit of the appearance evidence
    own: float = 3.0  # prior log odds that a track keeps its id
    new: float = -1.5  # that it is a new person
    lost: float = -2.0  # that it is a given lost person
    alike: float = 2.0  # nats, least appearance evidence of a re-identification
    near: tuple[float, float] = (-6.0, 3.0)  # nats, limits of the position evidence


PARAMETERS = IdentityParameters()


class IdentityChanges(msgspec.Struct):
    """The identity changes of one frame, as reported in `Tracks`."""

    ended: list[int] = []
    merged: list[tuple[int, int]] = []  # gone, kept
    split: list[tuple[int, int, int]] = []  # id, other, since_us


def mark_ambiguous(tracks: TrackArray, boxes: Array, pairs: Pairs, media_us: int) -> None:
    """Mark tracks as ambiguous, in one group, that are too close to associate reliably."""
    near = overlaps(boxes, boxes)
    close = np.maximum(near.first, near.second) > PARAMETERS.close_inside
    close = (close | (near.iou > PARAMETERS.close_iou)) & (near.i < near.j)
    one, other, shared = pairs.shared()
    rivals = shared > PARAMETERS.shared
    i = np.concatenate([near.i[close], one[rivals]])
    j = np.concatenate([near.j[close], other[rivals]])
    numbered = (tracks.id[i] > 0) & (tracks.id[j] > 0)
    i, j = np.divmod(np.unique((i * len(boxes) + j)[numbered]), max(len(boxes), 1))
    for a, b in zip(i.tolist(), j.tolist(), strict=True):
        _join(tracks.group, a, b)
    rows = np.union1d(i, j)
    tracks.doubt_us[rows[tracks.doubt_us[rows] == 0]] = media_us
    tracks.fresh[rows], tracks.fresh_s[rows] = 0.0, 0.0
    tracks.copy_us[rows] = 0


def _join(group: Array, i: int, j: int) -> None:
    """Merge the groups of tracks i and j."""
    name = int(group[i] or group.max() + 1)
    if group[j]:
        group[group == group[j]] = name
    group[[i, j]] = name


def unobstructed(boxes: Array, others: Array, pairs: Pairs, known: Array) -> tuple[Array, Array]:
    """Return rows of tracks (K,) that are unoccluded and surely associated, and detections (K,).

    `boxes` (M, 4) of the detections, `others` (N, 4) of the tracks; `known` (M,) bool marks the
    detections have an embedding.
    """
    sure = (pairs.hit >= PARAMETERS.sure) & known[pairs.detection]
    rows, detections = pairs.track[sure], pairs.detection[sure]
    near = overlaps(boxes[detections], others)
    hidden = np.maximum(near.first, near.second) * (rows[near.i] != near.j)
    most = np.zeros(len(rows))
    np.maximum.at(most, near.i, hidden)
    clear = most <= 1 - PARAMETERS.clear
    return rows[clear], detections[clear]


def update_appearance(
    tracks: TrackArray, rows: Array, vectors: Array, media_us: int, likeness: AppearanceLikelihood
) -> AppearanceLikelihood:
    """Update the mean embeddings of tracks at `rows` (K,) by vectors (K, D), and the densities."""
    settled = (tracks.known_s[rows] > 0) & (tracks.group[rows] == 0)
    dt = np.clip((media_us - tracks.look_us[rows]) / 1e6, 0, PARAMETERS.step_s)
    known = _known_distances(
        tracks, rows[settled], vectors[settled], float(dt[settled].sum()), media_us
    )
    likeness = likeness.learn(known, PARAMETERS.learn_s, PARAMETERS.limit)
    _copy_means(tracks, rows[settled], media_us)
    tracks.look_us[rows] = media_us
    dt = np.where(settled, dt, np.minimum(dt, PARAMETERS.fresh_step_s))
    for pick, mean, seconds in (
        (settled, tracks.known, tracks.known_s),
        (~settled, tracks.fresh, tracks.fresh_s),
    ):
        assigned = rows[pick]
        mean[assigned] = blend(
            mean[assigned], seconds[assigned], vectors[pick], dt[pick], PARAMETERS.memory_s
        )
        seconds[assigned] += dt[pick]
    return likeness


def _known_distances(
    tracks: TrackArray, rows: Array, vectors: Array, seconds: float, media_us: int
) -> KnownDistances:
    """Return the distances of vectors (K, D) of settled tracks at `rows` (K,)."""
    ages = age((media_us - tracks.look_us[rows]) / 1e6, tracks.known_s[rows])
    some = np.arange(0, len(rows), len(rows) // PARAMETERS.others + 1)
    apart = distances(vectors, tracks.known[rows[some]])
    i, j = np.nonzero(np.arange(len(rows))[:, None] != some)
    own = pair_distances(vectors, tracks.known[rows], *np.tile(np.arange(len(rows)), (2, 1)))
    copied = np.flatnonzero(tracks.copy_us[rows] > 0)
    old = rows[copied]
    copy = pair_distances(vectors[copied], tracks.copy[old], *np.tile(np.arange(len(old)), (2, 1)))
    copy_age = age((media_us - tracks.copy_us[old]) / 1e6, tracks.copy_s[old])
    return KnownDistances(own, ages, copied, copy, copy_age, apart[i, j], ages[some][j], seconds)


def _copy_means(tracks: TrackArray, rows: Array, media_us: int) -> None:
    """Copy the mean embeddings of settled tracks at `rows` that have no copy or an old one."""
    since = tracks.copy_us[rows]
    rows = rows[(since == 0) | (media_us - since > PARAMETERS.copy_s * 1e6)]
    tracks.copy[rows], tracks.copy_s[rows] = tracks.known[rows], tracks.known_s[rows]
    tracks.copy_us[rows] = tracks.look_us[rows]


def position_log_ratio(distance2: Array, log_det: Array, body: Array) -> Array:
    """Return log p(position | lost person) / p(position | new person), (K,).

    From the squared Mahalanobis distance of the positions, the log det of its covariance (2, 2)
    and the height of people there: a new person is uniform over about ten by ten bodies.
    """
    density = -0.5 * (distance2 + log_det) - np.log(2 * np.pi)
    return np.clip(density + 2 * np.log(10 * body), *PARAMETERS.near)


def ask_again(tracks: TrackArray) -> None:
    """Let new people be compared with lost people again, each time their known time has doubled.

    The mean of the first `need_s` may be unlike that of the same person before.
    """
    new = (tracks.id > 0) & (tracks.group == 0) & (tracks.asked_s > 0)
    again = new & (tracks.known_s >= 2 * tracks.asked_s)
    tracks.fresh[again], tracks.fresh_s[again] = tracks.known[again], tracks.known_s[again]
    tracks.known[again], tracks.known_s[again] = 0.0, 0.0


def due(tracks: TrackArray) -> bool:
    """Whether there is an ambiguous track with enough unoccluded time."""
    return bool((_unresolved(tracks) & (tracks.fresh_s >= PARAMETERS.need_s)).any())


def _unresolved(tracks: TrackArray) -> Array:
    return (tracks.id != 0) & ((tracks.group > 0) | (tracks.known_s == 0))


def resolve(
    tracks: TrackArray,
    lost: TrackArray,
    position: PositionLogRatio,
    likeness: AppearanceLikelihood,
    next_id: int,
) -> tuple[TrackArray, int, IdentityChanges]:
    """Resolve ambiguous tracks with enough unoccluded time.

    Returns the lost people that remain, the next free id and the changes. `position` gives the
    position log ratio for rows of tracks (K,) and of lost people (K,).
    """
    changes = IdentityChanges()
    open_ = np.flatnonzero(_unresolved(tracks))
    ready = tracks.fresh_s[open_] >= PARAMETERS.need_s
    if not ready.any():
        return lost, next_id, changes
    assigned = _assigned(tracks, lost, position, likeness, open_, ready)
    n = len(open_)
    was = tracks.take(open_)
    known = was.join(lost)  # whose identity a track may take over
    first = was.known_s == 0
    tracks.asked_s[open_[ready]] = 0.0
    for k, (row, answer) in enumerate(zip(open_.tolist(), assigned.tolist(), strict=True)):
        if answer == k:
            if first[k] and ready[k] and was.fresh_s[k] < PARAMETERS.ask_s:
                tracks.asked_s[row] = was.fresh_s[k]
            continue
        since = int(was.doubt_us[k])
        if answer < n:
            since = max(since, int(was.doubt_us[answer]))  # before, the other was not ambiguous
        if answer < len(known):
            id_ = int(known.id[answer])
            tracks.known[row], tracks.known_s[row] = known.known[answer], known.known_s[answer]
            tracks.first_us[row] = known.first_us[answer]
        else:
            id_, next_id = next_id, next_id + 1
            tracks.known[row], tracks.known_s[row] = 0.0, 0.0
            tracks.first_us[row] = since
        tracks.id[row] = id_
        mine = int(was.id[k])
        if mine > 0 and was.group[k] == 0:
            changes.merged.append((mine, id_))
        elif mine > 0:
            changes.split.append((mine, id_, since))
    gone = was.take(np.setdiff1d(np.arange(n), assigned))  # whose ids no track has now
    lost = lost.take(np.setdiff1d(np.arange(len(lost)), assigned - n))
    changes.ended = [int(i) for i in gone.id if i > 0]
    lost = lost.join(gone.take((gone.known_s > 0) & (gone.id > 0)))
    _merge_appearance(tracks, open_[ready])
    return lost, next_id, changes


def _merge_appearance(tracks: TrackArray, rows: Array) -> None:
    """Merge the recent mean embedding of resolved tracks into that of their identity."""
    tracks.known[rows] = blend(
        tracks.known[rows],
        tracks.known_s[rows],
        tracks.fresh[rows],
        tracks.fresh_s[rows],
        PARAMETERS.memory_s,
    )
    tracks.known_s[rows] += tracks.fresh_s[rows]
    tracks.fresh[rows], tracks.fresh_s[rows] = 0.0, 0.0
    tracks.group[rows], tracks.doubt_us[rows] = 0, 0


def _assigned(
    tracks: TrackArray,
    lost: TrackArray,
    position: PositionLogRatio,
    likeness: AppearanceLikelihood,
    rows: Array,
    ready: Array,
) -> Array:
    """Assign each row (K,): k < K another row's id, K + a lost person, or K + L + row: a new id."""
    k = len(rows)
    mine = tracks.take(rows)
    fresh = np.where(ready[:, None], mine.fresh, 0.0)
    appearance = likeness.log_ratio(distances(fresh, mine.known), PARAMETERS.limit)  # (K, K)
    met = (mine.group[:, None] == mine.group) & (mine.group > 0)
    own = np.eye(k, dtype=bool)
    doubted = mine.group > 0
    exchange = np.where(
        met | own, appearance + own * np.where(doubted, PARAMETERS.own, 0.0), -np.inf
    )
    back = likeness.log_ratio(distances(fresh, lost.known), PARAMETERS.limit)  # (K, L)
    i, j = np.nonzero(back >= PARAMETERS.alike)
    reidentified = np.full(back.shape, -np.inf)
    reidentified[i, j] = back[i, j] + position(rows[i], j) + PARAMETERS.lost
    new = np.where(own & doubted, PARAMETERS.new, -np.inf)
    weight = np.maximum(np.concatenate([exchange, reidentified, new], axis=1), -IMPOSSIBLE)
    _, answer = linear_sum_assignment(weight, maximize=True)
    return np.asarray(answer)
