"""Loops that people write around YOLOX-nano without us, for `streamvis bench peers`.

    loop = LOOPS["ONNX Runtime + ByteTrack"]
    for ids, boxes in loop.run(Path("video.avi"), Path("yolox_nano.onnx"), 25.0):
        ...

OpenCV decodes, and scales as YOLOX's authors do: the picture at the upper left, the rest grey, BGR
from 0 to 255. Networks and trackers have the default settings of their libraries; trackers get
the frame rate. Overlaps are limited as in `pipelines/yolox.yaml`; the least score is that of the
program which comes with `trackers`, and once that of our pipelines, so that ByteTrack has the weak
detections for which it was made.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from streamvis.benchmarks.tracker_protocol import ReportedTracks
from streamvis.errors import DataError
from streamvis.messages import Array
from streamvis.models.onnx import import_runtime

USUAL_SCORE = 0.5  # default of `trackers track`; detections with a lower score are discarded
WEAK_SCORE = 0.1  # of our pipelines
NMS_IOU = 0.65  # of two boxes that overlap by more, the one with the lower score is discarded
PERSON = 0  # class of COCO
GREY = 114
STRIDES = (8, 16, 32)
IMAGES = (".jpg", ".jpeg", ".png", ".bmp")

Network = Callable[[Array], Array]  # picture (1, 3, H, W) float32 -> (A, 5 + classes)
Engine = Callable[[Path], tuple[Network, tuple[int, int]]]  # network, and its input (H, W)
Run = Callable[[Path, Path, float], Iterator[ReportedTracks]]  # pictures, weights, frames/s


class PeerLoop(NamedTuple):
    """A loop, the score from which it uses detections, and the packages that it needs."""

    run: Run
    min_score: float
    packages: Mapping[str, str]  # module -> command that installs it


def opencv_pictures(path: Path) -> Iterator[Array]:
    """Yield the pictures (H, W, 3) uint8 BGR of a video, or of a directory by name."""
    if path.is_dir():
        for image in sorted(one for one in path.iterdir() if one.suffix.lower() in IMAGES):
            still = cv2.imread(str(image))
            if still is None:
                raise DataError(f"{image}: OpenCV cannot read it; expected a picture")
            yield still
        return
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise DataError(f"{path}: OpenCV cannot read it; expected a video that it can decode")
    while True:
        read, picture = video.read()
        if not read:
            break
        yield picture
    video.release()


def onnxruntime_network(weights: Path) -> tuple[Network, tuple[int, int]]:
    """Open the network on ONNX Runtime's CPU provider."""
    session = import_runtime(weights).InferenceSession(
        str(weights), providers=["CPUExecutionProvider"]
    )
    (given,) = session.get_inputs()
    return (lambda x: session.run(None, {given.name: x})[0][0]), tuple(given.shape[2:])


def openvino_network(weights: Path) -> tuple[Network, tuple[int, int]]:
    """Open the network on OpenVINO's CPU device."""
    from streamvis.models.inference import openvino_core  # noqa: F401 - keeps telemetry out

    import openvino  # isort: skip

    compiled = openvino.Core().compile_model(str(weights), "CPU")
    return (lambda x: compiled(x)[0][0]), tuple(compiled.input(0).shape)[2:]


