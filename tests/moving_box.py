"""A white box that jumps with each picture, found by its pixels; worker processes import this."""

import time

import cv2
import msgspec
import numpy as np

from streamvis.config import Jipda
from streamvis.messages import Detections, SourceInfo
from streamvis.runtime.host import build_stage
from streamvis.sources.picture import Picture

WIDTH, HEIGHT, STEP_US = 640, 480, 1_000_000 // 12


def box_of(n):
    """The box of picture `n`, which moves by more than the width of an outline."""
    left, top = 40 + 23 * (n % 20), 60 + 11 * (n % 17)
    return left, top, left + 62, top + 140


def pixels_of(n):
    """The pixels (480, 640, 3) of picture `n`."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    left, top, right, bottom = box_of(n)
    pixels[top:bottom, left:right] = 255
    return pixels


class MovingBoxSource:
    """Picture `n` at n/12 s, live, with the wall clock as the time of its capture."""

    def __init__(self, spec, epoch=1):
        self.errors = 0
        self.ended = None
        self.info = SourceInfo(
            id=spec.id,
            label=spec.label,
            width=WIDTH,
            height=HEIGHT,
            fps=12.0,
            live=True,
            epoch=epoch,
            frames=None,
            start_us=None,
        )

    def __iter__(self):
        began = time.monotonic()
        for n in range(1_000_000):
            time.sleep(max(0.0, began + n * STEP_US / 1e6 - time.monotonic()))
            now = time.time_ns() // 1000
            yield Picture(pixels=pixels_of(n), n=n, media_us=n * STEP_US, capture_us=now)

    def close(self):
        pass


def open_box(spec, epoch=1, waiting=None):
    return MovingBoxSource(spec, epoch)


class BoxDetect:
    """The bounding box of what is white."""

    def __init__(self, site):
        self.site = site

    def __call__(self, packets):
        for packet in packets:
            white = (self.site.pixels(packet.frame)[..., 0] > 128).astype(np.uint8)
            left, top, width, height = cv2.boundingRect(white)
            yield Detections(
                boxes=np.array([[left, top, left + width, top + height]], np.float32),
                scores=np.ones(1, np.float32),
                labels=np.ones(1, np.int32),
                masks=np.zeros((0, 0, 0), np.uint8),
            )

    def close(self):
        pass


def build_box(spec, site):
    """Stages that follow the box, and the real publisher."""
    from toys import ToyTrack, walkers  # a worker process finds it

    class BoxTrack(ToyTrack):
        """One track, which is where the box was found."""

        def __call__(self, packets):
            for packet in packets:
                self.see(packet.frame, 1)
                found = walkers(np.ones(1, np.int64), [], 0)
                yield msgspec.structs.replace(found, boxes=packet.part(Detections).boxes)

    if spec.run.writes is Detections:
        return BoxDetect(site)
    return BoxTrack(spec, site) if type(spec.run) is Jipda else build_stage(spec, site)
