"""What one viewer of live pictures is sent, and what is held for it: one picture at most."""

import asyncio
import struct
from collections import deque
from contextlib import suppress
from typing import Literal, NamedTuple

import msgspec

from streamvis.web.video_masks import ClassMask
from streamvis.web.video_pairing import FrameKey, ShownFrame

# kind, stream epoch, number of the frame, media and capture time in µs, width and height of the
# source's picture: little endian, without padding
HEADER = struct.Struct("<BIQqqHH")
JPEG, TRACKS, MASK = 1, 3, 4  # kinds
MOST_UNACKNOWLEDGED = 2  # pictures
SLOW_S = 0.25  # until the acknowledgement of a viewer that takes only a few pictures a second
STALE_S = 0.5  # a picture that waits longer for an acknowledgement gives way to a new one


class VideoState(msgspec.Struct, frozen=True, kw_only=True, tag="state", tag_field="kind"):
    """Whether pictures come; sent at first, and whenever it changes."""

    state: Literal["live", "waiting", "over"]  # waiting: for the source; over: no run is under way
    reason: str = ""  # why no pictures come
    without_tracks: str = ""  # why no tracks come; empty: they come, or may still come


class SentPicture(NamedTuple):
    """A picture that the viewer has yet to acknowledge."""

    seq: int
    at: float
    header: tuple[int, ...]  # without its kind
    key: FrameKey


class Viewer:
    """Chooses what is sent next: the newest picture, while few are unacknowledged."""

    def __init__(self) -> None:
        self._next: tuple[ShownFrame, float] | None = None  # with when it came
        self._state: VideoState | None = None  # to be sent
        self._mask: bytes = b""  # to be sent; empty: none
        self._late: dict[FrameKey, bytes] = {}  # tracks of pictures that were sent without
        self._sent: deque[SentPicture] = deque()  # and not acknowledged
        self._woken = asyncio.Event()
        self.slow = False  # whether it takes only a few pictures a second

    @property
    def credit(self) -> int:
        """How many pictures can be taken."""
        return max(0, MOST_UNACKNOWLEDGED - len(self._sent) - (self._next is not None))

    def stalled_s(self, at: float) -> float:
        """Return for how long the oldest picture is unacknowledged."""
        return at - self._sent[0].at if self._sent else 0.0

    def offer(self, shown: ShownFrame, at: float) -> None:
        """Have a picture sent, unless a newer one comes first."""
        self._next = (shown, at)
        self._woken.set()

    def tell(self, state: VideoState) -> None:
        """Have the state sent."""
        self._state = state
        self._woken.set()

    def late_tracks(self, key: FrameKey, tracks: bytes) -> None:
        """Have tracks sent whose picture was sent without them."""
        for sent in self._sent:
            if sent.key == key:
                self._late[key] = HEADER.pack(TRACKS, *sent.header) + tracks
                self._woken.set()

    def mask(self, mask: ClassMask) -> None:
        """Have a mask sent, unless a newer one comes first."""
        self._mask = HEADER.pack(MASK, *mask.header) + mask.payload
        self._woken.set()

    def acknowledge(self, seq: int, at: float) -> None:
        """Take an acknowledgement, which is one of all pictures before it too."""
        if any(one.seq == seq for one in self._sent):
            while (sent := self._sent.popleft()).seq != seq:
                pass
            self.slow = at - sent.at > SLOW_S
        if self._next is not None and at - self._next[1] > STALE_S:
            self._next = None
        self._woken.set()

    def messages(self, at: float) -> list[bytes | str]:
        """Return what is to be sent now: text is the state."""
        found = list[bytes | str](self._late.values())
        self._late.clear()
        if self._state is not None:
            found.insert(0, msgspec.json.encode(self._state).decode())
            self._state = None
        if self._mask and len(self._sent) < MOST_UNACKNOWLEDGED:
            found.append(self._mask)
            self._mask = b""
        if self._next is not None and len(self._sent) < MOST_UNACKNOWLEDGED:
            found += self._packed(self._next[0], at)
            self._next = None
        return found

    async def wait(self, timeout_s: float) -> None:
        """Wait until there may be something to be sent."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        self._woken.clear()

    def _packed(self, shown: ShownFrame, at: float) -> list[bytes]:
        """Return the messages of a picture; its tracks come first, so that it need not wait."""
        one = shown.picture
        header = (one.stream_epoch, one.n, one.media_us, one.capture_us, one.width, one.height)
        self._sent.append(SentPicture(one.n, at, header, shown.key))
        found = [HEADER.pack(JPEG, *header) + one.jpeg]
        if shown.tracks is not None:
            found.insert(0, HEADER.pack(TRACKS, *header) + shown.tracks)
        return found
