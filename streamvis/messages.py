"""The messages between stages: frames, the parts that stages add, and their encoding.

A packet is a frame's header plus the parts gathered so far. Parts are msgspec structs that hold
NumPy arrays; on the wire an array is `[dtype, shape, bytes]`. Nothing is ever pickled.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import ArrayLike, DTypeLike, NDArray

from streamvis.errors import DataError
from streamvis.parsing import shown
from streamvis.zone_layout import ZoneLayout

Array = NDArray[Any]
Clock = Literal["file", "arrival", "rtcp_sr"]
Rows = int | slice | Sequence[int] | Sequence[bool] | Array  # which rows of a part are meant
SHOWN = 8  # ids in a repr
KEYPOINTS = 17  # of COCO


class SourceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An open source; every stateful stage gets it before the first packet."""

    id: str  # [a-z0-9_-]{1,64}
    label: str  # where it came from, with credentials removed: fit for logs and events
    width: int  # pixels as shown, after rotation
    height: int
    fps: float  # nominal frames per second, 0 when unknown
    live: bool  # a live source drops frames rather than wait
    epoch: int = 1  # the stream epoch: one more after each reconnect
    frames: int | None = None  # by the container's header, which may be an estimate
    promised: int | None = None  # by the container's index: with fewer, the file is truncated
    ground_plane: tuple[float, ...] | None = None  # homography, row-major 3×3: foot px -> metres
    start_us: int | None = None  # of a file: wall clock of media time 0, µs since 1970
    clips_on: tuple[str, ...] = ()  # types of events of which a clip is recorded
    zones: ZoneLayout | None = None  # its zones and lines; None: those of the pipeline

    def wall_us(self, media_us: int) -> int:
        """The wall clock at this media time, µs since 1970; 0 when unknown, and of live sources."""
        return 0 if self.start_us is None else self.start_us + media_us


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One admitted frame: where its pixels are stored and when it was captured."""

    source: str
    seq: int  # consecutive over admitted frames, from 0
    n: int  # number of the picture in the source, from 0; dropped ones count
    media_us: int  # strictly monotone within a stream epoch
    width: int
    height: int
    slot: str = ""  # "segment:byte offset" of its RGB pixels (H, W, 3) uint8
    epoch: int = 1
    capture_us: int = 0  # wall clock, microseconds since 1970
    clock: Clock = "file"
    suspect: bool = False  # data before it was lost: it may be grey or smeared


class Detections(msgspec.Struct, frozen=True, kw_only=True, tag="detections"):
    """People found in one frame, best first."""

    boxes: np.ndarray  # (N, 4) float32, xyxy pixels of the source frame
    scores: np.ndarray  # (N,) float32 in [0, 1]
    labels: np.ndarray  # (N,) int32, COCO category ids: 1 is person
    masks: (
        np.ndarray
    )  # (N, 28, 28) uint8, 255·probability on a grid over the box; (0, 0, 0) if none
    looked: bool = True  # False: nothing has moved since the last frame that was looked at, so that
    # this one was not, and has no rows

    @classmethod
    def of(
        cls,
        boxes: ArrayLike,
        scores: ArrayLike,
        labels: ArrayLike | None = None,
        masks: ArrayLike | None = None,
    ) -> "Detections":
        """Return checked detections of these boxes (N, 4), xyxy pixels, and scores (N,).

        Labels are 1, person, unless given. Raises DataError for what no detector returns.
        """
        rows = _numbers("boxes", boxes, np.float32)
        rows = rows if rows.size else rows.reshape(0, 4)
        count = len(rows) if rows.ndim else 0
        made = cls(
            boxes=rows,
            scores=_numbers("scores", scores, np.float32),
            labels=_numbers("labels", [1] * count if labels is None else labels, np.int32),
            masks=np.zeros((0, 0, 0), np.uint8) if masks is None else np.asarray(masks),
        )
        made.check()
        return made

    def check(self) -> None:
        """Raise DataError for wrong shapes or types, NaN, scores outside [0, 1], turned boxes."""
        _check_array("Detections.boxes", self.boxes, "f", (None, 4))
        n = len(self.boxes)
        if n and not self.looked:
            raise DataError(
                f"Detections: {n} people in a frame that was not looked at; expected none"
            )
        _check_array("Detections.scores", self.scores, "f", (n,))
        _check_array("Detections.labels", self.labels, "iu", (n,))
        _check_array("Detections.masks", self.masks, "u", (None, None, None))
        if len(self.masks) not in (0, n):
            raise DataError(f"Detections.masks are {len(self.masks)}; expected {n}, or none")
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise DataError("Detections: boxes and scores hold NaN or infinity; drop those rows")
        if n and not (self.scores.min() >= 0 and self.scores.max() <= 1):
            raise DataError(
                f"Detections.scores reach from {self.scores.min():g} to {self.scores.max():g}; "
                "expected 0 to 1"
            )
        turned = np.flatnonzero((self.boxes[:, 2:] < self.boxes[:, :2]).any(axis=1))
        if len(turned):
            raise DataError(
                f"Detections.boxes: row {turned[0]} is {self.boxes[turned[0]].tolist()}; expected "
                "x1 <= x2 and y1 <= y2, pixels of two corners: from x, y, width, height add the "
                "corner to the size"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: Rows) -> "Detections":
        """Return these rows: a number, a slice, a boolean mask (N,) or indexes (K,)."""
        chosen = _rows(rows)
        return Detections(
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            labels=self.labels[chosen],
            masks=self.masks[chosen] if len(self.masks) else self.masks,
            looked=self.looked,
        )

    def __repr__(self) -> str:
        if not self.looked:
            return "Detections(not looked at: nothing has moved)"
        scores = f", scores {_span(self.scores)}" if len(self) else ""
        masks = f", masks {self.masks.shape[1]}x{self.masks.shape[2]}" if len(self.masks) else ""
        return f"Detections({len(self)} people{scores}{masks})"


class Embeddings(msgspec.Struct, frozen=True, kw_only=True, tag="embeddings"):
    """Appearance embeddings of one frame's detections, row for row.

    No rows where the tracker computes those that it needs.
    """

    vectors: np.ndarray  # (N, D) float32 of unit length; zeros where none was computed


class Motion(msgspec.Struct, frozen=True, kw_only=True, tag="motion"):
    """Camera motion: how the background has moved since the previous frame."""

    warp: np.ndarray  # (2, 3) float64: homogeneous pixels of the previous frame -> pixels now
    support: float  # share of inliers among the tracked points; 0: unknown, the warp is identity


class Tracks(msgspec.Struct, frozen=True, kw_only=True, tag="tracks"):
    """Confirmed tracks in one frame, by ascending id."""

    ids: np.ndarray  # (N,) int64, unique in the source's stream epoch, from 1
    boxes: np.ndarray  # (N, 4) float32, xyxy pixels of the source frame
    scores: np.ndarray  # (N,) float32, of its most probable detection, 0 when there is none
    existence: np.ndarray  # (N,) float32, probability that the target is there
    velocity: np.ndarray  # (N, 2) float32, pixels per second of the foot point
    covariance: np.ndarray  # (N, 4) float32, diagonal for x, y, vx, vy in the space's units
    ground: np.ndarray  # (N, 2) float32, metres on the ground plane, NaN without one
    entropy: np.ndarray  # (N,) float32, nats, of its association weights
    gated: np.ndarray  # (N,) int32, number of detections in its gate
    detection: np.ndarray  # (N,) int32, index into Detections, -1 when the box is predicted
    first_seen_us: np.ndarray  # (N,) int64, media time of its first detection
    ended: np.ndarray  # (K,) int64, ids reported before that end with this frame
    space: Literal["image", "ground"] = "image"
    ground_velocity: np.ndarray | None = None  # (N, 2) float32, m/s; None in the image space
    ground_covariance: np.ndarray | None = None  # (N, 2, 2) float32, m², of `ground`; or None
    merged: np.ndarray | None = None  # (K, 2) int64, gone and kept: both ids are one person
    split: np.ndarray | None = None  # (K, 3) int64, id, other, since_us: boxes reported as `id`
    # from since_us until now were of another person, whose id is `other` from this frame on
    held: np.ndarray | None = None  # (N,) bool, detected in the last frame that was looked at,
    # since when nothing has moved; None: this frame was looked at, or predicted

    @property
    def supported(self) -> np.ndarray:
        """Whether (N,) bool a detection supports each box, of this frame or still valid."""
        seen = self.detection >= 0
        return seen if self.held is None else seen | self.held

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Rows) -> "Tracks":
        """Return these rows: a number, a slice, a boolean mask (N,) or indexes (K,).

        `detection` still counts in all detections of the frame; `ended`, `merged` and `split` are
        of the whole frame.
        """
        chosen, whole = _rows(rows), ("ended", "merged", "split")
        columns = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return msgspec.structs.replace(
            self,
            **{
                name: values[chosen]
                for name, values in columns
                if isinstance(values, np.ndarray) and name not in whole
            },
        )

    def __repr__(self) -> str:
        ended = f", ended {self.ended.tolist()}" if len(self.ended) else ""
        return f"Tracks({len(self)} people{_named(self.ids)}{ended}, {self.space} space)"


class ActionThresholds(msgspec.Struct, frozen=True, kw_only=True):
    """The probability thresholds at which an action begins and ends."""

    begin: float  # at this or above …
    end: float  # below this …
    min_us: int  # … for so long in media time
    ignore: tuple[str, ...] = ()  # labels that give no events


class Actions(msgspec.Struct, frozen=True, kw_only=True, tag="actions"):
    """Action probabilities of the observed tracks, and of the whole frame."""

    labels: tuple[str, ...]  # of the K actions
    ids: np.ndarray  # (N,) int64, ascending ids of tracks; 0: the whole frame
    probabilities: np.ndarray  # (N, K) float32, summing to one
    warm: np.ndarray  # (N,) bool; False: from too few samples, or from some before a restart
    window_us: np.ndarray  # (N,) int64, media time from the first sample to the last
    sampled: np.ndarray  # (N,) bool; False: this frame was not sampled, values are repeated
    thresholds: ActionThresholds


class Poses(msgspec.Struct, frozen=True, kw_only=True, tag="poses"):
    """The keypoints of tracked people in one frame, by ascending track id.

    The K = 17 keypoints are those of COCO, in its order: nose, eyes, ears, shoulders, elbows,
    wrists, hips, knees, ankles; left before right, of the person.
    """

    ids: np.ndarray  # (N,) int64, ids of tracks
    points: np.ndarray  # (N, 17, 2) float32, x and y, pixels of the source frame
    scores: np.ndarray  # (N, 17) float32 in [0, 1], confidence that the point is there
    covariances: np.ndarray  # (N, 17, 2, 2) float32, pixels², of each point
    postures: np.ndarray | None = None  # (N, 4) float32 in [0, 1], how clear each posture is: NaN
    # unknown; or None: not computed
    sampled: np.ndarray | None = None  # (N,) bool; False: not estimated in this frame, but
    # predicted; None: all were estimated

    def check(self) -> None:
        """Raise DataError for wrong shapes or types, NaN, scores outside [0, 1], and covariances
        that are not symmetric or have a negative variance.
        """
        _check_array("Poses.ids", self.ids, "iu", (None,))
        n = len(self.ids)
        _check_array("Poses.points", self.points, "f", (n, KEYPOINTS, 2))
        _check_array("Poses.scores", self.scores, "f", (n, KEYPOINTS))
        _check_array("Poses.covariances", self.covariances, "f", (n, KEYPOINTS, 2, 2))
        if (np.diff(self.ids) <= 0).any():
            raise DataError(
                f"Poses.ids are {self.ids.tolist()}; expected ascending ones, each once"
            )
        for name in ("points", "scores", "covariances"):
            if not np.isfinite(getattr(self, name)).all():
                raise DataError(
                    f"Poses.{name} hold NaN or infinity; give an unknown point the score 0"
                )
        if n and not (self.scores.min() >= 0 and self.scores.max() <= 1):
            raise DataError(
                f"Poses.scores reach from {self.scores.min():g} to {self.scores.max():g}; "
                "expected 0 to 1"
            )
        if self.postures is not None:
            _check_array("Poses.postures", self.postures, "f", (n, None))
        if self.sampled is not None:
            _check_array("Poses.sampled", self.sampled, "b", (n,))
        xx, yy = self.covariances[..., 0, 0], self.covariances[..., 1, 1]
        xy, yx = self.covariances[..., 0, 1], self.covariances[..., 1, 0]
        if (xx < 0).any() or (yy < 0).any() or not np.allclose(xy, yx):
            raise DataError(
                "Poses.covariances: found one that is not symmetric, or has a negative variance; "
                "expected covariances of x and y, pixels²"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Rows) -> "Poses":
        """Return these rows: a number, a slice, a boolean mask (N,) or indexes (K,)."""
        chosen = _rows(rows)
        columns = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return msgspec.structs.replace(
            self,
            **{name: one[chosen] for name, one in columns if isinstance(one, np.ndarray)},
        )

    def __repr__(self) -> str:
        scores = f", scores {_span(self.scores)}" if len(self) else ""
        return f"Poses({len(self)} people{_named(self.ids)}{scores})"


class Segmentation(msgspec.Struct, frozen=True, kw_only=True, tag="segmentation"):
    """The class of every pixel of a frame, at the size of the network's input."""

    labels: tuple[str, ...]  # names of the K classes
    classes: np.ndarray  # (h, w) uint8, the most probable; covers the whole frame
    unknown: np.ndarray  # (h/4, w/4) uint8, 255·probability of being out of distribution; or (0, 0)


