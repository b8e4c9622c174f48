"""What stages say to each other: frames, the parts stages add, and their bytes.

A packet is a frame's header plus the parts gathered so far. Parts are msgspec structs that hold
NumPy arrays; on the wire an array is `[dtype, shape, bytes]`. Nothing is ever pickled.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamvis.errors import DataError

Array = NDArray[Any]
Clock = Literal["file", "arrival", "rtcp_sr"]


class SourceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a source once it is open; every stage that keeps state is told it first."""

    id: str  # [a-z0-9_-]{1,64}
    label: str  # where it came from, with credentials removed: fit for logs and events
    width: int  # pixels as shown, after rotation
    height: int
    fps: float  # nominal frames per second, 0 when unknown
    live: bool  # a live source drops frames rather than wait
    epoch: int = 1  # the stream epoch: one more after each reconnect
    frames: int | None = None  # how many frames the container names; some only estimate them
    promised: int | None = None  # how many its index lists: with fewer, the source is cut short
    ground_plane: tuple[float, ...] | None = None  # homography, row-major 3×3: foot px -> metres
    start_us: int | None = None  # of a file: wall clock of media time 0, µs since 1970

    def wall_us(self, media_us: int) -> int:
        """The wall clock at this media time, µs since 1970; 0 when unknown, and of live sources."""
        return 0 if self.start_us is None else self.start_us + media_us


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One admitted picture: where its pixels lie and when it was taken."""

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


class Detections(msgspec.Struct, frozen=True, kw_only=True, tag="detections"):
    """People found in one frame, best first."""

    boxes: np.ndarray  # (N, 4) float32, xyxy pixels of the source frame
    scores: np.ndarray  # (N,) float32 in [0, 1]
    labels: np.ndarray  # (N,) int32, COCO category ids: 1 is person
    masks: (
        np.ndarray
    )  # (N, 28, 28) uint8, 255·probability on a grid over the box; (0, 0, 0) if none


class Embeddings(msgspec.Struct, frozen=True, kw_only=True, tag="embeddings"):
    """What the people of one frame look like, row for row with its Detections."""

    vectors: np.ndarray  # (N, D) float32 of unit length; zeros for those who were not looked at


class Motion(msgspec.Struct, frozen=True, kw_only=True, tag="motion"):
    """How the background has moved in the picture since the frame before."""

    warp: np.ndarray  # (2, 3) float64: a point's homogeneous pixels then -> its pixels now
    support: float  # share of the points followed that move so; 0: unknown, the warp is identity


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
    gated: np.ndarray  # (N,) int32, how many detections its gate held
    detection: np.ndarray  # (N,) int32, index into Detections, -1 when the box is predicted
    first_seen_us: np.ndarray  # (N,) int64, media time of its first detection
    ended: np.ndarray  # (K,) int64, ids reported before that end with this frame
    space: Literal["image", "ground"] = "image"
    ground_velocity: np.ndarray | None = None  # (N, 2) float32, m/s; None in the image space
    ground_covariance: np.ndarray | None = None  # (N, 2, 2) float32, m², of `ground`; or None
    merged: np.ndarray | None = None  # (K, 2) int64, gone and kept: both ids were one person
    split: np.ndarray | None = None  # (K, 3) int64, id, other, since_us: what was reported as `id`
    # from then until now was another person, who is `other` from this frame on


class ActionThresholds(msgspec.Struct, frozen=True, kw_only=True):
    """When an action counts as begun and as over, by its probability."""

    begin: float  # at this or above …
    end: float  # below this …
    min_us: int  # … for so long in media time
    ignore: tuple[str, ...] = ()  # actions that are no news


class Actions(msgspec.Struct, frozen=True, kw_only=True, tag="actions"):
    """What people do, and what goes on in the whole frame, as far as it was looked at."""

    labels: tuple[str, ...]  # of the K actions
    ids: np.ndarray  # (N,) int64, ascending ids of tracks; 0: the whole frame
    probabilities: np.ndarray  # (N, K) float32, summing to one
    warm: np.ndarray  # (N,) bool; False: of few moments yet, or of some before a restart
    window_us: np.ndarray  # (N,) int64, media time from the first moment looked at to the last
    sampled: np.ndarray  # (N,) bool; False: as it was, nobody has looked at this frame
    thresholds: ActionThresholds


class Segmentation(msgspec.Struct, frozen=True, kw_only=True, tag="segmentation"):
    """What every pixel of a frame is, at the size that the network looks at."""

    labels: tuple[str, ...]  # names of the K classes
    classes: np.ndarray  # (h, w) uint8, the likeliest; the picture covers the whole frame
    unknown: np.ndarray  # (h/4, w/4) uint8, 255·probability of belonging to none; or (0, 0)


class ZoneOccupancy(msgspec.Struct, frozen=True, kw_only=True):
    """How probably a zone will hold something."""

    zone: str
    p: float
    polygon: tuple[tuple[float, float], ...] = ()  # its corners, shares of width and height


class HorizonForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a scene is forecast to be, some time after the frame that carries this."""

    horizon_us: int
    classes: np.ndarray  # (h, w) uint8, the likeliest, over the whole frame
    zones: tuple[ZoneOccupancy, ...] = ()


class ForecastScore(msgspec.Struct, frozen=True, kw_only=True):
    """How well what had been forecast for this frame fits what it is now."""

    made_us: int  # media time of the frame that the forecast was made from
    horizon_us: int
    miou: float  # over the classes in either picture
    accuracy: float  # share of pixels


