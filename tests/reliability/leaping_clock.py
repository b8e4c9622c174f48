"""A wall clock that leaps an hour back or ahead every half second, in processes of a run."""

import time

import numpy as np
import street

from streamvis.messages import Detections
from streamvis.runtime.host import build_stage
from streamvis.sources import open_source

HOUR_S = 3600
_time, _time_ns = time.time, time.time_ns


def leap_s() -> int:
    return (-HOUR_S, 0, HOUR_S)[int(2 * time.monotonic()) % 3]


def leap():
    """Have the wall clock of this process leap; the monotonic clock goes on as it does."""
    time.time = lambda: _time() + leap_s()
    time.time_ns = lambda: _time_ns() + leap_s() * 10**9


def stand():
    time.time, time.time_ns = _time, _time_ns


def open_leaping(spec, epoch=1, waiting=None):
    leap()
    return open_source(spec, epoch, waiting)


class Somebody:
    """One person who stands still in every picture."""

    def __call__(self, packets):
        for _ in packets:
            yield Detections(
                boxes=np.array([[40, 40, 60, 90]], np.float32),
                scores=np.full(1, 0.95, np.float32),
                labels=np.ones(1, np.int32),
                masks=np.zeros((0, 0, 0), np.uint8),
            )

    def close(self):
        pass


def build_leaping(spec, site):
    leap()
    if spec.run.writes is Detections:
        return Somebody()
    return build_stage(spec, site)


def build_leaping_street(spec, site):
    leap()
    return street.build(spec, site)
