"""Settings of a detector from fast to accurate.

    set_speed(model, "fast")  # before it is compiled

Most of the time goes by the size of the network's input and by the number of regions that the heads
look at. The heads' work on regions around one person is the same again and again, and boxes without
a person in them cost as much as those with one.
"""

import math
from typing import Literal, NamedTuple

from streamvis.models.mask_rcnn import MaskRcnn

SpeedName = Literal["fast", "balanced", "accurate"]


class Speed(NamedTuple):
    """What a speed changes."""

    scale: float  # of the input, relative to that of the weights
    larger: float  # factor beyond that, for images that have as many pixels
    proposals: int | None  # regions that the heads look at, at most; None: as the weights say
    int8: bool  # whether precision `auto` is int8 where that runs


SPEEDS: dict[SpeedName, Speed] = {
    "fast": Speed(2 / 3, 1, 48, int8=True),
    "balanced": Speed(1, 1, 100, int8=False),
    "accurate": Speed(1, 3 / 2, None, int8=False),
}
# Where the number of regions is limited:
KEEP_BEFORE = 100  # of each level, before non-maximum suppression
MIN_OBJECTNESS = 0.2


def set_speed(model: MaskRcnn, name: SpeedName, short_side: int | None = None) -> Speed:
    """Let the model work at this speed; `short_side`: of the input, px, instead of the speed's.

    Fewer regions are for one class: people. A network of many classes keeps its own number.
    """
    speed = SPEEDS[name]
    side = short_side or round(model.short_side * speed.scale)
    model.long_side = round(model.long_side * side / model.short_side)
    model.short_side = side
    model.larger = 1.0 if short_side else speed.larger
    if speed.proposals is not None and model.architecture.classes == 2:
        rpn = model.rpn
        rpn.keep_before = min(rpn.keep_before, KEEP_BEFORE)
        rpn.keep_after = min(rpn.keep_after, speed.proposals)
        rpn.min_logit = math.log(MIN_OBJECTNESS / (1 - MIN_OBJECTNESS))
    return speed