class Forecast(msgspec.Struct, frozen=True, kw_only=True, tag="forecast"):
    """Scenes to come, as forecast from this frame and some before it, if it was one to look at."""

    labels: tuple[str, ...]  # names of the K classes
    horizons: tuple[HorizonForecast, ...] = ()  # by ascending horizon; none between two samples
    scores: tuple[ForecastScore, ...] = ()
    warm: bool = True  # False: of fewer moments than the network has learnt from


class Receipt(msgspec.Struct, frozen=True, kw_only=True, tag="receipt"):
    """A sink's answer: how much it wrote for this frame."""

    written: int = 0


Part = Detections | Embeddings | Motion | Tracks | Actions | Segmentation | Forecast | Receipt
P = TypeVar(
    "P",
    Detections,
    Embeddings,
    Motion,
    Tracks,
    Actions,
    Segmentation,
    Forecast,
    Receipt,
)


class Packet(msgspec.Struct, kw_only=True):
    """A frame and the parts that stages have added to it."""

    frame: Frame
    parts: list[Part] = []

    def part(self, kind: type[P]) -> P | None:
        """The part of this kind, or None when its stage was skipped for this frame."""
        for part in self.parts:
            if isinstance(part, kind):
                return part
        return None


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a source between two of its packets."""

    source: str
    kind: Literal["connecting", "online", "stalled", "offline", "gap", "epoch"]
    media_us: int  # of the last frame admitted before it, 0 when there was none
    first_n: int = -1  # for gaps: the pictures of the source that are missing, first and last
    last_n: int = -1
    reason: str = ""  # poison, overload, decode, …
    count: int = 0  # how many of first_n..last_n are missing; the others came


Ending = Literal["eof", "drained", "failed"]


class LongestStay(msgspec.Struct, frozen=True, kw_only=True):
    """How long somebody was followed, from the first frame to the last, corrections made."""

    track: str
    seconds: float
    from_us: int  # media time


class Busiest(msgspec.Struct, frozen=True, kw_only=True):
    """When most people were followed at once: the first such frame, as told at the time."""

    people: int
    media_us: int
    capture_us: int = 0  # wall clock, 0 when unknown


class MeanForecastScore(msgspec.Struct, frozen=True, kw_only=True):
    """How good the forecasts of one horizon were, of those that were published and came due."""

    count: int
    miou: float  # mean


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What a run found in a source; None where no stage of the pipeline says anything of it."""

    people: int | None = None  # distinct ones, corrections made; anew after each reconnect
    tracks: int | None = None  # ids that began
    merges: int | None = None  # ids that turned out to be another's
    splits: int | None = None  # ids that turned out to be two people's
    longest: LongestStay | None = None
    busiest: Busiest | None = None
    actions: dict[str, int] | None = None  # by label: how often one began
    unknown: int | None = None  # how often something that belongs to no class was there
    forecasts: dict[int, MeanForecastScore] | None = None  # by horizon, µs


class Pixels(Protocol):
    """Gives a frame's picture: (H, W, 3) uint8 RGB, a read-only view on the shared slot."""

    def __call__(self, frame: Frame) -> Array: ...


class Stage(Protocol):
    """A callable: packets in, one part out for each, in the same order."""

    def __call__(self, packets: Sequence[Packet]) -> Iterable[Part]: ...

    def close(self) -> None:
        """Give back what the stage holds; called once, when its worker ends in good order."""


class StatefulStage(Stage, Protocol):
    """A stage that remembers each source; it sees a source's packets in `seq` order."""

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or resume it from the `state` its predecessor last answered with."""

    def state(self, source: str) -> bytes:
        """What a successor needs to go on exactly after the last packet of this source."""

    def notice(self, notice: Notice) -> None:
        """Told in its place in the order of the source's packets."""

    def finish(self, source: str, ending: Ending) -> Findings | None:
        """The source has ended and all of its packets were answered; what was found in it.

        At most one stage of a pipeline says what was found: the publisher.
        """


class LogPosition(msgspec.Struct, frozen=True, array_like=True):
    """How far the event log of a source had come when its run was resumed."""

    offset: int  # of the next event
    epoch: int  # stream epoch and seq of the last frame
    seq: int


# Polygons in shares of the frame's width and height.
Regions = tuple[tuple[tuple[float, float], ...], ...]


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stage is built: what the worker that hosts it can give it."""

    device: str  # cpu, cuda:0, …
    pixels: Pixels
    out: Path | None = None  # where sinks write; None: nothing is to be written
    epoch: str = ""  # uuid7 of this run: the publisher's boot
    logged: Mapping[str, LogPosition] = {}  # by source, in a run that was resumed
    pipeline: str = ""  # hash of the pipeline's configuration
    regions: Regions = ()  # where people are detected; empty: in the whole frame
    shared_features: dict[
        str, Any
    ] = {}  # what stages of one worker lend each other, by the lender's name


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
_decoder = msgspec.msgpack.Decoder(Part, dec_hook=_decode_array)


def encode_part(part: Part) -> bytes:
    """The part as msgpack bytes."""
    return _encoder.encode(part)


def decode_part(data: bytes | memoryview) -> Part:
    """The part that `encode_part` wrote; DataError on anything else."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, ValueError) as error:
        raise DataError(f"not a part of streamvis ({len(data)} bytes): {error}") from None