def class_shares(labels: tuple[str, ...], classes: Array) -> dict[str, float]:
    """Return the share of pixels (h, w) of each class, in the order of the labels."""
    counts = np.bincount(classes.ravel(), minlength=len(labels))[: len(labels)]
    shares = (counts / max(classes.size, 1)).round(5).tolist()
    return dict(zip(labels, shares, strict=True))


class ZoneOccupancy(msgspec.Struct, frozen=True, kw_only=True):
    """The probability that a zone will hold an object of its classes."""

    zone: str
    p: float
    polygon: tuple[tuple[float, float], ...] = ()  # its corners, shares of width and height


class HorizonForecast(msgspec.Struct, frozen=True, kw_only=True):
    """The segmentation forecast for one horizon after the frame that carries it."""

    horizon_us: int
    classes: np.ndarray  # (h, w) uint8, the most probable, over the whole frame
    zones: tuple[ZoneOccupancy, ...] = ()


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """How well a published forecast fits the segmentation of this frame."""

    made_us: int  # media time of the frame the forecast was made from
    horizon_us: Annotated[int, Meta(ge=0)]  # how far ahead the forecast was
    miou: float  # mean intersection over union of the classes in either
    accuracy: float  # share of equal pixels


class Forecast(msgspec.Struct, frozen=True, kw_only=True, tag="forecast"):
    """Forecasts made from this frame and some before it, if the frame was sampled."""

    labels: tuple[str, ...]  # names of the K classes
    horizons: tuple[HorizonForecast, ...] = ()  # by ascending horizon; none between two samples
    scores: tuple[Score, ...] = ()
    warm: bool = True  # False: from fewer frames than the network was trained with


