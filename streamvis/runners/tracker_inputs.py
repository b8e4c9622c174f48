"""Input of a tracker, frame by frame: detections, appearance embeddings and camera motion.

cues = Cues(looks="person-r18", camera=True)
inputs = from_detections(info, Path("video.avi"), parts, cues)  # detections read from a file
inputs = from_detector(info, Path("video.avi"), MaskRcnn(), cues)  # detections of our detector
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from streamvis.config import Appearance, CameraMotion, Jipda, MaskRcnn
from streamvis.datasets.motchallenge import SequenceInfo
from streamvis.errors import DataError, UsageError
from streamvis.messages import Array, Detections, Embeddings, Motion, SourceInfo
from streamvis.sources import SourceSpec, open_source, resolve, whole
from streamvis.sources.listing import images_of

FrameNumber = Callable[[int], int]  # place of a picture in its source, from 0 -> frame number
Detect = Callable[[int, Array], Detections]  # frame number, pixels -> people


class Cues(NamedTuple):
    """What is measured in the pixels for a tracker, beside detections."""

    looks: str | None = None  # weights of the embedder of appearance
    camera: bool = False  # the camera's motion

    @property
    def any(self) -> bool:
        return self.looks is not None or self.camera

    def check(self, tracker: Jipda) -> None:
        """Raise UsageError when the tracker's settings need a cue that is not measured."""
        above = [Appearance()] * bool(self.looks) + [CameraMotion()] * self.camera
        if tracker.missing(above):
            raise UsageError(
                f"--set mode={tracker.mode} camera={tracker.camera}: the tracker needs a video, "
                "with --looks for a mode that uses appearance, and --camera for a moving camera"
            )


def cues_for(looks: str, camera: bool, video: Path | None, tracker: Jipda) -> Cues:
    """Return the cues that can be measured; none without a video. looks: weights, or "none"."""
    cues = Cues(None if looks == "none" else looks, camera) if video else Cues()
    cues.check(tracker)
    return cues


class TrackerFrame(NamedTuple):
    """The input of one update of a tracker."""

    number: int  # from 1
    media_us: int
    detections: Detections
    embeddings: Embeddings | None = None
    motion: Motion | None = None


@dataclass(frozen=True)
class TrackerInputs:
    """The frames of a sequence, and how the video's length differs from the sequence's."""

    frames: list[TrackerFrame]
    note: str | None = None  # None: there is a picture for each frame


def at_rate(parts: Iterable[Detections], fps: float) -> Iterator[TrackerFrame]:
    """Yield frames of detections alone, at a steady rate."""
    for n, part in enumerate(parts):
        yield TrackerFrame(n + 1, round(n * 1e6 / fps), part)


def from_detector(
    sequence: SequenceInfo, video: Path, detect: MaskRcnn, cues: Cues
) -> TrackerInputs:
    """Run our detector on the video, up to the sequence's length, and measure the cues."""
    from streamvis.runners.detectors import open_detector

    find = open_detector(detect)
    seen = _measured(video, lambda number, pixels: find(pixels), cues)
    frames = [frame for number, frame in seen.items() if number <= sequence.length]
    return TrackerInputs(frames, _lengths(video, seen, sequence.length))


def from_detections(
    sequence: SequenceInfo, video: Path | None, parts: Sequence[Detections], cues: Cues
) -> TrackerInputs:
    """Take detections at the sequence's rate, and measure the cues in the video's pictures."""
    frames = list(at_rate(parts, sequence.fps))
    if video is None or not cues.any:
        return TrackerInputs(frames)
    _check_size(sequence, video)
    known = dict(enumerate(parts, 1))
    nobody = Detections.of([], [])
    seen = _measured(video, lambda number, pixels: known.get(number, nobody), cues)
    for i, frame in enumerate(frames):
        if measured := seen.get(frame.number):
            frames[i] = measured._replace(media_us=frame.media_us)
    return TrackerInputs(frames, _lengths(video, seen, len(parts)))


def video_info(video: Path) -> SourceInfo:
    """Return size and rate of a video, or of a folder of images, without decoding all of it."""
    source = open_source(_spec(video))
    source.close()
    return source.info


def _check_size(sequence: SequenceInfo, video: Path) -> None:
    info = video_info(video)
    if (info.width, info.height) != (sequence.width, sequence.height):
        raise DataError(
            f"{video} is {info.width}x{info.height} pixels, but the detections of "
            f"{sequence.name} are on {sequence.width}x{sequence.height}; give a video of that "
            "size, or track without it: --looks none --no-camera"
        )


def _lengths(video: Path, numbers: Iterable[int], length: int) -> str | None:
    """Say how the pictures' numbers differ from the frames'; None when they are the same."""
    there = set(numbers)
    missing = length - len(there & set(range(1, length + 1)))
    beyond = len(there) - (length - missing)
    found = [f"{missing} of {length} frames have no picture"] if missing else []
    found += [f"{beyond} pictures come after frame {length} and are left out"] if beyond else []
    return f"{video}: {', '.join(found)}" if found else None


def _measured(video: Path, detect: Detect, cues: Cues) -> dict[int, TrackerFrame]:
    """Read the video; return detections and cues of each picture by the frame's number."""
    embed = previous = None
    if cues.looks:
        from streamvis.api.networks import Embedder

        embed = Embedder(cues.looks)
    if cues.camera:
        from streamvis.stages.camera_motion.stage import PreviousFrame

        previous = PreviousFrame()
    spec = _spec(video)
    number_of = _number_of(spec)
    seen = {}
    with closing(open_source(spec)) as source:
        for picture in whole(source):
            number, pixels = number_of(picture.n), picture.pixels
            found = detect(number, pixels)
            seen[number] = TrackerFrame(
                number,
                picture.media_us,
                found,
                embed(pixels, found) if embed else None,
                previous.motion_to(pixels) if previous else None,
            )
    return seen


def _spec(video: Path) -> SourceSpec:
    specs = resolve([str(video)])
    if len(specs) > 1:
        raise UsageError(f"{video} holds {len(specs)} videos; expected one: give its own path")
    return specs[0]


def _number_of(spec: SourceSpec) -> FrameNumber:
    """Number frames as the images' names do, some of which may be missing; a video's, from 1."""
    if spec.kind == "images":
        names = [path.stem for path in images_of(spec.uri)]
        if all(name.isdecimal() for name in names):
            numbers = [int(name) for name in names]
            return lambda n: numbers[n] + (numbers[0] == 0)
    return lambda n: n + 1
