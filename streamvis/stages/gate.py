"""Which frames of a camera a detector looks at: those in which something has moved.

    gate = LookGate()
    for pixels, media_us in frames:
        if gate.looks(pixels, media_us):
            people = detect(pixels)

A small grey picture of each frame is compared with that of the last frame that was looked at, so
that slow movements add up until they are seen. The comparison is made in blocks, after the change
of brightness of the whole picture was taken out, against the noise that each block usually has.

A detector that can, takes but a coarse look where nothing has moved for a second. Only when that
finds other people than the last look, or 5 s after it, does the detector look again.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import cv2
import msgspec
import numpy as np

from streamvis.fields import Gate
from streamvis.geometry import iou
from streamvis.messages import Array, Detections, Ending, Frame, Packet, SourceInfo
from streamvis.stages.per_source import PerSource
from streamvis.stages.protocol import Pixels, StatefulStage

AREA = 160 * 90  # px of the small picture, approximately
PERSON = 6.0  # px of the small picture: height of the smallest person that matters, at least
BLOCK = 4  # px of the small picture, side of a block

EVERY_US = 1_000_000  # longest media time between two looks, coarse ones included
FULL_US = 5_000_000  # and between two that are not coarse
CLEAR = 0.5  # score: from which on a person found by one look has to be found by the other
SAME = 0.5  # IoU: of the boxes of one person, as two looks find them
LINGER_US = 300_000  # looks continue for so long after the last movement
LEAST = 3.0  # grey levels, root mean square over a block: smaller changes are no movement
MOST = 8.0  # grey levels: larger ones always are, whatever the noise
TIMES_NOISE = 3.0  # a movement is a change of so many times the block's noise
USUAL = 0.9  # the noise of a block is this quantile of its changes over time
ADAPT = math.log(2) / 20  # 1/s: it halves in 20 s, and doubles in (1 − USUAL) / USUAL of that
LONGEST_S = 1.0  # that one frame counts for in the estimate of the noise
SCENE = 0.3  # share of changed blocks from which the camera moves, or the scene is another one
LIGHT_FITS = 3  # of the gain and the offset, without the blocks that the last one does not fit


class _Kept(msgspec.Struct, array_like=True):
    shape: tuple[int, int]
    reference: bytes
    noise: bytes
    seen_us: int
    looked_us: int
    moved_us: int | None
    found: bytes | None = None
    full_us: int = 0


class LookGate:
    """Decides for each frame of one source whether a detector looks at it; deterministic."""

    def __init__(self, min_height: float = 0.0) -> None:
        """`min_height`: px, of the smallest person that matters; 0: not known."""
        self.min_height = min_height
        self.reference: Array | None = None  # small picture of the last look; None: look now
        self.noise = np.zeros((0, 0))  # of each block, mean square of its usual change
        self.seen_us = self.looked_us = 0  # media times of the last frame, and of the last look
        self.moved_us: int | None = None  # of the last movement
        self.unmoved = False  # whether nothing has moved between the last two looks
        self.found: Array | None = None  # (N, 5) boxes and scores of the last look that was kept
        self.full_us = 0  # its media time
        self._before: Array | None = None  # reference of the look before the last one

    def looks(self, pixels: Array, media_us: int) -> bool:
        """Go on to the next frame, (H, W, 3) uint8 RGB; whether it is to be looked at."""
        self.unmoved = False
        small = small_picture(pixels, self.min_height)
        reference, before_us, self.seen_us = self.reference, self.seen_us, media_us
        if reference is None or reference.shape != small.shape or media_us <= before_us:
            self.noise = np.zeros((0, 0))
            self.moved_us = None
            return self._look(small, media_us)
        if self._moved(reference, small, (media_us - before_us) / 1e6):
            self.moved_us = media_us
        # the next frame would be too late if it came after as long as this one
        due = 2 * media_us - before_us > self.looked_us + EVERY_US
        lingers = self.moved_us is not None and media_us - self.moved_us <= LINGER_US
        self.unmoved = not lingers
        return self._look(small, media_us) if due or lingers else False

    @property
    def may_be_coarse(self) -> bool:
        """Whether a coarse look at the frame, which is to be looked at, may do."""
        recent = self.seen_us - self.full_us < FULL_US
        return self.unmoved and self.found is not None and recent

    def agrees(self, coarse: Detections) -> bool:
        """Whether a coarse look has found the people of the last look; then that is kept."""
        same = self.found is not None and same_people(self.found, _rows(coarse))
        if same:
            self.reference = self._before  # slow movements go on adding up
        return same

    def keep(self, found: Detections) -> None:
        """Keep what a look at the last frame has found, for coarse ones to be compared with."""
        self.found, self.full_us = _rows(found), self.seen_us

    def restart(self) -> None:
        """Look at the next frame, whatever it shows."""
        self.reference = None

    def resize(self, width: int, height: int) -> None:
        """Look at the next frame: pictures of two sizes are not compared."""
        self.reference = None

    def state(self) -> bytes:
        """Return the small picture and the noise, about 20 kB."""
        if self.reference is None:
            return msgspec.msgpack.encode(None)
        return msgspec.msgpack.encode(
            _Kept(
                self.reference.shape,
                self.reference.tobytes(),
                self.noise.tobytes(),
                self.seen_us,
                self.looked_us,
                self.moved_us,
                None if self.found is None else self.found.tobytes(),
                self.full_us,
            )
        )

    def restore(self, state: bytes) -> None:
        """Continue from `state`; ValueError or DecodeError on anything else."""
        was = msgspec.msgpack.decode(state, type=_Kept | None)
        if was is None:
            self.reference = None
            return
        self.reference = np.frombuffer(was.reference, np.uint8).reshape(was.shape)
        shape = (was.shape[0] // BLOCK, was.shape[1] // BLOCK) if was.noise else (0, 0)
        self.noise = np.frombuffer(was.noise, np.float64).reshape(shape)
        self.seen_us, self.looked_us, self.moved_us = was.seen_us, was.looked_us, was.moved_us
        found = None if was.found is None else np.frombuffer(was.found, np.float32)
        self.found = None if found is None else found.reshape(-1, 5)
        self.full_us = was.full_us

    def _look(self, small: Array, media_us: int) -> bool:
        self._before = self.reference
        self.reference, self.looked_us = small, media_us
        return True

    def _moved(self, reference: Array, small: Array, seconds: float) -> bool:
        """Whether something has moved since the last look; learns the noise."""
        change = block_changes(reference, small)
        least, most = (LEAST / TIMES_NOISE) ** 2, (MOST / TIMES_NOISE) ** 2
        if self.noise.shape != change.shape:  # the first comparison: the same noise everywhere
            self.noise = np.full(change.shape, min(max(_median(change.ravel()), least), most))
        moved = np.count_nonzero(change > TIMES_NOISE**2 * self.noise)
        if moved > SCENE * change.size:
            return True  # no noise: the camera moves
        step = ADAPT * min(seconds, LONGEST_S)
        up, down = math.exp(step * USUAL / (1 - USUAL)), math.exp(-step)
        learned = self.noise * np.where(change > self.noise, up, down)
        self.noise = np.minimum(np.maximum(learned, least), most)
        return bool(moved)


class LookGates:
    """The gates of all sources of a stage; a source without one is looked at in every frame."""

    def __init__(self, kind: str, gate: Gate, min_height: float) -> None:
        """`kind` of the stage, for errors; `gate` and `min_height` as in its settings."""
        self._gate = gate
        self._min_height = min_height
        self._sources: PerSource[LookGate] = PerSource(kind)
        self._begun: set[str] = set()

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or resume it from `state`."""
        self._sources.begin(source, LookGate(self._min_height), state)
        if self._gate is True or source.live:
            self._begun.add(source.id)

    def state(self, source: str) -> bytes:
        """Return the state of the source's gate, about 25 kB; less without one."""
        return self._sources.state(source)

    def finish(self, source: str) -> None:
        """Forget a source that has ended."""
        self._sources.finish(source)
        self._begun.discard(source)

    def at(self, frame: Frame) -> LookGate | None:
        """Return the gate of a frame's source, for the next frame; None: it has none."""
        return self._sources.at(frame) if frame.source in self._begun else None

    def looks(self, frame: Frame, pixels: Array) -> bool:
        """Go on to the next frame of its source; whether it is to be looked at."""
        gate = self.at(frame)
        return gate is None or gate.looks(pixels, frame.media_us)