class Density(msgspec.Struct, frozen=True, kw_only=True, tag="density"):
    """The mean number of people in each cell of a grid over an interval that has just ended."""

    cells: np.ndarray  # (N, 2) int32, column and row of each cell that had people, ascending
    people: np.ndarray  # (N,) float32, mean number of people in it
    cell: float  # side of a cell in `unit`; cell (0, 0) begins at the origin
    unit: Literal["px", "m"]  # pixels of the source frame, or metres on the ground plane
    start_us: int  # media time of the interval
    end_us: int
    frames: int  # frames with tracks in the interval; 0: no interval has ended with this frame


class ClipEvent(msgspec.Struct, frozen=True, array_like=True):
    """An event of which a clip is wanted."""

    event: str  # its id
    kind: str  # its type, such as action.begin
    media_us: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True, tag="receipt"):
    """A sink's answer: how much it wrote for this frame."""

    written: int = 0
    clips: list[ClipEvent] = []


class ZoneGauges(msgspec.Struct, frozen=True, array_like=True):
    """The present numbers of a zone."""

    people: int  # who have entered and not left
    mean: float  # expected number of people
    p_occupied: float  # probability that at least one person is inside
    longest_s: float  # stay of the person who has been inside for longest; 0 without one
    entries: int  # visits so far, after corrections


