"""A live source for soaks that needs no server: three pictures, then the connection is lost."""

import films

from streamvis.messages import SourceInfo
from streamvis.sources.picture import Picture

PICTURES = 3


class Flicker:
    """Loses its connection after PICTURES pictures."""

    def __init__(self, spec, epoch):
        self.errors = 0
        self.ended = None
        self.info = SourceInfo(
            id=spec.id,
            label=spec.label,
            width=films.WIDTH,
            height=films.HEIGHT,
            fps=25.0,
            live=True,
            epoch=epoch,
        )

    def __iter__(self):
        for n in range(PICTURES):
            yield Picture(pixels=films.draw(n), n=n, media_us=40_000 * n, clock="arrival")
        self.ended = "lost"

    def close(self):
        pass


def open_flicker(spec, epoch=1, waiting=None):
    return Flicker(spec, epoch)
