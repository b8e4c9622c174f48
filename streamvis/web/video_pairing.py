"""Pictures of a source with the tracks of their frames, which come apart. Pure.

A picture is there before its tracks, by the time that the stages take for a frame. It is held until
they come, for at most HOLD_S, so that viewers get both together; where none come, no picture waits.
What is released is always newer than what was released before.
"""

from typing import NamedTuple

from streamvis.runtime.control import SourcePicture

HOLD_S = 5.0  # for which a picture waits for its tracks, while tracks come: the stages may be slow
MOST_KEPT = 160  # pictures that wait, and tracks whose picture has not come


class FrameKey(NamedTuple):
    """Which frame of a source it is."""

    stream_epoch: int
    media_us: int


class ShownFrame(NamedTuple):
    """A picture to be shown, and the JSON of its tracks; None: they have not come."""

    picture: SourcePicture
    tracks: bytes | None

    @property
    def key(self) -> FrameKey:
        """Which frame it is."""
        return FrameKey(self.picture.stream_epoch, self.picture.media_us)


class Pairing:
    """Holds pictures until their tracks have come."""

    def __init__(self) -> None:
        self._held: dict[FrameKey, tuple[SourcePicture, float]] = {}  # with when they came
        self._tracks: dict[FrameKey, bytes] = {}
        self._newest: FrameKey | None = None  # that was released
        self._tracks_come = False

    def picture(self, picture: SourcePicture, at: float) -> ShownFrame | None:
        """Take a picture, and return it if it is not to wait."""
        key = FrameKey(picture.stream_epoch, picture.media_us)
        if self._newest is not None and key <= self._newest:
            return None
        if (tracks := self._tracks.get(key)) is not None:
            return self._released(key, picture, tracks)
        if not self._tracks_come:
            return self._released(key, picture, None)
        self._held[key] = (picture, at)
        if len(self._held) > MOST_KEPT:
            del self._held[next(iter(self._held))]
        return None

    def tracks(self, key: FrameKey, tracks: bytes) -> ShownFrame | None:
        """Take the tracks of a frame, and return its picture with them if it has waited for them.

        Tracks come in order: pictures before it get none any more.
        """
        self._tracks_come = True
        if key in self._held:
            return self._released(key, self._held[key][0], tracks)
        self._tracks[key] = tracks
        if len(self._tracks) > MOST_KEPT:
            del self._tracks[next(iter(self._tracks))]
        return None

    def due(self) -> float | None:
        """Return when the oldest picture has waited long enough; None: none waits."""
        return next((came + HOLD_S for _, came in self._held.values()), None)

    def overdue(self, at: float) -> ShownFrame | None:
        """Return the newest picture, without tracks, if the oldest one has waited long enough."""
        due = self.due()
        if due is None or at < due:
            return None
        self._tracks_come = False
        key = max(self._held)
        return self._released(key, self._held[key][0], None)

    def _released(self, key: FrameKey, picture: SourcePicture, tracks: bytes | None) -> ShownFrame:
        self._newest = key
        for kept in (self._held, self._tracks):
            for old in [one for one in kept if one <= key]:
                del kept[old]
        return ShownFrame(picture, tracks)
