"""A stage that reads the number in each picture, and compares the picture with what was drawn."""

import msgspec
import numpy as np
from films import HEIGHT, WIDTH, draw, number

from streamvis.messages import Detections

NOBODY = Detections(
    boxes=np.zeros((0, 4), np.float32),
    scores=np.zeros(0, np.float32),
    labels=np.zeros(0, np.int32),
    masks=np.zeros((0, 0, 0), np.uint8),
)


class Seen(msgspec.Struct, frozen=True):
    """What the stage received."""

    shown: int  # the number in the picture
    n: int
    media_us: int
    size: tuple[int, int]
    off: float  # mean difference from what was drawn, in grey levels


class Looking:
    """Writes what it sees of each source into a file of its own."""

    def __init__(self, site) -> None:
        self._site = site

    def __call__(self, packets):
        for packet in packets:
            frame, pixels = packet.frame, self._site.pixels(packet.frame)
            shown, off = number(pixels), 255.0
            if pixels.shape == (HEIGHT, WIDTH, 3):
                off = float(np.abs(pixels.astype(np.int16) - draw(shown)).mean())
            seen = Seen(shown, frame.n, frame.media_us, (frame.width, frame.height), off)
            with (self._site.out / f"{frame.source}.seen").open("ab") as file:
                file.write(msgspec.json.encode(seen) + b"\n")
            yield NOBODY

    def close(self) -> None:
        pass


def build(spec, site):
    """The stage, whatever is asked for."""
    return Looking(site)


def seen(out, source: str) -> list[Seen]:
    """What a stage has seen of a source."""
    return msgspec.json.decode(
        b"[" + (out / f"{source}.seen").read_bytes().replace(b"\n", b",")[:-1] + b"]",
        type=list[Seen],
    )
