"""streamvis watches video: it finds, follows and reports the people in it.

    detect, tracker = streamvis.Detector(), streamvis.Tracker(fps=25)
    tracks = tracker.update(detect(rgb), picture=rgb)

Names are imported when they are first used, so that `import streamvis` is quick. docs/python.md
describes them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamvis.api.actions import ActionRecogniser
    from streamvis.api.drawing import annotate
    from streamvis.api.networks import Detector, Embedder, Segmenter
    from streamvis.api.packet import StreamPacket
    from streamvis.api.pose_lifter import LiftedPoses, PoseLifter
    from streamvis.api.poses import PoseEstimator
    from streamvis.api.runs import run, stream
    from streamvis.api.subscription import subscribe
    from streamvis.api.tracker import Tracker
    from streamvis.errors import StreamvisError
    from streamvis.messages import (
        Actions,
        Detections,
        Embeddings,
        Forecast,
        Motion,
        Poses,
        Segmentation,
        Tracks,
    )
    from streamvis.runtime.metrics import Summary

__version__ = "0.1.0"

__all__ = [
    "ActionRecogniser",
    "Actions",
    "Detections",
    "Detector",
    "Embedder",
    "Embeddings",
    "Forecast",
    "LiftedPoses",
    "Motion",
    "PoseEstimator",
    "PoseLifter",
    "Poses",
    "Segmentation",
    "Segmenter",
    "StreamPacket",
    "StreamvisError",
    "Summary",
    "Tracker",
    "Tracks",
    "annotate",
    "run",
    "stream",
    "subscribe",
]

_MODULES = {
    "ActionRecogniser": "api.actions",
    "Detector": "api.networks",
    "Embedder": "api.networks",
    "LiftedPoses": "api.pose_lifter",
    "PoseEstimator": "api.poses",
    "PoseLifter": "api.pose_lifter",
    "Segmenter": "api.networks",
    "StreamPacket": "api.packet",
    "StreamvisError": "errors",
    "Summary": "runtime.metrics",
    "Tracker": "api.tracker",
    "annotate": "api.drawing",
    "run": "api.runs",
    "stream": "api.runs",
    "subscribe": "api.subscription",
}  # others are in `messages`


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'streamvis' has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"streamvis.{_MODULES.get(name, 'messages')}")
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
