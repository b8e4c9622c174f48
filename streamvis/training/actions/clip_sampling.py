"""Clips sampled at equal steps of time, decoded once into a file that training reads."""

import hashlib
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import msgspec
import numpy as np

from streamvis.datasets.clips import Clip
from streamvis.datasets.motchallenge import MOST_FRAMES, read_results
from streamvis.errors import DataError
from streamvis.files import drafted
from streamvis.messages import Array
from streamvis.models.crops import crop
from streamvis.models.off import Modality
from streamvis.sources import open_source, resolve, whole
from streamvis.sources.picture import Picture
from streamvis.tracking.tubelets import Tubelet
from streamvis.training.progress import progress
from streamvis.training.recipes import Positive

STACK = 5  # flows, or differences, of one sample
SLACK_US = 1000  # a picture this much too early still counts for its time
FLOW_RANGE = 20.0  # px in STEP_S that fill a byte; the paper's bound
CONTEXT = 4.0  # side of a crop in heights of the person, as the stage's setting `context`
LARGER = 1.125  # of the network's size, so that crops are smaller than the frame

Method = Literal["farneback", "dis"]


class ClipSampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How clips are sampled: the size, the times and the modality."""

    size: tuple[int, int]  # height, width in px
    every_s: Positive  # between two samples
    modality: Modality = "rgb"
    step_s: Positive = 0.04  # between the pictures of one sample
    method: Method = "dis"


class ClipFrames(NamedTuple):
    """The samples of all clips, one clip after another."""

    pixels: Array  # (N, H, W, C) uint8, perhaps mapped from a file
    first: Array  # (clips + 1,) index of each clip's first sample

    def of(self, clip: int) -> Array:
        """Return the samples (T, H, W, C) of one clip."""
        return self.pixels[self.first[clip] : self.first[clip + 1]]


def gather(clips: Sequence[Clip], sampling: ClipSampling, folder: Path) -> ClipFrames:
    """Decode the clips into `folder` unless they are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    key = msgspec.json.encode(sampling) + msgspec.json.encode(
        [(str(c.path.resolve()), c.start_s, str(c.end_s), *_person(c)) for c in clips]
    )
    name = f"{sampling.modality}-{hashlib.sha256(key).hexdigest()[:12]}"
    path, index = folder / f"{name}.npy", folder / f"{name}.first.npy"
    if not (path.exists() and index.exists()):
        _write(clips, sampling, path, index)
    return ClipFrames(np.load(path, mmap_mode="r"), np.load(index))


def _person(clip: Clip) -> tuple[str, ...]:
    """Return what else the pixels of a clip depend on; nothing for whole frames."""
    if clip.tracks is None:
        return ()
    return hashlib.sha256(clip.tracks.read_bytes()).hexdigest(), str(clip.track)


def _write(clips: Sequence[Clip], sampling: ClipSampling, path: Path, index: Path) -> None:
    """Write raw bytes first, since the number of samples is known only at the end."""
    first = [0]
    channels = 0
    with tempfile.TemporaryFile(dir=path.parent) as raw:
        for clip in progress(clips, f"decoding ({sampling.modality})"):
            moments = sample_clip(clip, sampling)
            channels = moments.shape[-1]
            raw.write(moments.tobytes())
            first.append(first[-1] + len(moments))
        raw.flush()
        shape = (first[-1], *sampling.size, channels)
        with drafted(index) as draft, draft.open("wb") as file:
            np.save(file, np.array(first))
        with drafted(path) as draft, draft.open("wb") as file:
            np.save(file, np.memmap(raw, np.uint8, "r", shape=shape))


def sample_clip(clip: Clip, sampling: ClipSampling) -> Array:
    """Return the samples (T, H, W, C) uint8 of a clip: pictures, flows or stacked pictures."""
    pictures, times = _pictures(clip, sampling)
    at = sample_indexes(times, sampling.every_s)
    if sampling.modality == "rgb":
        return pictures[at]
    if sampling.modality == "flow":
        flows = _flows(pictures, times, sampling)  # (n − 1 or 1, H, W, 2)
        stacks = np.minimum(at[:, None] + np.arange(STACK), len(flows) - 1)  # (T, 5)
        return np.concatenate([flows[stacks[:, i]] for i in range(STACK)], -1)
    steps = np.arange(STACK + 1) * sampling.step_s * 1e6
    near = np.abs(times[at][:, None, None] + steps[None, :, None] - times).argmin(2)  # (T, 6)
    return np.concatenate([pictures[near[:, i]] for i in range(STACK + 1)], -1)


