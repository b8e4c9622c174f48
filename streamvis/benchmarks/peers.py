"""Adapters for other trackers, for `streamvis bench tracker`. None of them is a dependency.

    here, missing = installed()
    update = here["SORT"].start(25.0, 0.5)  # frames/s; least score of a detection to start a track
    ids, boxes = update(detections)  # of the next frame

Each tracker has its authors' settings, except where its adapter says otherwise. Detections are
passed in descending order of their scores, which lie in [0, 1].
"""

import contextlib
import importlib
import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from streamvis.benchmarks.stone_soup import stone_soup
from streamvis.benchmarks.tracker_protocol import ReportedTracks, Start, Update
from streamvis.messages import Detections

THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
FEW = (0.2, 0.4)  # for trackers that take minutes per sequence


class Peer(NamedTuple):
    """A tracker, and how to install it."""

    start: Start
    module: str
    install: str
    thresholds: tuple[float, ...] = THRESHOLDS  # candidates; the best one is reported


def norfair(fps: float, threshold: float) -> Update:
    """Match boxes by an IoU of at least 0.3; report tracks from the third hit, while they are hit.

    Tracks are kept for a second without a hit. Detections below the threshold are left out, since
    Norfair uses no scores.
    """
    from norfair import Detection, Tracker

    memory = max(2, round(fps))
    delay = min(3, memory - 1)
    tracker = Tracker(
        "iou", distance_threshold=0.7, hit_counter_max=memory, initialization_delay=delay
    )

    def update(detections: Detections) -> ReportedTracks:
        boxes = detections.boxes[detections.scores >= threshold]
        found = tracker.update([Detection(points=box.reshape(2, 2)) for box in boxes])
        found = [one for one in found if one.live_points.any()]
        return ReportedTracks(
            np.array([one.id for one in found], np.int64),
            np.array([one.estimate.ravel() for one in found]).reshape(-1, 4),
        )

    return update


def sort(fps: float, threshold: float) -> Update:
    """Leave out detections below the threshold, as SORT does; all others may start tracks."""
    from trackers import SORTTracker

    tracker = SORTTracker(frame_rate=fps, track_activation_threshold=0)
    return _supervised(tracker, threshold)


def bytetrack(fps: float, threshold: float) -> Update:
    """Use detections below the threshold in the second association only; they start no tracks."""
    from trackers import ByteTrackTracker

    tracker = ByteTrackTracker(
        frame_rate=fps, track_activation_threshold=threshold, high_conf_det_threshold=threshold
    )
    return _supervised(tracker, 0)


PEERS: Mapping[str, Peer] = {
    "Norfair": Peer(norfair, "norfair", "pip install --no-deps norfair"),
    "SORT": Peer(sort, "trackers", "pip install supervision && pip install --no-deps trackers"),
    "ByteTrack": Peer(
        bytetrack, "trackers", "pip install supervision && pip install --no-deps trackers"
    ),
    "Stone-Soup": Peer(stone_soup, "stonesoup", "pip install stonesoup", FEW),
}


def installed() -> tuple[dict[str, Peer], dict[str, str]]:
    """Return the installed trackers, and the install commands of the others."""
    here, missing = {}, {}
    for name, peer in PEERS.items():
        if imports(peer.module):
            here[name] = peer
        else:
            missing[name] = peer.install
    return here, missing


def imports(module: str) -> bool:
    """Whether the module can be imported."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(module)
    except ImportError:
        return False
    return True


def _supervised(tracker: Any, threshold: float) -> Update:
    from supervision import Detections as Supervised

    def update(detections: Detections) -> ReportedTracks:
        keep = detections.scores >= threshold
        given = Supervised(
            xyxy=detections.boxes[keep],
            confidence=detections.scores[keep],
            class_id=detections.labels[keep].astype(int),
        )
        found = tracker.update(given)
        own = found.tracker_id >= 0
        return ReportedTracks(found.tracker_id[own], found.xyxy[own])

    return update
