"""Pictures of recorded sources by media time, with the media times that a run gave them.

    with closing(open_lookup(spec)) as pictures:
        found = pictures.at(1_500_000, give_up_s)   # the picture of this time, or the one before

A video file whose time stamps are in order is sought at the key frame before the picture. Of any
other file, media times depend on all pictures before: it is decoded from its beginning by the same
code as in the run, and on from there while times grow.
"""

import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Generator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from av.error import FFmpegError
from av.video.frame import PictureType, VideoFrame

from streamvis.errors import SourceError, StreamvisError
from streamvis.messages import Array
from streamvis.sources import open_source
from streamvis.sources.color import Converter
from streamvis.sources.container import MAX_PIXELS, open_container, video_stream
from streamvis.sources.images import ImageSource
from streamvis.sources.index import DisorderError, KeyFrames, LearnedIndex, VideoIndex
from streamvis.sources.options import scene_options
from streamvis.sources.picture import Picture
from streamvis.sources.spec import SourceSpec
from streamvis.sources.transport import first_part
from streamvis.sources.video import NO_PRESENTATION, ONE_TO_ONE
from streamvis.synthetic.render import SyntheticScene

AT_ONCE = 256  # packets that are read between two looks at the clock
KEPT_BYTES = 2**25  # of decoded pictures, for steps back
KEPT = 32  # pictures
THREADS = 2  # of a decoder


class LookupTimeoutError(StreamvisError):
    """A picture was not found in time; what was read is kept, and a later attempt goes on."""


class FoundPicture(NamedTuple):
    """A picture and its media time."""

    media_us: int
    pixels: Array  # (H, W, 3) uint8 RGB, upright; perhaps a view: copy it before changing it


class PictureLookup(Protocol):
    """An open recording; one thread at a time uses it."""

    def at(self, media_us: int, give_up_s: float) -> FoundPicture:
        """Return the picture of a media time, or the newest before it; the first one before 0.

        LookupTimeoutError at `give_up_s` of the monotonic clock, SourceError when it is not
        readable.
        """

    def close(self) -> None:
        """Release the file."""


def open_lookup(spec: SourceSpec) -> PictureLookup:
    """Open a file, images or a synthetic scene; SourceError when that fails."""
    if spec.kind == "synthetic":
        return SceneLookup(spec)
    if spec.kind == "images":
        images = ImageSource(spec)
        if images.single:
            return ImageLookup(images)
    if spec.kind == "file" and first_part_of(spec) is None:
        try:
            return FileLookup(spec)
        except DisorderError:
            pass
    return SequentialLookup(spec)


def first_part_of(spec: SourceSpec) -> object | None:
    """Return the first part of a transport stream, closed; None for other files."""
    part = first_part(Path(spec.uri))
    if part is not None:
        part.close()
    return part


class SceneLookup:
    """Pictures of a synthetic scene, which are drawn again."""

    def __init__(self, spec: SourceSpec) -> None:
        options = scene_options(spec.uri)
        self._scene = SyntheticScene(
            options.seed, options.people, options.size, spec.fps or options.fps, options.seconds
        )

    def at(self, media_us: int, give_up_s: float) -> FoundPicture:
        n = min(max(0, int((media_us + 1) * self._scene.fps / 1e6)), self._scene.frames - 1)
        while n and self._media_us(n) > media_us:
            n -= 1
        return FoundPicture(self._media_us(n), self._scene.picture(n))

    def close(self) -> None:
        """There are no resources to release."""

    def _media_us(self, n: int) -> int:
        return round(n * 1_000_000 / self._scene.fps)


class ImageLookup:
    """Pictures of files that are one each."""

    def __init__(self, images: ImageSource) -> None:
        self._images = images

    def at(self, media_us: int, give_up_s: float) -> FoundPicture:
        count = len(self._images.paths)
        newest = bisect_right(range(count), media_us, key=self._images.media_us) - 1
        for n in (*range(newest, -1, -1), *range(max(0, newest + 1), count)):
            pixels = self._images.picture(n)
            if pixels is not None:
                return FoundPicture(self._images.media_us(n), pixels)
            _check(give_up_s)
        raise SourceError("none of the images can be read")

    def close(self) -> None:
        """There are no resources to release."""


