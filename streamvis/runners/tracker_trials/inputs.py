"""Inputs of trials: recorded sequences, read once and cached, and simulated scenes."""

import hashlib
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from streamvis import files
from streamvis.config import MaskRcnn
from streamvis.datasets import motchallenge
from streamvis.datasets.motchallenge import PEDESTRIAN, Rows
from streamvis.errors import DataError, UsageError
from streamvis.geometry import Homography, read_ground_plane
from streamvis.messages import Detections, Embeddings, Motion, PartDecoder, encode_part
from streamvis.models.weights import find
from streamvis.runners import tracking
from streamvis.runners.tracker_inputs import Cues, TrackerFrame, from_detections, from_detector
from streamvis.synthetic.street_scenes import SCENES, StreetSetup
from streamvis.synthetic.street_simulation import SimulatedStreet, simulate, within
from streamvis.synthetic.street_walks import StreetFrame

BOXES, EMBEDDINGS = "boxes", "embeddings"
RECORDED, LEARNT = "recorded", "recorded, seen in training"  # groups
LEAST_INSIDE, LEAST_VISIBLE = 0.3, 0.1  # share of a simulated box, below which it is not scored
UNSCORED = 8  # class of what is neither required nor false: a distractor


@dataclass(frozen=True)
class TrialMaterial:
    """What a trial reads: frames for the tracker, and the truth to score against."""

    sequence: motchallenge.Sequence
    plane: Homography | None
    frames: list[TrackerFrame]


class TrialNetworks(NamedTuple):
    """Weights of the networks that look at recorded sequences."""

    detector: str = "person-lite"
    embedder: str = "person-r18"


class TrialInput(Protocol):
    """A sequence with one kind of input, named before it is read."""

    @property
    def group(self) -> str: ...
    @property
    def sequence(self) -> str: ...
    @property
    def inputs(self) -> str: ...
    def read(self) -> TrialMaterial: ...


@dataclass(frozen=True)
class SimulatedInput:
    """A simulated scene, with or without its embeddings."""

    setup: StreetSetup
    embeddings: bool

    @property
    def group(self) -> str:
        return self.setup.group

    @property
    def sequence(self) -> str:
        return self.setup.name

    @property
    def inputs(self) -> str:
        return f"simulated detections, {EMBEDDINGS if self.embeddings else BOXES}"

    def read(self) -> TrialMaterial:
        scene = simulate(self.setup)
        frames = [
            TrackerFrame(
                number=n,
                media_us=round((n - 1) * 1e6 / self.setup.fps),
                detections=frame.detections,
                embeddings=frame.embeddings if self.embeddings else None,
                motion=frame.motion,
            )
            for n, frame in enumerate(scene.frames, 1)
        ]
        return TrialMaterial(sequence_of(scene), scene.plane, frames)


@dataclass(frozen=True)
class RecordedInput:
    """A recorded sequence whose detections, embeddings and camera motion are in a file."""

    recorded: motchallenge.Sequence
    detections: str  # own or public
    embeddings: bool
    path: Path
    group: str = RECORDED

    @property
    def sequence(self) -> str:
        return self.recorded.name

    @property
    def inputs(self) -> str:
        return f"{self.detections} detections, {EMBEDDINGS if self.embeddings else BOXES}"

    def read(self) -> TrialMaterial:
        frames = read_frames(self.path)
        if not self.embeddings:
            frames = [frame._replace(embeddings=None) for frame in frames]
        path = self.recorded.ground_plane
        plane = read_ground_plane(path) if path else None
        return TrialMaterial(self.recorded, plane, frames)


def simulated_inputs(setups: Iterable[StreetSetup]) -> list[TrialInput]:
    """Return each scene without embeddings, and with them."""
    return [SimulatedInput(setup, embeddings) for setup in setups for embeddings in (False, True)]


def recorded_inputs(
    sequences: Sequence[motchallenge.Sequence],
    networks: TrialNetworks,
    cache: Path,
    learnt: Container[str] = (),
) -> Iterator[TrialInput]:
    """Yield each sequence with public and own detections, without embeddings and with them.

    What the networks find is kept in `cache`, by the contents of video, detections and weights.
    Public detections are left out where a sequence has none; own ones and embeddings where it has
    no pictures. `learnt`: names of sequences that the networks were trained on.
    """
    for one in sequences:
        for source in ("public", "own"):
            if one.detections is None if source == "public" else one.video is None:
                continue
            path = _measured(one, source, networks, cache)
            group = LEARNT if one.name in learnt else RECORDED
            yield RecordedInput(one, source, False, path, group)
            if one.video is not None:
                yield RecordedInput(one, source, True, path, group)


