"""The recorder of a source: its packets go into segments and clips before they are decoded.

    recorder = Recorder(settings, "/out", "cam1", epoch=1, live=True)
    recorder.follow(stream)              # of a container that was opened
    recorder.add(packet, media_us)       # each packet of the container, in order
    recorder.decoded(pts, media_us)      # each picture
    recorder.cut(id, "track.begin", us)  # from any thread
    recorder.saved()                     # from any thread: [(event id, path in the output)]
    recorder.close()                     # from any thread; the last clips are in saved() then

`media_us` of a packet is the media time of the last picture that was decoded. A recorder adds the
time that has passed since then, if the source is live, and so knows about when the picture of
a packet is shown before it is decoded. A clip begins half a second earlier than asked, and ends
when a picture of its end has been decoded: it has all that was asked for.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamvis.logs import log
from streamvis.recording.clips import ClipWriter, Cut
from streamvis.recording.picture_times import PictureTimes
from streamvis.recording.segments import SegmentWriter
from streamvis.recording.settings import Recording
from streamvis.recording.timing import Restamper
from streamvis.recording.tracks import FormatDetector, TimedPacket, Track, VideoFormat

OFF_S = 5.0  # audio and video whose stamps differ by more have no common origin
CLOSE_S = 3.0  # how long closing waits for another thread
MOST_CUTS = 1000  # asked for while no packet arrives; older ones are forgotten


class Recorder:
    """Writes the packets of one source in one stream epoch; nothing it does ends the decoding."""

    def __init__(
        self,
        settings: Recording,
        out: str,
        source: str,
        epoch: int,
        *,
        live: bool,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._live = live
        self._now = now
        self._began_s = now()
        self._lock = threading.Lock()  # of all that is written
        self._segments: SegmentWriter | None = None
        if settings.segments is not None:
            self._segments = SegmentWriter(
                settings.segments, Path(out), source, epoch, now=now, wall=wall
            )
        self._clips: ClipWriter | None = None
        if settings.clips is not None:
            self._clips = ClipWriter(settings.clips, Path(out), source, wall=wall)
        self._cuts: deque[Cut] = deque(maxlen=MOST_CUTS)  # appended by other threads
        self._saved: deque[tuple[str, str]] = deque()
        self._media = _MediaTime()
        self._times = PictureTimes()
        self._tracks: dict[int, Track | None] = {}  # by index in the container; None: not recorded
        self._restampers: dict[Track, Restamper] = {}
        self._zero_s: float | None = None  # stamp at the beginning
        self._latest_s = 0.0  # time of the last packet
        self._formats: FormatDetector | None = None
        self._video: VideoFormat | None = None

    @property
    def recorded_bytes(self) -> int:
        """Bytes of the segments and clips written so far."""
        return sum(writer.bytes for writer in (self._segments, self._clips) if writer)

    def follow(self, stream: Any) -> None:
        """Record this video stream, and the audio beside it, in files of their own from now on."""
        with self._lock:
            self._finish()
            self._tracks = {}
            self._restampers = {}
            self._zero_s = self._formats = self._video = None
            best = stream.container.streams.best("audio")
            for one in (stream, best):
                if one is not None:
                    self._add_track(one)

    def add(self, packet: Any, media_us: int | None) -> None:
        """Record a packet of any stream of the container, before it is decoded.

        `media_us` is the media time of the last picture, None before the first.
        """
        with self._lock:
            self._add(packet, media_us)

    def _add(self, packet: Any, media_us: int | None) -> None:
        now_s = self._now() - self._began_s
        label = self._media(media_us, now_s if self._live else 0.0)
        track = None if packet is None else self._tracks.get(packet.stream.index)
        if track is None or not packet.size:
            return
        data = bytes(packet)
        key = track.is_video and packet.is_keyframe
        if track.is_video and self._formats is not None:
            self._video = self._formats(data, key=key)
        times = self._restamped(track, packet, now_s)
        timed = TimedPacket(track, data, *times, key, label)
        self._latest_s = timed.seconds
        if self._video is not None:
            self._write(timed, self._video)
            if track.is_video and self._segments and self._segments.place is not None:
                self._times.written(packet.pts, *self._segments.place)
        self._begin_clips()

    def decoded(self, stamp: int | None, media_us: int) -> None:
        """Record the media time of the picture of a packet, by the packet's time stamp."""
        if self._segments is not None:
            with self._lock:
                self._times.decoded(stamp, media_us)

    def shift(self, shift_us: int) -> None:
        """Record what is added to media times for those of the source; any thread may call it."""
        self._times.shift(shift_us)

    def cut(self, event: str, kind: str, media_us: int) -> None:
        """Have a clip of an event written; any thread may call it."""
        self._cuts.append(Cut(event, kind, media_us))

    def saved(self) -> list[tuple[str, str]]:
        """Return id and path of the clips finished since the last call; any thread may call it.

        Paths are relative to the output directory.
        """
        return [self._saved.popleft() for _ in range(len(self._saved))]

    def close(self) -> None:
        """Finish the segment and all clips; may be called twice, and by any thread.

        Packets that are added later are ignored. If another thread has been writing for seconds,
        the disk hangs: its files stay as they are.
        """
        if not self._lock.acquire(timeout=CLOSE_S):
            log("warning", "recording is not closed: the disk does not answer", source=self._source)
            return
        try:
            self._finish()
            self._times.flush()
            self._tracks = {}
        finally:
            self._lock.release()

    def _finish(self) -> None:
        self._begin_clips()
        if self._segments:
            self._segments.close()
        if self._clips:
            self._clips.close()
            self._saved.extend(self._clips.saved())

    def _add_track(self, stream: Any) -> None:
        try:
            track = Track(stream)
        except ValueError as error:
            self._tracks[stream.index] = None
            log(
                "warning" if stream.type == "video" else "info",
                f"{stream.type} is not recorded: an MP4 cannot hold it",
                source=self._source,
                reason=str(error),
            )
            return
        self._tracks[stream.index] = track
        self._restampers[track] = Restamper(track.time_base, live=self._live)
        if track.is_video:
            self._formats = FormatDetector(track)

    def _restamped(self, track: Track, packet: Any, now_s: float) -> tuple[int, int, int]:
        """Return dts, pts and duration; a stream that joins later keeps its distance."""
        stamp = packet.pts if packet.dts is None else packet.dts
        now_s = now_s if self._live else self._latest_s
        start_s = 0.0
        if stamp is not None:
            stamp_s = float(stamp * track.time_base)
            if self._zero_s is None:
                self._zero_s = stamp_s - self._latest_s
            start_s = stamp_s - self._zero_s
        if stamp is None or abs(start_s - self._latest_s) > OFF_S:
            start_s = self._latest_s
        start = round(start_s / track.time_base)
        duration = packet.duration or 0
        return self._restampers[track](packet.dts, packet.pts, duration, now_s, start)

    def _write(self, packet: TimedPacket, video: VideoFormat) -> None:
        tracks = [track for track in self._tracks.values() if track is not None]
        if self._segments:
            self._segments.add(packet, video, tracks)
        if self._clips:
            self._clips.add(packet, video)

    def _begin_clips(self) -> None:
        """Begin the clips that other threads have asked for."""
        if not self._clips:
            return
        tracks = [track for track in self._tracks.values() if track is not None]
        while self._cuts:
            self._clips.cut(self._cuts.popleft(), self._video, tracks)
        self._saved.extend(self._clips.saved())


class _MediaTime:
    """The media time of a packet that arrives, from those of the pictures decoded before it."""

    def __init__(self) -> None:
        self._given: int | None = None
        self._given_s = 0.0
        self._latest = 0

    def __call__(self, media_us: int | None, now_s: float) -> int:
        if media_us is not None:
            if media_us != self._given:
                self._given, self._given_s = media_us, now_s
            passed_us = round((now_s - self._given_s) * 1e6)
            self._latest = max(self._latest, media_us + passed_us)
        return self._latest
