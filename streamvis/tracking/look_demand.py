"""Which detections of a frame need an appearance embedding, and the embeddings of one frame.

Position alone tells who most people are. An embedding is needed where it does not, as the tracker
knows from its state and from the association by position: for births, for people between two
tracks, for those who come back, and after contacts until the ids are certain again. Everybody else
needs one every `refresh_s`, for the mean embedding by which people are known later.
"""

from collections.abc import Callable

import msgspec
import numpy as np

from streamvis.errors import DataError
from streamvis.geometry import overlaps
from streamvis.messages import Array, Embeddings
from streamvis.tracking import identity
from streamvis.tracking.admission import AdmittedDetections
from streamvis.tracking.appearance import unit
from streamvis.tracking.association import Pairs
from streamvis.tracking.parameters import TrackerSettings
from streamvis.tracking.track_array import TrackArray

Look = Callable[[Array], Array]  # rows of Detections (K,) -> their embeddings (K, D)


class DemandParameters(msgspec.Struct, frozen=True, kw_only=True):
    """When the association by position is ambiguous."""

    unsure: tuple[float, float] = (0.02, 0.97)  # probability that a track, if it exists, has the
    # detection, between which it is ambiguous
    likely: float = 0.5  # least such probability of a detection that is taken for the track's
    unclaimed: float = 0.3  # least probability of belonging to no track, of a birth
    grown: float = 4.0  # people get an embedding whenever their known time has grown by 1/grown
    gap_s: float = 0.2  # who was not detected for so long may be another person


PARAMETERS = DemandParameters()


class FrameEmbeddings:
    """Unit embeddings of the M admitted detections of a frame, as far as they were looked at."""

    def __init__(
        self, look: Look, row: Array, tracks: TrackArray, lost: TrackArray, *, every: bool
    ) -> None:
        """Prepare the rows `row` (M,) of the detections, or look at `every` one of them.

        `tracks` and `lost` drop their embeddings when the length of embeddings has changed.
        """
        self._look, self._row, self._kept = look, row, (tracks, lost)
        self._complete = every  # nothing is left to look at
        self.vectors = np.zeros((len(row), tracks.width), np.float32)  # zeros where there is none
        if every:
            self._ask(np.ones(len(row), bool))

    def asking(
        self, need: Callable[[Pairs, Array], Array]
    ) -> Callable[[Pairs, Array], bool] | None:
        """Return a function that looks where `need` says; None if nothing is left to look at."""
        if self._complete:
            return None
        return lambda pairs, belief: self._ask(need(pairs, belief))

    def _ask(self, which: Array) -> bool:
        """Look at detections, `which` (M,) bool; return whether there was any."""
        if not which.any():
            return False
        vectors = unit(self._look(self._row[which]))
        width = vectors.shape[1]
        if width != self.vectors.shape[1]:
            self.vectors = np.zeros((len(self._row), width), np.float32)
            for tracks in self._kept:
                tracks.widen(width)
        self.vectors[which] = vectors
        return True


def look_of(embeddings: Embeddings | Look, detected: int, source: str) -> Look:
    """Return a function of rows, also from embeddings of all detections.

    DataError if they are of another number than `detected`.
    """
    if not isinstance(embeddings, Embeddings):
        return embeddings
    vectors = embeddings.vectors
    if vectors.ndim != 2 or len(vectors) != detected:
        raise DataError(
            f"source {source}: embeddings have shape {vectors.shape}, but {detected} people were "
            "detected; the stage that embeds must write a row for each"
        )
    return lambda rows: np.asarray(vectors[rows])


def needed(
    tracks: TrackArray,
    boxes: Array,
    found: AdmittedDetections,
    config: TrackerSettings,
    now_us: int,
    pairs: Pairs,
    belief: Array,
) -> Array:
    """Return which detections (M,) need an embedding.

    `boxes` (N, 4) of the tracks are predicted. `pairs` is the association by position, `belief`
    (K,) the probability of each pair if the track exists.
    """
    track, detection = pairs.track, pairs.detection
    numbered = tracks.id > 0
    low, high = PARAMETERS.unsure
    doubted = np.zeros(len(tracks), bool)
    doubted[track[(belief > low) & (belief < high)]] = True
    candidate = doubted[track] & (belief > low)  # all of them: a row of zeros is no evidence
    likely = belief >= PARAMETERS.likely
    gone = now_us - tracks.seen_us > PARAMETERS.gap_s * 1e6
    due = (tracks.group > 0) | (tracks.known_s == 0)
    often_s = np.minimum(config.refresh_s, tracks.known_s / PARAMETERS.grown)
    due |= now_us - tracks.look_us >= often_s * 1e6
    useful = due[track] & _unobstructed(found.boxes[detection], boxes, track, numbered)
    which = np.where(numbered[track], candidate | (likely & (gone[track] | useful)), likely)
    wanted = found.scores >= config.birth_score
    wanted &= 1 - pairs.of_detections(pairs.hit) > PARAMETERS.unclaimed
    wanted[detection[which]] = True
    return wanted


def _unobstructed(boxes: Array, others: Array, track: Array, numbered: Array) -> Array:
    """Whether (K,) boxes (K, 4) of `track` (K,) are hardly covered by other numbered tracks."""
    near = overlaps(boxes, others)
    share = np.maximum(near.first, near.second) * (track[near.i] != near.j) * numbered[near.j]
    most = np.zeros(len(boxes))
    np.maximum.at(most, near.i, share)
    return np.asarray(most <= 1 - identity.PARAMETERS.clear)