class LineGauges(msgspec.Struct, frozen=True, array_like=True):
    """The present numbers of a line."""

    in_total: int  # crossings from left to right so far, after corrections
    out_total: int  # crossings from right to left


class SourceGauges(msgspec.Struct, frozen=True, array_like=True):
    """The present numbers of the zones and lines of a source, by their names."""

    zones: dict[str, ZoneGauges] = {}
    lines: dict[str, LineGauges] = {}


Part = msgspec.Struct  # one of these, or a part that another package's kind of stage brings
PARTS: tuple[type[Part], ...] = (
    *(Detections, Embeddings, Motion, Tracks),
    *(Actions, Poses, Segmentation, Forecast, Density, Receipt),
)
P = TypeVar("P", bound=Part)


class StageRun(msgspec.Struct, frozen=True):
    """Where a stage has processed a frame, and how long that took."""

    device: str  # such as `cpu` or `cuda:0`
    ms: float  # of the call that had this frame, with all frames of its batch


class Packet(msgspec.Struct, kw_only=True):
    """A frame and the parts that stages have added to it."""

    frame: Frame
    parts: list[Part] = []
    ran: dict[str, StageRun] = {}  # by stage: those above the stage, where it `reads_runs`

    def part(self, kind: type[P]) -> P | None:
        """The part of this kind, or None when its stage was skipped for this frame."""
        for part in self.parts:
            if isinstance(part, kind):
                return part
        return None


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a source between two of its packets."""

    source: str
    kind: Literal["connecting", "online", "stalled", "offline", "gap", "epoch", "clip", "zones"]
    media_us: int  # of the last frame admitted before it, 0 when there was none
    info: SourceInfo | None = None  # online: as it was opened now
    zones: ZoneLayout | None = None  # zones: the zones and lines from the next frame on
    path: str = ""  # clip: the file, relative to the output directory
    event: str = ""  # clip: id of the event that it shows
    first_n: int = -1  # for gaps: numbers of the first and the last missing picture
    last_n: int = -1
    reason: str = ""  # poison, overload, decode, …
    count: int = 0  # how many of first_n..last_n are missing


Ending = Literal["eof", "drained", "failed"]


class LongestStay(msgspec.Struct, frozen=True, kw_only=True):
    """The longest time from the first to the last frame of one person, after corrections."""

    track: str
    seconds: float
    from_us: int  # media time


class Busiest(msgspec.Struct, frozen=True, kw_only=True):
    """The first frame with the largest number of tracks, before corrections."""

    people: int
    media_us: int
    capture_us: int = 0  # wall clock, 0 when unknown


class MeanForecastScore(msgspec.Struct, frozen=True, kw_only=True):
    """The mean score of the published forecasts of one horizon."""

    count: int
    miou: float  # mean


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a run for one source; None where no stage of the pipeline measures it."""

    people: int | None = None  # distinct, after corrections; counted anew after each reconnect
    tracks: int | None = None  # ids that began
    merges: int | None = None  # ids that were merged into another
    splits: int | None = None  # ids that were split
    longest: LongestStay | None = None
    busiest: Busiest | None = None
    actions: dict[str, int] | None = None  # by label: how often one began
    postures: dict[str, int] | None = None  # by label, likewise
    unknown: int | None = None  # how often an out-of-distribution object began
    forecasts: dict[int, MeanForecastScore] | None = None  # by horizon, µs
    zones: dict[str, int] | None = None  # by name: visits, after corrections
    lines: dict[str, tuple[int, int]] | None = None  # by name: crossings in and out, likewise


