"""Tracks on the picture: trails, boxes with ids and speeds, and the ground map beside it."""

from typing import ClassVar

import msgspec
import numpy as np

from streamvis.geometry import foot
from streamvis.messages import Frame, Packet, Tracks
from streamvis.stages.overlay import Canvas, Drawing, Overlay
from streamvis.stages.track.ground_map import GroundMap, Trail, Trails, View, follow, widen
from streamvis.viz.legend import Entry
from streamvis.viz.style import PALETTE, at, colour_of, fading_line, rectangle

TRAIL_POINTS = 24  # of a whole trail; the rest would only make its state heavy
LEGEND = (
    Entry("box", PALETTE[0], 1, "tracked person, a colour for each id", place=10),
    Entry("dashed", PALETTE[0], 1, "predicted, not detected in this frame", place=10),
    Entry("line", PALETTE[0], 1, "path of the last seconds", place=10),
)

Spot = tuple[int, float, float, float, float]  # media µs, foot x, y in px, ground x, y in m


class _StoredTrails(msgspec.Struct, array_like=True):
    """The state from which a successor continues."""

    trails: dict[int, list[Spot]]
    view: View | None  # of the map as it is shown
    goal: View | None  # of the map once it has settled


class TrackOverlay(Overlay):
    """Draw tracks where they are and were: a solid box was detected, a dashed one is predicted.

    Speeds are shown where tracks have a ground plane; the map, where the source has one.
    """

    order: ClassVar[int] = 30

    def __init__(self, drawing: Drawing) -> None:
        self.source = drawing.source
        self.span_us = drawing.trail_s * 1e6
        self.stored = _StoredTrails(trails={}, view=None, goal=None)
        self.maps: dict[tuple[int, int], GroundMap] = {}  # by the size of the picture

    def state(self) -> bytes:
        return msgspec.msgpack.encode(self.stored)

    def restore(self, state: bytes) -> None:
        self.stored = msgspec.msgpack.decode(state, type=_StoredTrails)

    def restart(self) -> None:
        self.stored.trails.clear()

    def draw(self, canvas: Canvas, packet: Packet) -> None:
        frame, tracks, ground = packet.frame, packet.part(Tracks), self._map(packet.frame)
        if tracks is not None and ground is not None:
            tracks = msgspec.structs.replace(tracks, ground=ground.places(tracks))
        if tracks is not None:
            correct_trails(self.stored.trails, tracks)
            self._extend_trails(frame.media_us, tracks)
        trails = self._trails(frame.media_us, tracks)
        for track, trail in trails.items():
            strength, colour = 0.9 * trail.strength, colour_of(track)
            fading_line(canvas.image, trail.points, strength, colour, canvas.style.line)
        if tracks is not None:
            _people(canvas, tracks)
            canvas.legend += LEGEND
        if ground is not None:
            view = self._move_map(ground, tracks, canvas.elapsed_s)
            canvas.beside.append(ground.draw(view, tracks, trails))

    def _map(self, frame: Frame) -> GroundMap | None:
        """Return the map beside this frame; none where the source has no ground plane."""
        size, source = (frame.width, frame.height), self.source
        if size not in self.maps and source.ground_plane is not None:
            back = np.diag([source.width / size[0], source.height / size[1], 1])
            self.maps[size] = GroundMap(np.reshape(source.ground_plane, (3, 3)) @ back, *size)
        return self.maps.get(size)

    def _move_map(self, ground: GroundMap, tracks: Tracks | None, elapsed_s: float) -> View:
        stored = self.stored
        goal = stored.goal or ground.view
        stored.goal = goal if tracks is None else widen(goal, ground.turned(tracks.ground))
        stored.view = follow(stored.view or ground.view, stored.goal, elapsed_s)
        return stored.view

    def _extend_trails(self, media_us: int, tracks: Tracks) -> None:
        trails = self.stored.trails
        feet = foot(tracks.boxes).tolist()
        for id_, (x, y), (gx, gy) in zip(
            tracks.ids.tolist(), feet, tracks.ground.tolist(), strict=True
        ):
            spots = trails.setdefault(id_, [])
            if not spots or media_us - spots[-1][0] >= self.span_us / TRAIL_POINTS:
                spots.append((media_us, x, y, gx, gy))
        for id_, spots in list(trails.items()):
            kept = [spot for spot in spots if media_us - spot[0] <= self.span_us]
            if kept:
                trails[id_] = kept
            else:
                del trails[id_]

    def _trails(self, media_us: int, tracks: Tracks | None) -> Trails:
        """Return the trails as they fade, each reaching to where its track is now."""
        if self.span_us == 0:
            return {}
        spots = {id_: list(spots) for id_, spots in self.stored.trails.items()}
        if tracks is not None:
            now = np.column_stack([foot(tracks.boxes), tracks.ground]).tolist()
            for id_, place in zip(tracks.ids.tolist(), now, strict=True):
                spots[id_].append((media_us, *place))
        table = {id_: np.array(places, np.float64) for id_, places in spots.items()}
        return {
            id_: Trail(
                points=places[:, 1:3],
                ground=places[:, 3:5],
                strength=np.clip(1 - (media_us - places[:, 0]) / self.span_us, 0, 1),
            )
            for id_, places in table.items()
        }


def _people(canvas: Canvas, tracks: Tracks) -> None:
    image, style = canvas.image, canvas.style
    sound = np.flatnonzero(np.isfinite(tracks.boxes).all(axis=1))
    nearer_last = sound[np.argsort(tracks.boxes[sound, 3], kind="stable")]
    for i in nearer_last:
        colour = colour_of(int(tracks.ids[i]))
        predicted = not tracks.supported[i]
        rectangle(image, tracks.boxes[i], colour, style.line, dashed=predicted)
    for i in nearer_last[::-1]:  # the nearest person's name stays at the box, others move up
        x, y = at(tracks.boxes[i, :2])
        if -style.text < x < image.shape[1] and y < image.shape[0]:
            canvas.plate(_name(tracks, i), x, y, colour_of(int(tracks.ids[i])))


def _name(tracks: Tracks, i: int) -> str:
    """Return the id, and the speed in m/s where it is known."""
    speed = np.nan if tracks.ground_velocity is None else np.hypot(*tracks.ground_velocity[i])
    return f"{tracks.ids[i]}  {speed:.1f} m/s" if np.isfinite(speed) else str(tracks.ids[i])


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
