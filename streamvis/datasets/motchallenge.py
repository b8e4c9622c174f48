"""MOTChallenge folders: the description of a sequence, its ground truth, detections and results.

    sequence = read_sequence(Path("mot/pets09-s2l1"))
    results = read_results(Path("out/tracks.txt"), sequence.length)

A row is `frame,id,left,top,width,height,score[,x,y,z]`. Ground truth comes in two layouts, told
apart by their number of columns: MOT15 has ten (7 the flag, 8-10 world metres, -1,-1,-1 where
unknown), MOT16 and later eight or nine (7 the flag, 8 the class, 9 the visibility). Numbers are
taken as they stand: the files' pixel origin is not shifted.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from streamvis.errors import DataError
from streamvis.files import drafted
from streamvis.messages import Array, Tracks
from streamvis.parsing import read_text
from streamvis.sources.seqinfo import LARGEST, read_seqinfo

Layout = Literal["MOT15", "MOT16"]

PEDESTRIAN = 1
DISTRACTORS = (2, 7, 8, 12)  # person on a vehicle, static person, distractor, reflection
CLASSES = range(1, 14)
MOST_FRAMES = 10_000_000  # four days at 30 frames/s; more is taken for a typing error


@dataclass(frozen=True)
class Rows:
    """Boxes with frame numbers: ground truth, detections or results, in the file's order."""

    frames: Array  # (N,) int64, from 1
    ids: Array  # (N,) int64, -1 in detections
    boxes: Array  # (N, 4) float64, xyxy pixels
    scores: Array  # (N,) float64; in ground truth the flag: 0 is not to be scored
    classes: Array  # (N,) int64 of MOT16; PEDESTRIAN where the layout has none
    visibility: Array  # (N,) float64; 1 where the layout has none
    world: Array  # (N, 2) float64, metres on the ground, NaN where unknown

    def __len__(self) -> int:
        return len(self.frames)

    def where(self, keep: Array) -> "Rows":
        """Return the rows that `keep`, (N,) bool or indexes, selects."""
        return Rows(**{name: values[keep] for name, values in vars(self).items()})

    @property
    def counting(self) -> int:
        """The number of ground-truth boxes that are scored: pedestrians whose flag is not 0."""
        return int(((self.classes == PEDESTRIAN) & (self.scores > 0)).sum())

    def by_frame(self, length: int) -> "list[Rows]":
        """Return the rows of each of the frames 1 to `length`, in the file's order."""
        order = np.argsort(self.frames, kind="stable")
        ends = np.searchsorted(self.frames[order], np.arange(1, length + 2))
        return [self.where(order[low:high]) for low, high in pairwise(ends)]


@dataclass(frozen=True)
class Sequence:
    """One MOTChallenge sequence; `truth` and `detections` are None where the folder has none."""

    name: str
    folder: Path
    fps: float
    width: int
    height: int
    length: int  # frames
    video: Path | None  # a video file, or a directory of images
    ground_plane: Path | None
    layout: Layout
    truth: Rows | None
    detections: Rows | None


def rows(
    frames: Array,
    ids: Array,
    boxes: Array,
    scores: Array | None = None,
    world: Array | None = None,
) -> Rows:
    """Make rows of arrays; scores default to 1, world coordinates to unknown."""
    n = len(frames)
    return Rows(
        frames=np.asarray(frames, np.int64),
        ids=np.asarray(ids, np.int64),
        boxes=np.asarray(boxes, np.float64).reshape(n, 4),
        scores=np.ones(n) if scores is None else np.asarray(scores, np.float64),
        classes=np.full(n, PEDESTRIAN),
        visibility=np.ones(n),
        world=np.full((n, 2), np.nan) if world is None else np.asarray(world, np.float64),
    )


