"""Sources, frames, parts and packets for tests: only what a test is about has to be named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
from numpy.typing import ArrayLike

from streamvis.messages import Detections, Frame, Packet, Part, SourceInfo, Tracks
from streamvis.stages.protocol import StageConfig

SIZE = (640, 480)  # width, height in px
FPS = 10.0
COLUMNS = {"merged": 2, "split": 3}  # of ids, in rows of their own
NO_MASKS = np.zeros((0, 0, 0), np.uint8)


def source(id: str = "a", *, size: tuple[int, int] = SIZE, **changes: Any) -> SourceInfo:
    """A file of 10 frames per second, labelled by its id."""
    info = SourceInfo(id=id, label=id, width=size[0], height=size[1], fps=FPS, live=False)
    return msgspec.structs.replace(info, **changes)


def frame(
    seq: int = 0,
    source: str = "a",
    *,
    fps: float = FPS,
    size: tuple[int, int] = SIZE,
    **changes: Any,
) -> Frame:
    """Frame `seq` of a source that drops none."""
    media_us = round(seq * 1e6 / fps)
    given = Frame(source=source, seq=seq, n=seq, media_us=media_us, width=size[0], height=size[1])
    return msgspec.structs.replace(given, **changes)


def packet(seq: int, *parts: Part | None, source: str = "a", **changes: Any) -> Packet:
    """The frame with those of the parts that are not None."""
    there = [part for part in parts if part is not None]
    return Packet(frame=frame(seq, source, **changes), parts=there)


def detections(
    boxes: ArrayLike, scores: ArrayLike = 0.9, *, masks: np.ndarray = NO_MASKS
) -> Detections:
    """People at these boxes (N, 4), all with one score or each with its own."""
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    n = len(boxes)
    return Detections(
        boxes=boxes,
        scores=np.broadcast_to(np.asarray(scores, np.float32), (n,)).copy(),
        labels=np.ones(n, np.int32),
        masks=masks,
    )


def tracks(ids: ArrayLike, boxes: ArrayLike = (10, 20, 30, 80), **changes: ArrayLike) -> Tracks:
    """Tracks that stand still at a box each, or all at one; fields are given the right types."""
    ids = np.array(ids, np.int64)
    n = len(ids)
    given = {
        "ids": ids,
        "boxes": np.broadcast_to(np.asarray(boxes, np.float32), (n, 4)).copy(),
        "scores": np.ones(n, np.float32),
        "existence": np.ones(n, np.float32),
        "velocity": np.zeros((n, 2), np.float32),
        "covariance": np.ones((n, 4), np.float32),
        "ground": np.full((n, 2), np.nan, np.float32),
        "entropy": np.zeros(n, np.float32),
        "gated": np.ones(n, np.int32),
        "detection": np.zeros(n, np.int32),
        "first_seen_us": np.zeros(n, np.int64),
        "ended": np.zeros(0, np.int64),
    }
    for name, value in changes.items():
        if name in COLUMNS and value is not None:
            given[name] = np.array(value, np.int64).reshape(-1, COLUMNS[name])
        elif name in given and name != "ended":
            like = given[name]
            given[name] = np.broadcast_to(np.asarray(value, like.dtype), like.shape).copy()
        else:
            given[name] = np.array(value, np.int64) if name == "ended" else value
    return Tracks(**given)


def video(path: Path, frames: int = 4, **options: str) -> Path:
    """Write grey frames of 64×48 px as MPEG-4, 10 per second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for value in range(frames):
            pixels = np.full((48, 64, 3), value % 25 * 9, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return path


def notes(path: Path) -> Path:
    """Write a text file, which is no video."""
    path.write_text("these are my notes\n" * 100)
    return path


def oracle_detector(data: Any) -> Callable[[np.ndarray], Detections]:
    """A detector that returns the ground truth, picture after picture."""
    pictures = iter(data.truth)
    return lambda pixels: detections(next(pictures).boxes)


def whole_picture_detector(pixels: np.ndarray) -> Detections:
    """A detector that reports one box as large as the picture."""
    height, width = pixels.shape[:2]
    return detections([(0, 0, width, height)], 0.8)


def kind_with_defaults(kind: type[StageConfig]) -> StageConfig:
    """Settings of a kind of stage: the defaults, and a path where one is required."""
    needed = [one.name for one in msgspec.structs.fields(kind) if one.required]
    return kind(**dict.fromkeys(needed, "a.onnx"))
