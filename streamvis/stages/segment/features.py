"""The features that a segmenter lends to the stages of its worker."""

from typing import TYPE_CHECKING, NamedTuple

from streamvis.messages import Frame

if TYPE_CHECKING:
    from streamvis.models.inference.segmentation import SegmentedFrame
    from streamvis.models.swiftnet import SwiftNet

Key = tuple[str, int, int]  # source, stream epoch, seq


class SegmenterFeatures(NamedTuple):
    """The features of the frames of the last call; too large to be sent between processes."""

    weights: str  # of the segmenter
    model: "SwiftNet"  # its head reads forecasts too
    frames: "dict[Key, SegmentedFrame]"  # of the last call


def key_of(frame: Frame) -> Key:
    return frame.source, frame.epoch, frame.seq