def rows_of_tracks(found: Iterable[tuple[int, Tracks]]) -> Rows:
    """Return the tracks of frames, each with its number from 1; scores are those of existence."""
    found = list(found)
    counts = [len(tracks.ids) for _, tracks in found]
    return rows(
        frames=np.repeat([number for number, _ in found], counts),
        ids=np.concatenate([np.zeros(0), *(tracks.ids for _, tracks in found)]),
        boxes=np.concatenate([np.zeros((0, 4)), *(tracks.boxes for _, tracks in found)]),
        scores=np.concatenate([np.zeros(0), *(tracks.existence for _, tracks in found)]),
        world=np.concatenate([np.zeros((0, 2)), *(tracks.ground for _, tracks in found)]),
    )


@dataclass(frozen=True)
class SequenceInfo:
    """The name, rate, size and length of a sequence, as seqinfo.ini gives them."""

    name: str
    fps: float
    width: int
    height: int
    length: int  # frames
    video: Path | None = None  # a video file, or a directory of images, if it is there


def read_info(path: Path) -> SequenceInfo:
    """Read a seqinfo.ini whose fields are all there; DataError names the field that is not."""
    info = read_seqinfo(path, DataError)
    video = info.video or info.images
    return SequenceInfo(
        name=info.name,
        fps=info.positive("frameRate"),
        width=info.whole("imWidth", most=100_000),
        height=info.whole("imHeight", most=100_000),
        length=info.whole("seqLength", most=MOST_FRAMES),
        video=video if video.exists() else None,
    )


def read_sequence(folder: Path) -> Sequence:
    """Read a sequence's folder; DataError names the file, and the line where there is one."""
    info = read_info(folder / "seqinfo.ini")
    length = info.length
    truth: Rows | None = None
    layout: Layout = "MOT15"
    if (folder / "gt/gt.txt").exists():
        truth, layout = read_truth(folder / "gt/gt.txt", length)
    det = folder / "det/det.txt"
    ground_plane = folder / "ground_plane.json"
    return Sequence(
        name=info.name,
        folder=folder,
        fps=info.fps,
        width=info.width,
        height=info.height,
        length=length,
        video=info.video,
        ground_plane=ground_plane if ground_plane.exists() else None,
        layout=layout,
        truth=truth,
        detections=read_detections(det, length) if det.exists() else None,
    )


def read_sequences(folder: Path) -> list[Sequence]:
    """Read the sequence in this folder, or those one level below it, by name."""
    if (folder / "seqinfo.ini").exists():
        return [read_sequence(folder)]
    found = sorted(path.parent for path in folder.glob("[!.]*/seqinfo.ini"))
    if not found:
        where = "no seqinfo.ini here or one level below" if folder.is_dir() else "no such directory"
        raise DataError(
            f"{folder}: {where}; expected a MOTChallenge sequence (seqinfo.ini, gt/gt.txt, a video "
            "or img1/) or a folder of them"
        )
    return [read_sequence(path) for path in found]


def read_truth(path: Path, length: int) -> tuple[Rows, Layout]:
    """Read the ground truth of a sequence of `length` frames; return it with its layout."""
    lines, table = _read_table(path, length)
    _check_identities(path, lines, table)
    if table.shape[1] in (8, 9):
        _check_classes(path, lines, table[:, 7])
        return _rows(table, classes=True), "MOT16"
    return _rows(table), "MOT15"


def read_results(path: Path, length: int) -> Rows:
    """Read a tracker's rows, in which every id is at most once in a frame."""
    lines, table = _read_table(path, length)
    _check_identities(path, lines, table)
    return _rows(table)


def read_detections(path: Path, length: int = MOST_FRAMES) -> Rows:
    """Read detections; their ids are set to -1."""
    _, table = _read_table(path, length)
    table[:, 1] = -1
    return _rows(table)