class SequentialLookup:
    """Pictures of any recording, read as in a run.

    Steps back are sought where the time stamps of the pictures that were read are in order. Where
    not, they begin at the first picture again.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._index = LearnedIndex()
        self._index.usable = spec.kind == "file"
        self._decoder: FileDecoder | None = None
        self._begin()

    def _begin(self) -> None:
        self._source = open_source(self._spec)
        self._pictures = iter(self._source)
        self._now: Picture | None = None
        self._next = self._read()

    def _read(self) -> Picture | None:
        picture = next(self._pictures, None)
        if picture is not None:
            self._index.add(picture.media_us, picture.stamp, key=picture.key)
        return picture

    def at(self, media_us: int, give_up_s: float) -> FoundPicture:
        if self._now is not None and media_us < self._now.media_us and self._now.n > 0:
            if (found := self._back(media_us, give_up_s)) is not None:
                return found
            self._source.close()
            self._begin()
        while self._next is not None and (self._now is None or self._next.media_us <= media_us):
            self._now, self._next = self._next, self._read()
            _check(give_up_s)
        if self._now is None:
            raise SourceError(f"source '{self._spec.label}' has no picture that can be decoded")
        return FoundPicture(self._now.media_us, self._now.pixels)

    def _back(self, media_us: int, give_up_s: float) -> FoundPicture | None:
        """Seek a picture that was read before; None where that does not find it."""
        if (known := self._index.at(media_us)) is None:
            return None
        time_us, stamp = known
        try:
            if self._decoder is None:
                self._decoder = FileDecoder(self._spec)
            frame = self._decoder.frame(stamp, self._index.keys, give_up_s)
            if frame.pts == stamp:
                return FoundPicture(time_us, self._decoder.pixels(frame))
        except DisorderError:
            pass
        self._index.usable = False
        return None

    def close(self) -> None:
        self._source.close()
        if self._decoder is not None:
            self._decoder.close()


class FileLookup:
    """Pictures of a video file whose time stamps are in order, by seeking.

    Where they turn out not to be, it reads the file as it comes.
    """

    def __init__(self, spec: SourceSpec) -> None:
        """Open the file; DisorderError where its first packets are in no order."""
        self._spec = spec
        self._other: SequentialLookup | None = None
        self._decoder = FileDecoder(spec)
        try:
            first = self._decoder.first()
            self._reader = IndexReader(spec, first)
        except BaseException:
            self._decoder.close()
            raise
        try:
            if self._decoder.reorders and not self._reader.reordered_at_first():
                raise DisorderError  # its stamps are those of decoding
        except BaseException:
            self._close_own()
            raise

    def at(self, media_us: int, give_up_s: float) -> FoundPicture:
        if self._other is None:
            try:
                return self._sought(media_us, give_up_s)
            except DisorderError:
                self._close_own()
                self._other = SequentialLookup(self._spec)
        return self._other.at(media_us, give_up_s)

    def _sought(self, media_us: int, give_up_s: float) -> FoundPicture:
        self._reader.read_to(media_us, give_up_s)
        index = self._reader.index
        stamp = index.stamps[index.at(media_us)]
        frame = self._decoder.frame(stamp, index.keys, give_up_s)
        place = index.place_of(frame.pts) if frame.pts is not None else None
        skipped = frame.pts != stamp and not self._decoder.one_to_one
        if place is None or skipped or frame.interlaced_frame:
            raise DisorderError
        return FoundPicture(index.media_us(place), self._decoder.pixels(frame))

    def close(self) -> None:
        if self._other is not None:
            self._other.close()
        else:
            self._close_own()

    def _close_own(self) -> None:
        self._reader.close()
        self._decoder.close()


class IndexReader:
    """Reads the packets of a file ahead, as far as they are needed, into its index."""

    def __init__(self, spec: SourceSpec, first: VideoFrame) -> None:
        self._container = open_container(spec)
        try:
            stream = video_stream(self._container, spec.label)
            base = stream.time_base
            if first.pts is None or not base or first.interlaced_frame:
                raise DisorderError
            if self._container.format.name in NO_PRESENTATION:
                raise DisorderError
            if spec.fps and stream.codec_context.name not in ONE_TO_ONE:
                raise DisorderError
            self.index = VideoIndex(Fraction(base.numerator, base.denominator), first.pts, spec.fps)
            self._packets = (one for one in self._container.demux(stream) if one.size)
        except BaseException:
            self._container.close()
            raise

    def read_to(self, media_us: int, give_up_s: float) -> None:
        """Read until the picture of a media time is known."""
        while not self.index.knows(media_us):
            self._read()
            _check(give_up_s)

    def reordered_at_first(self) -> bool:
        """Whether the first packets come in another order than their pictures are shown."""
        if not self.index.stamps:
            self._read()
        return self.index.reordered

    def _read(self) -> None:
        try:
            packets = list(islice(self._packets, AT_ONCE))
        except (FFmpegError, IndexError):  # a fault, which a run passes over
            raise DisorderError from None
        self.index.add(packets)
        if len(packets) < AT_ONCE:
            self.index.end()

    def close(self) -> None:
        self._container.close()


class FileDecoder:
    """Decodes a file from a key frame to a picture, and keeps the last pictures for steps back."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._convert = Converter()
        self._kept: OrderedDict[int, VideoFrame] = OrderedDict()
        self._last: int | None = None  # stamp of the last picture that was decoded
        self._open()

    def _open(self) -> None:
        self._container = open_container(self._spec)
        try:
            self._stream = video_stream(self._container, self._spec.label)
            codec = self._stream.codec_context
            self._stream.thread_type = "AUTO"
            codec.thread_count = THREADS
            codec.options = {"max_pixels": str(MAX_PIXELS)}
            self.one_to_one = codec.name in ONE_TO_ONE
        except BaseException:
            self._container.close()
            raise
        self._frames = self._decoded()

    def _reopen(self) -> None:
        self.close()
        self._open()

    @property
    def reorders(self) -> bool:
        """Whether pictures are decoded in another order than they are shown."""
        return bool(self._stream.codec_context.has_b_frames)

    def first(self) -> VideoFrame:
        """Return the first picture of the file; DisorderError when there is none at once."""
        frame = next(self._frames, None)
        if frame is None:
            raise DisorderError
        return frame

    def pixels(self, frame: VideoFrame) -> Array:
        """Return the pixels of a picture, upright."""
        try:
            return self._convert(frame)
        except FFmpegError:
            raise DisorderError from None

    def frame(self, stamp: int, keys: KeyFrames, give_up_s: float) -> VideoFrame:
        """Return the picture with a stamp, or the newest before it that can be decoded."""
        if (kept := self._kept.get(stamp)) is not None:
            return kept
        key = keys.before(stamp)
        last = self._last
        if key is not None and last is not None and key <= last < stamp:
            found = self._from_here(stamp, last, give_up_s)
            if found is not None:
                return found
        back = 0
        while (key := keys.before(stamp, back)) is not None:
            self._seek(keys.starts[key])
            if (found := self._from_here(stamp, key, give_up_s)) is not None:
                return found
            back = 2 * back + 1
        self._reopen()
        if (found := self._from_here(stamp, None, give_up_s)) is not None:
            return found
        raise DisorderError

    def _from_here(self, stamp: int, since: int | None, give_up_s: float) -> VideoFrame | None:
        """Decode up to a stamp; None where no picture since `since` was decoded properly."""
        found = self._kept.get(self._last) if self._last is not None else None
        proper = found is not None
        for frame in self._frames:
            if frame.pts is None:
                raise DisorderError
            if since is not None and frame.pts < since:
                continue  # of the group before the key frame, which was not decoded
            if not proper and since is not None and not _begins(frame, since):
                return None
            proper = True
            if self._last is not None and frame.pts <= self._last:
                raise DisorderError
            if frame.pts > stamp and found is not None:
                self._keep(frame)
                return found
            self._keep(frame)
            found = frame
            if frame.pts >= stamp:
                return frame
            _check(give_up_s)
        return found

    def _keep(self, frame: VideoFrame) -> None:
        assert frame.pts is not None
        self._last = frame.pts
        self._kept[frame.pts] = frame
        size = sum(plane.buffer_size for plane in frame.planes)
        while len(self._kept) > max(1, min(KEPT, KEPT_BYTES // max(1, size))):
            self._kept.popitem(last=False)

    def _seek(self, start: int) -> None:
        self._forget()
        try:
            self._container.seek(start, stream=self._stream, backward=True)
        except FFmpegError:
            raise DisorderError from None
        self._stream.codec_context.flush_buffers()
        self._frames = self._decoded()

    def _forget(self) -> None:
        self._frames.close()
        self._kept.clear()
        self._last = None

    def _decoded(self) -> Generator[VideoFrame]:
        """The pictures from here on, in the order in which they are shown."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (FFmpegError, IndexError):
                raise DisorderError from None
            if packet is None:
                return
            try:
                yield from self._stream.decode(packet)
            except FFmpegError:  # a damaged packet: its picture is missing
                continue

    def close(self) -> None:
        self._forget()
        self._container.close()


def _begins(frame: VideoFrame, stamp: int) -> bool:
    """Whether a picture is the key frame with a stamp, which needs no others."""
    return frame.pts == stamp and frame.key_frame and frame.pict_type == PictureType.I


def _check(give_up_s: float) -> None:
    if time.monotonic() > give_up_s:
        raise LookupTimeoutError("the picture was not found in time")