def _pictures(clip: Clip, sampling: ClipSampling) -> tuple[Array, Array]:
    """Return all pictures (n, H, W, 3) of a clip at the sampling's size, and times (n,) in µs.

    Of a clip of one person, the pictures are crops along the track, as those of the action stage.
    """
    try:
        (spec,) = resolve([str(clip.path)])
    except ValueError:
        raise DataError(f"{clip.path} names several videos; expected one") from None
    person = None if clip.tracks is None else _TrackCrops(clip.tracks, clip.track, sampling.size)
    pictures, times = [], []
    with closing(open_source(spec)) as source:
        for picture in whole(source):
            if picture.media_us >= clip.end_s * 1e6:
                break
            if picture.media_us < clip.start_s * 1e6:
                continue
            shown: Array | None
            if person is None:
                shown = resized(picture.pixels, sampling.size)
            else:
                shown = person.crop_of(picture)
            if shown is not None:
                pictures.append(shown)
                times.append(picture.media_us)
    if not pictures:
        whose = f" with track {clip.track}" if clip.tracks else ""
        raise DataError(
            f"{clip.path} has no picture{whose} from {clip.start_s:g} to {clip.end_s:g} s"
        )
    return np.stack(pictures), np.array(times, np.float64)


class _TrackCrops:
    """The crops of one person along the track, as those of the action stage."""

    def __init__(self, tracks: Path, track: int, size: tuple[int, int]) -> None:
        self._boxes = boxes_of(tracks, track)
        self._size = size
        self._tubelet: Tubelet | None = None

    def crop_of(self, picture: Picture) -> Array | None:
        """Return the crop (h, w, 3) of the next picture; None where the track has no box."""
        if (box := self._boxes.get(picture.n + 1)) is None:
            return None
        if self._tubelet is None:
            self._tubelet = Tubelet(box, picture.media_us)
        else:
            self._tubelet.follow(box, picture.media_us)
        height, width = picture.pixels.shape[:2]
        window = self._tubelet.window(CONTEXT, self._size, (width, height))
        return crop(picture.pixels, window[None], self._size)[0]


def boxes_of(tracks: Path, track: int) -> dict[int, Array]:
    """Return a track's boxes (4,) xyxy px by frame, from 1; DataError where there is none."""
    rows = read_results(tracks, MOST_FRAMES)
    own = rows.where(rows.ids == track)
    if not len(own):
        known = ", ".join(map(str, sorted(set(rows.ids.tolist()))[:8])) or "none"
        raise DataError(f"{tracks} has no track {track}; expected one of its tracks: {known}")
    return dict(zip(own.frames.tolist(), own.boxes, strict=True))


def resized(pixels: Array, size: tuple[int, int]) -> Array:
    """Resize a picture (H, W, 3) without keeping its aspect ratio."""
    height, width = size
    how = cv2.INTER_AREA if pixels.shape[0] >= height else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=how))


def sample_indexes(times_us: Array, every_s: float) -> Array:
    """Return the index of the first picture at or after each of the times 0, every_s, 2·every_s, ….

    A picture of a slow video may be that of several times.
    """
    times = times_us - times_us[0]
    count = int((times[-1] + SLACK_US) // (every_s * 1e6)) + 1
    return np.searchsorted(times, np.arange(count) * every_s * 1e6 - SLACK_US)


def _flows(pictures: Array, times: Array, sampling: ClipSampling) -> Array:
    """Return flow between neighbouring pictures as bytes, scaled to a time step of `step_s`."""
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    if len(grey) < 2:
        return np.full((1, *sampling.size, 2), 128, np.uint8)
    steps = np.diff(times) / 1e6
    flow = OpticalFlow(sampling.method)
    pairs = zip(grey[:-1], grey[1:], steps, strict=True)
    return np.stack([_as_bytes(flow(a, b) * (sampling.step_s / s)) for a, b, s in pairs])


def _as_bytes(flow: Array) -> Array:
    return np.clip(np.rint(128 + flow * (127 / FLOW_RANGE)), 0, 255).astype(np.uint8)


class OpticalFlow:
    """Optical flow from a grey picture to the next, (H, W, 2) float32 in px: x and y."""

    def __init__(self, method: Method) -> None:
        self.dis = (
            cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]
            if method == "dis"
            else None
        )

    def __call__(self, before: Array, now: Array) -> Array:
        if self.dis is not None:
            return np.asarray(self.dis.calc(before, now, None))
        return np.asarray(
            cv2.calcOpticalFlowFarneback(before, now, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
        )
