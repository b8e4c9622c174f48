"""Clips: files around events, cut from a ring of the packets received last."""

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from av.error import FFmpegError

from streamvis.logs import warn
from streamvis.recording.mp4 import Mp4File, create
from streamvis.recording.names import CLIPS
from streamvis.recording.settings import Clips
from streamvis.recording.tracks import TimedPacket, Track, VideoFormat

LATE_US = 10_000_000  # an event is derived at most this long after its picture was received
REORDERED_US = 500_000  # a key frame may be shown this long after it was received
MOST_AT_ONCE = 16  # clips being written
TAIL = 24  # characters of an event's id in a name


class Cut(msgspec.Struct, frozen=True):
    """A clip that is wanted."""

    event: str  # its id
    kind: str  # its type
    media_us: int


class _Group:
    """A key frame and what was received until the next one."""

    def __init__(self, packet: TimedPacket, video: VideoFormat) -> None:
        self.video = video
        self.began_us = packet.media_us
        self.packets: list[TimedPacket] = []
        self.bytes = 0

    def add(self, packet: TimedPacket) -> None:
        self.packets.append(packet)
        self.bytes += len(packet.data)


class PacketRing:
    """The packets of the last `keep_us`, from a key frame on, in at most `most_bytes`."""

    def __init__(self, keep_us: int, most_bytes: int) -> None:
        self._keep_us = keep_us
        self._most_bytes = most_bytes
        self._groups: deque[_Group] = deque()
        self.bytes = 0

    def add(self, packet: TimedPacket, video: VideoFormat) -> None:
        if packet.key:
            self._groups.append(_Group(packet, video))
        if not self._groups:
            return
        self._groups[-1].add(packet)
        self.bytes += len(packet.data)
        while self._is_spare(packet.media_us):
            self.bytes -= self._groups.popleft().bytes

    def _is_spare(self, now_us: int) -> bool:
        """Whether the oldest group is not needed, or there is no room for it."""
        if self.bytes > self._most_bytes:
            return bool(self._groups)
        return len(self._groups) > 1 and self._groups[1].began_us <= now_us - self._keep_us

    def clear(self) -> None:
        self._groups.clear()
        self.bytes = 0

    def since(self, media_us: int) -> list[TimedPacket]:
        """Return what follows the last key frame at or before a time, or the first one there is.

        All are of one format, that of the newest.
        """
        groups = list(self._groups)
        video = groups[-1].video if groups else None
        begin = len(groups)
        while begin and groups[begin - 1].video is video:
            begin -= 1
            if groups[begin].began_us <= media_us:
                break
        return [packet for group in groups[begin:] for packet in group.packets]


class _Clip:
    """A clip that is being written."""

    def __init__(self, cut: Cut, end_us: int, file: Mp4File, video: VideoFormat) -> None:
        self.cut = cut
        self.end_us = end_us
        self.file = file
        self.video = video


class ClipWriter:
    """Cuts clips, several at a time; each is complete whatever the others do."""

    def __init__(
        self, settings: Clips, out: Path, source: str, *, wall: Callable[[], float]
    ) -> None:
        self.closed_bytes = 0
        self._before_us = round(settings.before_s * 1e6)
        self._after_us = round(settings.after_s * 1e6)
        keep_us = self._before_us + REORDERED_US + LATE_US
        self._ring = PacketRing(keep_us, round(settings.memory_mb * 1e6))
        self._out = out
        self._source = source
        self._wall = wall
        self._clips: list[_Clip] = []
        self._saved: list[tuple[str, str]] = []

    @property
    def bytes(self) -> int:
        """Bytes written so far."""
        return self.closed_bytes + sum(clip.file.written for clip in list(self._clips))

    def add(self, packet: TimedPacket, video: VideoFormat) -> None:
        self._ring.add(packet, video)
        for clip in list(self._clips):
            if clip.video is video and packet.media_us < clip.end_us and not clip.file.error:
                clip.file.add(packet)
            else:
                self._finish(clip)

    def cut(self, cut: Cut, video: VideoFormat | None, tracks: Sequence[Track]) -> None:
        """Begin a clip with what the ring has of the time before the event."""
        packets = self._ring.since(cut.media_us - self._before_us - REORDERED_US)
        end_us = cut.media_us + self._after_us + 1
        if video is None or not packets or packets[0].media_us >= end_us:
            self._refuse(cut, "its packets are not in memory (any more)")
        elif len(self._clips) >= MOST_AT_ONCE:
            self._refuse(cut, f"{MOST_AT_ONCE} clips are being written")
        else:
            self._begin(cut, end_us, packets, video, tracks)

    def _begin(
        self,
        cut: Cut,
        end_us: int,
        packets: list[TimedPacket],
        video: VideoFormat,
        tracks: Sequence[Track],
    ) -> None:
        at_s = self._wall() - (packets[-1].media_us - cut.media_us) / 1e6
        name = f"{cut.kind}-{cut.event[-TAIL:]}"
        try:
            file = create(self._out / CLIPS / self._source, (at_s, name), tracks, video, packets[0])
        except (OSError, FFmpegError, ValueError) as error:
            self._refuse(cut, str(error))
            return
        clip = _Clip(cut, end_us, file, video)
        self._clips.append(clip)
        for packet in packets:
            if packet.media_us >= end_us:
                self._finish(clip)
                return
            file.add(packet)

    def _finish(self, clip: _Clip) -> None:
        self._clips.remove(clip)
        clip.file.close()
        self.closed_bytes += clip.file.written
        if clip.file.error is not None:
            self._refuse(clip.cut, clip.file.error.strerror or str(clip.file.error))
        if clip.file.path.exists():
            self._saved.append((clip.cut.event, clip.file.path.relative_to(self._out).as_posix()))

    def _refuse(self, cut: Cut, reason: str) -> None:
        warn("clip not saved", source=self._source, clip=cut.event, type=cut.kind, reason=reason)

    def saved(self) -> list[tuple[str, str]]:
        """Return event ids and paths of the clips finished since the last call."""
        saved, self._saved = self._saved, []
        return saved

    def close(self) -> None:
        """Finish all clips as they are, and forget the packets."""
        for clip in list(self._clips):
            self._finish(clip)
        self._ring.clear()
