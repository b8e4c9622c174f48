"""An MP4 file of packets, in fragments: it can be played up to the last second at any time."""

import errno
import os
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.packet import Packet

from streamvis.logs import log
from streamvis.recording.names import names
from streamvis.recording.picture_times import ENDING
from streamvis.recording.tracks import TimedPacket, Track, VideoFormat

FRAGMENT_US = 1_000_000  # a fragment ends at a key frame or after this time
OPTIONS = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof+skip_trailer",
    "frag_duration": str(FRAGMENT_US),
    "flush_packets": "1",
    "max_interleave_delta": "100000",  # µs: a silent audio stream does not hold back the video
}
FLOOR_BYTES = 4 << 20  # that recordings leave free on a disk, for the event log
CHECKED_BYTES = 1 << 16  # are written between two looks at the disk
NO_AUDIO = "audio is not recorded: an MP4 cannot hold it"
MOST_REFUSED = 50  # packets in a row, after which the file is given up


class _Output:
    """The file for FFmpeg: it writes all or nothing more. `error` is set once, never raised."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.written = 0
        self._check_at = 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        if self.error is None and self.written >= self._check_at:
            self._check_at = self.written + CHECKED_BYTES
            self.error = _too_full(self._file.fileno())
        rest = memoryview(data)
        while self.error is None and rest:
            try:
                count = self._file.write(rest) or 0
            except OSError as error:
                self.error = error
                break
            self.written += count
            rest = rest[count:]
        return len(data)


def _too_full(fd: int) -> OSError | None:
    """An error if the disk has no room but that for the event log."""
    try:
        disk = os.fstatvfs(fd)
    except OSError as error:
        return error
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < FLOOR_BYTES:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return None


class Mp4File:
    """Writes packets of a video and perhaps an audio track, from a key frame on, rebased to 0.

    Packets that the muxer refuses are left out and counted. When the disk refuses, `error` is set
    and nothing more is written; what is there can be played. FFmpegError or ValueError if the
    tracks do not fit into an MP4, OSError if the file cannot be made.
    """

    def __init__(
        self, path: Path, tracks: Sequence[Track], video: VideoFormat, first: TimedPacket
    ) -> None:
        self.path = path
        self.began_s = first.seconds
        self.refused = 0
        self.pictures = 0  # packets of the video that were written
        self._refused_in_row = 0
        self._zero = first.dts * first.track.time_base  # s
        self._streams: dict[Track, Any] = {}
        self._last: dict[Track, int] = {}  # dts in ticks of the file
        self._file = FileIO(path, "xb", opener=_open)
        self._output = _Output(self._file)
        try:
            self._container = av.open(self._output, "w", format="mp4", options=OPTIONS)
            for track in tracks:
                self._add_track(track, video)
            self._container.start_encoding()
        except (FFmpegError, ValueError):
            self._file.close()
            path.unlink()
            raise

    @property
    def written(self) -> int:
        return self._output.written

    @property
    def error(self) -> OSError | None:
        """Why the disk refused; None while all was written."""
        return self._output.error

    @property
    def spoilt(self) -> bool:
        """Whether the muxer has refused everything for a while."""
        return self._refused_in_row > MOST_REFUSED

    def add(self, packet: TimedPacket) -> None:
        """Write a packet, if it belongs to a track of the file and is not before its beginning."""
        stream = self._streams.get(packet.track)
        if stream is None or self.error is not None:
            return
        tick = packet.track.time_base / stream.time_base
        zero = self._zero / stream.time_base
        dts, pts = round(packet.dts * tick - zero), round(packet.pts * tick - zero)
        if dts < 0 and not packet.track.is_video:
            return
        dts = max(dts, self._last.get(packet.track, -1) + 1)
        copy = Packet(packet.data)
        copy.time_base = stream.time_base
        copy.dts, copy.pts = dts, max(pts, dts)
        copy.duration = round(packet.duration * tick)
        copy.is_keyframe = packet.key or not packet.track.is_video
        copy.stream = stream
        try:
            self._container.mux_one(copy)
        except (FFmpegError, ValueError):
            self.refused += 1
            self._refused_in_row += 1
            return
        self._refused_in_row = 0
        self.pictures += packet.track.is_video
        self._last[packet.track] = dts

    def close(self) -> None:
        """Write the last fragment; after a full disk, remove what is left of a torn one.

        A file without a picture is removed.
        """
        try:
            self._container.close()
        except (FFmpegError, ValueError):
            self.refused += 1
        finally:
            self._file.close()
        if self.error is not None or not self._last:
            trim(self.path)

    def _add_track(self, track: Track, video: VideoFormat) -> None:
        stream: Any = self._container.add_stream_from_template(track.template, opaque=True)
        stream.time_base = track.time_base
        if track.is_video:
            context = stream.codec_context
            context.width, context.height = video.width, video.height
            if video.extradata:
                context.extradata = video.extradata
        self._streams[track] = stream


def _open(path: str, flags: int) -> int:
    return os.open(path, flags, 0o640)


def trim(path: Path) -> None:
    """Cut a file behind its last whole fragment; without any, remove it and its media times."""
    try:
        if end := end_of_fragments(path):
            with path.open("r+b") as file:
                file.truncate(end)
        else:
            path.unlink()
            path.with_suffix(ENDING).unlink(missing_ok=True)
    except OSError:  # the disk refuses that too: players stop at the torn fragment
        return


def end_of_fragments(path: Path) -> int:
    """Return the byte behind the last whole `mdat` box; 0 without one."""
    at = end = 0
    size = path.stat().st_size
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            head = file.read(8)
            at += max(8, int.from_bytes(head[:4], "big"))
            if head[4:] == b"mdat" and at <= size:
                end = at
    return end


def _make_folder(folder: Path) -> None:
    """Make a folder, and those above it, in which others cannot read."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(0o750, exist_ok=True)


def create(
    folder: Path,
    name: tuple[float, str],
    tracks: Sequence[Track],
    video: VideoFormat,
    first: TimedPacket,
) -> Mp4File:
    """Make a file with the first free name of this time and text; it replaces no other.

    Audio that does not fit into it is left out, and its track is marked.
    """
    tracks = [track for track in tracks if track.fits]
    for path in names(folder, *name):
        _make_folder(path.parent)
        try:
            try:
                return Mp4File(path, tracks, video, first)
            except (FFmpegError, ValueError):
                audio = [track for track in tracks if not track.is_video]
                if not audio:
                    raise
                file = Mp4File(path, [first.track], video, first)
                for track in audio:
                    track.fits = False
                    log("info", NO_AUDIO, path=str(path), codec=track.codec)
                return file
        except FileExistsError:
            continue
    raise AssertionError("names never end")
