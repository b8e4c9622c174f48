"""Other people's trackers, for `streamvis bench tracker`. None of them is a dependency.

    here, missing = installed()
    follow = here["SORT"].start(25.0, 0.5)  # frames/s; what a detection must score to start a track
    ids, boxes = follow(detections)  # of the next frame

Each has its authors' settings but for what is said here, and is given the detections as they
come, best first; what a detection scores is a share in [0, 1]. None of the packages reports home.
"""

import contextlib
import importlib
import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from streamvis.messages import Array, Detections

THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
FEW = (0.2, 0.4)  # where a film takes minutes


class Reported(NamedTuple):
    """Who is followed in a frame."""

    ids: Array  # (N,)
    boxes: Array  # (N, 4) xyxy pixels


Follow = Callable[[Detections], Reported]
Start = Callable[[float, float], Follow]


class Peer(NamedTuple):
    start: Start
    module: str
    install: str
    thresholds: tuple[float, ...] = THRESHOLDS  # to choose the best of


def norfair(fps: float, threshold: float) -> Follow:
    """Boxes as pairs of corners, matched by IoU of at least 0.3, remembered for a second, shown
    from the third hit while they are hit. Weaker detections are left out: it does not ask for
    scores.
    """
    from norfair import Detection, Tracker

    memory = max(2, round(fps))
    delay = min(3, memory - 1)
    tracker = Tracker(
        "iou", distance_threshold=0.7, hit_counter_max=memory, initialization_delay=delay
    )

    def follow(detections: Detections) -> Reported:
        boxes = detections.boxes[detections.scores >= threshold]
        found = tracker.update([Detection(points=box.reshape(2, 2)) for box in boxes])
        found = [one for one in found if one.live_points.any()]
        return Reported(
            np.array([one.id for one in found], np.int64),
            np.array([one.estimate.ravel() for one in found]).reshape(-1, 4),
        )

    return follow


def sort(fps: float, threshold: float) -> Follow:
    """Weaker detections are left out, as SORT has it; all others may start tracks."""
    from trackers import SORTTracker

    tracker = SORTTracker(frame_rate=fps, track_activation_threshold=0)
    return _supervised(tracker, threshold)


def bytetrack(fps: float, threshold: float) -> Follow:
    """Weaker detections take part in the second association, and start no tracks."""
    from trackers import ByteTrackTracker

    tracker = ByteTrackTracker(
        frame_rate=fps, track_activation_threshold=threshold, high_conf_det_threshold=threshold
    )
    return _supervised(tracker, 0)


def stone_soup(fps: float, threshold: float) -> Follow:
    """Put together from its parts: it is no tracker in itself."""
    from streamvis.benchmarks import stone_soup as soup

    return soup.stone_soup(fps, threshold)


PEERS: Mapping[str, Peer] = {
    "Norfair": Peer(norfair, "norfair", "pip install --no-deps norfair"),
    "SORT": Peer(sort, "trackers", "pip install supervision && pip install --no-deps trackers"),
    "ByteTrack": Peer(
        bytetrack, "trackers", "pip install supervision && pip install --no-deps trackers"
    ),
    "Stone-Soup": Peer(stone_soup, "stonesoup", "pip install stonesoup", FEW),
}


def installed() -> tuple[dict[str, Peer], dict[str, str]]:
    """The trackers that are here, and how to install those that are not."""
    here, missing = {}, {}
    for name, peer in PEERS.items():
        if imports(peer.module):
            here[name] = peer
        else:
            missing[name] = peer.install
    return here, missing


def imports(module: str) -> bool:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(module)
    except ImportError:
        return False
    return True


def _supervised(tracker: Any, threshold: float) -> Follow:
    from supervision import Detections as Supervised

    def follow(detections: Detections) -> Reported:
        keep = detections.scores >= threshold
        given = Supervised(
            xyxy=detections.boxes[keep],
            confidence=detections.scores[keep],
            class_id=detections.labels[keep].astype(int),
        )
        found = tracker.update(given)
        own = found.tracker_id >= 0
        return Reported(found.tracker_id[own], found.xyxy[own])

    return follow
