"""The recording stage writes an annotated video: `annotated.mp4` in the output directory.

During the run a source's video is `annotated-<source>.mp4`; a run that ends normally with one
source renames it to `annotated.mp4`. A successor or a resumed run never touches earlier files: it
continues in `annotated-<source>.1.mp4`, and so on. After a resume the new part begins with the
frame at which the run continued, which the earlier part may have too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from streamvis.errors import ConfigError
from streamvis.geometry import Regions, foot
from streamvis.logs import warn
from streamvis.messages import (
    Actions,
    Array,
    Detections,
    Ending,
    Forecast,
    Frame,
    Notice,
    Packet,
    Receipt,
    Segmentation,
    SourceInfo,
    Tracks,
)
from streamvis.stages.protocol import Site
from streamvis.stages.record import Record
from streamvis.viz.annotate import annotate
from streamvis.viz.film import Film
from streamvis.viz.forecast_panels import Panels, PanelSet, highlighted
from streamvis.viz.ground_map import GroundMap, Trail, View, follow, widen
from streamvis.viz.legend import draw_legend, legend_of

LEGEND_US = 1_000_000  # the legend is shown for the first second
TRAIL_POINTS = 24  # of a whole trail; the rest would only make its state heavy

Spot = tuple[int, float, float, float, float]  # media µs, foot x, y in px, ground x, y in m


class _StoredRecording(msgspec.Struct, array_like=True):
    """The state from which a successor continues a source."""

    part: int  # of the film being written
    alone: bool  # no other source has been recorded in this run
    epoch: int
    ahead_us: int  # film time − media time: stays monotone over epochs
    last_us: int  # film time of the last picture
    view: View | None  # of the map as it is shown
    goal: View | None  # of the map once it has settled
    trails: dict[int, list[Spot]]
    shown: PanelSet | None = None  # which panels of the scene there are
    first_us: int = -1  # film time of the first picture; -1: there is none yet


class RecordStage:
    """Draw each frame with its results and append it to the video of its source."""

    def __init__(self, config: Record, site: Site) -> None:
        if site.out is None:
            raise ConfigError(
                "stage 'record' writes a video and has no output directory; "
                "run with --out DIR, or remove the stage from the pipeline"
            )
        self.config = config
        self.out = site.out
        self.several = len(site.logged) > 1
        self.pixels = site.pixels
        self.regions = site.regions
        self.recordings: dict[str, _Recording] = {}

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        if source.id in self.recordings:
            self.recordings[source.id].close()
            state = self.state(source.id) if state is None else state  # the next part of it
        resumed = None if state is None else msgspec.msgpack.decode(state, type=_StoredRecording)
        self.recordings[source.id] = _Recording(
            source, resumed, self.config, self.out, self.regions
        )
        if self.several or len(self.recordings) > 1:
            for recording in self.recordings.values():
                recording.state.alone = False

    def __call__(self, packets: Sequence[Packet]) -> list[Receipt]:
        return [self._record(packet) for packet in packets]

    def _record(self, packet: Packet) -> Receipt:
        written = self.recordings[packet.frame.source].add(packet, self.pixels(packet.frame))
        return Receipt(written=int(written))

    def state(self, source: str) -> bytes:
        return msgspec.msgpack.encode(self.recordings[source].state)

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
    """One source's film, its trails, its scene, and its place in time."""

    def __init__(
        self,
        source: SourceInfo,
        resumed: _StoredRecording | None,
        config: Record,
        out: Path,
        regions: Regions,
    ) -> None:
        self.source = source
        self.config = config
        self.out = out
        self.regions = regions
        self.film: Film | None = None
        self.broken = False
        self.state = resumed or _StoredRecording(
            part=-1,
            alone=True,
            epoch=source.epoch,
            ahead_us=0,
            last_us=-1,
            view=None,
            goal=None,
            trails={},
        )
        self.state.part += 1
        while self._path(self.state.part).is_file() or self._alone(self.state.part).is_file():
            self.state.part += 1
        self.maps: dict[tuple[int, int], GroundMap] = {}  # by the size of the picture
        horizon_us = None if config.horizon_s is None else round(config.horizon_s * 1e6)
        self.panels = Panels(self.state.shown, horizon_us)

    def add(self, packet: Packet, pixels: Array) -> bool:
        """Draw and append the frame; False when the film can no longer be written."""
        frame, tracks = packet.frame, packet.part(Tracks)
        seconds = self._advance(frame)
        ground = self._map(frame)
        if tracks is not None and ground is not None:
            tracks = msgspec.structs.replace(tracks, ground=ground.places(tracks))
        if tracks is not None:
            correct_trails(self.state.trails, tracks)
            self._extend_trails(frame.media_us, tracks)
        self._move_map(ground, tracks, seconds)
        if self.broken:
            return False
        self._look(packet, pixels)
        trails = self._trails(frame.media_us, tracks)
        picture = annotate(
            highlighted(pixels, self.panels.unknown),
            packet.part(Detections),
            tracks,
            trails,
            actions=packet.part(Actions),
            regions=self.regions,
            caption=self.source.label,
            clock=_clock(frame.media_us),
            masks=self.config.masks,
        )
        if self.state.last_us - self.state.first_us < LEGEND_US:
            draw_legend(picture, legend_of(self._drawn(packet)))
        if ground is not None and self.state.view is not None:
            beside = ground.draw(self.state.view, tracks, trails)
            picture = np.concatenate([picture, beside], axis=1)
        picture = self.panels.around(picture, pixels)
        try:
            if self.film is None:
                self.film = self._open(picture)
            self.film.write(picture, self.state.last_us)
        except OSError as error:
            self._give_up(error)
        return not self.broken

    def _look(self, packet: Packet, pixels: Array) -> None:
        """Take in what the scene is and will be."""
        segmentation, forecast = packet.part(Segmentation), packet.part(Forecast)
        self.panels.see(pixels, packet.frame.media_us, segmentation, forecast)
        self.state.shown = self.panels.shown

    def _drawn(self, packet: Packet) -> set[str]:
        """Return which entries of the legend apply to this frame."""
        found = {
            "detections": packet.part(Detections) is not None,
            "tracks": packet.part(Tracks) is not None,
            "regions": bool(self.regions),
            "actions": packet.part(Actions) is not None,
            "unknown": self.panels.unknown is not None and self.panels.unknown.size > 0,
        }
        return {key for key, is_drawn in found.items() if is_drawn}

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
        self.out.mkdir(parents=True, exist_ok=True)
        path = self._path(self.state.part)
        return Film(path, width, height, self.source.fps, self.config.crf)

    def _path(self, part: int) -> Path:
        return self.out / f"annotated-{self.source.id}{_suffix(part)}"

    def _alone(self, part: int) -> Path:
        return self.out / f"annotated{_suffix(part)}"

    def _give_up(self, error: OSError) -> None:
        """End the video after a write error such as a full disk; the run continues."""
        if self.broken:
            return
        self.broken = True
        warn(
            "recording stopped",
            source=self.source.id,
            path=str(self._path(self.state.part)),
            error=error.strerror or str(error),
        )
        self.close()

    def _advance(self, frame: Frame) -> float:
        """Advance film time, also across a restart of media time; return the seconds."""
        state, before_us = self.state, self.state.last_us
        if frame.epoch != state.epoch:
            interval_us = round(1e6 / self.source.fps) if self.source.fps > 0 else 40_000
            state.epoch = frame.epoch
            state.ahead_us = state.last_us + interval_us - frame.media_us
            state.trails.clear()  # ids start anew as well
            self.panels.forget()
        state.last_us = frame.media_us + state.ahead_us
        if state.first_us < 0:
            state.first_us = state.last_us
        return (state.last_us - before_us) / 1e6

    def _map(self, frame: Frame) -> GroundMap | None:
        """The map beside this frame; none where the source has no ground plane."""
        size = (frame.width, frame.height)
        if size not in self.maps and self.source.ground_plane is not None:
            back = np.diag([self.source.width / size[0], self.source.height / size[1], 1])
            self.maps[size] = GroundMap(np.reshape(self.source.ground_plane, (3, 3)) @ back, *size)
        return self.maps.get(size)

    def _move_map(self, ground: GroundMap | None, tracks: Tracks | None, seconds: float) -> None:
        if ground is None:
            return
        state = self.state
        goal = state.goal or ground.view
        state.goal = goal if tracks is None else widen(goal, ground.turned(tracks.ground))
        state.view = follow(state.view or ground.view, state.goal, seconds)

    def _extend_trails(self, media_us: int, tracks: Tracks) -> None:
        state, span_us = self.state, self.config.trail_s * 1e6
        feet = foot(tracks.boxes).tolist()
        for id_, (x, y), (gx, gy) in zip(
            tracks.ids.tolist(), feet, tracks.ground.tolist(), strict=True
        ):
            spots = state.trails.setdefault(id_, [])
            if not spots or media_us - spots[-1][0] >= span_us / TRAIL_POINTS:
                spots.append((media_us, x, y, gx, gy))
        for id_, spots in list(state.trails.items()):
            kept = [spot for spot in spots if media_us - spot[0] <= span_us]
            if kept:
                state.trails[id_] = kept
            else:
                del state.trails[id_]

    def _trails(self, media_us: int, tracks: Tracks | None) -> Mapping[int, Trail]:
        """The trails as they fade, each reaching to where its track is now."""
        span_us = self.config.trail_s * 1e6
        if span_us == 0:
            return {}
        spots = {id_: list(spots) for id_, spots in self.state.trails.items()}
        if tracks is not None:
            now = np.column_stack([foot(tracks.boxes), tracks.ground]).tolist()
            for id_, place in zip(tracks.ids.tolist(), now, strict=True):
                spots[id_].append((media_us, *place))
        table = {id_: np.array(places, np.float64) for id_, places in spots.items()}
        return {
            id_: Trail(
                points=places[:, 1:3],
                ground=places[:, 3:5],
                strength=np.clip(1 - (media_us - places[:, 0]) / span_us, 0, 1),
            )
            for id_, places in table.items()
        }


