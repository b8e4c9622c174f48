"""The recording stage writes an annotated video: `annotated.mp4` in the output directory.

During the run a source's video is `annotated-<source>.mp4`; a run that ends normally with one
source renames it to `annotated.mp4`. A successor or a resumed run never touches earlier files: it
continues in `annotated-<source>.1.mp4`, and so on. After a resume the new part begins with the
frame at which the run continued, which the earlier part may have too.

A video that cannot be written, for example since the disk is full, ends; the run continues, and the
video goes on in its next part once there is room.
"""

import errno
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from streamvis.errors import ConfigError
from streamvis.events.disk import OK_RATIO, RESERVE_BYTES, has_room, low_limit
from streamvis.logs import log, warn
from streamvis.messages import Array, Ending, Frame, Notice, Packet, Receipt, SourceInfo
from streamvis.stages.overlay import Drawing
from streamvis.stages.protocol import Site, StageConfig
from streamvis.stages.record import Record
from streamvis.stages.record.film import Film
from streamvis.stages.record.picture import draw_caption, drawn, framed, overlays_of
from streamvis.viz.legend import draw_legend

LEGEND_US = 1_000_000  # the legend is shown for the first second
RETRY_US = 10_000_000  # film time after which a video that could not be written goes on; doubled …
LONGEST_RETRY_US = 600_000_000  # … with each failure, up to this


class _StoredRecording(msgspec.Struct, array_like=True):
    """The state from which a successor continues a source."""

    part: int  # of the film being written
    alone: bool  # no other source has been recorded in this run
    epoch: int
    ahead_us: int  # film time − media time: stays monotone over epochs
    last_us: int  # film time of the last picture
    first_us: int = -1  # film time of the first picture; -1: there is none yet
    overlays: dict[str, bytes] = {}  # their states, by the name of the part that each draws


class RecordStage:
    """Draw each frame with its results and append it to the video of its source."""

    def __init__(self, config: Record, site: Site) -> None:
        if site.out is None:
            raise ConfigError(
                "stage 'record' writes a video and has no output directory; "
                "run with --out DIR (out=DIR), or remove the stage from the pipeline"
            )
        self.config = config
        self.out = site.out
        self.several = len(site.logged) > 1
        self.pixels = site.pixels
        self.above = site.above
        self.recordings: dict[str, _Recording] = {}

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        if source.id in self.recordings:
            self.recordings[source.id].close()
            state = self.state(source.id) if state is None else state  # the next part of it
        resumed = None if state is None else msgspec.msgpack.decode(state, type=_StoredRecording)
        self.recordings[source.id] = _Recording(source, resumed, self.config, self.out, self.above)
        if self.several or len(self.recordings) > 1:
            for recording in self.recordings.values():
                recording.state.alone = False

    def __call__(self, packets: Sequence[Packet]) -> list[Receipt]:
        return [self._record(packet) for packet in packets]

    def _record(self, packet: Packet) -> Receipt:
        written = self.recordings[packet.frame.source].add(packet, self.pixels(packet.frame))
        return Receipt(written=int(written))

    def state(self, source: str) -> bytes:
        return self.recordings[source].stored()

    def notice(self, notice: Notice) -> None:
        """Notices are ignored: gaps and outages show in the clock of the video."""

    def finish(self, source: str, ending: Ending) -> None:
        self.recordings[source].close()

    def close(self) -> None:
        for recording in self.recordings.values():
            recording.close()
        for recording in self.recordings.values():
            if recording.state.alone:
                recording.drop_source_from_name()


