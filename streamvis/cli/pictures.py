"""What the pictures of a sequence tell a tracker beside detections: looks, the camera's motion.

aids = Aids(looks="person-r18", camera=True)
frames = given(info, Path("video.avi"), parts, aids)  # detections of a file
frames = found(info, Path("video.avi"), MaskRcnn(), aids)  # detections of our own
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamvis.cli.output import say
from streamvis.config import (
    Appearance,
    CameraMotion,
    Jipda,
    MaskRcnn,
    Pipeline,
    StageSpec,
    missing_input,
)
from streamvis.datasets.motchallenge import SequenceInfo
from streamvis.errors import DataError, UsageError
from streamvis.messages import Detections, Embeddings, Motion, Packet, Site, SourceInfo, Stage
from streamvis.sources import SourceSpec, open_source, resolve
from streamvis.sources.listing import images_of

Numbers = Callable[[int], int]  # place of a picture in its source, from 0 -> number of its frame
NOBODY = Detections(
    boxes=np.zeros((0, 4), np.float32),
    scores=np.zeros(0, np.float32),
    labels=np.zeros(0, np.int32),
    masks=np.zeros((0, 0, 0), np.uint8),
)


class Aids(NamedTuple):
    """Which of them a tracker is to have."""

    looks: str | None = None  # weights of the embedder
    camera: bool = False

    @property
    def any(self) -> bool:
        return self.looks is not None or self.camera

    def check(self, tracker: Jipda) -> None:
        """UsageError when the tracker's settings ask for what it does not get."""
        parts = {"embeddings"} if self.looks else set()
        if missing_input(tracker, parts | ({"motion"} if self.camera else set())):
            raise UsageError(
                f"--set mode={tracker.mode} camera={tracker.camera}: the tracker would need "
                "pictures, and --looks for a mode with looks, --camera for one that moves"
            )


class Shown(NamedTuple):
    """A frame as a tracker is told of it."""

    number: int  # from 1
    media_us: int
    detections: Detections
    embeddings: Embeddings | None = None
    motion: Motion | None = None


def timed(parts: Iterable[Detections], fps: float) -> Iterator[Shown]:
    """Frames of detections alone, at a steady rate."""
    for n, part in enumerate(parts):
        yield Shown(n + 1, round(n * 1e6 / fps), part)


def found(sequence: SequenceInfo, pictures: Path, detect: MaskRcnn, aids: Aids) -> list[Shown]:
    """The frames in which our detector has looked for people, up to the sequence's length."""
    packets = _packets(pictures, detect, aids)
    _say_how_many(pictures, packets, sequence.length)
    frames = []
    for number, packet in packets.items():
        part = packet.part(Detections)
        if number <= sequence.length and part is not None:
            looks, motion = packet.part(Embeddings), packet.part(Motion)
            frames.append(Shown(number, packet.frame.media_us, part, looks, motion))
    return frames


def given(
    sequence: SequenceInfo, pictures: Path | None, parts: Sequence[Detections], aids: Aids
) -> list[Shown]:
    """Frames of detections at the sequence's rate, with what the pictures of their numbers add."""
    frames = list(timed(parts, sequence.fps))
    if pictures is None or not aids.any:
        return frames
    _check_size(sequence, pictures)
    packets = _packets(pictures, parts, aids)
    _say_how_many(pictures, packets, len(parts))
    for i, frame in enumerate(frames):
        if packet := packets.get(frame.number):
            looks, motion = packet.part(Embeddings), packet.part(Motion)
            frames[i] = frame._replace(embeddings=looks, motion=motion)
    return frames


def info(pictures: Path) -> SourceInfo:
    """What is known of them before they are looked at."""
    source = open_source(_spec(pictures))
    source.close()
    return source.info


def _check_size(sequence: SequenceInfo, pictures: Path) -> None:
    shot = info(pictures)
    if (shot.width, shot.height) != (sequence.width, sequence.height):
        raise DataError(
            f"{pictures} shows {shot.width}x{shot.height} pixels, but the detections of "
            f"{sequence.name} are on {sequence.width}x{sequence.height}; give pictures of that "
            "size, or follow without them: --looks none --no-camera"
        )


def _say_how_many(pictures: Path, numbers: Iterable[int], length: int) -> None:
    """Tell when pictures and frames are not the same numbers."""
    there = set(numbers)
    missing = length - len(there & set(range(1, length + 1)))
    beyond = len(there) - (length - missing)
    told = [f"{missing} of {length} frames have no picture"] if missing else []
    told += [f"{beyond} pictures come after frame {length} and are left out"] if beyond else []
    if told:
        say(f"{pictures}: {', '.join(told)}")


class _Given:
    """In the detector's place: the detections of a file, by the number of the picture."""

    def __init__(self, parts: Sequence[Detections], numbers: Numbers) -> None:
        self._parts = dict(enumerate(parts, 1))
        self._numbers = numbers

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Detections]:
        return (self._parts.get(self._numbers(p.frame.n), NOBODY) for p in packets)

    def close(self) -> None:
        """Nothing is held but memory."""


def _packets(
    pictures: Path, detect: MaskRcnn | Sequence[Detections], aids: Aids
) -> dict[int, Packet]:
    """By frame number, what the stages say of each picture; detections are found, or given."""
    from streamvis.build import build_stage
    from streamvis.runtime import inline

    spec = _spec(pictures)
    numbers = _numbers(spec)

    def build(stage: StageSpec, site: Site) -> Stage:
        if isinstance(stage.run, MaskRcnn) and not isinstance(detect, MaskRcnn):
            return _Given(detect, numbers)
        return build_stage(stage, site)

    packets: dict[int, Packet] = {}

    def keep(packet: Packet) -> None:
        packets[numbers(packet.frame.n)] = packet

    stages = [StageSpec("detect", detect if isinstance(detect, MaskRcnn) else MaskRcnn())]
    if aids.looks:
        stages.append(StageSpec("embed", Appearance(weights=aids.looks), after=["detect"]))
    if aids.camera:
        stages.append(StageSpec("camera", CameraMotion()))
    inline.run(Pipeline(stages), [spec], build=build, on_packet=keep)
    return packets


def _spec(pictures: Path) -> SourceSpec:
    specs = resolve([str(pictures)])
    if len(specs) > 1:
        raise UsageError(f"{pictures} holds {len(specs)} videos; name the one that is meant")
    return specs[0]


def _numbers(spec: SourceSpec) -> Numbers:
    """Frame numbers from the places of pictures: images are named by them, and some may lack."""
    if spec.kind == "images":
        names = [path.stem for path in images_of(spec.uri)]
        if all(name.isdecimal() for name in names):
            numbers = [int(name) for name in names]
            return lambda n: numbers[n] + (numbers[0] == 0)
    return lambda n: n + 1