def correct_trails(trails: dict[int, list[Spot]], tracks: Tracks) -> None:
    """Move trails, or their ends, to the right id by the frame's corrections: splits first."""
    tails: list[tuple[int, list[Spot]]] = []
    for id_, other, since_us in [] if tracks.split is None else tracks.split.tolist():
        spots = trails.get(id_, [])
        tails.append((other, [spot for spot in spots if spot[0] >= since_us]))
        trails[id_] = [spot for spot in spots if spot[0] < since_us]
    for other, tail in tails:
        _append(trails, other, tail)
    for gone, kept in [] if tracks.merged is None else tracks.merged.tolist():
        if gone != kept:
            _append(trails, kept, trails.pop(gone, []))


def _append(trails: dict[int, list[Spot]], id_: int, tail: list[Spot]) -> None:
    """Add this part to the trail; it replaces spots of the same time."""
    if tail:
        first, last = tail[0][0], tail[-1][0]
        others = [spot for spot in trails.get(id_, []) if not first <= spot[0] <= last]
        trails[id_] = sorted(others + tail, key=lambda spot: spot[0])


def _suffix(part: int) -> str:
    return f".{part}.mp4" if part else ".mp4"


def _clock(media_us: int) -> str:
    milliseconds = media_us // 1000
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{milliseconds % 1000:03d}"
