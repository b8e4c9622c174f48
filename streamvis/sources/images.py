"""A directory or glob of images as a source, in natural order; or one file of several pictures."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from streamvis.errors import SourceError
from streamvis.logs import warn
from streamvis.messages import Array, SourceInfo
from streamvis.sources.listing import images_of
from streamvis.sources.picture import Ended, Picture
from streamvis.sources.spec import SourceSpec

DEFAULT_FPS = 25.0
AT_ONCE = 2**26  # bytes of an animation's pictures that are decoded together, about
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # little and big end first; BigTIFF
HEIF = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"})

Shown = tuple[Path, Array | None, float]  # pixels (H, W, 3) uint8 RGB or None; seconds, 0: unknown


class ImageSource:
    """Reads images one by one; each picture has its own size, turned upright by its EXIF tag.

    A single file that holds several pictures (animated WebP, PNG and AVIF, TIFF) gives all of
    them, at the times that it says. In a directory or glob each file is one picture.
    """

    def __init__(self, spec: SourceSpec, epoch: int = 1) -> None:
        self.paths = images_of(spec.uri)
        self.errors = 0
        self.ended: Ended | None = None
        self._animated = len(self.paths) == 1 and _holds_several(_data(self.paths[0]))
        self._warned = False
        first = self._first(spec)
        shown_s = _shown_s(_data(self.paths[0])) if self._animated else 0.0
        self._timed = shown_s > 0 and spec.fps is None
        self.info = SourceInfo(
            id=spec.id,
            label=spec.label,
            width=first.shape[1],
            height=first.shape[0],
            fps=spec.fps or (1 / shown_s if self._timed else DEFAULT_FPS),
            live=False,
            epoch=epoch,
            frames=cv2.imcount(str(self.paths[0])) if self._animated else len(self.paths),
            ground_plane=spec.ground_plane,
            start_us=spec.start if isinstance(spec.start, int) else None,
        )

    def _first(self, spec: SourceSpec) -> Array:
        """The first picture that can be read."""
        for _, pixels, _ in self._shown():
            if pixels is not None:
                return pixels
        if not self.paths:
            raise SourceError(f"source '{spec.label}' holds no images")
        reason = ""
        if _brand(_data(self.paths[0])) in HEIF:
            reason = ": HEIC is a format that is not read here; convert it to JPEG"
        raise SourceError(
            f"source '{spec.label}': none of its {len(self.paths)} images can be read{reason}"
        )

    def __iter__(self) -> Iterator[Picture]:
        at_s, n = 0.0, -1
        for n, (path, pixels, shown_s) in enumerate(self._shown()):
            if pixels is None:
                self.errors += 1
                warn("image skipped: it cannot be decoded", source=self.info.id, path=path)
                continue
            media_us = round(at_s * 1_000_000) if self._timed else self.media_us(n)
            yield Picture(pixels=pixels, n=n, media_us=media_us)
            at_s += shown_s or 1 / DEFAULT_FPS
        self.errors += (self.info.frames or 0) - (n + 1)  # pictures at the end of a damaged file
        self.ended = "eof"

    @property
    def single(self) -> bool:
        """Whether each file is one picture, so that `media_us` and `picture` know them."""
        return not self._animated

    def media_us(self, n: int) -> int:
        """Return the media time of file `n`."""
        return round(n / self.info.fps * 1_000_000)

    def picture(self, n: int) -> Array | None:
        """Return file `n`, (H, W, 3) uint8 RGB; None when it cannot be decoded."""
        return _decoded(_data(self.paths[n]))

    def _shown(self) -> Iterator[Shown]:
        for path in self.paths:
            data = _data(path)
            if self._animated:
                yield from ((path, *one) for one in _pictures_of(data))
                continue
            if _holds_several(data) and not self._warned:
                self._warned = True
                what = "first picture taken of each file: some hold several, name those alone"
                warn(what, path=path)
            yield path, _decoded(data), 0.0

    def close(self) -> None:
        self.paths = []


def _data(path: Path) -> Array:
    """The bytes of a file; none when it cannot be read."""
    try:
        return np.fromfile(path, np.uint8)
    except OSError:
        return np.empty(0, np.uint8)


def _decoded(data: Array) -> Array | None:
    """The image (H, W, 3) uint8 RGB, or None when it cannot be decoded."""
    try:
        return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    except cv2.error:
        return None


def _holds_several(data: Array) -> bool:
    """Whether a file says in its header that it holds more than one picture."""
    head = data[: 2**16].tobytes()
    if head.startswith(b"\x89PNG"):
        return b"acTL" in head.partition(b"IDAT")[0]
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
        return bool(head[20] & 2)
    if head.startswith(TIFF):
        return len(_pages(data, 0, 2)) > 1
    return _brand(data) == b"avis"


def _brand(data: Array) -> bytes:
    """The major brand of an ISO file such as AVIF and HEIC, empty for others."""
    head = data[:12].tobytes()
    return head[8:] if head[4:8] == b"ftyp" else b""


def _pictures_of(data: Array) -> Iterator[tuple[Array, float]]:
    """The pictures (H, W, 3) uint8 RGB of a file that holds several, and how long each is shown.

    Some at a time: decoded they may be too many for memory, but a decoder begins at the first.
    """
    start, count = 0, 1
    while found := _some(data, start, count):
        yield from found
        start += len(found)
        count = max(1, AT_ONCE // found[0][0].nbytes)


def _shown_s(data: Array) -> float:
    """How long a picture of an animation is shown, by the median of the first; 0: unknown."""
    return float(np.median([seconds for _, seconds in _some(data, 0, 8)] or [0.0]))


def _some(data: Array, start: int, count: int) -> list[tuple[Array, float]]:
    """Up to `count` pictures from number `start` on, and the seconds that each is shown."""
    if data[:4].tobytes() in TIFF:
        return [(page, 0.0) for page in _pages(data, start, count)]
    try:
        _, animation = cv2.imdecodeanimation(data, start, count)
    except cv2.error:
        return []
    shown = zip(animation.frames, animation.durations, strict=True)
    return [(_rgb(frame), int(milliseconds) / 1000) for frame, milliseconds in shown]


def _rgb(frame: Array) -> Array:
    """A picture of an animation, which may be grey, transparent or of 16 bits, as all others."""
    if frame.dtype == np.uint16:
        frame = (frame >> 8).astype(np.uint8)
    channels = 1 if frame.ndim == 2 else frame.shape[2]
    how = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}[channels]
    return cv2.cvtColor(frame, how)


def _pages(data: Array, start: int, count: int) -> list[Array]:
    try:
        _, pages = cv2.imdecodemulti(data, cv2.IMREAD_COLOR_RGB, range=(start, start + count))
    except cv2.error:
        return []
    return list(pages)