class _Recording:
    """One source's film, its overlays, and its place in time."""

    def __init__(
        self,
        source: SourceInfo,
        resumed: _StoredRecording | None,
        config: Record,
        out: Path,
        above: Sequence[StageConfig],
    ) -> None:
        self.source = source
        self.config = config
        self.out = out
        self.film: Film | None = None
        self.retry_at_us: int | None = None  # film time; None: the video can be written
        self.retry_us = RETRY_US
        self.state = resumed or _StoredRecording(
            part=-1,
            alone=True,
            epoch=source.epoch,
            ahead_us=0,
            last_us=-1,
        )
        self._next_part()
        drawing = Drawing(
            source=source,
            trail_s=config.trail_s,
            masks=config.masks,
            horizon_s=config.horizon_s,
        )
        self.overlays = overlays_of(above, drawing)
        for name, overlay in self.overlays.items():
            if name in self.state.overlays:
                overlay.restore(self.state.overlays[name])

    def stored(self) -> bytes:
        """Return the state from which a successor continues."""
        self.state.overlays = {name: overlay.state() for name, overlay in self.overlays.items()}
        return msgspec.msgpack.encode(self.state)

    def add(self, packet: Packet, pixels: Array) -> bool:
        """Draw and append the frame; False while the film cannot be written."""
        elapsed_s = self._advance(packet.frame)
        if self.retry_at_us is not None and not self._goes_on(self.retry_at_us):
            return False
        canvas = drawn(self.overlays, packet, pixels, elapsed_s)
        draw_caption(canvas, self.source.label, _clock(packet.frame.media_us))
        if self.state.last_us - self.state.first_us < LEGEND_US:
            draw_legend(canvas.image, canvas.legend)
        picture = framed(canvas)
        try:
            if self.film is None:
                self.out.mkdir(parents=True, exist_ok=True)
            if not has_room(self.out):  # what is left is for the event log
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self.film is None:
                self.film = self._open(picture)
            self.film.write(picture, self.state.last_us)
        except OSError as error:
            self._give_up(error)
        return self.retry_at_us is None

    def close(self) -> None:
        film, self.film = self.film, None
        if film is not None:
            try:
                film.close()
            except OSError as error:
                self._give_up(error)

    def drop_source_from_name(self) -> None:
        """annotated-cam1.mp4 -> annotated.mp4, and so for every part."""
        for part in range(self.state.part + 1):
            path = self._path(part)
            if path.exists():
                path.replace(self._alone(part))

    def _open(self, picture: Array) -> Film:
        height, width = picture.shape[:2]
        path = self._path(self.state.part)
        return Film(path, width, height, self.source.fps, self.config.crf)

    def _path(self, part: int) -> Path:
        return self.out / f"annotated-{self.source.id}{_suffix(part)}"

    def _alone(self, part: int) -> Path:
        return self.out / f"annotated{_suffix(part)}"

    def _give_up(self, error: OSError) -> None:
        """End the video after a write error such as a full disk; the run continues."""
        if self.retry_at_us is not None:
            return
        self.retry_at_us = self.state.last_us + self.retry_us
        self.retry_us = min(2 * self.retry_us, LONGEST_RETRY_US)
        path = self._path(self.state.part)
        reason = error.strerror or str(error)
        warn("recording stopped", source=self.source.id, path=str(path), error=reason)
        self.close()
        with suppress(OSError):
            if path.is_file() and not path.stat().st_size:
                path.unlink()

    def _goes_on(self, retry_at_us: int) -> bool:
        """Whether it is time to write the next part, and there is room for it."""
        if self.state.last_us < retry_at_us:
            return False
        try:
            usage = shutil.disk_usage(self.out)
        except OSError:
            return False
        if usage.free < max(OK_RATIO * low_limit(usage.total), 4 * RESERVE_BYTES):
            return False
        self.retry_at_us = None
        self._next_part()
        log(
            "info",
            "recording goes on",
            source=self.source.id,
            path=str(self._path(self.state.part)),
        )
        return True

    def _next_part(self) -> None:
        self.state.part += 1
        while self._path(self.state.part).is_file() or self._alone(self.state.part).is_file():
            self.state.part += 1

    def _advance(self, frame: Frame) -> float:
        """Advance film time, also across a restart of media time; return the seconds."""
        state, before_us = self.state, self.state.last_us
        if frame.epoch != state.epoch:
            interval_us = round(1e6 / self.source.fps) if self.source.fps > 0 else 40_000
            state.epoch = frame.epoch
            state.ahead_us = state.last_us + interval_us - frame.media_us
            for overlay in self.overlays.values():
                overlay.restart()
        state.last_us = frame.media_us + state.ahead_us
        if state.first_us < 0:
            state.first_us = state.last_us
        return (state.last_us - before_us) / 1e6


def _suffix(part: int) -> str:
    return f".{part}.mp4" if part else ".mp4"


def _clock(media_us: int) -> str:
    milliseconds = media_us // 1000
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{milliseconds % 1000:03d}"