def _rows(rows: Rows) -> slice | Array:
    """Return an index that keeps arrays as they are, only with other rows."""
    if isinstance(rows, slice):
        return rows
    chosen = np.atleast_1d(np.asarray(rows))
    return chosen if chosen.size else chosen.astype(np.int64)


def _named(ids: Array) -> str:
    named = ", ".join(map(str, ids[:SHOWN].tolist())) + ", …" * (len(ids) > SHOWN)
    return f", ids {named}" if len(ids) else ""


def _span(numbers: Array) -> str:
    low, high = f"{numbers.min():.2f}", f"{numbers.max():.2f}"
    return low if low == high else f"{low} to {high}"


def _numbers(name: str, values: ArrayLike, dtype: DTypeLike) -> Array:
    """Return the array of an argument of `Detections.of`; DataError for what is none."""
    try:
        return np.asarray(values, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"Detections.of: {name} is {shown(values)}; expected an array of numbers: {error}"
        ) from None


def _check_array(name: str, array: Any, kind: str, shape: Sequence[int | None]) -> None:
    """Raise DataError unless it is an array of this kind of numbers; None: any length."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in kind:
        found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        numbers = {"f": "floating point numbers", "u": "uint8", "b": "bool"}.get(kind, "integers")
        raise DataError(f"{name}: found {found}, expected a NumPy array of {numbers}")
    sides = zip(array.shape, shape, strict=False)
    if array.ndim != len(shape) or any(want not in (None, side) for side, want in sides):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise DataError(
            f"{name}: found shape {array.shape}, expected ({wanted}{',' * (len(shape) == 1)})"
        )


def _encode_array(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    raise TypeError(f"{type(value).__name__} has no wire form; parts hold arrays and plain values")


def _decode_array(kind: type, value: Any) -> Any:
    if kind is not np.ndarray:
        raise TypeError(f"{kind} has no wire form")
    try:
        dtype, shape, data = value
        kinds = np.dtype(dtype)
        if kinds.hasobject or any(side < 0 for side in shape):
            raise ValueError(f"an array of {dtype} with shape {shape} is refused")
        return np.frombuffer(data, kinds).reshape(shape)
    except (TypeError, ValueError) as error:
        raise ValueError(f"not an array [dtype, shape, bytes]: {error}") from None


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_array)


def encode_part(part: Part) -> bytes:
    """Return the part as msgpack bytes."""
    return _encoder.encode(part)


class PartDecoder:
    """Decodes what `encode_part` wrote: the parts above, and those of `others`, by their tags."""

    def __init__(self, others: Iterable[type[Part]] = ()) -> None:
        union: Any = Union[(*PARTS, *others)]
        self._decoder = msgspec.msgpack.Decoder(union, dec_hook=_decode_array)

    def __call__(self, data: bytes | memoryview) -> Part:
        """Return the part; DataError on anything else."""
        try:
            part: Part = self._decoder.decode(data)
        except (msgspec.DecodeError, ValueError) as error:
            raise DataError(f"not a part of streamvis ({len(data)} bytes): {error}") from None
        return part


decode_part = PartDecoder()  # of the parts above