class GatedStage(StatefulStage):
    """A stage that keeps a gate for each source."""

    def __init__(self, gates: LookGates) -> None:
        self.gates = gates

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or resume it from `state`; called only where there is a gate."""
        self.gates.begin(source, state)

    def state(self, source: str) -> bytes:
        """Return the state of the source's gate."""
        return self.gates.state(source)

    def finish(self, source: str, ending: Ending) -> None:
        """Forget a source that has ended."""
        self.gates.finish(source)


def detected(
    detect: Callable[[list[Array]], Iterable[Detections]],
    gates: LookGates,
    pixels: Pixels,
    packets: Sequence[Packet],
    glance: Callable[[Array], Detections] | None = None,
) -> Iterator[Detections]:
    """Yield the detections of each packet, those of the frames that are looked at in one call.

    With `glance`, which takes a coarse look at a picture, frames with a gate are taken one by one.
    """
    if glance is not None and any(gates.at(packet.frame) is not None for packet in packets):
        for frame in (packet.frame for packet in packets):
            yield _detected(detect, gates.at(frame), pixels(frame), frame.media_us, glance)
        return
    pictures = [pixels(packet.frame) for packet in packets]
    looks = [gates.looks(packet.frame, one) for packet, one in zip(packets, pictures, strict=True)]
    chosen = [one for one, look in zip(pictures, looks, strict=True) if look]
    found = iter(detect(chosen) if chosen else ())
    for look in looks:
        yield next(found) if look else not_looked()