def write_results(path: Path, results: Rows) -> None:
    """Write rows that `read_results` reads back, to 0.01 px and 0.1 mm; all of them, or no file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with drafted(path) as draft, draft.open("w", encoding="ascii") as file:
        for frame, id_, box, score, world in zip(
            results.frames, results.ids, results.boxes, results.scores, results.world, strict=True
        ):
            x1, y1, x2, y2 = box
            at = f"{world[0]:.4f},{world[1]:.4f},0" if np.isfinite(world).all() else "-1,-1,-1"
            size = f"{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f}"
            file.write(f"{frame},{id_},{size},{score:.4f},{at}\n")


def _rows(table: Array, classes: bool = False) -> Rows:
    n, columns = table.shape
    left_top, size = table[:, 2:4], table[:, 4:6]
    known = columns == 10 and ~(table[:, 7:10] == -1).all(axis=1)  # (N,) or False
    return Rows(
        frames=table[:, 0].astype(np.int64),
        ids=table[:, 1].astype(np.int64),
        boxes=np.concatenate([left_top, left_top + size], axis=1),
        scores=table[:, 6],
        classes=table[:, 7].astype(np.int64) if classes else np.full(n, PEDESTRIAN),
        visibility=table[:, 8] if classes and columns == 9 else np.ones(n),
        world=np.where(np.reshape(known, (-1, 1)), table[:, 7:9], np.nan)
        if columns == 10
        else np.full((n, 2), np.nan),
    )


def _read_table(path: Path, length: int) -> tuple[list[int], Array]:
    """Return line numbers and the finite numbers (N, 7..10), every row as wide as the first."""
    lines: list[int] = []
    table: list[list[float]] = []
    for number, text in _lines(path):
        row = _numbers(text, f"{path}:{number}")
        if table and len(row) != len(table[0]):
            raise DataError(
                f"{path}:{number}: {len(row)} columns, but line {lines[0]} has {len(table[0])}"
            )
        _check_row(row, length, f"{path}:{number}")
        lines.append(number)
        table.append(row)
    return lines, np.array(table) if table else np.empty((0, 10))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(read_text(path, DataError).split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def _numbers(text: str, where: str) -> list[float]:
    cells = text.rstrip(",").split(",") if "," in text else text.split()
    if not 7 <= len(cells) <= 10:
        raise DataError(
            f"{where}: {len(cells)} columns; expected 7 to 10: "
            "frame,id,left,top,width,height,score[,x,y,z]"
        )
    try:
        row = [float(cell) for cell in cells]
    except ValueError:
        wrong = next(cell for cell in cells if not _is_number(cell))
        raise DataError(f"{where}: '{wrong.strip()[:40]}' is not a number") from None
    for column, value in enumerate(row, 1):
        if not abs(value) < LARGEST:
            raise DataError(f"{where}: column {column} is {value}; expected a finite number")
    return row


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _check_row(row: list[float], length: int, where: str) -> None:
    frame, id_, width, height = row[0], row[1], row[4], row[5]
    if frame != int(frame) or not 1 <= frame <= length:
        raise DataError(f"{where}: frame {frame:.10g}; the sequence has frames 1 to {length}")
    if id_ != int(id_):
        raise DataError(f"{where}: id {id_:.10g} is not a whole number")
    if width < 0 or height < 0:
        raise DataError(f"{where}: a box of {width:g}×{height:g} px; sizes cannot be negative")


def _check_identities(path: Path, lines: list[int], table: Array) -> None:
    seen: dict[tuple[float, float], int] = {}
    for number, (frame, id_) in zip(lines, table[:, :2].tolist(), strict=True):
        if id_ < 0:
            raise DataError(
                f"{path}:{number}: id {id_:.0f}; tracks have ids from 0 (is this a file of "
                "detections?)"
            )
        first = seen.setdefault((frame, id_), number)
        if first != number:
            raise DataError(
                f"{path}:{number}: id {id_:.0f} is in frame {frame:.0f} already, at line {first}"
            )


def _check_classes(path: Path, lines: list[int], classes: Array) -> None:
    for number, value in zip(lines, classes.tolist(), strict=True):
        if value not in CLASSES:
            raise DataError(
                f"{path}:{number}: class {value:.10g} in column 8; expected 1 to {CLASSES[-1]}, "
                "as MOT16 has them (MOT15 has ten columns)"
            )
