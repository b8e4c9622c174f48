"""Segments: all that a camera sends, in files that begin with a key frame."""

from collections.abc import Callable, Sequence
from pathlib import Path

from av.error import FFmpegError

from streamvis.logs import log, warn
from streamvis.recording.mp4 import Mp4File, create
from streamvis.recording.names import SEGMENTS
from streamvis.recording.settings import Segments
from streamvis.recording.tracks import TimedPacket, Track, VideoFormat

RETRY_S = 30.0  # after the disk has refused
PROVEN_S = 2.0  # of a segment that was written: the disk has room again


class SegmentWriter:
    """Writes each packet into the segment of its time; a full disk makes a gap, nothing worse."""

    def __init__(
        self,
        settings: Segments,
        folder: Path,
        source: str,
        epoch: int,
        *,
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.closed_bytes = 0
        self.place: tuple[Path, int] | None = None  # of the last packet of the video: the file, and
        # its number there; None: it was not written
        self._settings = settings
        self._folder = folder / SEGMENTS / source
        self._source = source
        self._epoch = epoch
        self._now = now  # monotonic
        self._wall = wall
        self._file: Mp4File | None = None
        self._video: VideoFormat | None = None
        self._retry_at: float | None = None  # after a failure
        self._refused_format: VideoFormat | None = None  # which does not fit into an MP4

    @property
    def bytes(self) -> int:
        """Bytes written so far."""
        file = self._file  # another thread may ask
        return self.closed_bytes + (file.written if file else 0)

    def add(self, packet: TimedPacket, video: VideoFormat, tracks: Sequence[Track]) -> None:
        """Write a packet; `video` is the format of its picture, or of the pictures around it."""
        if packet.key:
            if self._is_over(packet, video):
                self.close()
            if self._file is None and self._may_open(video):
                self._open(packet, video, tracks)
        self.place = None
        if self._file is None:
            return
        before = self._file.pictures
        self._file.add(packet)
        if self._file.pictures > before:
            self.place = self._file.path, before
        if self._file.error is not None:
            self._fail(self._file.error)
        elif self._retry_at is not None and packet.seconds - self._file.began_s > PROVEN_S:
            self._retry_at = None
            log("info", "recording resumed", source=self._source, path=str(self._file.path))

    def close(self) -> None:
        """Finish the segment; the next key frame begins another."""
        file, self._file = self._file, None
        if file is None:
            return
        file.close()
        self.closed_bytes += file.written
        if file.refused:
            warn(
                "packets not recorded: an MP4 cannot hold them",
                source=self._source,
                path=str(file.path),
                packets=file.refused,
            )

    def _is_over(self, packet: TimedPacket, video: VideoFormat) -> bool:
        file = self._file
        return file is not None and (
            file.spoilt
            or self._video is not video
            or not file.path.exists()  # it was deleted
            or packet.seconds - file.began_s >= self._settings.seconds
        )

    def _may_open(self, video: VideoFormat) -> bool:
        waits = self._retry_at is not None and self._now() < self._retry_at
        return not waits and self._refused_format is not video

    def _open(self, packet: TimedPacket, video: VideoFormat, tracks: Sequence[Track]) -> None:
        try:
            name = (self._wall(), f"e{self._epoch}")
            self._file = create(self._folder, name, tracks, video, packet)
        except OSError as error:
            self._fail(error)
        except (FFmpegError, ValueError) as error:
            self._refused_format = video
            warn("cannot be recorded as MP4", source=self._source, error=str(error))
        else:
            self._video = video

    def _fail(self, error: OSError) -> None:
        """End the segment after a write error, such as a full disk."""
        if self._retry_at is None:
            warn(
                "recording stopped",
                source=self._source,
                folder=str(self._folder),
                error=error.strerror or str(error),
                retry_s=RETRY_S,
            )
        self._retry_at = self._now() + RETRY_S
        self.close()