class PlainYolox:
    """Finds people in a picture (H, W, 3) BGR by YOLOX, as its authors publish it.

    Returns boxes (N, 4) xyxy pixels, and scores (N,).
    """

    def __init__(self, weights: Path, engine: Engine, min_score: float) -> None:
        self.network, self.size = engine(weights)
        self.min_score = min_score
        height, width = self.size
        grids = [np.indices((height // s, width // s))[::-1].reshape(2, -1).T for s in STRIDES]
        self.cells = np.concatenate(grids)  # (A, 2) x and y of each cell
        self.strides = np.repeat(STRIDES, [len(grid) for grid in grids])[:, None]  # (A, 1)

    def __call__(self, picture: Array) -> tuple[Array, Array]:
        canvas, ratio = self._letterbox(picture)
        output = self.network(canvas)  # (A, 5 + classes)
        scores = output[:, 4] * output[:, 5 + PERSON]
        keep = scores >= self.min_score
        rows, scores, strides = output[keep], scores[keep], self.strides[keep]
        centres = (rows[:, :2] + self.cells[keep]) * strides
        sizes = np.exp(rows[:, 2:4]) * strides
        corners = (centres - sizes / 2) / ratio
        sizes = sizes / ratio
        given = np.concatenate([corners, sizes], axis=1).tolist()  # left, top, width, height
        best = np.array(cv2.dnn.NMSBoxes(given, scores.tolist(), self.min_score, NMS_IOU), int)
        return np.concatenate([corners, corners + sizes], axis=1)[best], scores[best]

    def _letterbox(self, picture: Array) -> tuple[Array, float]:
        height, width = picture.shape[:2]
        ratio = min(self.size[0] / height, self.size[1] / width)
        scaled = cv2.resize(picture, (int(width * ratio), int(height * ratio)))
        canvas = np.full((*self.size, 3), GREY, np.uint8)
        canvas[: scaled.shape[0], : scaled.shape[1]] = scaled
        return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32), ratio


def bytetrack(fps: float) -> Any:
    """Return a ByteTrack of `trackers`."""
    from trackers import ByteTrackTracker

    return ByteTrackTracker(frame_rate=fps)


def sort(fps: float) -> Any:
    """Return a SORT of `trackers`."""
    from trackers import SORTTracker

    return SORTTracker(frame_rate=fps)


def plain_loop(
    engine: Engine, tracker: Callable[[float], Any], min_score: float = USUAL_SCORE
) -> Run:
    """Return a loop that decodes, detects and tracks, one picture after the other."""

    def run(path: Path, weights: Path, fps: float) -> Iterator[ReportedTracks]:
        import supervision as sv

        detect, follow = PlainYolox(weights, engine, min_score), tracker(fps)
        for picture in opencv_pictures(path):
            boxes, scores = detect(picture)
            classes = np.full(len(boxes), PERSON)
            found = follow.update(sv.Detections(xyxy=boxes, confidence=scores, class_id=classes))
            yield _confirmed(found)

    return run


def supervision_loop(path: Path, weights: Path, fps: float) -> Iterator[ReportedTracks]:
    """Yield the tracks of the loop in supervision's guides: its pictures, Detections, ByteTrack.

    Versions without a ByteTrack of their own name that of `trackers` in its place.
    """
    import supervision as sv

    detect = PlainYolox(weights, onnxruntime_network, USUAL_SCORE)
    if hasattr(sv, "ByteTrack"):
        follow = sv.ByteTrack(frame_rate=round(fps)).update_with_detections
    else:
        follow = bytetrack(fps).update
    pictures: Iterable[Array] = (
        opencv_pictures(path) if path.is_dir() else sv.get_video_frames_generator(str(path))
    )
    for picture in pictures:
        boxes, scores = detect(picture)
        classes = np.full(len(boxes), PERSON)
        detections = sv.Detections(xyxy=boxes, confidence=scores, class_id=classes)
        yield _confirmed(follow(detections))


def _confirmed(found: Any) -> ReportedTracks:
    """Return the tracks that have an id; those that are not confirmed yet have -1 or none."""
    if found.tracker_id is None:
        return ReportedTracks(np.zeros(0, np.int64), np.zeros((0, 4)))
    own = found.tracker_id >= 0
    return ReportedTracks(found.tracker_id[own], found.xyxy[own])


_SUPERVISION = {"supervision": "pip install supervision"}
_TRACKERS = {**_SUPERVISION, "trackers": "pip install --no-deps trackers"}
_ONNX = {"onnxruntime": "pip install onnxruntime"}
_OPENVINO = {"openvino": "pip install openvino"}

LOOPS: Mapping[str, PeerLoop] = {
    "ONNX Runtime + ByteTrack": PeerLoop(
        plain_loop(onnxruntime_network, bytetrack), USUAL_SCORE, {**_ONNX, **_TRACKERS}
    ),
    "ONNX Runtime + ByteTrack, weak detections too": PeerLoop(
        plain_loop(onnxruntime_network, bytetrack, WEAK_SCORE),
        WEAK_SCORE,
        {**_ONNX, **_TRACKERS},
    ),
    "OpenVINO + ByteTrack": PeerLoop(
        plain_loop(openvino_network, bytetrack), USUAL_SCORE, {**_OPENVINO, **_TRACKERS}
    ),
    "ONNX Runtime + SORT": PeerLoop(
        plain_loop(onnxruntime_network, sort), USUAL_SCORE, {**_ONNX, **_TRACKERS}
    ),
    "supervision": PeerLoop(supervision_loop, USUAL_SCORE, {**_ONNX, **_TRACKERS}),
}