def _detected(
    detect: Callable[[list[Array]], Iterable[Detections]],
    gate: LookGate | None,
    picture: Array,
    media_us: int,
    glance: Callable[[Array], Detections],
) -> Detections:
    """Return the detections of one frame, after a coarse look where that may do."""
    if gate is not None and not gate.looks(picture, media_us):
        return not_looked()
    if gate is not None and gate.may_be_coarse and gate.agrees(glance(picture)):
        return not_looked()
    (found,) = detect([picture])
    if gate is not None:
        if gate.found is None:
            glance(picture)  # its network is compiled now, not when frames wait for it
        gate.keep(found)
    return found


def same_people(full: Array, coarse: Array) -> bool:
    """Whether two looks agree, boxes and scores (N, 5) and (M, 5): clear people are in both."""
    overlap = iou(full[:, :4], coarse[:, :4])  # (N, M)
    in_coarse = overlap.max(axis=1, initial=0) >= SAME
    in_full = overlap.max(axis=0, initial=0) >= SAME
    return bool(in_coarse[full[:, 4] >= CLEAR].all() and in_full[coarse[:, 4] >= CLEAR].all())


def _rows(found: Detections) -> Array:
    return np.column_stack([found.boxes, found.scores]).astype(np.float32)


def not_looked() -> Detections:
    """Return the detections of a frame that was not looked at."""
    return msgspec.structs.replace(Detections.of([], []), looked=False)


def small_picture(pixels: Array, min_height: float = 0.0) -> Array:
    """Downscale RGB pixels (H, W, 3) uint8 by an integer factor to grey; sides are whole blocks.

    The last row and column are repeated as needed; less than a pixel of it is cut off.
    """
    height, width = pixels.shape[:2]
    k = math.sqrt(width * height / AREA)
    if min_height:
        k = min(k, min_height / PERSON)
    k = max(1, min(round(k), width, height))
    h, w = height // k, width // k
    grey = cv2.cvtColor(pixels[: h * k, : w * k], cv2.COLOR_RGB2GRAY)
    if k > 1:
        grey = cv2.resize(grey, (w, h), interpolation=cv2.INTER_AREA)
    right, below = -w % BLOCK, -h % BLOCK
    return cv2.copyMakeBorder(grey, 0, below, 0, right, cv2.BORDER_REPLICATE)


def block_changes(before: Array, after: Array) -> Array:
    """Return the mean square change of each block in grey levels², brightness taken out.

    The light and the exposure change all blocks by one gain and one offset.
    """
    old, new = before.astype(np.float32), after.astype(np.float32)
    gain, offset = _light(_block_means(old).ravel(), _block_means(new).ravel())
    difference = new - np.clip(gain * old + offset, 0, 255)
    return _block_means(difference * difference).astype(np.float64)


def _light(old: Array, new: Array) -> tuple[float, float]:
    """Fit gain and offset of blocks (N,) by least squares, to those that have not changed else."""
    x, y, fits = old, new, np.ones(len(old), bool)
    gain, offset = 1.0, 0.0
    for _ in range(LIGHT_FITS):
        middle, total = float(x.sum()) / len(x), float(y.sum())
        centred = x - middle
        spread = float(centred @ centred)
        gain = float(centred @ y) / spread if spread > len(x) else 1.0
        offset = total / len(x) - gain * middle
        error = np.abs(new - gain * old - offset)
        before, fits = fits, error <= 3 * _median(error) + 0.5
        if (fits == before).all():  # the next fit would be the same
            break
        x, y = old[fits], new[fits]
    return gain, offset


def _median(values: Array) -> float:
    """Return the median of values (N,), the upper one of two, in a fifth of np.median's time."""
    middle = len(values) // 2
    return float(np.partition(values, middle)[middle])


def _block_means(small: Array) -> Array:
    """Return the mean of each block of a picture (h, w) float32: (h / BLOCK, w / BLOCK)."""
    h, w = small.shape
    return cv2.resize(small, (w // BLOCK, h // BLOCK), interpolation=cv2.INTER_AREA)
