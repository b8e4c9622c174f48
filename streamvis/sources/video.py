"""Video files, cameras and URLs through PyAV.

A `VideoSource` is one connection: it never reconnects. When its pictures stop, `ended` is `eof`,
`lost` (the connection or disk failed) or `timeout` (no data); the caller decides about the next
epoch. The end of a live source is always `lost`: PyAV reports a lost RTSP server as a normal end of
file.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, cast

import av
import msgspec
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from streamvis.errors import SourceError
from streamvis.logs import warn
from streamvis.messages import Clock, SourceInfo
from streamvis.recording.recorder import Recorder
from streamvis.sources.color import Converter
from streamvis.sources.container import (
    INDEX_LAST,
    KEY_FRAME_S,
    MAX_PIXELS,
    Facts,
    describe,
    index_last,
    is_live,
    open_container,
    promised,
    promised_end_s,
    rate_of,
    start_us,
    video_stream,
)
from streamvis.sources.damage import Damage, FrameNumbers
from streamvis.sources.hwaccel import not_accelerated
from streamvis.sources.live import LiveMeter, open_and_report
from streamvis.sources.loss_counter import MOST_REORDERED, LossCounter, MatchedPacket
from streamvis.sources.pacing import IN_PIECES, Pacer
from streamvis.sources.picture import Ended, Picture, Skip, StreamStats, Waiting
from streamvis.sources.recordable import clips_on
from streamvis.sources.spec import SourceSpec
from streamvis.sources.timestamps import LiveClock, MediaClock
from streamvis.sources.transport import first_part

MAX_FAULTS = 100  # consecutive read errors before reading of a damaged file stops
DEFAULT_FPS = 25.0
LEAST_MISSING_S = 1.0  # and this share of a video, by its header, that it is truncated without: the
LEAST_MISSING = 0.02  # last picture may last for longer, and rates are estimates
NO_PRESENTATION = frozenset({"avi", "asf"})  # containers whose stamps are those of decoding
MOST_DELAYED = {"h264": MOST_REORDERED, "hevc": MOST_REORDERED}  # pictures; other codecs: 1
ONE_TO_ONE = frozenset({"h264", "hevc", "mjpeg", "png"})  # each packet is one picture
FILE: Clock = "file"
HEAD = 2**16  # bytes of a packet in which its first slice begins
SKIPPED: dict[Skip, Literal["DEFAULT", "NONREF"]] = {
    "none": "DEFAULT", "nonref": "NONREF", "nonkey": "DEFAULT",
}  # fmt: skip


class VideoSource:
    """Decodes one video stream into upright RGB pictures with strictly increasing media times.

    `skip` says what is not decoded from now on; from "nonkey" it goes back at the next key frame.
    """

    def __init__(self, spec: SourceSpec, epoch: int = 1, waiting: Waiting | None = None) -> None:
        self.errors = 0
        self.ended: Ended | None = None
        self.skip: Skip = "none"
        self.facts: Facts | None = None  # once there was a picture
        self._spec = spec
        self._n = 0  # number of the next picture
        self._promised: int | None = None  # pictures by the container's index
        self._newest_end_us: int | None = None  # when the last picture ends, by its stamp
        self._new_part = False  # whether time stamps may restart with the next picture
        self._clock = MediaClock()
        self._live_clock = LiveClock()
        self._damage = Damage()
        self._numbers: FrameNumbers | None = None  # of a live H.264 stream
        self._skipping: Skip = "none"  # what is skipped now
        self._after_skipping = MOST_REORDERED  # packets since
        self._waiting = waiting
        self._sent = Sent()
        self._convert = Converter()
        self._began = time.monotonic()
        self._part = first_part(Path(spec.uri)) if spec.kind == "file" else None
        with ExitStack() as undo:
            undo.callback(self._close_part)
            reported = waiting if spec.kind == "url" else None
            self._container = open_and_report(lambda: open_container(spec, self._part), reported)
            self._meter = LiveMeter()  # from now on
            undo.callback(lambda: self._container.close())  # which may be that of a later part
            stream = video_stream(self._container, spec.label)
            hwaccel = spec.hwaccel or "none"
            if hwaccel not in {"auto", "none"} and not stream.codec_context.is_hwaccel:
                raise SourceError(not_accelerated(hwaccel, spec.label))
            self._live = is_live(spec, self._container)
            in_pieces = self._live and self._container.format.name in IN_PIECES
            self._pacer = Pacer() if in_pieces else None
            self._start_us = start_us(spec, self._container, stream, self._live)
            fps = self._fps = spec.fps or rate_of(stream)
            frames = stream.frames or None
            self.recorder: Recorder | None = None
            if spec.record is not None and spec.record_to:
                self.recorder = Recorder(
                    spec.record, spec.record_to, spec.id, epoch, live=self._live
                )
                undo.callback(self.recorder.close)
            self._pictures = self._decode_parts(stream)
            self._first = next(self._pictures, None)
            if self._first is None:
                raise SourceError(self._nothing_decoded())
            undo.pop_all()
        height, width = self._first.pixels.shape[:2]
        self.info = SourceInfo(
            id=spec.id,
            label=spec.label,
            width=width,
            height=height,
            fps=fps,
            live=self._live,
            epoch=epoch,
            frames=frames,
            promised=None if self._live else self._promised,
            ground_plane=spec.ground_plane,
            start_us=self._start_us,
            clips_on=clips_on(spec),
        )

    def __iter__(self) -> Iterator[Picture]:
        if self._first is not None:
            yield self._first
            self._first = None
        yield from self._pictures

    @property
    def silent_s(self) -> float:
        """For how long no packet of the video has arrived."""
        return time.monotonic() - self._meter.heard

    @property
    def stats(self) -> StreamStats:
        """What was measured of a live stream so far; any thread may read it."""
        recorded = 0 if self.recorder is None else self.recorder.recorded_bytes
        return msgspec.structs.replace(self._meter.stats, recorded_bytes=recorded)

    def close(self) -> None:
        """Release the file or connection and, with the generator, the decoder's threads."""
        self._pictures.close()
        if self.recorder is not None:
            self.recorder.close()
        self._container.close()
        self._close_part()

    def _close_part(self) -> None:
        if self._part is not None:
            self._part.close()

    def _decode_parts(self, stream: VideoStream) -> Generator[Picture]:
        """The pictures of a stream, and of the streams that replace it."""
        following: VideoStream | None = stream
        while following is not None:
            if self._part is not None:
                self._part.follow(following.id)
            if self.recorder is not None:
                self.recorder.follow(following)
            yield from self._decode(following)
            following = self._next_part(following.id) if self.ended == "eof" else None

    def _next_part(self, stream_id: int) -> VideoStream | None:
        """Open the next part of a transport stream; None at its end."""
        while self._part is not None and self._part.next is not None:
            self._container.close()
            self._part.close()
            try:
                self._part = part = self._part.following()
                self._container = open_container(self._spec, part)
                stream = video_stream(self._container, self._spec.label, stream_id)
            except SourceError:
                self.errors += 1
                continue
            except OSError:  # the file was taken away
                self.ended = "lost"
                return None
            self._fps = self._spec.fps or rate_of(stream) or self._fps
            self._new_part = True
            return stream
        return None

    def _decode(self, stream: VideoStream) -> Generator[Picture]:
        if self._live:
            # frame threads delay pictures; slice threads neither hide damage nor report it
            stream.codec_context.thread_count = 1
        else:
            stream.thread_type = "AUTO"
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        if self._live and stream.codec_context.name == "h264":
            self._numbers = FrameNumbers(stream.codec_context.extradata)
        counter = LossCounter(
            trusted=stream.codec_context.name in ONE_TO_ONE,
            decoding=self._container.format.name in NO_PRESENTATION,
        )
        for packet in self._packets(stream):
            for frame, came in self._frames(stream, packet, counter):
                if self.facts is None:
                    self.facts = describe(self._container, stream, frame)
                    self._promised = promised(self._container, stream, frame)
                if frame.pts is not None:
                    lasts = frame.duration or 0
                    self._newest_end_us = _us(frame.pts + lasts, stream)
                media_us = self._media_us(stream, frame, came, counter.partial)
                if self.recorder is not None and self._live:
                    self.recorder.decoded(frame.pts, media_us)
                picture = self._picture(frame, media_us)
                if picture is not None:
                    yield picture
            if self._live and self._n == 0 and self._waited_in_vain():
                self.ended = "timeout"
                return
        if self.ended == "eof":
            self._lose(counter.outstanding())
            self._note_early_end(stream)

    def _waited_in_vain(self) -> bool:
        """Whether too much time has passed without a picture; tell about the waiting."""
        waited_s = time.monotonic() - self._meter.began
        if self._waiting is not None and waited_s >= self._sent.reported_s + 1:
            self._sent.reported_s = waited_s
            self._waiting(f"connected; waiting for a key frame since {waited_s:.0f} s")
        return waited_s > KEY_FRAME_S

    def _packets(self, stream: VideoStream) -> "Iterator[Packet[Stream] | None]":
        """The packets of one stream; the last is empty and flushes the decoder."""
        # all streams are read, so that sound alone does not pass for a living picture
        demuxed = self._container.demux()
        faults = 0
        asked = time.monotonic()
        while True:
            try:
                packet = next(demuxed, None)
            except IndexError:  # at the end PyAV trips over streams that turned up on the way
                yield None
                packet = None
            except FFmpegError as error:
                faults += 1
                self.ended = self._failure(error, time.monotonic() - asked, faults)
                if self.ended is not None:
                    yield None
                    return
                self.errors += 1
                demuxed = self._container.demux()  # a generator that raised is spent
                continue
            if packet is None:
                self.ended = "lost" if self._live else "eof"
                return
            if self._pacer is not None and packet.stream.index == stream.index:
                stamp_us = _us(packet.dts, stream)
                if stamp_us is not None:
                    time.sleep(self._pacer.wait_s(stamp_us / 1e6, time.monotonic()))
            if self.recorder is not None:
                clock = self._live_clock if self._live else self._clock
                self.recorder.add(packet, clock.last_us)
            # not its `stream_index`: PyAV's last packets, which flush the decoders, all have 0
            if packet.stream.index == stream.index:
                faults = 0
                if self._live and packet.size:
                    self._meter.add_packet(packet, _us(packet.pts, stream))
                yield packet
                asked = time.monotonic()
            elif packet.size:
                self._sent.others.add(packet.stream.type)
            if self._live and time.monotonic() - asked > self._spec.read_s:
                self.ended = "timeout"
                yield None
                return

    def _failure(self, error: FFmpegError, waited_s: float, faults: int) -> Ended | None:
        """Why reading failed, by error and waiting time; None: continue."""
        if self._spec.kind == "file":
            return "lost" if isinstance(error, OSError) or faults > MAX_FAULTS else None
        timed_out = isinstance(error, TimeoutError | av.error.ExitError)
        return "timeout" if timed_out or waited_s >= 0.9 * self._spec.read_s else "lost"

    def _frames(
        self, stream: VideoStream, packet: "Packet[Stream] | None", counter: LossCounter
    ) -> Iterator[tuple[VideoFrame, MatchedPacket]]:
        """The decoded pictures of a packet, in order; undecodable ones are counted."""
        if packet is not None and packet.size and not packet.is_discard:
            if self._live and not self._admits(stream, packet):
                return
            if not self._live or self._is_stamped(packet):
                counter.add_packet(packet.pts, packet.dts, key=packet.is_keyframe)
        try:
            frames = stream.decode(cast("Packet[VideoStream]", packet))
        except av.error.EOFError:  # flushed already
            return
        except FFmpegError:
            self._damage.lose()
            if not counter.trusted:  # which will miss the picture when the next one comes
                self._lose(1)
            return
        codec = stream.codec_context
        delay = MOST_DELAYED.get(codec.name, 1) if codec.has_b_frames else 0
        for frame in frames:
            if frame.interlaced_frame:  # two packets may be the fields of one picture
                counter.trusted = False
            came = counter.match_picture(frame.pts, frame.dts, delay)
            if self._after_skipping < MOST_REORDERED:
                self._skip(came.lost)
            else:
                self._lose(came.lost)
            self.errors += frame.is_corrupt
            yield frame, came

    def _is_stamped(self, packet: "Packet[Stream]") -> bool:
        """Whether the stamp of a packet is one: the first packets of RTP have none, or a guess."""
        first = self._sent.pictures == 1 or not self._sent.keys
        return not (first and (packet.pts is None or not packet.is_keyframe))

    def _admits(self, stream: VideoStream, packet: "Packet[Stream]") -> bool:
        """Whether a packet of a live stream is decoded; `skip` begins and ends here."""
        lost = self._numbers.lost_before(bytes(memoryview(packet)[:HEAD])) if self._numbers else 0
        self._lose(lost)
        key = packet.is_keyframe
        if self._skipping != self.skip and (self._skipping != "nonkey" or key):
            stream.codec_context.skip_frame = SKIPPED[self.skip]
            self._skipping = self.skip
        self._after_skipping = 0 if self._skipping == "nonref" else self._after_skipping + 1
        if self._skipping == "nonkey" and not key:
            self._damage.lose()
            self._skip(1)
            return False
        self._damage.add_packet(packet.pts, key=key, lost=lost > 0 or packet.is_corrupt)
        self._sent.pictures += 1
        self._sent.keys += key
        return True

    def _skip(self, count: int) -> None:
        """Count pictures that were not decoded on purpose."""
        if self._n > 0:
            self._n += count
            self._meter.count(skipped=count)

    def _lose(self, count: int) -> None:
        """Count pictures that could not be decoded.

        A live stream is joined between two key frames: packets before its first picture do not
        count.
        """
        if not self._live or self._n > 0:
            self.errors += count
            self._n += count

    def _picture(self, frame: VideoFrame, media_us: int) -> Picture | None:
        self._n += 1
        capture_us, clock = self._meter.captured(frame.pts) if self._live else (0, FILE)
        suspect = self._live and self._damage.is_suspect(
            frame.pts, key=frame.key_frame, corrupt=frame.is_corrupt
        )
        self._meter.count(suspect=suspect)
        try:
            pixels = self._convert(frame)
        except FFmpegError:  # a size or format that swscale does not know
            self.errors += 1
            return None
        return Picture(
            pixels=pixels,
            n=self._n - 1,
            media_us=media_us,
            capture_us=capture_us,
            clock=clock,
            suspect=suspect,
            restarted=self._live and self._live_clock.restarted,
            stamp=frame.pts,
            key=frame.key_frame,
        )

    def _media_us(
        self, stream: VideoStream, frame: VideoFrame, came: MatchedPacket, partial: bool
    ) -> int:
        if self._spec.fps and not self._live:
            return round(self._n * 1_000_000 / self._spec.fps)
        nominal_us = _us(frame.duration, stream) or round(1e6 / (self._fps or DEFAULT_FPS))
        restarted, self._new_part = came.restarted or self._new_part, False
        stamp_us = _us(came.stamp, stream)
        if self._live:
            return self._live_clock.media_us_of(stamp_us, time.monotonic_ns() // 1000, nominal_us)
        return self._clock.media_us_of(stamp_us, nominal_us, restarted=restarted, partial=partial)

    def _note_early_end(self, stream: VideoStream) -> None:
        """Warn when the file holds less than its index or its header says."""
        than = "the index of its file"
        if self._promised is None and self._spec.kind == "file" and self._newest_end_us is not None:
            at_s, end_s = self._newest_end_us / 1e6, promised_end_s(self._container, stream) or 0
            fps = self._fps or DEFAULT_FPS
            if end_s - at_s > max(LEAST_MISSING_S, LEAST_MISSING * end_s, 2 / fps):
                than = f"its header, by which it ends at {end_s:.1f} s and not at {at_s:.1f}"
                self._promised = self._n + round((end_s - at_s) * fps)
        if self._promised and self._n < self._promised and hasattr(self, "info"):
            self.info = msgspec.structs.replace(self.info, promised=self._promised)
            warn(
                f"source has fewer frames than {than}: it is truncated or damaged",
                source=self._spec.label,
                seen=self._n,
                errors=self.errors,
                promised=self._promised,
            )

    def _nothing_decoded(self) -> str:
        source = f"source '{self._spec.label}'"
        if self.ended == "timeout":
            return f"{source} is connected, but {self._missing()}"
        if self._live:
            return f"{source} closed the connection before its first picture"
        if index_last(self._spec):
            return f"{source} {INDEX_LAST}"
        return f"{source} has no picture that can be decoded ({self.errors} errors)"

    def _missing(self) -> str:
        """What a live stream did not send."""
        sent = self._sent
        if sent.keys:
            return (
                f"none of its {sent.pictures} pictures could be decoded within {KEY_FRAME_S:g} s, "
                f"{sent.keys} key frames among them: try it with another player"
            )
        if sent.pictures:
            return (
                f"sent no key frame within {KEY_FRAME_S:g} s, only {sent.pictures} other pictures: "
                "set a shorter key frame interval (GOP) in the camera"
            )
        others = f", only {', '.join(sorted(sent.others))}" if sent.others else ""
        waited_s = time.monotonic() - self._began  # opening, which waits for parameter sets, too
        return f"sent no video within {waited_s:.0f} s{others}"


class Sent:
    """What a live source has sent before its first picture."""

    def __init__(self) -> None:
        self.pictures = 0
        self.keys = 0  # of them
        self.others: set[str] = set()  # types of other streams
        self.reported_s = 0.0  # when it was last reported, after opening


def _us(stamp: int | None, stream: VideoStream) -> int | None:
    if stamp is None or not stream.time_base:  # without one it is 0 in PyAV from 19 on
        return None
    return round(stamp * stream.time_base * 1_000_000)