def _measured(
    sequence: motchallenge.Sequence, source: str, networks: TrialNetworks, cache: Path
) -> Path:
    files = [sequence.video] if sequence.video else []
    files += [sequence.folder / "det/det.txt"] if source == "public" else [find(networks.detector)]
    files += [find(networks.embedder)] if sequence.video else []
    path = cache / f"{sequence.name}-{source}-{_digest(files)}.msgpack"
    if path.exists():
        return path
    cues = Cues(networks.embedder, camera=True) if sequence.video else Cues()
    info = tracking.info_of(sequence)
    if source == "own":
        detect = MaskRcnn(weights=networks.detector, masks=False)
        found = from_detector(info, sequence.folder, detect, cues)
    else:
        assert sequence.detections is not None  # `recorded_inputs` leaves it out
        parts = tracking.public_detections(sequence.detections, sequence.length)
        found = from_detections(info, sequence.video, parts, cues)
    write_frames(path, found.frames)
    return path


def write_frames(path: Path, frames: Sequence[TrackerFrame]) -> None:
    """Write frames that `read_frames` reads back; the file is there when it is whole."""
    rows = [
        (
            one.number,
            one.media_us,
            [encode_part(part) for part in (one.detections, one.embeddings, one.motion) if part],
        )
        for one in frames
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, msgspec.msgpack.encode(rows), durable=False)


def read_frames(path: Path) -> list[TrackerFrame]:
    """Read what `write_frames` wrote; DataError where it is something else."""
    decode = PartDecoder()
    try:
        rows = msgspec.msgpack.decode(path.read_bytes(), type=list[tuple[int, int, list[bytes]]])
        return [_frame(number, us, [decode(part) for part in parts]) for number, us, parts in rows]
    except (msgspec.DecodeError, ValueError) as error:
        raise DataError(
            f"{path} holds no frames of a tracker ({error}); delete it, and it is measured again"
        ) from None


def _frame(number: int, media_us: int, parts: Sequence[object]) -> TrackerFrame:
    detections, embeddings, motion = Detections.of([], []), None, None
    for part in parts:
        if isinstance(part, Detections):
            detections = part
        elif isinstance(part, Embeddings):
            embeddings = part
        elif isinstance(part, Motion):
            motion = part
    return TrackerFrame(number, media_us, detections, embeddings, motion)


def _digest(files: Iterable[Path]) -> str:
    """Return a name for the contents of files and folders."""
    digest = hashlib.sha256()
    for path in files:
        for one in sorted(path.iterdir()) if path.is_dir() else [path]:
            digest.update(one.name.encode() + b"\0")
            with one.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def sequence_of(scene: SimulatedStreet) -> motchallenge.Sequence:
    """Return the truth of a simulated scene, clipped to the picture.

    Who is nearly out of the picture or hidden is marked as a distractor: a track on them is
    neither required nor false.
    """
    width, height = scene.size
    truth = [_truth(n, frame.truth, scene.size) for n, frame in enumerate(scene.frames, 1)]
    joined = Rows(
        **{name: np.concatenate([vars(one)[name] for one in truth]) for name in vars(truth[0])}
    )
    return motchallenge.Sequence(
        name=scene.setup.name,
        folder=Path(scene.setup.name),
        fps=scene.setup.fps,
        width=width,
        height=height,
        length=len(scene.frames),
        video=None,
        ground_plane=None,
        layout="MOT16",
        truth=joined,
        detections=None,
    )


def _truth(number: int, frame: StreetFrame, size: tuple[int, int]) -> Rows:
    inside = within(frame.boxes, size)
    there = inside > 0
    scored = (inside >= LEAST_INSIDE) & (frame.visible >= LEAST_VISIBLE)
    made = motchallenge.rows(
        frames=np.full(len(frame.ids), number),
        ids=frame.ids + 1,
        boxes=np.clip(frame.boxes, 0, np.tile(size, 2)),
    )
    classes = np.where(scored, PEDESTRIAN, UNSCORED)
    return replace(made, classes=classes, visibility=frame.visible * inside).where(there)


def gather(
    sequences: Sequence[motchallenge.Sequence],
    networks: TrialNetworks,
    cache: Path,
    *,
    learnt: Container[str],
    scenes: bool,
    only: Sequence[str],
) -> list[TrialInput]:
    """Return all inputs whose group or sequence has one of the texts `only` in its name.

    Raises UsageError where none is left, DataError for sequences that cannot be scored.
    """

    def wanted(name: str, group: str) -> bool:
        return not only or any(text in name or text in group for text in only)

    recorded = [
        one for one in sequences if wanted(one.name, LEARNT if one.name in learnt else RECORDED)
    ]
    tracking.check_sequences(recorded, public=True, pictures=False)
    chosen = [one for one in SCENES if scenes and wanted(one.name, one.group)]
    found = [
        *recorded_inputs(recorded, networks, cache, learnt),
        *simulated_inputs(chosen),
    ]
    if not found:
        raise UsageError("no sequence and no scene to try; give DATA, or leave out --no-scenes")
    return found
