"""Scenes for the zones stage: people who walk along paths, sampled at any frame rate.

    path = walk((0, 100, 240), (4, 500, 240))  # seconds, foot point in pixels
    scene = sample({1: path}, fps=12, seconds=5)
    history = play(ZoneCounter(zones=(DOOR,)), scene)
    assert history.visits("door") == [...]

`play` gives the packets to the stage and folds what it publishes; the fold checks that corrections
name what was published before, and that totals are those of the corrected history.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from factories import SIZE, frame, source, tracks

from streamvis.messages import Packet, SourceInfo, Tracks
from streamvis.stages.protocol import Site, StatefulStage
from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.events import (
    LineCross,
    LineRevise,
    PastCrossing,
    Visit,
    ZoneBody,
    ZoneDwell,
    ZoneEnter,
    ZoneExit,
    ZoneRevise,
)
from streamvis.stages.zones.part import Zones

RATES = (5, 12, 25, 60)  # frames per second


class Seen(NamedTuple):
    """Where a person is, as a track has it."""

    x: float  # foot point, px
    y: float
    height: float = 100.0  # of the box, px
    p: float = 1.0  # probability of existence
    detected: bool = True  # False: the box is predicted
    sd: float = 0.5  # px, standard deviation of the foot point

    @property
    def box(self) -> tuple[float, float, float, float]:
        return (self.x - 20, self.y - self.height, self.x + 20, self.y)


Path = Callable[[float], Seen | None]  # of seconds; None: not there


class Picture(NamedTuple):
    """The tracks of one frame."""

    media_us: int
    people: Mapping[int, Seen] = {}  # by id
    ended: tuple[int, ...] = ()
    merged: tuple[tuple[int, int], ...] = ()  # gone, kept
    split: tuple[tuple[int, int, int], ...] = ()  # id, other, since_us
    tracked: bool = True  # False: the frame has no tracks
    first: Mapping[int, int] = {}  # media time of the first detection, by id; else now
    seq: int | None = None  # number of the picture; else its place among all


def walk(*corners: tuple[float, float, float], **settings: Any) -> Path:
    """A path with a constant speed between corners (seconds, x, y); there from first to last."""
    t, x, y = np.array(corners, float).T

    def at(seconds: float) -> Seen | None:
        if not t[0] - 1e-6 <= seconds <= t[-1] + 1e-6:
            return None
        return Seen(float(np.interp(seconds, t, x)), float(np.interp(seconds, t, y)), **settings)

    return at


def unseen(path: Path, start: float, stop: float) -> Path:
    """The path, with predicted boxes in start <= seconds < stop that stay where it was last."""

    def at(seconds: float) -> Seen | None:
        if not start - 1e-6 <= seconds < stop - 1e-6:
            return path(seconds)
        return (seen := path(start)) and seen._replace(detected=False)

    return at


def absent(path: Path, start: float, stop: float) -> Path:
    """The path, with nobody there in start <= seconds < stop."""
    return lambda seconds: None if start - 1e-6 <= seconds < stop - 1e-6 else path(seconds)


def sample(
    people: Mapping[int, Path],
    fps: float,
    seconds: float,
    *,
    merged: Mapping[float, tuple[tuple[int, int], ...]] | None = None,  # by seconds
    split: Mapping[float, tuple[tuple[int, int, int], ...]] | None = None,
) -> list[Picture]:
    """The pictures of people; a track ends in the first picture in which it is not any more.

    Corrections are in the first picture at their time or after it.
    """
    pictures: list[Picture] = []
    before: set[int] = set()
    merges, splits = dict(merged or {}), dict(split or {})
    for number in range(round(seconds * fps) + 1):
        media_us = round(number * 1e6 / fps)
        there = {id: seen for id, path in people.items() if (seen := path(media_us / 1e6))}
        pictures.append(
            Picture(
                media_us,
                there,
                ended=tuple(sorted(before - there.keys())),
                merged=_due(merges, media_us),
                split=_due(splits, media_us),
            )
        )
        before = set(there)
    return pictures


def _due(corrections: dict[float, tuple[Any, ...]], media_us: int) -> tuple[Any, ...]:
    due = [seconds for seconds in corrections if seconds * 1e6 <= media_us + 1]
    return tuple(row for seconds in due for row in corrections.pop(seconds))


def tracks_of(picture: Picture) -> Tracks:
    """The part of a picture."""
    ids = sorted(picture.people)
    people = [picture.people[id] for id in ids]
    return tracks(
        ids,
        np.array([seen.box for seen in people], np.float32).reshape(-1, 4),
        existence=np.array([seen.p for seen in people], np.float32),
        covariance=np.array([(seen.sd**2, seen.sd**2, 1, 1) for seen in people]).reshape(-1, 4),
        detection=np.array([0 if seen.detected else -1 for seen in people], np.int32),
        first_seen_us=[picture.first.get(id, picture.media_us) for id in ids],
        ended=list(picture.ended),
        **({"merged": picture.merged} if picture.merged else {}),
        **({"split": picture.split} if picture.split else {}),
    )


def packets(
    pictures: Sequence[Picture], size: tuple[int, int] = SIZE, first: int = 0
) -> list[Packet]:
    """The packets of pictures, numbered from `first` on."""
    seen_us: dict[int, int] = {}
    for picture in pictures:
        for id in picture.people:
            seen_us.setdefault(id, picture.media_us)
    return [
        Packet(
            frame=frame(
                first + k if picture.seq is None else picture.seq,
                size=size,
                media_us=picture.media_us,
            ),
            parts=[tracks_of(picture._replace(first=seen_us))] if picture.tracked else [],
        )
        for k, picture in enumerate(pictures)
    ]


def stage_of(
    settings: ZoneCounter, info: SourceInfo | None = None, state: bytes | None = None
) -> StatefulStage:
    """The stage, with one source that has begun."""
    stage: Any = settings.build(Site(device="cpu", pixels=lambda frame: np.zeros((0, 0, 3))))
    stage.begin(source() if info is None else info, state)
    return stage


class History:
    """What was published, frame after frame, and the history that it amounts to."""

    def __init__(self) -> None:
        self.events: list[tuple[int, ZoneBody]] = []  # media time of the picture
        self.parts: list[Zones] = []
        self._visits: dict[str, Counter[Visit]] = {}
        self._crossings: dict[str, Counter[PastCrossing]] = {}

    def add(self, media_us: int, part: Zones) -> None:
        """Fold the events of a picture; totals and numbers of people are checked."""
        self.parts.append(part)
        for what in part.events:
            self.events.append((media_us, what))
            self._fold(what)
        for name, people in zip(part.zones, part.people.tolist(), strict=True):
            assert people == len([v for v in self.visits(name) if v.left_us is None]), name
        totals = zip(part.lines, part.in_total.tolist(), part.out_total.tolist(), strict=True)
        for name, in_total, out_total in totals:
            assert self.totals(name) == (in_total, out_total), name

    def _fold(self, what: ZoneBody) -> None:
        match what:
            case ZoneEnter(entry):
                visits = self._visits.setdefault(entry.name, Counter())
                visits[Visit(track=entry.track, entered_us=entry.at_us)] += 1
                assert entry.entries == visits.total(), what
            case ZoneExit(gone):
                visits = self._visits[gone.name]
                visit = Visit(track=gone.track, entered_us=gone.entered_us)
                _take(visits, visit)
                ended = msgspec.structs.replace(visit, left_us=gone.at_us, reason=gone.reason)
                visits[ended] += 1
                dwell_s = (gone.at_us - gone.entered_us) / 1e6
                assert abs(gone.dwell_s - dwell_s) < 1e-3, what
            case ZoneRevise(revision):
                visits = self._visits.setdefault(revision.name, Counter())
                for visit in revision.was:
                    _take(visits, visit)
                visits.update(revision.now)
                assert revision.was != revision.now, what
                assert revision.entries == visits.total(), what
            case LineCross(cross):
                crossings = self._crossings.setdefault(cross.name, Counter())
                crossing = PastCrossing(
                    track=cross.track, direction=cross.direction, at_us=cross.at_us
                )
                crossings[crossing] += 1
                assert (cross.in_total, cross.out_total) == self.totals(cross.name), what
            case LineRevise(revised):
                crossings = self._crossings.setdefault(revised.name, Counter())
                for crossing in revised.was:
                    _take(crossings, crossing)
                crossings.update(revised.now)
                assert revised.was != revised.now, what
                assert (revised.in_total, revised.out_total) == self.totals(revised.name), what

    def visits(self, zone: str) -> list[Visit]:
        """The visits of a zone after corrections, in order of entry."""
        visits = self._visits.get(zone, Counter()).elements()
        return sorted(visits, key=lambda v: (v.entered_us, v.track))

    def crossings(self, line: str) -> list[PastCrossing]:
        """The crossings of a line after corrections, in their order."""
        crossings = self._crossings.get(line, Counter()).elements()
        return sorted(crossings, key=lambda c: (c.at_us, c.track))

    def totals(self, line: str) -> tuple[int, int]:
        """Crossings from left to right, and from right to left."""
        directions = Counter(c.direction for c in self.crossings(line))
        return directions["left_to_right"], directions["right_to_left"]

    def of(self, *kinds: type) -> list[Any]:
        """The events of these kinds, without their tag."""
        return [getattr(what, what.__struct_fields__[0]) for what in self.bodies(*kinds)]

    def bodies(self, *kinds: type) -> list[Any]:
        """The bodies of the events of these kinds."""
        return [what for _, what in self.events if isinstance(what, kinds)]

    def times(self, *kinds: type) -> list[int]:
        """The media times of the pictures with events of these kinds."""
        return [media_us for media_us, what in self.events if isinstance(what, kinds)]

    def dwells(self, zone: str) -> list[tuple[str, float, int]]:
        """Track, threshold and media time of the dwells that were published."""
        return [(s.track, s.threshold_s, s.at_us) for s in self.of(ZoneDwell) if s.name == zone]


def _take(counter: Counter[Any], one: Any) -> None:
    assert counter[one] > 0, f"{one} was not published; published: {list(counter.elements())}"
    counter[one] -= 1


def play(
    settings: ZoneCounter, pictures: Sequence[Picture], info: SourceInfo | None = None
) -> History:
    """Give the pictures to the stage and fold what it publishes."""
    stage, history = stage_of(settings, info), History()
    size = SIZE if info is None else (info.width, info.height)
    for packet in packets(pictures, size):
        [part] = stage([packet])
        assert isinstance(part, Zones)
        history.add(packet.frame.media_us, part)
    return history
