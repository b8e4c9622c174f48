"""A directory or glob of images as a source, in natural order."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from streamvis.errors import SourceError
from streamvis.messages import Array, SourceInfo
from streamvis.sources.listing import images_of
from streamvis.sources.picture import Ended, Picture
from streamvis.sources.spec import SourceSpec

DEFAULT_FPS = 25.0


class ImageSource:
    """Reads images one by one; each picture has its own size, turned upright by its EXIF tag."""

    def __init__(self, spec: SourceSpec, epoch: int = 1) -> None:
        self.paths = images_of(spec.uri)
        self.errors = 0
        self.ended: Ended | None = None
        fps = spec.fps or DEFAULT_FPS
        height, width = self._first_size(spec)
        self.info = SourceInfo(
            id=spec.id,
            label=spec.label,
            width=width,
            height=height,
            fps=fps,
            live=False,
            epoch=epoch,
            frames=len(self.paths),
            promised=len(self.paths),
            ground_plane=spec.ground_plane,
        )

    def _first_size(self, spec: SourceSpec) -> tuple[int, int]:
        for path in self.paths:
            pixels = _read(path)
            if pixels is not None:
                return pixels.shape[0], pixels.shape[1]
        raise SourceError(
            f"source '{spec.label}': none of its {len(self.paths)} images can be read"
            if self.paths
            else f"source '{spec.label}' holds no images"
        )

    def __iter__(self) -> Iterator[Picture]:
        for n, path in enumerate(self.paths):
            pixels = _read(path)
            if pixels is None:
                self.errors += 1
                _warn(path, self.info.id)
                continue
            yield Picture(pixels=pixels, n=n, media_us=round(n * 1_000_000 / self.info.fps))
        self.ended = "eof"

    def close(self) -> None:
        self.paths = []


def _warn(path: Path, source: str) -> None:
    import structlog  # a quarter of a second to import, and hardly ever needed

    structlog.get_logger().warning("image skipped: it cannot be decoded", source=source, path=path)


def _read(path: Path) -> Array | None:
    """The image (H, W, 3) uint8 RGB, or None when it cannot be decoded."""
    try:
        data = np.fromfile(path, np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    except (OSError, cv2.error):
        return None
